//! `millpond log`: what lies in a data folder, of a node that is stopped or running. Nothing is locked, and nothing written.

mod dump;
mod inspect;
mod output;
mod target;
mod verify;

use std::io;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use millpond_broker::DataFolderError;
use millpond_log::LogError;

pub(crate) use output::time;

/// Exit codes of `millpond log`, beside 0.
pub(crate) mod exit {
    /// Something is wrong with the files.
    pub(crate) const FINDINGS: i32 = 1;
    /// Something could not be read.
    pub(crate) const UNREADABLE: i32 = 2;
}

/// Flags of `millpond log`.
#[derive(Debug, Args)]
pub(crate) struct LogArguments {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    Inspect(inspect::InspectArguments),
    Verify(verify::VerifyArguments),
    Dump(dump::DumpArguments),
}

/// Where the data are.
#[derive(Debug, Args)]
struct DataArgument {
    /// The node's data folder; the node may be running
    #[arg(long = "data", value_name = "DIR", default_value = "millpond-data", env = "MILLPOND_DATA")]
    path: PathBuf,
}

/// Why a tool gave up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogToolError {
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    #[error("{0}")]
    Log(#[from] LogError),
    #[error("{0}")]
    Source(String),
    #[error("what was found cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Does what the command line asks for, and gives the exit code.
pub(crate) fn run(arguments: LogArguments) -> Result<i32, LogToolError> {
    let outcome = match arguments.command {
        LogCommand::Inspect(arguments) => inspect::run(&arguments),
        LogCommand::Verify(arguments) => verify::run(&arguments),
        LogCommand::Dump(arguments) => dump::run(&arguments),
    };
    match outcome {
        // Whoever reads has enough, like `head`.
        Err(LogToolError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        outcome => outcome,
    }
}
