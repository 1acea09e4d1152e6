//! One segment: a `.log` file with its two indexes, and that of the transactions that were aborted in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use millpond_disk::File;
use millpond_records::{BatchHeader, HEADER_LEN};
use millpond_types::{Offset, TimestampMs};
use parking_lot::{Mutex, RwLock};

use crate::index::{self, Lookup, MaxTimestamp, MemoryIndexes};
use crate::producers::EndedTransaction;
use crate::scan::{Scanner, Step};
use crate::txn_index::{self, ENTRY_LEN, TxnIndex};
use crate::{AbortedTransaction, LogError, names};

/// The next [`Segment::id`].
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// One segment of a log. Readers share it with the appender; the last one of a log is the one that is written.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Tells it from another of the same base offset, that it takes the place of.
    id: u64,
    base_offset: Offset,
    dir: PathBuf,
    /// Bytes between two index entries.
    interval_bytes: u32,
    /// Bytes of whole batches in `.log`; what is behind them is not ours yet.
    size: AtomicU64,
    indexes: RwLock<Indexes>,
    /// Bytes, indexes and the producers' snapshot at its end are durable, and nobody writes to its files any more.
    is_finished: AtomicBool,
    pub(crate) txn_index: TxnIndex,
    /// Held while the index files are written, so that they hold one writer's entries.
    index_files: Mutex<()>,
    file: Mutex<OpenFile>,
    /// What the node's cache of open files knows of it.
    pub(crate) uses: FileUses,
}

/// The open `.log`, and what keeps it open.
#[derive(Debug, Default)]
struct OpenFile {
    file: Option<Arc<File>>,
    /// How often somebody began to write.
    writes: u64,
    /// Those of them that a sync has covered. Before it has covered all the file stays open: who opens it later might not be told
    /// what could not be written.
    synced: u64,
    /// Another segment's file has the name.
    is_retired: bool,
}

/// Whether the node's cache of open files has a segment, and whether it was used since the cache asked.
#[derive(Debug, Default)]
pub(crate) struct FileUses {
    is_cached: AtomicBool,
    is_used: AtomicBool,
}

impl FileUses {
    /// Whether the cache had it before.
    pub(crate) fn note_use(&self) -> bool {
        self.is_used.store(true, Ordering::Relaxed);
        self.is_cached.swap(true, Ordering::AcqRel)
    }

    /// Whether it was used since the last call.
    pub(crate) fn take_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn leave_cache(&self) {
        self.is_cached.store(false, Ordering::Release);
    }
}

#[derive(Debug)]
enum Indexes {
    /// Of the active segment, and of a rolled one whose indexes were not written yet.
    Memory(MemoryIndexes),
    /// In the files; the largest timestamp is read from them once.
    Disk { max: Option<MaxTimestamp> },
}

impl Segment {
    /// Begins a new segment. Its name is durable after the folder was synced.
    pub(crate) fn create(
        dir: &Path,
        base_offset: Offset,
        interval_bytes: u32,
    ) -> Result<(Segment, Arc<File>), LogError> {
        let path = names::path(dir, base_offset, names::LOG);
        let file = Arc::new(File::create_new(&path)?);
        let indexes = MemoryIndexes::new(base_offset);
        let segment = Segment::with_indexes(dir, base_offset, 0, (indexes, TxnIndex::new()), &file, interval_bytes);
        Ok((segment, file))
    }

    /// A segment that is there, with its indexes in memory: the active one.
    pub(crate) fn with_indexes(
        dir: &Path,
        base_offset: Offset,
        size: u64,
        (indexes, txn_index): (MemoryIndexes, TxnIndex),
        file: &Arc<File>,
        interval_bytes: u32,
    ) -> Segment {
        Segment {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            base_offset,
            dir: dir.to_owned(),
            interval_bytes,
            size: AtomicU64::new(size),
            indexes: RwLock::new(Indexes::Memory(indexes)),
            is_finished: AtomicBool::new(false),
            txn_index,
            index_files: Mutex::new(()),
            file: Mutex::new(OpenFile { file: Some(file.clone()), ..OpenFile::default() }),
            uses: FileUses::default(),
        }
    }

