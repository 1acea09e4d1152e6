//! The prompt: lines with history and completion, executed one by one.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use super::completion::Assistant;
use super::http::Server;
use super::{Format, SqlError, execute};

/// Statements that are remembered from one session to the next.
const HISTORY_MAX: usize = 1_000;

const HELP: &str = "\
Any statement, ended by a semicolon; it may go over several lines.
  SHOW STREAMS;                      what is registered, and how it does
  DESCRIBE flights;                  the columns of a stream or topic
  SELECT * FROM flights LIMIT 5;     what is there now
  EXPLAIN SELECT ...;                how it would be run
Tab completes, the arrow keys bring back what was typed, Ctrl-C stops a query, Ctrl-D or `quit` leaves.";

/// Words that are meant for the prompt, not for the node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Help,
    Quit,
}

impl Word {
    pub(crate) fn parse(line: &str) -> Option<Word> {
        match line.trim().trim_end_matches(';').trim_end().to_ascii_lowercase().as_str() {
            "help" | "\\h" | "\\?" => Some(Word::Help),
            "quit" | "exit" | "\\q" => Some(Word::Quit),
            _ => None,
        }
    }
}

/// Runs the prompt until its user leaves.
pub(crate) fn run(server: &Server, format: Format, follow: bool) -> Result<(), SqlError> {
    let failed = |error: ReadlineError| SqlError::Prompt(error.to_string());
    let config = Config::builder().max_history_size(HISTORY_MAX).map_err(failed)?.auto_add_history(true).build();
    let mut editor: Editor<Assistant, FileHistory> = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Assistant::new()));
    let history = history_file();
    if let Some(history) = &history {
        // There is none the first time.
        let _ = editor.load_history(history);
    }
    let interrupted = stop_queries_at_interrupts(server)?;
    let mut out = io::stdout();
    let _ = writeln!(out, "Connected to {}. `help` helps, `quit` leaves.", server.address());
    loop {
        if let Some(assistant) = editor.helper_mut() {
            assistant.refresh(server);
        }
        let line = match editor.readline("millpond> ") {
            Ok(line) => line,
            // Ctrl-C at the prompt gives up the line, as in a shell.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(failed(error)),
        };
        let text = line.trim();
        match Word::parse(text) {
            Some(Word::Quit) => break,
            Some(Word::Help) => drop(writeln!(out, "{HELP}")),
            None if text.is_empty() => {}
            None => {
                interrupted.store(false, Ordering::SeqCst);
                match execute(server, text, format, follow) {
                    Ok(()) => {}
                    Err(SqlError::BrokenOff(_)) if interrupted.load(Ordering::SeqCst) => {
                        let _ = writeln!(io::stderr(), "stopped");
                    }
                    Err(error) => drop(writeln!(io::stderr(), "error: {error}")),
                }
            }
        }
        if let Some(history) = &history {
            // A history that cannot be kept is no reason to leave.
            let _ = editor.save_history(history);
        }
    }
    Ok(())
}

/// While a statement runs, Ctrl-C ends its connection instead of this program. (While a line is read the terminal gives
/// it to the editor.) Says whether that happened.
fn stop_queries_at_interrupts(server: &Server) -> Result<Arc<AtomicBool>, SqlError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let failed = |error: io::Error| SqlError::Prompt(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (server, flag) = (server.clone(), interrupted.clone());
    std::thread::Builder::new()
        .name("interrupts".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    flag.store(true, Ordering::SeqCst);
                    server.interrupt();
                }
            });
        })
        .map_err(failed)?;
    Ok(interrupted)
}

/// Where statements are remembered: below the user's state folder, made if it is missing.
fn history_file() -> Option<PathBuf> {
    let state = match std::env::var_os("XDG_STATE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".local/state"),
    };
    let folder = state.join("millpond");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}
