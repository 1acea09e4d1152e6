//! The node's one store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

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
    pub(crate) database: DB,
    path: PathBuf,
}

impl StateStore {
    /// Opens the store in the folder `path`, or makes it.
    pub fn open(path: &Path, options: &StateOptions) -> Result<Arc<StateStore>, StateError> {
        let refused = |reason: String| StateError::Open { path: path.to_owned(), reason };
        std::fs::create_dir_all(path).map_err(|error| refused(error.to_string()))?;
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(options.block_cache_bytes));
        blocks.set_cache_index_and_filter_blocks(true);
        let mut settings = Options::default();
        settings.create_if_missing(true);
        settings.set_block_based_table_factory(&blocks);
        settings.set_compression_type(DBCompressionType::Lz4);
        settings.set_write_buffer_size(options.memtable_bytes);
        settings.set_max_write_buffer_number(2);
        settings.set_max_total_wal_size(options.write_ahead_log_bytes);
        settings.set_max_open_files(options.open_files_max);
        settings.set_max_background_jobs(2);
        settings.set_paranoid_checks(true);
        // RocksDB's own text log: errors only, one small file, no statistics by timer (an idle node does nothing).
        settings.set_log_level(LogLevel::Error);
        settings.set_keep_log_file_num(1);
        settings.set_max_log_file_size(1 << 20);
        settings.set_stats_dump_period_sec(0);
        settings.set_stats_persist_period_sec(0);
        let database = DB::open(&settings, path).map_err(|error| refused(error.into_string()))?;
        let store = Arc::new(StateStore { database, path: path.to_owned() });
        store.check_format()?;
        Ok(store)
    }

    fn check_format(&self) -> Result<(), StateError> {
        let key = stored_key(STORE_ITSELF, 0, FORMAT_KEY);
        match self.database.get(&key).map_err(|error| self.failed("read", error))? {
            None => {
                let mut batch = WriteBatch::default();
                batch.put(key, FORMAT.to_le_bytes());
                self.write(batch)
            }
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
        let mut iterator = self.database.raw_iterator_opt(ReadOptions::default());
        iterator.seek_to_first();
        while let Some(id) = iterator.key().and_then(query_of).filter(|id| *id != STORE_ITSELF) {
            found.push(id);
            // One look per query, not one per key.
            iterator.seek((id + 1).to_be_bytes());
        }
        iterator.status().map_err(|error| self.failed("read", error))?;
        Ok(found)
    }

    /// Writes all of `batch` or nothing, and has it on the disk before it returns.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), StateError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.database.write_opt(batch, &options).map_err(|error| self.failed("write", error))
    }

    pub(crate) fn failed(&self, operation: &'static str, error: rocksdb::Error) -> StateError {
        StateError::Storage { path: self.path.clone(), operation, reason: error.into_string() }
    }
}