    /// A segment that is there and complete. Nothing is read.
    pub(crate) fn on_disk(
        dir: &Path,
        base_offset: Offset,
        size: u64,
        txn_index: TxnIndex,
        interval_bytes: u32,
    ) -> Segment {
        Segment {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            base_offset,
            dir: dir.to_owned(),
            interval_bytes,
            size: AtomicU64::new(size),
            indexes: RwLock::new(Indexes::Disk { max: None }),
            is_finished: AtomicBool::new(true),
            txn_index,
            index_files: Mutex::new(()),
            file: Mutex::default(),
            uses: FileUses::default(),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.base_offset
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn path(&self, kind: &str) -> PathBuf {
        names::path(&self.dir, self.base_offset, kind)
    }

    /// Makes a batch visible that was written at the segment's end.
    pub(crate) fn grow(&self, header: &BatchHeader, position: u64) {
        let len = header.size() as u64;
        let mut indexes = self.indexes.write();
        if let Indexes::Memory(indexes) = &mut *indexes {
            indexes.note(header.last_offset(), header.max_timestamp, position, len, self.interval_bytes);
        }
        // Under the lock, so that the indexes always speak of exactly this many bytes.
        self.size.store(position + len, Ordering::Release);
    }

    /// Takes note of a transaction that ended with the segment's newest batch.
    pub(crate) fn note_transaction(&self, ended: &EndedTransaction) {
        if let Some(aborted) = ended.aborted() {
            self.txn_index.push(aborted);
        }
    }

    /// Whether an index takes no further entry.
    pub(crate) fn is_index_full(&self, index_bytes_max: u32) -> bool {
        match &*self.indexes.read() {
            Indexes::Memory(indexes) => indexes.is_full(index_bytes_max),
            Indexes::Disk { .. } => true,
        }
    }

    /// The open `.log`, and whether it was opened for this call.
    pub(crate) fn file(&self) -> Result<(Arc<File>, bool), LogError> {
        self.open(&mut self.file.lock())
    }

    fn open(&self, open: &mut OpenFile) -> Result<(Arc<File>, bool), LogError> {
        if let Some(file) = &open.file {
            return Ok((file.clone(), false));
        }
        let file = Arc::new(File::open(&self.path(names::LOG))?);
        open.file = Some(file.clone());
        Ok((file, true))
    }

    /// The open `.log` for somebody who writes, and it stays open until that is synced.
    pub(crate) fn file_to_write(&self) -> Result<Arc<File>, LogError> {
        let mut open = self.file.lock();
        let (file, _) = self.open(&mut open)?;
        open.writes += 1;
        Ok(file)
    }

    /// Makes what was written to `.log` before this call durable.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        let (file, writes) = {
            let open = self.file.lock();
            match &open.file {
                Some(file) if open.synced < open.writes => (file.clone(), open.writes),
                _ => return Ok(()),
            }
        };
        file.sync_data()?;
        let mut open = self.file.lock();
        open.synced = open.synced.max(writes);
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        self.file.lock().file.is_some()
    }

    /// Lets the open `.log` go, unless something in it is not synced, or its name is another file's. Says whether it did.
    pub(crate) fn close_file(&self) -> bool {
        let mut open = self.file.lock();
        if open.synced < open.writes || open.is_retired {
            return false;
        }
        open.file = None;
        true
    }

    /// Writes the indexes' new entries to their files, with the last timestamp if `complete`. Readers do not wait for
    /// the disk meanwhile. The transaction index is synced in any case.
    pub(crate) fn write_indexes(&self, complete: bool, sync: bool) -> Result<(), LogError> {
        let _files = self.index_files.lock();
        self.txn_index.store(&self.dir, &self.path(names::TXN_INDEX))?;
        let unwritten = match &mut *self.indexes.write() {
            Indexes::Memory(memory) => {
                if complete {
                    memory.note_max();
                }
                memory.unwritten()
            }
            Indexes::Disk { .. } => return Ok(()),
        };
        unwritten.store(&self.path(names::INDEX), &self.path(names::TIME_INDEX), sync)?;
        if let Indexes::Memory(memory) = &mut *self.indexes.write() {
            memory.note_written(&unwritten);
        }
        Ok(())
    }

