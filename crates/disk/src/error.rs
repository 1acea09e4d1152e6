//! What went wrong, doing what, where.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on the disk that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried, in a word or two that follow "cannot".
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// Whether the file or folder does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether there was no room (or no quota) for what was to be written. Nothing of the kind can be said of a sync: after
    /// one that failed nobody knows what is on the disk.
    pub fn is_full(&self) -> bool {
        let no_room = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&self.source.kind());
        no_room && !self.operation.starts_with("sync")
    }

    pub(crate) fn new(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> DiskError {
        DiskError { operation, path: path.to_owned(), source: source.into() }
    }
}
