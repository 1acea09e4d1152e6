//! Taking a backup.

use std::collections::BTreeSet;
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
///
/// And by what name a running node is reached, which a node that was killed leaves.
const LEFT_OUT: [&str; 3] = [".lock", ".kafka_cleanshutdown", ".control.sock"];
/// What the folders begin with that hold other names for what a backup of the running node was reading. A crash leaves them to the
/// next start, which removes them.
const FROZEN_PREFIX: &str = ".frozen-";

/// A file of a running node's data folder that was frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenFile {
    /// Its path in the data folder, and in the frozen one.
    pub path: String,
    /// So many bytes of it are wanted; it may be longer.
    pub bytes: u64,
    /// It may be shorter than that, but not shorter than this.
    pub bytes_settled: u64,
}

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
        self.add_generation(data, now_ms, |manifest| self.copy_below(data, manifest))
    }

    /// Adds a generation: what the running node of the data folder `data` has frozen in the folder `frozen`. When all is read and nothing
    /// says yet that there is a generation, `is_sound` is asked whether what was read is what was frozen.
    pub fn take_frozen(
        &self,
        data: &Path,
        frozen: &Path,
        files: &[FrozenFile],
        now_ms: TimestampMs,
        is_sound: impl FnOnce() -> Result<(), String>,
    ) -> Result<Taken, BackupError> {
        self.add_generation(data, now_ms, |manifest| {
            let bytes_copied = self.copy_frozen(frozen, files, manifest)?;
            is_sound().map_err(|what| BackupError::NotSound { what })?;
            Ok(bytes_copied)
        })
    }

    fn add_generation(
        &self,
        data: &Path,
        now_ms: TimestampMs,
        copy: impl FnOnce(&mut Manifest) -> Result<u64, BackupError>,
    ) -> Result<Taken, BackupError> {
        let _lock = self.lock()?;
        let generation = self.numbers()?.last().map_or(1, |number| number + 1);
        let source = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        let mut manifest = Manifest::new(now_ms, &source);
        let bytes_copied = copy(&mut manifest)?;
        self.write_manifest(generation, &manifest)?;
        let summary = manifest.summary(generation);
        Ok(Taken { generation, files: summary.files, bytes: summary.bytes, bytes_copied })
    }

    fn copy_frozen(&self, frozen: &Path, files: &[FrozenFile], manifest: &mut Manifest) -> Result<u64, BackupError> {
        let mut bytes_copied = 0;
        let mut folders = BTreeSet::new();
        for FrozenFile { path, bytes, bytes_settled } in files {
            // A folder stands before what is in it.
            for (end, _) in path.match_indices('/') {
                let folder = path.get(..end).unwrap_or_default();
                if folders.insert(folder) {
                    manifest.folders.push(folder.to_owned());
                }
            }
            let copied = self.copy_file(&frozen.join(path), *bytes).map_err(|error| match error {
                BackupError::Disk(error) if error.is_not_found() => BackupError::Thawed { source: error },
                error => error,
            })?;
            if copied.position < *bytes_settled {
                let path = frozen.join(path);
                return Err(BackupError::Changed { path, was: *bytes_settled, is: copied.position });
            }
            bytes_copied += copied.bytes_new;
            manifest.files.push(FileEntry { path: path.clone(), bytes: copied.position, pieces: copied.pieces });
        }
        Ok(bytes_copied)
    }

    fn copy_below(&self, data: &Path, manifest: &mut Manifest) -> Result<u64, BackupError> {
        let mut bytes_copied = 0;
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let entries = millpond_disk::list(&data.join(&folder))?;
            if entries.iter().any(|entry| entry.name == MARKER) {
                return Err(BackupError::Inside { backup: data.join(&folder), data: data.to_owned() });
            }
            let is_left_out =
                |name: &str| folder.is_empty() && (LEFT_OUT.contains(&name) || name.starts_with(FROZEN_PREFIX));
            for entry in entries.iter().filter(|entry| !is_left_out(&entry.name)) {
                let path = if folder.is_empty() { entry.name.clone() } else { format!("{folder}/{}", entry.name) };
                if entry.is_dir {
                    manifest.folders.push(path.clone());
                    folders.push(path);
                } else {
                    let copied = self.copy_file(&data.join(&path), entry.len)?;
                    if copied.position != entry.len || copied.file_bytes != entry.len {
                        let is = if copied.position < entry.len { copied.position } else { copied.file_bytes };
                        return Err(BackupError::Changed { path: data.join(&path), was: entry.len, is });
                    }
                    bytes_copied += copied.bytes_new;
                    manifest.files.push(FileEntry { path, bytes: entry.len, pieces: copied.pieces });
                }
            }
        }
        Ok(bytes_copied)
    }

    /// Has the first `len` bytes of a file in pieces, or all if it is shorter.
    fn copy_file(&self, path: &Path, len: u64) -> Result<CopiedFile, BackupError> {
        let file = File::open_read_only(path)?;
        let mut copied = CopiedFile::default();
        let mut bytes = Vec::new();
        while copied.position < len {
            let wanted = usize::try_from(len - copied.position).unwrap_or(usize::MAX).min(PIECE_BYTES);
            bytes.clear();
            let read = file.append_at(&mut bytes, wanted, copied.position)?;
            if read == 0 {
                break;
            }
            copied.position += read as u64;
            let id = PieceId::of(&bytes);
            if self.keep_piece(&id, &bytes)? {
                copied.bytes_new += bytes.len() as u64;
            }
            copied.pieces.push(id);
            if read < wanted {
                break;
            }
        }
        copied.file_bytes = file.len()?;
        Ok(copied)
    }
}

/// What copying a file came to.
#[derive(Default)]
struct CopiedFile {
    pieces: Vec<PieceId>,
    /// Up to where it was read.
    position: u64,
    /// Bytes of the pieces that are new.
    bytes_new: u64,
    /// How long the file was then.
    file_bytes: u64,
}