    /// Makes the file of the transaction index hold what is in memory, durably.
    pub(crate) fn store_txn_index(&self) -> Result<(), LogError> {
        let _files = self.index_files.lock();
        self.txn_index.store(&self.dir, &self.path(names::TXN_INDEX))
    }

    /// Cuts off what the index files hold beyond what is in memory.
    pub(crate) fn cut_index_files(&self) -> Result<(), LogError> {
        let _files = self.index_files.lock();
        match &mut *self.indexes.write() {
            Indexes::Memory(memory) => memory.cut_files(&self.path(names::INDEX), &self.path(names::TIME_INDEX)),
            Indexes::Disk { .. } => Ok(()),
        }
    }

    /// The last sync of a rolled segment: bytes and indexes become durable, and the indexes leave the memory.
    pub(crate) fn finish(&self) -> Result<(), LogError> {
        self.sync()?;
        self.write_indexes(true, true)?;
        self.txn_index.leave_memory();
        let mut indexes = self.indexes.write();
        if let Indexes::Memory(memory) = &*indexes {
            *indexes = Indexes::Disk { max: Some(memory.max()) };
        }
        Ok(())
    }

    /// The snapshot of the producers at its end is written, too: it may be compacted.
    pub(crate) fn set_finished(&self) {
        self.is_finished.store(true, Ordering::Release);
    }

    /// The indexes in memory, built from the files or from `.log`, for a segment that is written again.
    pub(crate) fn load_indexes(&self) -> Result<(), LogError> {
        self.is_finished.store(false, Ordering::Release);
        self.keep_indexes_in_memory()
    }

    fn keep_indexes_in_memory(&self) -> Result<(), LogError> {
        let mut indexes = self.indexes.write();
        if matches!(&*indexes, Indexes::Memory(_)) {
            return Ok(());
        }
        let (index, time_index) = (self.path(names::INDEX), self.path(names::TIME_INDEX));
        let loaded = match index::load(self.base_offset, &index, &time_index, self.size())? {
            Some(loaded) => loaded,
            None => self.scan_indexes()?,
        };
        *indexes = Indexes::Memory(loaded);
        Ok(())
    }

    /// From now on it needs no name in the folder: its file stays open, and its indexes are in memory, for those who have it in
    /// hand while others take its place.
    ///
    /// `false`: its transaction index is damaged.
    pub(crate) fn retire(&self) -> Result<bool, LogError> {
        if !self.load_txn_index(Offset::MAX)? {
            return Ok(false);
        }
        self.keep_indexes_in_memory()?;
        let mut open = self.file.lock();
        self.open(&mut open)?;
        open.is_retired = true;
        Ok(true)
    }

    /// Undoes [`Segment::retire`]: nobody takes its place for now.
    pub(crate) fn reinstate(&self) {
        let mut indexes = self.indexes.write();
        if let Indexes::Memory(memory) = &*indexes {
            *indexes = Indexes::Disk { max: Some(memory.max()) };
        }
        drop(indexes);
        self.txn_index.leave_memory();
        self.file.lock().is_retired = false;
        self.close_file();
    }

