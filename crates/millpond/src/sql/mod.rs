//! `millpond sql`: SQL on a running node, over its HTTP port.

mod complaint;
mod completion;
mod http;
mod output;
mod prompt;
mod reply;

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use http::Server;
use output::Printer;
use reply::{Reply, StatementError};

/// Flags of `millpond sql`.
#[derive(Debug, Args)]
pub(crate) struct SqlArguments {
    /// The node's HTTP address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9644", env = "MILLPOND_SERVER")]
    server: String,
    /// How rows are printed; a table on a terminal, json lines else
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Go on with new rows after those that are there now, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Read the statements from a file; - is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "statement")]
    file: Option<PathBuf>,
    /// The statement, or several with ; between them; without one there is a prompt
    statement: Option<String>,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One object a row
    Json,
    /// Comma-separated, with a header
    Csv,
}

/// Why there is no result, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqlError {
    #[error("'{0}' is not the address of a node: http://HOST:PORT is expected")]
    Address(String),
    #[error("no answer from {address}: {source}. Does `millpond serve` run there?")]
    Unreachable { address: String, source: io::Error },
    #[error("the answer broke off: {0}")]
    BrokenOff(String),
    #[error("{} cannot be read: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Statement(String),
    #[error("the prompt cannot be shown: {0}")]
    Prompt(String),
}

impl From<io::Error> for SqlError {
    fn from(error: io::Error) -> SqlError {
        SqlError::BrokenOff(error.to_string())
    }
}

/// Runs what the command line asks for.
pub(crate) fn run(arguments: SqlArguments) -> Result<(), SqlError> {
    let server = Server::parse(&arguments.server)?;
    let terminal = io::stdout().is_terminal();
    let format = arguments.format.unwrap_or(if terminal { Format::Table } else { Format::Json });
    let text = match (arguments.statement, arguments.file) {
        (Some(statement), _) => statement,
        (None, Some(path)) => read_file(path)?,
        (None, None) if io::stdin().is_terminal() => return prompt::run(&server, format, arguments.follow),
        (None, None) => read_file(PathBuf::from("-"))?,
    };
    match execute(&server, &text, format, arguments.follow) {
        // Whoever reads has enough, like `head`.
        Err(SqlError::BrokenOff(_)) if stdout_is_gone() => Ok(()),
        outcome => outcome,
    }
}

fn read_file(path: PathBuf) -> Result<String, SqlError> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(&path).map(|read| text = read)
    };
    read.map(|()| text).map_err(|source| SqlError::File { path, source })
}

/// Executes statements and prints what comes.
fn execute(server: &Server, text: &str, format: Format, follow: bool) -> Result<(), SqlError> {
    let mut printer = Printer::new(io::stdout().lock(), format, follow);
    let wrong = |error: StatementError| SqlError::Statement(complaint::show(text, &error));
    let lines = match server.execute(text, follow)? {
        Ok(lines) => lines,
        Err(error) => return Err(wrong(error)),
    };
    let mut ended = false;
    for line in lines {
        let reply = Reply::parse(&line?)?;
        ended = matches!(reply, Reply::Done(_));
        match reply {
            Reply::Columns(columns) => printer.columns(columns)?,
            Reply::Row(row) => printer.row(row)?,
            Reply::Done(done) => {
                printer.done()?;
                say(&done);
            }
            Reply::Error(error) => {
                printer.done()?;
                return Err(wrong(error));
            }
        }
    }
    printer.done()?;
    if ended { Ok(()) } else { Err(SqlError::BrokenOff("the node ended the connection".to_owned())) }
}

/// What a statement says besides its rows goes to stderr, so that stdout holds rows alone.
fn say(done: &reply::Done) {
    let mut stderr = io::stderr().lock();
    for line in done.message.iter().chain(&done.notes) {
        let _ = writeln!(stderr, "{line}");
    }
}

fn stdout_is_gone() -> bool {
    let mut stdout = io::stdout();
    stdout.write_all(b"").and_then(|()| stdout.flush()).is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
