//! Millpond: a broker that any Kafka client can use, with streaming SQL inside, in one process.
//!
//! This crate is the binary: it reads the command line, puts the parts together and takes them apart again. It owns no
//! behaviour of theirs.
//!
//! - [`serve`]: the node. `serve/settings.rs` turns flags and the configuration file into settings, `serve/mod.rs` starts
//!   and stops the parts in their order.
//! - [`sql`]: a client of a running node, over HTTP: one statement, a file, or a prompt.
//! - [`log`]: tools that look into a data folder, whether a node runs on it or not.
//! - [`backup`]: copies of a data folder, and the way back; [`control`]: how it asks a running node.
//! - [`import`]: makes a data folder of that of a stopped Apache Kafka.

mod backup;
mod control;
mod import;
mod log;
mod serve;
mod sql;

use std::io::Write;

use clap::{Parser, Subcommand};

/// Gives freed memory back to the system soon, and keeps threads from hoarding it: an idle node stays small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A Kafka-protocol broker with streaming SQL inside.
#[derive(Debug, Parser)]
#[command(name = "millpond", version, about, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node: serve Kafka clients and streams until SIGTERM or Ctrl-C
    Serve(serve::ServeArguments),
    /// Run SQL on a running node: one statement, a file, or a prompt
    Sql(sql::SqlArguments),
    /// Look into a data folder: what is in it, whether it is sound; the node may be running
    Log(log::LogArguments),
    Import(import::ImportArguments),
    /// Back up a data folder, whether a node runs on it or not: copies only what the backup does not have yet
    Backup(backup::BackupArguments),
    /// Make a data folder of a backup
    Restore(backup::RestoreArguments),
}

/// Exit code of `millpond backup` and `millpond restore` when nothing was done.
const BACKUP_FAILED: i32 = 2;

fn main() {
    let outcome = match CommandLine::parse().command {
        Command::Serve(arguments) => serve::run(arguments).map(|()| 0).map_err(|error| (1, error.to_string())),
        Command::Sql(arguments) => sql::run(arguments).map(|()| 0).map_err(|error| (1, error.to_string())),
        Command::Import(arguments) => import::run(&arguments).map(|()| 0).map_err(|error| (1, error.to_string())),
        Command::Log(arguments) => log::run(arguments).map_err(|error| (log::exit::UNREADABLE, error.to_string())),
        Command::Backup(arguments) => backup::back_up(&arguments).map_err(|error| (BACKUP_FAILED, error.to_string())),
        Command::Restore(arguments) => backup::restore(&arguments).map_err(|error| (BACKUP_FAILED, error.to_string())),
    };
    let code = match outcome {
        Ok(code) => code,
        Err((code, message)) => {
            // Not even stderr may be there; the exit code still is.
            let _ = writeln!(std::io::stderr(), "millpond: {message}");
            code
        }
    };
    end(code)
}

/// Ends the process without the C++ libraries' destructors. RocksDB's global objects would be destroyed while threads of its
/// environment still run, and then, once in a while, a node that had stopped cleanly would abort ("pthread lock:
/// Invalid argument"). Everything that must be durable was made durable before.
fn end(code: i32) -> ! {
    let _ = std::io::stdout().flush();
    // SAFETY: `_exit` ends the process; it is given a number.
    unsafe { libc::_exit(code) }
}
