//! The node's one store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::database::{Change, Database};
use crate::key::{query_of, stored_key};
use crate::{QueryState, StateError};

/// The format that this version writes, and the newest it reads.
const FORMAT: u32 = 1;
/// No query has this id; its keys are the store's own.
const STORE_ITSELF: u64 = u64::MAX;
/// Where the store's format stands.
const FORMAT_KEY: &[u8] = b"format";

/// Bounds of the store's memory and files.
#[derive(Debug, Clone)]
pub struct StateOptions {
    /// Blocks of files kept in memory, bytes. State is hot in the operators; this is only read at a start.
    pub block_cache_bytes: usize,
    /// One memtable, bytes. Two may be in memory at once.
    pub memtable_bytes: usize,
    /// The write-ahead log is kept below this, bytes.
    pub write_ahead_log_bytes: u64,
    /// Files held open at once.
    pub open_files_max: i32,
}

impl Default for StateOptions {
    fn default() -> StateOptions {
        StateOptions {
            block_cache_bytes: 4 << 20,
            memtable_bytes: 8 << 20,
            write_ahead_log_bytes: 64 << 20,
            open_files_max: 128,
        }
    }
}

/// The durable state of all queries of a node. Threads share it; each query is written by one thread at a time.
#[derive(Debug)]
pub struct StateStore {
    pub(crate) database: Database,
    path: PathBuf,
}

impl StateStore {
    /// Opens the store in the folder `path`, or makes it. On a simulated disk it is another one, with the same promises
    /// (`database`): RocksDB does its own file work.
    pub fn open(path: &Path, options: &StateOptions) -> Result<Arc<StateStore>, StateError> {
        let refused = |reason: String| StateError::Open { path: path.to_owned(), reason };
        let database = Database::open(path, options).map_err(refused)?;
        let store = Arc::new(StateStore { database, path: path.to_owned() });
        store.check_format()?;
        Ok(store)
    }

    fn check_format(&self) -> Result<(), StateError> {
        let key = stored_key(STORE_ITSELF, 0, FORMAT_KEY);
        match self.database.get(&key).map_err(|error| self.failed("read", error))? {
            None => self.write(vec![Change::Put { key, value: FORMAT.to_le_bytes().to_vec() }]),
            Some(bytes) => match <[u8; 4]>::try_from(bytes.as_slice()).map(u32::from_le_bytes) {
                Ok(found) if found <= FORMAT => Ok(()),
                Ok(found) => Err(StateError::NewerFormat { path: self.path.clone(), found, known: FORMAT }),
                Err(_) => Err(StateError::Open { path: self.path.clone(), reason: "its format is no number".into() }),
            },
        }
    }

    /// The store's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state of one query; empty if it never wrote any.
    pub fn query(self: &Arc<Self>, id: u64) -> QueryState {
        assert_ne!(id, STORE_ITSELF, "the greatest id is the store's own");
        QueryState::new(self.clone(), id)
    }

    /// The queries that have state here.
    pub fn queries(&self) -> Result<Vec<u64>, StateError> {
        let mut found = Vec::new();
        let mut from = Vec::new();
        // One look per query, not one per key.
        while let Some(key) = self.database.first_key_from(&from).map_err(|error| self.failed("read", error))? {
            let Some(id) = query_of(&key).filter(|id| *id != STORE_ITSELF) else { break };
            found.push(id);
            from = (id + 1).to_be_bytes().to_vec();
        }
        Ok(found)
    }

    /// Makes a folder `into`, which must not exist, on the same file system, with the store as it is now: one that can be opened. Writes
    /// go on meanwhile; what they change is in it as a whole or not at all.
    pub fn freeze(&self, into: &Path) -> Result<(), StateError> {
        self.database.freeze(into).map_err(|error| self.failed("copy", error))
    }

    /// Makes all of `changes` or none, and has them on the disk before it returns.
    pub(crate) fn write(&self, changes: Vec<Change>) -> Result<(), StateError> {
        self.database.write(changes).map_err(|error| self.failed("write", error))
    }

    pub(crate) fn failed(&self, operation: &'static str, reason: String) -> StateError {
        StateError::Storage { path: self.path.clone(), operation, reason }
    }
}
