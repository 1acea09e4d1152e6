//! How do batches of many logs become durable with one write?
//!
//! An fdatasync of a file that has grown makes its new length and blocks durable, too (most file systems commit a journal of their
//! own for it), once for every log: with many logs and small batches that costs more than all else. So what a round of group commit covers is written here as
//! well, one **chunk** for many logs, over blocks that the file already has; then one fdatasync makes it durable.
//! Each log's own file is synced later, when it has much to sync, and after a crash what a log lacks is put back from here
//! ([`replay`]).
//!
//! ```text
//! millpond-journal.0, .1, …     files of a fixed length, used again and again
//! file    chunk chunk chunk …   then whatever an earlier use has left
//! chunk   head: lap, number in the lap, table of entries, CRC; then the entries' bytes; up to a whole block   format.rs
//! entry   batches of one log as they lie in it, from one offset to another, CRC; or: the log was cut
//! ```
//!
//! A **lap** is one use of a file, from its first block on; laps count up for ever. A chunk belongs to what is read only
//! if its lap is the file's and its number is the next, so that what an earlier lap left behind ends the file.
//!
//! # Invariants
//!
//! - A log's entries have no holes: one begins at or below the end of what is durable of that log already.
//! - A lap's file is used again only after [`Journal::release`]: every log in the lap was synced by itself since. Each
//!   chunk says which lap is the oldest that is not released; older ones mean nothing.
//! - Before anything follows a cut in a log, all of the log was synced and the cut stands here: entries before it mean
//!   nothing.
//! - After a failed write or sync nothing is written here any more, and the logs are synced one by one.
//!
//! # Bounds
//!
//! [`JournalOptions::file_bytes`] × [`JournalOptions::files_max`] on the disk; [`CHUNK_BYTES_MAX`] in memory. What does not
//! fit is refused ([`JournalError::Full`]), and the caller syncs the logs themselves.

mod format;
mod replay;
mod writer;

pub use format::{CHUNK_BYTES_MAX, ENTRY_BYTES_MAX};
pub use replay::{Replayed, replay};
pub use writer::{Journal, JournalEntry, JournalError, JournalOptions};

use std::path::{Path, PathBuf};

use millpond_disk::DiskError;

/// The name of a journal's files, before the dot and the number.
const FILE_STEM: &str = "millpond-journal";

fn file_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("{FILE_STEM}.{number}"))
}

/// The numbers of the files in a folder.
fn file_numbers(dir: &Path) -> Result<Vec<usize>, DiskError> {
    let number = |name: &str| name.strip_prefix(FILE_STEM)?.strip_prefix('.')?.parse().ok();
    Ok(millpond_disk::list(dir)?.iter().filter(|entry| !entry.is_dir).filter_map(|entry| number(&entry.name)).collect())
}

/// Gives the files in `dir` names that no journal looks for, which end in `name`: for the operator, where [`replay`] could
/// not put everything back. Says how they begin.
pub fn keep_files(dir: &Path, name: &str) -> Result<PathBuf, DiskError> {
    for number in file_numbers(dir)? {
        let path = file_path(dir, number);
        let mut kept = path.clone().into_os_string();
        kept.push(format!(".kept-{name}"));
        millpond_disk::rename(&path, Path::new(&kept))?;
    }
    Ok(dir.join(FILE_STEM))
}
