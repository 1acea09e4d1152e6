//! One process a data folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::{DiskError, File};

/// The name of the file that is locked, as Kafka calls it.
const LOCK_NAME: &str = ".lock";

/// Holds a data folder for this process until dropped. The lock is the system's (flock on `.lock`), so a process
/// that was killed holds none; the file stays and tells the process id.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Takes the lock; a folder in use is an error of kind [`io::ErrorKind::ResourceBusy`] that names the process.
    pub fn take(dir: &Path) -> Result<FolderLock, DiskError> {
        let path = dir.join(LOCK_NAME);
        let file = File::open_or_create(&path)?;
        if !file.try_lock()? {
            let pid = file.read_at(32, 0).unwrap_or_default();
            let pid = String::from_utf8_lossy(&pid).trim().to_owned();
            let who = if pid.is_empty() { "another process".to_owned() } else { format!("process {pid}") };
            let source = io::Error::new(io::ErrorKind::ResourceBusy, format!("the folder is in use by {who}"));
            return Err(DiskError::new("lock", &path, source));
        }
        file.set_len(0)?;
        file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
        Ok(FolderLock { _file: file, path })
    }

    /// The locked file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Keeps a folder of a program that runs in Java, such as Apache Kafka, as it is until dropped: its programs lock the folder's `.lock`
/// for writing when they start, in the way of fcntl, which knows nothing of flock. This is a reader's lock, so nothing is
/// written, and several readers may have it.
#[derive(Debug)]
pub struct ForeignFolderLock {
    _file: Option<File>,
}

impl ForeignFolderLock {
    /// Takes the lock; a folder in use is an error of kind [`io::ErrorKind::ResourceBusy`]. Where there is no lock file nobody
    /// can have it: such a folder is a copy.
    pub fn take(dir: &Path) -> Result<ForeignFolderLock, DiskError> {
        let path = dir.join(LOCK_NAME);
        let file = match File::open_read_only(&path) {
            Err(error) if error.is_not_found() => return Ok(ForeignFolderLock { _file: None }),
            opened => opened?,
        };
        if !file.try_record_lock_shared()? {
            let source = io::Error::new(io::ErrorKind::ResourceBusy, "the folder is in use by another process");
            return Err(DiskError::new("lock", &path, source));
        }
        Ok(ForeignFolderLock { _file: Some(file) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_names_the_process_and_is_free_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(dir.path()).unwrap();
        let error = FolderLock::take(dir.path()).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
        drop(lock);
        FolderLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_foreign_folder_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        drop(ForeignFolderLock::take(dir.path()).unwrap());
        assert!(!crate::exists(&dir.path().join(LOCK_NAME)).unwrap());
        // Whether another process has it, protocol-tests/import sees with a real Kafka.
        crate::write_file(&dir.path().join(LOCK_NAME), b"").unwrap();
        drop(ForeignFolderLock::take(dir.path()).unwrap());
        assert_eq!(crate::read_file(&dir.path().join(LOCK_NAME)).unwrap().unwrap(), b"");
    }
}
