//! Where a backup lies: the few things that are done with a folder or a bucket.
//!
//! Names are relative and the same in both (`pieces/3f/3f9a…`), so that a folder that any tool copies into a bucket is the same backup,
//! and the other way round. Two things differ:
//!
//! | | folder | bucket |
//! |---|---|---|
//! | the lock | the system's, on `.lock`; it ends with its process | an object, [`LOCK_OBJECT`]; it stays when its process is killed |
//! | a piece is there | when its bytes are | when it has its length: reading it would be as dear as writing it |

mod bucket;
mod failure;
mod folder;
mod lock;
mod reader;

use crate::manifest::MANIFEST_BYTES_MAX;
use crate::pieces::PieceId;
use crate::{BackupError, Location};

pub(crate) use bucket::Bucket;
pub use bucket::{CONNECT_TIMEOUT, PIECES_IN_FLIGHT, REQUEST_TIMEOUT, RETRIES_MAX, RETRY_TIMEOUT};
pub(crate) use folder::Folder;
pub use lock::LOCK_OBJECT;
pub(crate) use lock::Lock;
pub(crate) use reader::{Reader, Wanted};

/// What is at a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Missing,
    /// It has this many bytes, which is more than was asked for; they were not read.
    TooLong(u64),
    Bytes(Vec<u8>),
}

/// A file or an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// Where a backup lies.
#[derive(Debug)]
pub(crate) enum Place {
    Folder(Folder),
    Bucket(Box<Bucket>),
}

impl Place {
    pub(crate) fn new(location: &Location) -> Result<Place, BackupError> {
        Ok(match location {
            Location::Folder(path) => Place::Folder(Folder::new(path)),
            Location::Bucket(bucket) => Place::Bucket(Box::new(Bucket::connect(bucket)?)),
        })
    }

    /// Where something is, for people: a path or a URL.
    pub(crate) fn at(&self, name: &str) -> String {
        match self {
            Place::Folder(folder) => folder.path(name).display().to_string(),
            Place::Bucket(bucket) => bucket.at(name),
        }
    }

    /// Reads what has at most `bytes_max` bytes.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> Result<Found, BackupError> {
        match self {
            Place::Folder(folder) => folder.read(name, bytes_max),
            Place::Bucket(bucket) => bucket.read(name, bytes_max),
        }
    }

    /// All that is below a name.
    pub(crate) fn list(&self, below: &str) -> Result<Vec<Entry>, BackupError> {
        match self {
            Place::Folder(folder) => folder.list(below),
            Place::Bucket(bucket) => bucket.list(below),
        }
    }

    /// Makes the place, if need be. Says whether nothing of others is there.
    pub(crate) fn prepare(&self, is_ours: &dyn Fn(&str) -> bool) -> Result<bool, BackupError> {
        match self {
            Place::Folder(folder) => folder.prepare(is_ours),
            Place::Bucket(bucket) => bucket.prepare(is_ours),
        }
    }

    /// Keeps all others from writing until it is dropped.
    pub(crate) fn lock(&self) -> Result<Lock<'_>, BackupError> {
        match self {
            Place::Folder(folder) => folder.lock().map(Lock::Folder),
            Place::Bucket(bucket) => bucket.lock().map(Lock::Bucket),
        }
    }

    /// The same for who reads, where that needs one: what is removed from a bucket meanwhile is noticed, and a reader of a bucket may
    /// not be allowed to write to it.
    pub(crate) fn lock_to_read(&self) -> Result<Option<Lock<'_>>, BackupError> {
        match self {
            Place::Folder(folder) => Ok(folder.lock_to_read()?.map(Lock::Folder)),
            Place::Bucket(_) => Ok(None),
        }
    }

    /// Removes the lock that somebody who was killed has left, and says whose it was; none if there is no lock. The one that is there
    /// must have this id.
    pub(crate) fn break_lock(&self, id: &str) -> Result<Option<String>, BackupError> {
        match self {
            Place::Folder(_) => Ok(None),
            Place::Bucket(bucket) => bucket.break_lock(id),
        }
    }

    /// Has a piece there, durably, when [`Place::settle`] returns. Says whether it is written; else it is there. Needs the lock.
    pub(crate) fn keep(&self, id: &PieceId, bytes: &[u8]) -> Result<bool, BackupError> {
        match self {
            Place::Folder(folder) => folder.keep(&id.place_name(), bytes),
            Place::Bucket(bucket) => bucket.keep(id, bytes),
        }
    }

    /// Waits until all that was kept is durable.
    pub(crate) fn settle(&self) -> Result<(), BackupError> {
        match self {
            Place::Folder(_) => Ok(()),
            Place::Bucket(bucket) => bucket.settle(),
        }
    }

    /// Finds out whether the lock that was taken is still there: nobody else writes then.
    pub(crate) fn check_lock(&self) -> Result<(), BackupError> {
        match self {
            Place::Folder(_) => Ok(()),
            Place::Bucket(bucket) => bucket.check_lock(),
        }
    }

    /// Makes something new, as a whole, durably. Says whether it did; else there is something else of that name. Needs the lock.
    pub(crate) fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, BackupError> {
        debug_assert!(bytes.len() as u64 <= MANIFEST_BYTES_MAX);
        match self {
            Place::Folder(folder) => folder.create(name, bytes),
            Place::Bucket(bucket) => bucket.create(name, bytes),
        }
    }

    /// Removes what is there of these, and has it gone durably when it returns, if `is_durable` says so.
    pub(crate) fn remove(&self, names: &[String], is_durable: bool) -> Result<(), BackupError> {
        match self {
            Place::Folder(folder) => folder.remove(names, is_durable),
            Place::Bucket(bucket) => bucket.remove(names),
        }
    }
}
