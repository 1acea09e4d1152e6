//! Writing chunks, and the files' turns.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millpond_disk::{BLOCK_BYTES, BlockBuffer, BlockFile, DiskError};
use millpond_types::{Offset, PartitionIndex, TopicId};

use super::format::{CHUNK_BYTES_MAX, Head, Kind, TableEntry, chunk_len};
use super::replay::first_lap;
use super::{file_numbers, file_path};

/// Room at the end of each file that only cuts may use, also after its lap has ended, so that a full journal does not keep a log
/// from being cut.
const CUT_ROOM_BYTES: u64 = 64 * BLOCK_BYTES as u64;

/// How large a journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes of a file, rounded up to whole blocks.
    pub file_bytes: u64,
    /// How many files there are, at most.
    pub files_max: usize,
}

/// Batches of one log, as they lie in it.
#[derive(Debug, Clone, Copy)]
pub struct JournalEntry<'a> {
    /// The log's topic.
    pub topic_id: TopicId,
    /// Which of the topic's partitions.
    pub partition: PartitionIndex,
    /// The first batch's base offset.
    pub base_offset: Offset,
    /// The offset after the last batch.
    pub end_offset: Offset,
    /// The batches, of at most [`ENTRY_BYTES_MAX`](super::ENTRY_BYTES_MAX) bytes.
    pub batches: &'a [Bytes],
}

impl JournalEntry<'_> {
    fn len(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }

    fn line(&self) -> TableEntry {
        let JournalEntry { topic_id, partition, base_offset, end_offset, .. } = *self;
        TableEntry { topic_id, partition, kind: Kind::Batches, base_offset, end_offset, len: 0, crc: 0 }
    }
}

/// Why entries are not durable.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// No file is free, and nothing was written. [`Journal::release`] and [`Journal::add_file`] give room.
    #[error("the journal is full: no lap was released")]
    Full,
    /// The disk failed, now or before. Nothing is written any more.
    #[error("the journal takes no more writes: {reason}")]
    Broken {
        /// What happened first.
        reason: String,
    },
}

/// The journal of a node. One thread writes.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    options: JournalOptions,
    /// Memory is taken when the first chunk is written.
    buffer: Option<BlockBuffer>,
    active: Option<Active>,
    /// Taken from the front: the file that was used longest ago is overwritten first, so that a cut is never gone before
    /// what it makes void, not even in the middle of a write.
    free: VecDeque<BlockFile>,
    /// Laps that have ended and whose files are not free yet, oldest first.
    ended: VecDeque<Ended>,
    files: usize,
    next_lap: u64,
    broken: Option<String>,
}

/// A lap, and where it goes on.
#[derive(Debug)]
struct Active {
    file: BlockFile,
    lap: u64,
    /// The number of the next chunk, and where it goes.
    number: u32,
    position: u64,
}

#[derive(Debug)]
struct Ended {
    /// Takes cuts still.
    rest: Active,
    /// The caller knows.
    told: bool,
    released: bool,
}

impl Journal {
    /// Opens the journal in `dir`, whose files may be there or not. Whatever they hold was put back ([`super::replay`]) or is
    /// not needed, and means nothing any more when this returns.
    pub fn open(dir: &Path, options: JournalOptions) -> Result<Journal, DiskError> {
        let file_bytes = options.file_bytes.next_multiple_of(BLOCK_BYTES as u64);
        let options = JournalOptions { file_bytes, ..options };
        let mut journal = Journal {
            dir: dir.to_owned(),
            options,
            buffer: None,
            active: None,
            free: VecDeque::new(),
            ended: VecDeque::new(),
            files: 0,
            next_lap: 1,
            broken: None,
        };
        let (mut kept, mut unknown) = (Vec::new(), 0);
        for number in file_numbers(dir)? {
            let path = file_path(dir, number);
            let file = BlockFile::open(&path)?;
            let lap = first_lap(&path)?;
            journal.next_lap = journal.next_lap.max(lap.map_or(0, |(lap, _)| lap) + 1);
            unknown += u64::from(lap.is_none());
            if number >= options.files_max || file.len()? != file_bytes {
                millpond_disk::remove_file(&path)?;
            } else {
                // Also when the first block is none: there may be chunks behind it, in a lap that is not known then.
                kept.push((number, file, lap.is_none_or(|(_, sealed)| !sealed)));
            }
        }
        // A lap whose first block is lost may have any of the next numbers.
        journal.next_lap += unknown;
        kept.sort_by_key(|(number, ..)| *number);
        for (number, file, used) in kept {
            // Numbers without a gap, so that a new file has a number that is free.
            if number != journal.files {
                millpond_disk::remove_file(file.path())?;
                continue;
            }
            if used {
                journal.seal(&file)?;
            }
            journal.files += 1;
            journal.free.push_back(file);
        }
        // What was removed must not be there again after a power cut, when it would be believed.
        millpond_disk::sync_dir(dir)?;
        Ok(journal)
    }

