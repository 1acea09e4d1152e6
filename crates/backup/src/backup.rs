//! A backup, and the generations in it.

use std::path::Path;

use millpond_types::TimestampMs;

use crate::manifest::Manifest;
use crate::place::{Found, LOCK_OBJECT, Lock, Place};
use crate::{BackupError, Location};

/// Says that a folder or a bucket is a backup, and of which format.
pub(crate) const MARKER: &str = "millpond-backup";
/// No marker of any format is longer.
const MARKER_BYTES_MAX: u64 = 1 << 10;
const FORMAT: &[u8] = b"format=1\n";
const GENERATIONS: &str = "generations";
const MANIFEST_SUFFIX: &str = ".manifest";

/// A folder or a bucket with the generations of a data folder in it.
#[derive(Debug)]
pub struct Backup {
    pub(crate) place: Place,
}

/// A generation, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number; later ones have higher numbers.
    pub number: u64,
    /// When it was begun, ms since 1970.
    pub made_ms: TimestampMs,
    /// The data folder it was taken of.
    pub source: String,
    /// Files in it.
    pub files: u64,
    /// Their bytes, restored.
    pub bytes: u64,
}

impl Backup {
    /// The backup at a place.
    pub fn open(location: &Location) -> Result<Backup, BackupError> {
        Backup::in_place(Place::new(location)?)
    }

    /// The same; an empty place becomes a backup without generations, and a missing folder is made. A missing bucket is not.
    pub fn open_or_create(location: &Location) -> Result<Backup, BackupError> {
        Backup::make_in(Place::new(location)?)
    }

    pub(crate) fn in_place(place: Place) -> Result<Backup, BackupError> {
        match place.read(MARKER, MARKER_BYTES_MAX)? {
            Found::Missing => Err(BackupError::NoBackup { place: place.at("") }),
            Found::Bytes(found) if found == FORMAT => Ok(Backup { place }),
            Found::Bytes(found) => {
                let found = String::from_utf8_lossy(&found).trim().to_owned();
                Err(BackupError::NewerFormat { at: place.at(MARKER), found })
            }
            Found::TooLong(bytes) => {
                Err(BackupError::NewerFormat { at: place.at(MARKER), found: format!("{bytes} bytes") })
            }
        }
    }

    pub(crate) fn make_in(place: Place) -> Result<Backup, BackupError> {
        if place.read(MARKER, MARKER_BYTES_MAX)? == Found::Missing {
            // What a first backup leaves that was killed before it wrote the marker is no reason to refuse.
            let is_ours = |name: &str| {
                [".lock", LOCK_OBJECT, MARKER].contains(&name) || name.strip_suffix(".tmp") == Some(MARKER)
            };
            if !place.prepare(&is_ours)? {
                return Err(BackupError::NotABackup { place: place.at("") });
            }
            // If it is another's since, it is read below.
            place.create(MARKER, FORMAT)?;
        }
        Backup::in_place(place)
    }

    /// A backup does not lie in the data folder `data`, which it would then hold.
    pub fn check_outside(place: &Location, data: &Path) -> Result<(), BackupError> {
        let Location::Folder(path) = place else { return Ok(()) };
        let Ok(inner) = data.canonicalize() else { return Ok(()) };
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        // It may not exist yet, nor the folders that it is to be in.
        match absolute.ancestors().find_map(|ancestor| ancestor.canonicalize().ok()) {
            Some(there) if there.starts_with(inner) => {
                Err(BackupError::Inside { backup: path.clone(), data: data.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Keeps all others from writing to the backup.
    pub(crate) fn lock(&self) -> Result<Lock<'_>, BackupError> {
        self.place.lock()
    }

    /// Removes the lock that somebody who was killed has left in a bucket, and says whose it was; none if there is no lock. The one
    /// that is there must have the `id` that [`BackupError::Locked`] tells. A folder's lock ends with its process.
    pub fn break_lock(&self, id: &str) -> Result<Option<String>, BackupError> {
        self.place.break_lock(id)
    }

    /// The numbers of the generations, oldest first.
    pub fn numbers(&self) -> Result<Vec<u64>, BackupError> {
        let number =
            |name: &str| name.strip_prefix(GENERATIONS)?.strip_prefix('/')?.strip_suffix(MANIFEST_SUFFIX)?.parse().ok();
        let listed = self.place.list(GENERATIONS)?;
        let mut numbers: Vec<u64> = listed.iter().filter_map(|entry| number(&entry.name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The generations, oldest first. One whose manifest is damaged is an error in its place.
    pub fn generations(&self) -> Result<Vec<Result<Generation, BackupError>>, BackupError> {
        let all = self.numbers()?.into_iter().map(|number| Ok(self.manifest(number)?.summary(number)));
        // Of a bucket, a generation may be removed meanwhile.
        Ok(all.filter(|one| !matches!(one, Err(BackupError::Removed { .. }))).collect())
    }

    /// A generation's number: the newest, if none is given.
    pub(crate) fn find(&self, wanted: Option<u64>) -> Result<u64, BackupError> {
        let numbers = self.numbers()?;
        let place = self.place.at("");
        match (wanted, numbers.last()) {
            (_, None) => Err(BackupError::Empty { place }),
            (None, Some(newest)) => Ok(*newest),
            (Some(wanted), _) if numbers.contains(&wanted) => Ok(wanted),
            (Some(generation), _) => {
                let there: Vec<String> = numbers.iter().map(u64::to_string).collect();
                Err(BackupError::NoGeneration { place, generation, there: there.join(", ") })
            }
        }
    }

    pub(crate) fn manifest(&self, number: u64) -> Result<Manifest, BackupError> {
        Manifest::read(&self.place, &manifest_name(number))?.ok_or_else(|| self.removed(number))
    }

    /// The error for a generation that was there.
    pub(crate) fn removed(&self, generation: u64) -> BackupError {
        BackupError::Removed { place: self.place.at(""), generation }
    }

    /// Writes a generation's manifest, durably. From here on the generation is there.
    pub(crate) fn write_manifest(&self, number: u64, manifest: &Manifest) -> Result<(), BackupError> {
        self.place.settle()?;
        // Without the lock another backup may have removed what this one relies on.
        self.place.check_lock()?;
        if self.place.create(&manifest_name(number), &manifest.encode())? {
            Ok(())
        } else {
            Err(BackupError::LockBroken { place: self.place.at("") })
        }
    }
}

/// The name of a generation's manifest in the backup.
pub(crate) fn manifest_name(number: u64) -> String {
    format!("{GENERATIONS}/{number:012}{MANIFEST_SUFFIX}")
}
