//! The backup's folder, and the generations in it.

use std::path::{Path, PathBuf};

use millpond_disk::FolderLock;
use millpond_types::TimestampMs;

use crate::BackupError;
use crate::manifest::Manifest;

/// Says that a folder is a backup, and of which format.
pub(crate) const MARKER: &str = "millpond-backup";
const FORMAT: &[u8] = b"format=1\n";
const GENERATIONS: &str = "generations";
const MANIFEST_SUFFIX: &str = ".manifest";

/// A folder with the generations of a data folder in it.
#[derive(Debug)]
pub struct Backup {
    pub(crate) path: PathBuf,
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
    /// The backup in the folder at `path`.
    pub fn open(path: &Path) -> Result<Backup, BackupError> {
        let marker = path.join(MARKER);
        match millpond_disk::read_file(&marker)? {
            None => Err(BackupError::NoBackup { path: path.to_owned() }),
            Some(found) if found == FORMAT => Ok(Backup { path: path.to_owned() }),
            Some(found) => {
                let found = String::from_utf8_lossy(found.get(..found.len().min(64)).unwrap_or_default());
                Err(BackupError::NewerFormat { path: marker, found: found.trim().to_owned() })
            }
        }
    }

    /// The same; an empty folder becomes a backup without generations, and a missing one is made.
    pub fn open_or_create(path: &Path) -> Result<Backup, BackupError> {
        if millpond_disk::exists(&path.join(MARKER))? {
            return Backup::open(path);
        }
        millpond_disk::create_dir_all(path)?;
        // What a first backup leaves that was killed before it wrote the marker is no reason to refuse.
        let is_ours = |name: &str| name == ".lock" || name.strip_suffix(".tmp") == Some(MARKER);
        if millpond_disk::list(path)?.iter().any(|entry| entry.is_dir || !is_ours(&entry.name)) {
            return Err(BackupError::NotABackup { path: path.to_owned() });
        }
        millpond_disk::replace_file(&path.join(MARKER), FORMAT)?;
        Backup::open(path)
    }

    /// A backup does not lie in the data folder `data`, which it would then hold.
    pub fn check_outside(path: &Path, data: &Path) -> Result<(), BackupError> {
        let Ok(inner) = data.canonicalize() else { return Ok(()) };
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // It may not exist yet, nor the folders that it is to be in.
        match absolute.ancestors().find_map(|ancestor| ancestor.canonicalize().ok()) {
            Some(there) if there.starts_with(inner) => {
                Err(BackupError::Inside { backup: path.to_owned(), data: data.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps all others from writing to the backup.
    pub(crate) fn lock(&self) -> Result<FolderLock, BackupError> {
        FolderLock::take(&self.path).map_err(|source| match source.source.kind() {
            std::io::ErrorKind::ResourceBusy => BackupError::InUse { source },
            _ => source.into(),
        })
    }

    /// The same for who reads: a backup that cannot be written to (a snapshot, a disk mounted for reading) needs no lock.
    pub(crate) fn lock_to_read(&self) -> Result<Option<FolderLock>, BackupError> {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        match self.lock() {
            Err(BackupError::Disk(error)) if [PermissionDenied, ReadOnlyFilesystem].contains(&error.source.kind()) => {
                Ok(None)
            }
            taken => taken.map(Some),
        }
    }

    /// The numbers of the generations, oldest first.
    pub fn numbers(&self) -> Result<Vec<u64>, BackupError> {
        let dir = self.path.join(GENERATIONS);
        if !millpond_disk::exists(&dir)? {
            return Ok(Vec::new());
        }
        let number = |name: &str| name.strip_suffix(MANIFEST_SUFFIX)?.parse().ok();
        let mut numbers: Vec<u64> = millpond_disk::list(&dir)?.iter().filter_map(|entry| number(&entry.name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The generations, oldest first. One whose manifest is damaged is an error in its place.
    pub fn generations(&self) -> Result<Vec<Result<Generation, BackupError>>, BackupError> {
        let numbers = self.numbers()?;
        Ok(numbers.into_iter().map(|number| Ok(self.manifest(number)?.summary(number))).collect())
    }

    /// A generation's number: the newest, if none is given.
    pub(crate) fn find(&self, wanted: Option<u64>) -> Result<u64, BackupError> {
        let numbers = self.numbers()?;
        let path = self.path.clone();
        match (wanted, numbers.last()) {
            (_, None) => Err(BackupError::Empty { path }),
            (None, Some(newest)) => Ok(*newest),
            (Some(wanted), _) if numbers.contains(&wanted) => Ok(wanted),
            (Some(generation), _) => {
                let there: Vec<String> = numbers.iter().map(u64::to_string).collect();
                Err(BackupError::NoGeneration { path, generation, there: there.join(", ") })
            }
        }
    }

    pub(crate) fn manifest_path(&self, number: u64) -> PathBuf {
        self.path.join(GENERATIONS).join(format!("{number:012}{MANIFEST_SUFFIX}"))
    }

    pub(crate) fn manifest(&self, number: u64) -> Result<Manifest, BackupError> {
        Manifest::read(&self.manifest_path(number))
    }

    /// Writes a generation's manifest, durably. From here on the generation is there.
    pub(crate) fn write_manifest(&self, number: u64, manifest: &Manifest) -> Result<(), BackupError> {
        millpond_disk::create_dir_all(&self.path.join(GENERATIONS))?;
        Ok(millpond_disk::replace_file(&self.manifest_path(number), &manifest.encode())?)
    }
}