    /// Writes a chunk without entries to the front of a file: what the file held is behind it, and means nothing.
    fn seal(&mut self, file: &BlockFile) -> Result<(), DiskError> {
        let lap = self.next_lap;
        self.next_lap += 1;
        let mut buffer = BlockBuffer::new(BLOCK_BYTES);
        let head = Head { lap, number: 0, oldest_lap: lap, table: Vec::new() };
        head.encode(std::iter::empty::<std::iter::Empty<&[u8]>>(), &mut buffer);
        file.write_at(&buffer, 0)?;
        file.sync_data()
    }

    /// The bytes that one call of [`Journal::write`] can take at most, heads included.
    pub fn write_bytes_max(&self) -> u64 {
        self.options.file_bytes.saturating_sub(CUT_ROOM_BYTES)
    }

    /// Whether another file should be made, with [`Journal::make_file`] and [`Journal::add_file`], before it is needed: its
    /// number, if so.
    pub fn wants_file(&self) -> Option<usize> {
        let wanted = self.free.is_empty() && self.files < self.options.files_max && self.broken.is_none();
        wanted.then_some(self.files)
    }

    /// Makes the file `number` for a journal in `dir`. It takes as long as writing the file does, so it is not done by who
    /// writes; `between` is called now and then meanwhile.
    pub fn make_file(
        dir: &Path,
        options: JournalOptions,
        number: usize,
        between: impl FnMut(),
    ) -> Result<BlockFile, DiskError> {
        let path = file_path(dir, number);
        // What a crash has left half made.
        millpond_disk::remove_file(&path)?;
        let made = BlockFile::create_new(&path, options.file_bytes.next_multiple_of(BLOCK_BYTES as u64), between);
        if made.is_err() {
            // On a full disk it would hold what the logs need.
            millpond_disk::remove_file(&path)?;
        }
        millpond_disk::sync_dir(dir)?;
        made
    }

    /// Takes in the file that [`Journal::wants_file`] wanted.
    pub fn add_file(&mut self, file: BlockFile) {
        self.files += 1;
        self.free.push_back(file);
    }

    /// The folder it lies in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How large it is.
    pub fn options(&self) -> JournalOptions {
        self.options
    }

    /// The lap that has ended since this was asked, if any: its logs are to be synced, and then it is to be released. To be
    /// asked after every write, also one that failed.
    pub fn ended_lap(&mut self) -> Option<u64> {
        let ended = self.ended.iter_mut().find(|ended| !ended.told)?;
        ended.told = true;
        Some(ended.rest.lap)
    }

