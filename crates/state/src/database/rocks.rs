//! RocksDB: what nodes use.

use std::path::Path;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Direction, IteratorMode, LogLevel, Options, ReadOptions,
    WriteBatch, WriteOptions,
};

use super::{Change, Entry};
use crate::StateOptions;

/// A database of RocksDB.
#[derive(Debug)]
pub(crate) struct RocksDatabase(DB);

impl RocksDatabase {
    pub(crate) fn open(path: &Path, options: &StateOptions) -> Result<RocksDatabase, String> {
        std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
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
        DB::open(&settings, path).map(RocksDatabase).map_err(rocksdb::Error::into_string)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.0.get(key).map_err(rocksdb::Error::into_string)
    }

    pub(crate) fn first_key_from(&self, from: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let mut iterator = self.0.raw_iterator_opt(ReadOptions::default());
        iterator.seek(from);
        let found = iterator.key().map(<[u8]>::to_vec);
        iterator.status().map_err(rocksdb::Error::into_string)?;
        Ok(found)
    }

    pub(crate) fn range(
        &self,
        from: &[u8],
        to: Option<Vec<u8>>,
    ) -> impl Iterator<Item = Result<Entry, String>> + use<'_> {
        let mut options = ReadOptions::default();
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let entries = self.0.iterator_opt(IteratorMode::From(from, Direction::Forward), options);
        entries.map(|entry| entry.map_err(rocksdb::Error::into_string))
    }

    pub(crate) fn freeze(&self, into: &Path) -> Result<(), String> {
        // It links the files that do not change any more, and writes out first what is in memory.
        let checkpoint = Checkpoint::new(&self.0).map_err(rocksdb::Error::into_string)?;
        checkpoint.create_checkpoint(into).map_err(rocksdb::Error::into_string)
    }

    pub(crate) fn write(&self, changes: Vec<Change>) -> Result<(), String> {
        let mut batch = WriteBatch::default();
        for change in changes {
            match change {
                Change::Put { key, value } => batch.put(key, value),
                Change::Delete { key } => batch.delete(key),
                Change::DeleteRange { from, to } => batch.delete_range(from, to),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.0.write_opt(batch, &options).map_err(rocksdb::Error::into_string)
    }
}
