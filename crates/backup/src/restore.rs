//! Bringing a generation back, and finding out whether that would succeed.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use millpond_disk::File;

use crate::manifest::{FileEntry, Manifest};
use crate::pieces::PieceId;
use crate::{Backup, BackupError};

/// What a folder is called until all of it is restored.
const UNFINISHED_SUFFIX: &str = ".restoring";

/// What was restored, or could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The generation.
    pub generation: u64,
    /// Its files.
    pub files: u64,
    /// Their bytes; each piece was found to have its hash.
    pub bytes: u64,
}

/// A generation, and whether it could be restored.
#[derive(Debug)]
pub struct Checked {
    /// Its number.
    pub number: u64,
    /// What there is, or what is wrong with it.
    pub outcome: Result<Restored, BackupError>,
}

/// What is done with a piece of a file, and its position in that.
type EachPiece<'a> = dyn FnMut(u64, &[u8]) -> Result<(), BackupError> + 'a;

impl Backup {
    /// Makes the data folder `target` of a generation, the newest if none is given. The folder must be empty or missing, and has its
    /// name when all of it is there and durable; until then it is called `target.restoring`, and is removed when something
    /// is wrong.
    pub fn restore(&self, generation: Option<u64>, target: &Path) -> Result<Restored, BackupError> {
        if millpond_disk::exists(target)? && !millpond_disk::list(target)?.is_empty() {
            return Err(BackupError::TargetNotEmpty { path: target.to_owned() });
        }
        // With what `a/b/` or `.` ends is no name to add something to.
        let target = std::path::absolute(target).unwrap_or_else(|_| target.to_owned());
        let target: PathBuf = target.components().collect();
        let mut unfinished = OsString::from(target.as_os_str());
        unfinished.push(UNFINISHED_SUFFIX);
        let unfinished = PathBuf::from(unfinished);
        if millpond_disk::exists(&unfinished)? {
            return Err(BackupError::Unfinished { path: unfinished });
        }
        let _lock = self.lock_to_read()?;
        let number = self.find(generation)?;
        let manifest = self.manifest(number)?;
        let restored = self.restore_files(&manifest, &unfinished).and_then(|()| {
            millpond_disk::rename(&unfinished, &target)?;
            Ok(restored(&manifest, number))
        });
        if restored.is_err() {
            // The reason is what matters; and who comes again is told of what stays.
            let _ = millpond_disk::remove_dir_all(&unfinished);
        }
        restored
    }

    fn restore_files(&self, manifest: &Manifest, target: &Path) -> Result<(), BackupError> {
        millpond_disk::create_dir_all(target)?;
        for folder in &manifest.folders {
            millpond_disk::create_dir_all(&target.join(folder))?;
        }
        for entry in &manifest.files {
            let file = File::create_new(&target.join(&entry.path))?;
            self.each_piece(manifest, entry, &mut |position, bytes| Ok(file.write_all_at(bytes, position)?))?;
            file.sync_all()?;
        }
        for folder in &manifest.folders {
            millpond_disk::sync_dir(&target.join(folder))?;
        }
        Ok(millpond_disk::sync_dir(target)?)
    }

    /// Reads all of a generation, the newest if none is given, and checks it.
    pub fn verify(&self, generation: Option<u64>) -> Result<Restored, BackupError> {
        let number = self.find(generation)?;
        let _lock = self.lock_to_read()?;
        self.verify_but(number, &mut HashSet::new())
    }

    /// Checks all generations, and reads what they share once. Gives what is wrong with each, oldest first.
    pub fn verify_all(&self) -> Result<Vec<Checked>, BackupError> {
        let _lock = self.lock_to_read()?;
        let mut sound = HashSet::new();
        Ok(self
            .numbers()?
            .into_iter()
            .map(|number| Checked { number, outcome: self.verify_but(number, &mut sound) })
            .collect())
    }

    fn verify_but(&self, number: u64, sound: &mut HashSet<(PieceId, u64)>) -> Result<Restored, BackupError> {
        let manifest = self.manifest(number)?;
        for entry in &manifest.files {
            let pieces = || entry.pieces.iter().zip(lengths(&manifest, entry));
            if pieces().all(|(id, len)| sound.contains(&(id.clone(), len))) {
                continue;
            }
            self.each_piece(&manifest, entry, &mut |_, _| Ok(()))?;
            sound.extend(pieces().map(|(id, len)| (id.clone(), len)));
        }
        Ok(restored(&manifest, number))
    }

    /// Gives each piece of a file, with its position in it, to `each`, after its hash was checked.
    fn each_piece(&self, manifest: &Manifest, entry: &FileEntry, each: &mut EachPiece<'_>) -> Result<(), BackupError> {
        let mut position = 0;
        for (id, len) in entry.pieces.iter().zip(lengths(manifest, entry)) {
            let bytes = self.read_piece(id, len)?.map_err(|what| BackupError::Piece {
                file: PathBuf::from(&entry.path),
                position,
                piece: self.piece_path(id),
                what,
            })?;
            each(position, &bytes)?;
            position += len;
        }
        Ok(())
    }
}

/// How long each piece of a file is.
fn lengths(manifest: &Manifest, entry: &FileEntry) -> impl Iterator<Item = u64> + use<> {
    let (bytes, piece_bytes) = (entry.bytes, manifest.piece_bytes);
    (0..entry.pieces.len() as u64).map(move |index| (bytes - index * piece_bytes).min(piece_bytes))
}

fn restored(manifest: &Manifest, number: u64) -> Restored {
    let summary = manifest.summary(number);
    Restored { generation: number, files: summary.files, bytes: summary.bytes }
}