    /// Makes entries durable, in this order, and says in which lap they are. The caller sees to it that none begins above what is durable of its log.
    pub fn write(&mut self, entries: &[JournalEntry<'_>]) -> Result<u64, JournalError> {
        let chunks = chunks(entries);
        let needed: u64 = chunks.iter().map(|chunk| chunk_len_of(chunk) as u64).sum();
        self.check()?;
        self.make_room(needed + CUT_ROOM_BYTES)?;
        let written = chunks.into_iter().try_for_each(|chunk| {
            let table = chunk.iter().map(JournalEntry::line).collect();
            let bytes = chunk.iter().map(|entry| entry.batches.iter().map(|batch| &batch[..]));
            self.put(table, bytes)
        });
        let synced = written.and_then(|()| self.active.as_ref().map_or(Ok(0), Active::sync));
        synced.map_err(|error| self.break_for(&error))
    }

    /// Says, durably, that a log was cut: entries of it that were written before mean nothing. The whole log must have
    /// been synced. Where no file is free, it goes to the lap that ended last.
    pub fn cut(&mut self, topic_id: TopicId, partition: PartitionIndex, end: Offset) -> Result<u64, JournalError> {
        let (base_offset, end_offset) = (end, end);
        let line = TableEntry { topic_id, partition, kind: Kind::Cut, base_offset, end_offset, len: 0, crc: 0 };
        self.check()?;
        let has_room = self.make_room(BLOCK_BYTES as u64).is_ok();
        // Not before room was made: the lap that has ended for it counts, too.
        let oldest_lap = self.ended.front().map(|oldest| oldest.rest.lap);
        let put = |lap: &mut Active, buffer: &mut BlockBuffer| -> Result<u64, DiskError> {
            let bytes = std::iter::once(std::iter::empty::<&[u8]>());
            lap.put(oldest_lap.unwrap_or(lap.lap), vec![line], bytes, buffer)?;
            lap.sync()
        };
        let written = if has_room && let Some(active) = &mut self.active {
            put(active, buffer_of(&mut self.buffer))
        } else if let Some(last) = self.ended.back_mut()
            && last.rest.has_room(BLOCK_BYTES as u64, self.options)
        {
            put(&mut last.rest, buffer_of(&mut self.buffer))
        } else {
            return Err(JournalError::Full);
        };
        written.map_err(|error| self.break_for(&error))
    }

    fn check(&self) -> Result<(), JournalError> {
        match &self.broken {
            Some(reason) => Err(JournalError::Broken { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Nothing is written any more.
    fn break_for(&mut self, error: &DiskError) -> JournalError {
        let reason = error.to_string();
        tracing::error!(reason, "the journal failed; from now on every log is synced by itself");
        self.broken = Some(reason.clone());
        JournalError::Broken { reason }
    }

    /// Sees to it that the active file has room for `needed` bytes.
    fn make_room(&mut self, needed: u64) -> Result<(), JournalError> {
        if self.active.as_ref().is_some_and(|active| active.has_room(needed, self.options)) {
            return Ok(());
        }
        if needed > self.options.file_bytes {
            return Err(JournalError::Full);
        }
        // Also when no other file is free: only a lap that has ended is released.
        if let Some(rest) = self.active.take() {
            self.ended.push_back(Ended { rest, told: false, released: false });
        }
        let file = self.free.pop_front().ok_or(JournalError::Full)?;
        self.active = Some(Active { file, lap: self.next_lap, number: 0, position: 0 });
        self.next_lap += 1;
        Ok(())
    }

    fn put<'a, Pieces>(&mut self, table: Vec<TableEntry>, bytes: impl Iterator<Item = Pieces>) -> Result<(), DiskError>
    where
        Pieces: Iterator<Item = &'a [u8]>,
    {
        let active = self.active.as_mut().expect("room was made");
        let oldest_lap = self.ended.front().map_or(active.lap, |oldest| oldest.rest.lap);
        active.put(oldest_lap, table, bytes, buffer_of(&mut self.buffer))
    }

    /// Every log with entries in the lap was synced by itself since the lap ended: its file may be used again, after those
    /// of all laps before. (A cut stands after what it makes void, and must not go before that.)
    pub fn release(&mut self, lap: u64) {
        if let Some(ended) = self.ended.iter_mut().find(|ended| ended.rest.lap == lap) {
            ended.released = true;
        }
        while let Some(oldest) = self.ended.pop_front_if(|oldest| oldest.released) {
            self.free.push_back(oldest.rest.file);
        }
    }
}

impl Active {
    fn has_room(&self, bytes: u64, options: JournalOptions) -> bool {
        self.position + bytes <= options.file_bytes
    }

    fn put<'a, Pieces>(
        &mut self,
        oldest_lap: u64,
        table: Vec<TableEntry>,
        bytes: impl Iterator<Item = Pieces>,
        buffer: &mut BlockBuffer,
    ) -> Result<(), DiskError>
    where
        Pieces: Iterator<Item = &'a [u8]>,
    {
        buffer.clear();
        Head { lap: self.lap, number: self.number, oldest_lap, table }.encode(bytes, buffer);
        self.file.write_at(buffer, self.position)?;
        self.number += 1;
        self.position += buffer.len() as u64;
        Ok(())
    }

    /// Makes what was put durable, and says in which lap it is.
    fn sync(&self) -> Result<u64, DiskError> {
        self.file.sync_data().map(|()| self.lap)
    }
}

fn buffer_of(buffer: &mut Option<BlockBuffer>) -> &mut BlockBuffer {
    buffer.get_or_insert_with(|| BlockBuffer::new(CHUNK_BYTES_MAX))
}

/// Cuts entries into pieces that each fit a chunk.
fn chunks<'e, 'b>(entries: &'e [JournalEntry<'b>]) -> Vec<&'e [JournalEntry<'b>]> {
    let mut chunks = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |(place, entry): &(usize, &JournalEntry<'_>)| {
            bytes += entry.len();
            chunk_len(place + 1, bytes) <= CHUNK_BYTES_MAX
        };
        let count = rest.iter().enumerate().take_while(fits).count();
        assert!(count > 0, "an entry of {} bytes fits no chunk", rest.first().map_or(0, JournalEntry::len));
        let (chunk, after) = rest.split_at(count);
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

fn chunk_len_of(chunk: &[JournalEntry<'_>]) -> usize {
    chunk_len(chunk.len(), chunk.iter().map(JournalEntry::len).sum())
}