    /// Whether bytes, indexes and the producers' snapshot at its end are durable, and nobody writes to its files any more.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_finished.load(Ordering::Acquire)
    }

    /// The largest timestamp of its first batch; `None` if there is no batch, or it has none.
    pub(crate) fn first_timestamp(&self) -> Result<Option<TimestampMs>, LogError> {
        let (file, opened) = self.file()?;
        let header = file.read_at(HEADER_LEN, 0)?;
        if opened {
            self.close_file();
        }
        Ok(BatchHeader::parse(&header).ok().map(|header| header.max_timestamp).filter(|timestamp| *timestamp >= 0))
    }

    /// The transaction index in memory, for a segment that is written again and ends at `end`. `false`: its file is damaged.
    pub(crate) fn load_txn_index(&self, end: Offset) -> Result<bool, LogError> {
        let _files = self.index_files.lock();
        if self.txn_index.is_in_memory() {
            return Ok(true);
        }
        let entries = txn_index::read(&self.path(names::TXN_INDEX), self.base_offset)?;
        let file_len = self.txn_index.file_len();
        let is_sound = |entries: &Vec<AbortedTransaction>| {
            entries.len() as u64 * ENTRY_LEN as u64 == file_len
                && entries.last().is_none_or(|last| last.last_offset < end)
        };
        let Some(entries) = entries.filter(is_sound) else { return Ok(false) };
        self.txn_index.set(entries, file_len);
        Ok(true)
    }

    /// Puts another transaction index in the place of one that is damaged, of a segment that is not written.
    pub(crate) fn replace_txn_index(&self, entries: &[AbortedTransaction]) -> Result<(), LogError> {
        let _files = self.index_files.lock();
        if self.txn_index.is_in_memory() {
            // Then the file may be another segment's by now.
            return Ok(());
        }
        self.txn_index.replace(&self.path(names::TXN_INDEX), entries)
    }

    /// Cuts the segment's indexes; the caller cuts the file and sees to it that no one appends.
    pub(crate) fn truncate_to(&self, offset: Offset, position: u64) -> Result<(), LogError> {
        self.size.store(position, Ordering::Release);
        self.txn_index.truncate_to(offset);
        if let Indexes::Memory(memory) = &mut *self.indexes.write() {
            memory.truncate_to(offset, position);
            // The batches since the last entry may hold a larger timestamp than the entries tell.
            let (file, _) = self.file()?;
            let mut scanner = Scanner::headers(&file, memory.position_before(Offset::MAX), position);
            while let Step::Batch(_, header, _) = scanner.step()? {
                memory.note(header.last_offset(), header.max_timestamp, 0, 0, u32::MAX);
            }
        }
        Ok(())
    }

    /// The largest timestamp in the segment, -1 if there is none.
    pub(crate) fn max_timestamp(&self) -> Result<MaxTimestamp, LogError> {
        match &*self.indexes.read() {
            Indexes::Memory(memory) => return Ok(memory.max()),
            Indexes::Disk { max: Some(max) } => return Ok(*max),
            Indexes::Disk { max: None } => {}
        }
        let found = self.times(|memory| Some(memory.max()), |_| true)?;
        let max = found.unwrap_or(MaxTimestamp { timestamp: -1, offset: self.base_offset });
        if let Indexes::Disk { max: known } = &mut *self.indexes.write() {
            *known = Some(max);
        }
        Ok(max)
    }

    /// The newest entry of the time index with a timestamp below `timestamp`.
    pub(crate) fn time_before(&self, timestamp: TimestampMs) -> Result<Option<MaxTimestamp>, LogError> {
        self.times(|memory| memory.time_before(timestamp), |e| e.timestamp < timestamp)
    }

    /// The newest entry of the time index with an offset below `end`.
    pub(crate) fn time_within(&self, end: Offset) -> Result<Option<MaxTimestamp>, LogError> {
        self.times(|memory| memory.time_within(end), |e| self.base_offset + i64::from(e.relative) < end)
    }

    /// The last entry of the time index for which `before` holds; `in_memory` finds it there.
    fn times(
        &self,
        in_memory: impl Fn(&MemoryIndexes) -> Option<MaxTimestamp>,
        before: impl Fn(&index::TimeEntry) -> bool,
    ) -> Result<Option<MaxTimestamp>, LogError> {
        let path = self.path(names::TIME_INDEX);
        // With the lock held during the look, the file is this segment's: before another takes its place, the indexes are loaded.
        let look = || match &*self.indexes.read() {
            Indexes::Memory(memory) => Ok(Lookup::Found(in_memory(memory))),
            Indexes::Disk { .. } => index::time_entry_before(&path, &before).map(|found| match found {
                Lookup::Found(e) => {
                    let offset = self.base_offset + i64::from(e.relative);
                    Lookup::Found(Some(MaxTimestamp { timestamp: e.timestamp, offset }))
                }
                Lookup::BeforeFirst => Lookup::BeforeFirst,
                Lookup::Damaged => Lookup::Damaged,
            }),
        };
        let mut found = look()?;
        if found == Lookup::Damaged {
            self.rebuild_indexes("its time index is missing or damaged")?;
            found = look()?;
        }
        match found {
            Lookup::Found(entry) => Ok(entry),
            Lookup::BeforeFirst => Ok(None),
            Lookup::Damaged => Err(LogError::Damaged { path, what: "it cannot be rebuilt".to_owned() }),
        }
    }

    /// Where the batch that contains `offset` starts, and its header; or the first batch after `offset`, should
    /// that be in a hole. `None`: no batch of this segment ends at or after `offset`.
    pub(crate) fn locate(&self, file: &File, offset: Offset) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let start = self.position_before(offset)?;
        if let Some(found) = self.walk_to(file, start, offset)? {
            return Ok(found);
        }
        // The index led to a place where no batch starts, or to one behind the offset.
        self.rebuild_indexes("an entry of its index does not lead to a batch")?;
        let start = self.position_before(offset)?;
        self.walk_to(file, start, offset)?.ok_or_else(|| LogError::Damaged {
            path: self.path(names::LOG),
            what: format!("no batch starts at position {start}, where offset {offset} is looked for"),
        })
    }

    /// The inner `None`: the segment ends before; the outer: `start` cannot be right.
    #[allow(clippy::option_option)] // Two different ways of not finding, told apart by the one caller above.
    fn walk_to(&self, file: &File, start: u64, offset: Offset) -> Result<Option<Option<(u64, BatchHeader)>>, LogError> {
        let mut scanner = Scanner::headers(file, start, self.size());
        let mut first = true;
        loop {
            match scanner.step()? {
                Step::Batch(_, header, _) if header.base_offset < self.base_offset => return Ok(None),
                Step::Batch(_, header, _) if first && start > 0 && header.base_offset > offset => return Ok(None),
                Step::Batch(position, header, _) if header.last_offset() >= offset => {
                    return Ok(Some(Some((position, header))));
                }
                Step::Batch(..) => first = false,
                Step::End => return Ok(Some(None)),
                Step::Broken(_) => return Ok(None),
            }
        }
    }

    /// Where to start looking for `offset`, by the index.
    fn position_before(&self, offset: Offset) -> Result<u64, LogError> {
        let look = || match &*self.indexes.read() {
            Indexes::Memory(memory) => Ok(Some(memory.position_before(offset))),
            Indexes::Disk { .. } if offset < self.base_offset => Ok(Some(0)),
            Indexes::Disk { .. } => {
                let relative = u32::try_from(offset - self.base_offset).unwrap_or(u32::MAX);
                index::offset_entry_before(&self.path(names::INDEX), relative).map(|found| match found {
                    Lookup::Found(entry) => Some(u64::from(entry.position)).filter(|position| *position < self.size()),
                    Lookup::BeforeFirst => Some(0),
                    Lookup::Damaged => None,
                })
            }
        };
        match look()? {
            Some(position) => Ok(position),
            None => {
                self.rebuild_indexes("its index is missing or damaged")?;
                Ok(0)
            }
        }
    }

    /// Builds both indexes anew from `.log`.
    pub(crate) fn rebuild_indexes(&self, reason: &str) -> Result<(), LogError> {
        let mut indexes = self.indexes.write();
        tracing::warn!(segment = %self.path(names::LOG).display(), reason, "rebuilding the indexes of a segment");
        match &mut *indexes {
            Indexes::Memory(memory) => *memory = self.scan_indexes()?,
            Indexes::Disk { max } => {
                let mut built = self.scan_indexes()?;
                built.note_max();
                built.unwritten().store(&self.path(names::INDEX), &self.path(names::TIME_INDEX), false)?;
                *max = Some(built.max());
            }
        }
        Ok(())
    }

    fn scan_indexes(&self) -> Result<MemoryIndexes, LogError> {
        let (file, opened) = self.file()?;
        let mut built = MemoryIndexes::new(self.base_offset);
        let mut scanner = Scanner::headers(&file, 0, self.size());
        while let Step::Batch(position, header, _) = scanner.step()? {
            let len = header.size() as u64;
            built.note(header.last_offset(), header.max_timestamp, position, len, self.interval_bytes);
        }
        if opened {
            self.close_file();
        }
        Ok(built)
    }
}
