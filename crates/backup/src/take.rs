//! Taking a backup.

use std::path::Path;

use millpond_disk::{File, FolderLock};
use millpond_types::TimestampMs;

use crate::backup::MARKER;
use crate::manifest::{FileEntry, Manifest};
use crate::pieces::{PIECE_BYTES, PieceId};
use crate::{Backup, BackupError};

/// What every data folder has (Kafka's name).
const META_PROPERTIES: &str = "meta.properties";
/// What is left out of the data folder: who has locked it, and that the node was stopped cleanly. A node that starts on a restored
/// folder takes a new leader epoch then, by which clients that have read more than was restored find out that they have
/// (KIP-320); and it verifies its logs. That is what a start finds that was killed when it had just taken the marker away.
const LEFT_OUT: [&str; 2] = [".lock", ".kafka_cleanshutdown"];

/// What taking a backup came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The new generation.
    pub generation: u64,
    /// Files in it.
    pub files: u64,
    /// Bytes of them, which were all read.
    pub bytes: u64,
    /// Bytes that were written, since the backup did not have them.
    pub bytes_copied: u64,
}

impl Backup {
    /// Adds a generation: what is in the data folder `data` now. It must not be in use.
    pub fn take(&self, data: &Path, now_ms: TimestampMs) -> Result<Taken, BackupError> {
        // Before the lock is taken, which makes a file: not in somebody else's folder.
        if !millpond_disk::exists(&data.join(META_PROPERTIES))? {
            return Err(BackupError::NoDataFolder { path: data.to_owned() });
        }
        let _node = FolderLock::take(data).map_err(|source| match source.source.kind() {
            std::io::ErrorKind::ResourceBusy => BackupError::DataFolderInUse { source },
            _ => source.into(),
        })?;
        let _lock = self.lock()?;
        let generation = self.numbers()?.last().map_or(1, |number| number + 1);
        let source = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        let mut manifest = Manifest::new(now_ms, &source);
        let bytes_copied = self.copy_below(data, &mut manifest)?;
        self.write_manifest(generation, &manifest)?;
        let summary = manifest.summary(generation);
        Ok(Taken { generation, files: summary.files, bytes: summary.bytes, bytes_copied })
    }

    fn copy_below(&self, data: &Path, manifest: &mut Manifest) -> Result<u64, BackupError> {
        let mut bytes_copied = 0;
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let entries = millpond_disk::list(&data.join(&folder))?;
            if entries.iter().any(|entry| entry.name == MARKER) {
                return Err(BackupError::Inside { backup: data.join(&folder), data: data.to_owned() });
            }
            let is_left_out = |name: &str| folder.is_empty() && LEFT_OUT.contains(&name);
            for entry in entries.iter().filter(|entry| !is_left_out(&entry.name)) {
                let path = if folder.is_empty() { entry.name.clone() } else { format!("{folder}/{}", entry.name) };
                if entry.is_dir {
                    manifest.folders.push(path.clone());
                    folders.push(path);
                } else {
                    let (pieces, copied) = self.copy_file(&data.join(&path), entry.len)?;
                    bytes_copied += copied;
                    manifest.files.push(FileEntry { path, bytes: entry.len, pieces });
                }
            }
        }
        Ok(bytes_copied)
    }

    /// The pieces of a file, and the bytes of those that are new.
    fn copy_file(&self, path: &Path, len: u64) -> Result<(Vec<PieceId>, u64), BackupError> {
        let file = File::open_read_only(path)?;
        let (mut pieces, mut copied, mut position) = (Vec::new(), 0, 0);
        let mut bytes = Vec::new();
        while position < len {
            let wanted = usize::try_from(len - position).unwrap_or(usize::MAX).min(PIECE_BYTES);
            bytes.clear();
            let read = file.append_at(&mut bytes, wanted, position)?;
            position += read as u64;
            if read < wanted {
                return Err(BackupError::Changed { path: path.to_owned(), was: len, is: position });
            }
            let id = PieceId::of(&bytes);
            if self.keep_piece(&id, &bytes)? {
                copied += bytes.len() as u64;
            }
            pieces.push(id);
        }
        let is = file.len()?;
        if is != len {
            return Err(BackupError::Changed { path: path.to_owned(), was: len, is });
        }
        Ok((pieces, copied))
    }
}
