//! Writes the segment that takes the place of others.

use std::path::Path;

use millpond_disk::File;
use millpond_records::{BatchHeader, BatchView};
use millpond_types::Offset;

use crate::index::MemoryIndexes;
use crate::segment::Segment;
use crate::txn_index::{self, ENTRY_LEN};
use crate::{AbortedTransaction, LogError, LogOptions, names};

/// Segments that one new segment may replace, at most: the files of all of them are open at the swap.
pub(crate) const SEGMENTS_MERGED_MAX: usize = 64;

/// Bytes that are written with one call.
const BUFFER_BYTES: usize = 1 << 20;
/// With so many bytes written they are synced, so that no sync is long: others wait behind it.
const SYNC_BYTES: u64 = 16 << 20;

/// A segment that is being written, with `.cleaned` behind the names of its files.
#[derive(Debug)]
pub(crate) struct Output {
    base_offset: Offset,
    file: File,
    /// Bytes in the file.
    position: u64,
    synced: u64,
    buffer: Vec<u8>,
    indexes: MemoryIndexes,
    aborted: Vec<AbortedTransaction>,
    interval_bytes: u32,
    is_changed: bool,
    /// Bytes since somebody asked.
    written: u64,
}

impl Output {
    pub(crate) fn create(dir: &Path, base_offset: Offset, options: &LogOptions) -> Result<Output, LogError> {
        remove(dir, base_offset)?;
        Ok(Output {
            base_offset,
            file: File::create_new(&names::cleaned(dir, base_offset, names::LOG))?,
            position: 0,
            synced: 0,
            buffer: Vec::new(),
            indexes: MemoryIndexes::new(base_offset),
            aborted: Vec::new(),
            interval_bytes: options.index_interval_bytes,
            is_changed: false,
            written: 0,
        })
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Whether anything in it is not as it was.
    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Takes a batch as it is.
    pub(crate) fn take_whole(&mut self, batch: &BatchView<'_>) -> Result<(), LogError> {
        self.push(&batch.header, batch.bytes)
    }

    /// Takes what is left of a batch.
    pub(crate) fn take(&mut self, batch: &[u8]) -> Result<(), LogError> {
        self.is_changed = true;
        let header =
            BatchHeader::parse(batch).unwrap_or_else(|error| unreachable!("a batch that was just made: {error}"));
        self.push(&header, batch)
    }

    /// Nothing of a batch is left.
    pub(crate) fn leave_out(&mut self) {
        self.is_changed = true;
    }

    /// The marker that was taken last has aborted this transaction.
    pub(crate) fn note_aborted(&mut self, transaction: AbortedTransaction) {
        self.aborted.push(transaction);
    }

    fn push(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), LogError> {
        let position = self.position + self.buffer.len() as u64;
        if position + bytes.len() as u64 > i32::MAX as u64 {
            // Delete horizons make batches a little longer.
            let what = "what stays of it fits no segment (2 GiB); it is not compacted".to_owned();
            return Err(LogError::Damaged { path: self.file.path().to_owned(), what });
        }
        let len = bytes.len() as u64;
        self.indexes.note(header.last_offset(), header.max_timestamp, position, len, self.interval_bytes);
        self.buffer.extend_from_slice(bytes);
        self.written += len;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.file.write_all_at(&self.buffer, self.position)?;
        self.position += self.buffer.len() as u64;
        self.buffer.clear();
        if self.position - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.position;
        }
        Ok(())
    }

    /// Bytes that were taken since the last call.
    pub(crate) fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written)
    }

    /// Whether a segment that ends at `end` may come in here, too.
    pub(crate) fn has_room_for(&self, segment: &Segment, end: Offset, options: &LogOptions) -> bool {
        let bytes = self.position + self.buffer.len() as u64 + segment.size();
        let txn_index_bytes = (self.aborted.len() * ENTRY_LEN) as u64 + segment.txn_index.file_len();
        txn_index_bytes <= u64::from(options.index_bytes_max)
            && bytes <= options.segment_bytes.min(i32::MAX as u64)
            && end - self.base_offset <= i64::from(i32::MAX)
            && !self.indexes.is_full(options.index_bytes_max)
    }

    /// Makes the files durable under their `.cleaned` names, and tells how long `.log` and `.txnindex` are. The latter is written
    /// also if it is empty, when it is to take the place of another one (`replaces_txn_index`).
    pub(crate) fn finish(&mut self, dir: &Path, replaces_txn_index: bool) -> Result<(u64, u64), LogError> {
        self.flush()?;
        self.file.sync_data()?;
        self.indexes.note_max();
        let index = names::cleaned(dir, self.base_offset, names::INDEX);
        self.indexes.unwritten().store(&index, &names::cleaned(dir, self.base_offset, names::TIME_INDEX), true)?;
        if replaces_txn_index || !self.aborted.is_empty() {
            txn_index::write_new(&names::cleaned(dir, self.base_offset, names::TXN_INDEX), &self.aborted)?;
        }
        millpond_disk::sync_dir(dir)?;
        Ok((self.position, (self.aborted.len() * ENTRY_LEN) as u64))
    }

    /// Removes the files.
    pub(crate) fn discard(self, dir: &Path) {
        if let Err(error) = remove(dir, self.base_offset) {
            tracing::warn!(%error, "a file that compaction had begun stays until the next start");
        }
    }
}

fn remove(dir: &Path, base_offset: Offset) -> Result<(), LogError> {
    for kind in [names::LOG, names::INDEX, names::TIME_INDEX, names::TXN_INDEX] {
        millpond_disk::remove_file(&names::cleaned(dir, base_offset, kind))?;
    }
    Ok(())
}
