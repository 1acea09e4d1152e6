//! A backup in a folder.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use millpond_disk::{File, FolderLock};

use super::{Entry, Found};
use crate::BackupError;

/// A folder. What is written to it is durable when the call returns.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Folder {
        Folder { path: path.to_owned() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    pub(super) fn read(&self, name: &str, bytes_max: u64) -> Result<Found, BackupError> {
        let file = match File::open_read_only(&self.path(name)) {
            Err(error) if error.is_not_found() => return Ok(Found::Missing),
            opened => opened?,
        };
        let bytes = file.len()?;
        if bytes > bytes_max {
            return Ok(Found::TooLong(bytes));
        }
        Ok(Found::Bytes(file.read_at(usize::try_from(bytes).unwrap_or(usize::MAX), 0)?))
    }

    pub(super) fn list(&self, below: &str) -> Result<Vec<Entry>, BackupError> {
        let mut entries = Vec::new();
        let mut folders = vec![below.to_owned()];
        while let Some(folder) = folders.pop() {
            let path = self.path(&folder);
            if !millpond_disk::exists(&path)? {
                continue;
            }
            for entry in millpond_disk::list(&path)? {
                let name = format!("{folder}/{}", entry.name);
                if entry.is_dir {
                    folders.push(name);
                } else {
                    entries.push(Entry { name, bytes: entry.len });
                }
            }
        }
        Ok(entries)
    }

    pub(super) fn prepare(&self, is_ours: &dyn Fn(&str) -> bool) -> Result<bool, BackupError> {
        millpond_disk::create_dir_all(&self.path)?;
        let entries = millpond_disk::list(&self.path)?;
        Ok(!entries.iter().any(|entry| entry.is_dir || !is_ours(&entry.name)))
    }

    pub(super) fn lock(&self) -> Result<FolderLock, BackupError> {
        FolderLock::take(&self.path).map_err(|source| match source.source.kind() {
            ErrorKind::ResourceBusy => BackupError::InUse { source },
            _ => source.into(),
        })
    }

    /// A backup that cannot be written to (a snapshot, a disk mounted for reading) needs no lock.
    pub(super) fn lock_to_read(&self) -> Result<Option<FolderLock>, BackupError> {
        use ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        match self.lock() {
            Err(BackupError::Disk(error)) if [PermissionDenied, ReadOnlyFilesystem].contains(&error.source.kind()) => {
                Ok(None)
            }
            taken => taken.map(Some),
        }
    }

    pub(super) fn keep(&self, name: &str, bytes: &[u8]) -> Result<bool, BackupError> {
        let path = self.path(name);
        if let Ok(file) = File::open_read_only(&path) {
            // Read, and not believed: what is damaged here would be damaged in all generations to come.
            if file.len()? == bytes.len() as u64 && file.read_at(bytes.len(), 0)? == bytes {
                return Ok(false);
            }
        }
        if let Some(folder) = path.parent().filter(|folder| !matches!(millpond_disk::exists(folder), Ok(true))) {
            millpond_disk::create_dir_all(folder)?;
        }
        millpond_disk::replace_file(&path, bytes)?;
        Ok(true)
    }

    /// Nobody else writes while the lock is held, so looking before writing is enough.
    pub(super) fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, BackupError> {
        let path = self.path(name);
        if millpond_disk::exists(&path)? {
            return Ok(false);
        }
        if let Some(folder) = path.parent() {
            millpond_disk::create_dir_all(folder)?;
        }
        millpond_disk::replace_file(&path, bytes)?;
        Ok(true)
    }

    pub(super) fn remove(&self, names: &[String], is_durable: bool) -> Result<(), BackupError> {
        let mut folders = BTreeSet::new();
        for name in names {
            let path = self.path(name);
            millpond_disk::remove_file(&path)?;
            folders.extend(path.parent().map(Path::to_owned));
        }
        for folder in folders.iter().filter(|_| is_durable) {
            millpond_disk::sync_dir(folder)?;
        }
        Ok(())
    }
}
