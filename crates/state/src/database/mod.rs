//! Where keys and values lie: RocksDB, or, for a folder on a simulated disk, a store that is simple enough to lie there.
//!
//! Dispatch is static, a `match`, as in the `disk` crate: RocksDB does its own file work, so it cannot lie on a simulated disk.
//! What every query relies on, and both keep:
//!
//! - a write is atomic: after a crash all of its changes are there, or none;
//! - a write that was acknowledged survives a power cut; what was not may be lost, and with it every later write;
//! - what an opened store shows is durable, though the process that wrote it may have died before it synced;
//! - after a write that failed nothing more is written until the store is opened again, and the failed one may be there then;
//! - keys come in the order of their bytes.
//!
//! What the simple one does not stand for: RocksDB's files, their compaction, its caches, and its own recovery from damage.

mod rocks;
mod simulated;

use std::path::Path;

use self::rocks::RocksDatabase;
use self::simulated::SimulatedDatabase;
use crate::StateOptions;

/// A key and its value, as stored.
pub(crate) type Entry = (Box<[u8]>, Box<[u8]>);

/// One change of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Delete {
        key: Vec<u8>,
    },
    /// All keys from `from` on that are less than `to`.
    DeleteRange {
        from: Vec<u8>,
        to: Vec<u8>,
    },
}

/// An ordered map on a disk. Errors are what it said.
#[derive(Debug)]
pub(crate) enum Database {
    RocksDb(Box<RocksDatabase>),
    Simulated(SimulatedDatabase),
}

impl Database {
    /// Opens what is in the folder `path`, or makes it.
    pub(crate) fn open(path: &Path, options: &StateOptions) -> Result<Database, String> {
        if path.starts_with(millpond_disk::SIMULATED_ROOT) {
            return SimulatedDatabase::open(path).map(Database::Simulated).map_err(|error| error.to_string());
        }
        RocksDatabase::open(path, options).map(Box::new).map(Database::RocksDb)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        match self {
            Database::RocksDb(database) => database.get(key),
            Database::Simulated(database) => Ok(database.get(key)),
        }
    }

    /// The first key from `from` on.
    pub(crate) fn first_key_from(&self, from: &[u8]) -> Result<Option<Vec<u8>>, String> {
        match self {
            Database::RocksDb(database) => database.first_key_from(from),
            Database::Simulated(database) => Ok(database.first_key_from(from)),
        }
    }

    /// What lies from `from` on and before `to`; without one, all that follows.
    pub(crate) fn range<'a>(
        &'a self,
        from: &[u8],
        to: Option<Vec<u8>>,
    ) -> Box<dyn Iterator<Item = Result<Entry, String>> + 'a> {
        match self {
            Database::RocksDb(database) => Box::new(database.range(from, to)),
            Database::Simulated(database) => Box::new(database.range(from, to).into_iter().map(Ok)),
        }
    }

    /// Makes the folder `into` with what is there now. All that was acknowledged is in it.
    pub(crate) fn freeze(&self, into: &Path) -> Result<(), String> {
        match self {
            Database::RocksDb(database) => database.freeze(into),
            Database::Simulated(database) => database.freeze(into),
        }
    }

    /// Makes all of `changes`, in their order, or none, and has them on the disk before it returns.
    pub(crate) fn write(&self, changes: Vec<Change>) -> Result<(), String> {
        match self {
            Database::RocksDb(database) => database.write(changes),
            Database::Simulated(database) => database.write(changes),
        }
    }
}
