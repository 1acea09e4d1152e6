//! Bringing a generation back, and finding out whether that would succeed.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use millpond_disk::File;

use crate::backup::manifest_name;
use crate::manifest::{FileEntry, Manifest};
use crate::pieces::PieceId;
use crate::place::{Found, Reader, Wanted};
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
        let _lock = self.place.lock_to_read()?;
        let number = self.find(generation)?;
        let manifest = self.manifest(number)?;
        let restored = self.restore_files(number, &manifest, &unfinished).and_then(|()| {
            millpond_disk::rename(&unfinished, &target)?;
            Ok(restored(&manifest, number))
        });
        if restored.is_err() {
            // The reason is what matters; and who comes again is told of what stays.
            let _ = millpond_disk::remove_dir_all(&unfinished);
        }
        restored
    }

    fn restore_files(&self, number: u64, manifest: &Manifest, target: &Path) -> Result<(), BackupError> {
        millpond_disk::create_dir_all(target)?;
        for folder in &manifest.folders {
            millpond_disk::create_dir_all(&target.join(folder))?;
        }
        // One reader for all files: most are small, and in a bucket each would wait for its own request.
        let mut reader = Reader::new(&self.place, manifest.files.iter().flat_map(|file| wanted(manifest, file)));
        for entry in &manifest.files {
            let file = File::create_new(&target.join(&entry.path))?;
            for _ in &entry.pieces {
                if let Some((piece, bytes)) = self.read_next(number, &mut reader)? {
                    file.write_all_at(&bytes, piece.position)?;
                }
            }
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
        let _lock = self.place.lock_to_read()?;
        self.verify_but(number, &mut HashSet::new())
    }

    /// Checks all generations, and reads what they share once. Gives what is wrong with each, oldest first.
    pub fn verify_all(&self) -> Result<Vec<Checked>, BackupError> {
        let _lock = self.place.lock_to_read()?;
        let mut sound = HashSet::new();
        let checked = self.numbers()?.into_iter();
        let checked = checked.map(|number| Checked { number, outcome: self.verify_but(number, &mut sound) });
        // Of a bucket, a generation may be removed meanwhile; there is nothing to say of it.
        Ok(checked.filter(|one| !matches!(one.outcome, Err(BackupError::Removed { .. }))).collect())
    }

    fn verify_but(&self, number: u64, sound: &mut HashSet<(PieceId, u64)>) -> Result<Restored, BackupError> {
        let manifest = self.manifest(number)?;
        let mut found = HashSet::new();
        let pieces = manifest.files.iter().flat_map(|file| wanted(&manifest, file));
        let unread = pieces.filter(|piece| !sound.contains(&(piece.id.clone(), piece.bytes)));
        // What this generation has twice is read once, too.
        let mut asked = HashSet::new();
        let mut reader = Reader::new(&self.place, unread.filter(|piece| asked.insert((piece.id, piece.bytes))));
        while let Some((piece, _)) = self.read_next(number, &mut reader)? {
            found.insert((piece.id.clone(), piece.bytes));
        }
        drop(reader);
        sound.extend(found);
        Ok(restored(&manifest, number))
    }

    /// The next piece, which has its hash.
    fn read_next<'a, I: Iterator<Item = Wanted<'a>>>(
        &self,
        number: u64,
        reader: &mut Reader<'a, I>,
    ) -> Result<Option<(Wanted<'a>, Vec<u8>)>, BackupError> {
        let Some((piece, outcome)) = reader.read_next()? else { return Ok(None) };
        match outcome {
            Ok(bytes) => Ok(Some((piece, bytes))),
            // A manifest is removed before its pieces are.
            Err(_) if self.place.read(&manifest_name(number), 0)? == Found::Missing => Err(self.removed(number)),
            Err(what) => Err(BackupError::Piece {
                file: PathBuf::from(&piece.file.path),
                position: piece.position,
                piece: self.place.at(&piece.id.place_name()),
                what,
            }),
        }
    }
}

/// The pieces of a file.
fn wanted<'a>(manifest: &Manifest, file: &'a FileEntry) -> impl Iterator<Item = Wanted<'a>> + use<'a> {
    let piece_bytes = manifest.piece_bytes;
    file.pieces.iter().zip(0..).map(move |(id, index)| {
        let position = index * piece_bytes;
        Wanted { file, position, id, bytes: (file.bytes - position).min(piece_bytes) }
    })
}

fn restored(manifest: &Manifest, number: u64) -> Restored {
    let summary = manifest.summary(number);
    Restored { generation: number, files: summary.files, bytes: summary.bytes }
}
