//! The two indexes of a segment: from offset to position, and from timestamp to offset.
//!
//! ```text
//! .index      | relative offset | position |                 4 + 4 bytes, of the last record of a batch, and
//!                                                            where in .log that batch starts
//! .timeindex  | largest timestamp so far | relative offset | 8 + 4 bytes, the last offset of the batch that has it
//! ```
//!
//! Big-endian; relative to the segment's base offset; strictly growing in both columns of `.index` and of
//! `.timeindex`. Neither has a checksum (Kafka's format), so what is read is checked against `.log` and built anew
//! when it does not fit.

use std::path::Path;

use millpond_disk::File;
use millpond_types::{Offset, TimestampMs};

use crate::LogError;

pub(crate) const OFFSET_ENTRY_LEN: usize = 8;
pub(crate) const TIME_ENTRY_LEN: usize = 12;

/// An entry of `.index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) relative: u32,
    pub(crate) position: u32,
}

/// An entry of `.timeindex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: TimestampMs,
    pub(crate) relative: u32,
}

/// The largest timestamp of some batches, and the last offset of the first batch that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxTimestamp {
    pub(crate) timestamp: TimestampMs,
    pub(crate) offset: Offset,
}

impl OffsetEntry {
    fn decode(bytes: &[u8; OFFSET_ENTRY_LEN]) -> OffsetEntry {
        let [a, b, c, d, e, f, g, h] = *bytes;
        OffsetEntry { relative: u32::from_be_bytes([a, b, c, d]), position: u32::from_be_bytes([e, f, g, h]) }
    }
}

impl TimeEntry {
    fn decode(bytes: &[u8; TIME_ENTRY_LEN]) -> TimeEntry {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        TimeEntry {
            timestamp: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            relative: u32::from_be_bytes([i, j, k, l]),
        }
    }
}

/// Both indexes of the active segment, or of one that is being scanned. 20 bytes for each
/// `index.interval.bytes` of batches, bounded by `segment.index.bytes`.
#[derive(Debug, Clone)]
pub(crate) struct MemoryIndexes {
    base_offset: Offset,
    pub(crate) offsets: Vec<OffsetEntry>,
    pub(crate) times: Vec<TimeEntry>,
    max: MaxTimestamp,
    bytes_since_entry: u64,
    /// Entries of both that are in the files already.
    written: (usize, usize),
}

impl MemoryIndexes {
    pub(crate) fn new(base_offset: Offset) -> MemoryIndexes {
        MemoryIndexes {
            base_offset,
            offsets: Vec::new(),
            times: Vec::new(),
            max: MaxTimestamp { timestamp: -1, offset: base_offset },
            bytes_since_entry: 0,
            written: (0, 0),
        }
    }

    /// Indexes as they lie in the files.
    pub(crate) fn from_entries(base_offset: Offset, offsets: Vec<OffsetEntry>, times: Vec<TimeEntry>) -> MemoryIndexes {
        let max = match times.last() {
            Some(last) => MaxTimestamp { timestamp: last.timestamp, offset: base_offset + i64::from(last.relative) },
            None => MaxTimestamp { timestamp: -1, offset: base_offset },
        };
        let written = (offsets.len(), times.len());
        MemoryIndexes { base_offset, offsets, times, max, bytes_since_entry: 0, written }
    }

    pub(crate) fn max(&self) -> MaxTimestamp {
        self.max
    }

    /// Takes note of a batch that was appended at `position`.
    pub(crate) fn note(
        &mut self,
        last_offset: Offset,
        max_timestamp: TimestampMs,
        position: u64,
        len: u64,
        interval_bytes: u32,
    ) {
        if max_timestamp > self.max.timestamp {
            self.max = MaxTimestamp { timestamp: max_timestamp, offset: last_offset };
        }
        if self.bytes_since_entry > u64::from(interval_bytes) {
            let relative = relative(self.base_offset, last_offset);
            let position = u32::try_from(position).expect("a segment's positions fit 31 bits");
            self.offsets.push(OffsetEntry { relative, position });
            self.note_max();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += len;
    }

    /// Writes the largest timestamp so far into the time index, unless it is there.
    pub(crate) fn note_max(&mut self) {
        if self.max.timestamp > self.times.last().map_or(-1, |last| last.timestamp) {
            let relative = relative(self.base_offset, self.max.offset);
            self.times.push(TimeEntry { timestamp: self.max.timestamp, relative });
        }
    }

    /// Whether one of the two takes no further entry.
    pub(crate) fn is_full(&self, bytes_max: u32) -> bool {
        let bytes_max = bytes_max as usize;
        self.offsets.len() >= (bytes_max / OFFSET_ENTRY_LEN).max(1)
            || self.times.len() >= (bytes_max / TIME_ENTRY_LEN).max(1)
    }

    /// Where to start looking for `offset`.
    pub(crate) fn position_before(&self, offset: Offset) -> u64 {
        let place = self.offsets.partition_point(|e| self.base_offset + i64::from(e.relative) <= offset);
        place.checked_sub(1).and_then(|place| self.offsets.get(place)).map_or(0, |e| u64::from(e.position))
    }

    /// The last entry whose timestamp is below `timestamp`.
    pub(crate) fn time_before(&self, timestamp: TimestampMs) -> Option<MaxTimestamp> {
        let place = self.times.partition_point(|e| e.timestamp < timestamp);
        self.time_at(place.checked_sub(1)?)
    }

    /// The last entry whose offset is below `end`.
    pub(crate) fn time_within(&self, end: Offset) -> Option<MaxTimestamp> {
        let place = self.times.partition_point(|e| self.base_offset + i64::from(e.relative) < end);
        self.time_at(place.checked_sub(1)?)
    }

    fn time_at(&self, place: usize) -> Option<MaxTimestamp> {
        let entry = self.times.get(place)?;
        Some(MaxTimestamp { timestamp: entry.timestamp, offset: self.base_offset + i64::from(entry.relative) })
    }

    /// Forgets what lies at or after `offset` respectively `position`. The largest timestamp is then that of the
    /// entries that stay; the caller notes the batches since.
    pub(crate) fn truncate_to(&mut self, offset: Offset, position: u64) {
        let base_offset = self.base_offset;
        self.offsets.retain(|e| base_offset + i64::from(e.relative) < offset && u64::from(e.position) < position);
        self.times.retain(|e| base_offset + i64::from(e.relative) < offset);
        let (offsets, times) = (std::mem::take(&mut self.offsets), std::mem::take(&mut self.times));
        let written = (self.written.0.min(offsets.len()), self.written.1.min(times.len()));
        *self = MemoryIndexes { written, ..MemoryIndexes::from_entries(base_offset, offsets, times) };
    }

    /// What the files lack of what is in memory.
    pub(crate) fn unwritten(&self) -> Unwritten {
        let (offsets_written, times_written) = self.written;
        Unwritten {
            offsets_at: offsets_written * OFFSET_ENTRY_LEN,
            offsets: self.offsets.iter().skip(offsets_written).flat_map(encode_offset_entry).collect(),
            times_at: times_written * TIME_ENTRY_LEN,
            times: self.times.iter().skip(times_written).flat_map(encode_time_entry).collect(),
            written: (self.offsets.len(), self.times.len()),
        }
    }

    /// Sees to it that the files hold nothing but the first of these entries: cuts off what else a crash has left there.
    ///
    /// `.index` goes first, durably: were that of `.timeindex` alone there after a power cut, a start would take the largest timestamp
    /// of batches from it that it does not know any more.
    pub(crate) fn cut_files(&mut self, index_path: &Path, time_index_path: &Path) -> Result<(), LogError> {
        let offsets: Vec<u8> = self.offsets.iter().flat_map(encode_offset_entry).collect();
        let times: Vec<u8> = self.times.iter().flat_map(encode_time_entry).collect();
        let held = (
            entries_held(index_path, &offsets, OFFSET_ENTRY_LEN)?,
            entries_held(time_index_path, &times, TIME_ENTRY_LEN)?,
        );
        if let (Some(offsets), Some(times)) = held {
            // As a rule: what was read again is what is there.
            self.written = (offsets, times);
            return Ok(());
        }
        let (offsets, times) = self.written;
        cut(index_path, offsets * OFFSET_ENTRY_LEN)?;
        cut(time_index_path, times * TIME_ENTRY_LEN)
    }

    /// Takes note that this was stored in the files.
    pub(crate) fn note_written(&mut self, stored: &Unwritten) {
        self.written = stored.written;
    }
}

/// New entries of both indexes, as bytes.
pub(crate) struct Unwritten {
    offsets_at: usize,
    offsets: Vec<u8>,
    times_at: usize,
    times: Vec<u8>,
    written: (usize, usize),
}

impl Unwritten {
    /// Appends the new entries to the files, and cuts what is behind them. The times come first: recovery looks at the batches
    /// behind the last offset of `.index`, and takes the largest timestamp of those before from `.timeindex`.
    pub(crate) fn store(&self, index_path: &Path, time_index_path: &Path, sync: bool) -> Result<(), LogError> {
        write_entries(time_index_path, self.times_at, &self.times, sync)?;
        write_entries(index_path, self.offsets_at, &self.offsets, sync)
    }
}

fn encode_offset_entry(entry: &OffsetEntry) -> impl Iterator<Item = u8> + use<> {
    entry.relative.to_be_bytes().into_iter().chain(entry.position.to_be_bytes())
}

fn encode_time_entry(entry: &TimeEntry) -> impl Iterator<Item = u8> + use<> {
    entry.timestamp.to_be_bytes().into_iter().chain(entry.relative.to_be_bytes())
}

fn write_entries(path: &Path, at: usize, bytes: &[u8], sync: bool) -> Result<(), LogError> {
    let file = File::open_or_create(path)?;
    file.write_all_at(bytes, at as u64)?;
    file.set_len((at + bytes.len()) as u64)?;
    if sync {
        file.sync_data()?;
    }
    Ok(())
}

/// How many of the encoded entries the file holds, if it holds nothing else.
fn entries_held(path: &Path, entries: &[u8], entry_len: usize) -> Result<Option<usize>, LogError> {
    let found = millpond_disk::read_file(path)?.unwrap_or_default();
    Ok((entries.starts_with(&found) && found.len() % entry_len == 0).then_some(found.len() / entry_len))
}

fn cut(path: &Path, len: usize) -> Result<(), LogError> {
    let file = match File::open(path) {
        Err(error) if error.is_not_found() => return Ok(()),
        opened => opened?,
    };
    if file.len()? > len as u64 {
        file.set_len(len as u64)?;
        file.sync_data()?;
    }
    Ok(())
}

fn relative(base_offset: Offset, offset: Offset) -> u32 {
    u32::try_from(offset - base_offset).expect("a segment is rolled before its relative offsets overflow")
}

/// Reads both index files whole, and checks that they are possible for a segment of `log_len` bytes.
/// `None`: one is missing or damaged.
pub(crate) fn load(
    base_offset: Offset,
    index_path: &Path,
    time_index_path: &Path,
    log_len: u64,
) -> Result<Option<MemoryIndexes>, LogError> {
    let (Some(offsets), Some(times)) =
        (millpond_disk::read_file(index_path)?, millpond_disk::read_file(time_index_path)?)
    else {
        return Ok(None);
    };
    let (offsets, offsets_rest) = offsets.as_chunks::<OFFSET_ENTRY_LEN>();
    let (times, times_rest) = times.as_chunks::<TIME_ENTRY_LEN>();
    let offsets: Vec<OffsetEntry> = offsets.iter().map(OffsetEntry::decode).collect();
    let times: Vec<TimeEntry> = times.iter().map(TimeEntry::decode).collect();
    let growing = offsets.is_sorted_by(|a, b| a.relative < b.relative && a.position < b.position)
        && times.is_sorted_by(|a, b| a.timestamp < b.timestamp && a.relative < b.relative);
    let within = offsets.last().is_none_or(|last| u64::from(last.position) < log_len)
        // An index is preallocated with zeros by Kafka, and may be after a power cut: those are no entries.
        && offsets.first().is_none_or(|first| first.position > 0)
        && times.first().is_none_or(|first| (first.timestamp, first.relative) > (0, 0));
    let sound = offsets_rest.is_empty() && times_rest.is_empty() && growing && within;
    Ok(sound.then(|| MemoryIndexes::from_entries(base_offset, offsets, times)))
}

/// Looks up in an index file without reading it whole: the last entry for which `before` holds.
fn last_before<const LEN: usize, E>(
    path: &Path,
    decode: fn(&[u8; LEN]) -> E,
    before: impl Fn(&E) -> bool,
) -> Result<Lookup<E>, LogError> {
    let file = match File::open_read_only(path) {
        Err(error) if error.is_not_found() => return Ok(Lookup::Damaged),
        other => other?,
    };
    let len = file.len()?;
    if len % LEN as u64 != 0 {
        return Ok(Lookup::Damaged);
    }
    let entry = |place: u64| -> Result<E, LogError> {
        let mut bytes = [0; LEN];
        file.read_exact_at(&mut bytes, place * LEN as u64)?;
        Ok(decode(&bytes))
    };
    let (mut low, mut high) = (0, len / LEN as u64);
    while low < high {
        let middle = (low + high) / 2;
        if before(&entry(middle)?) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    match low.checked_sub(1) {
        Some(place) => Ok(Lookup::Found(entry(place)?)),
        None => Ok(Lookup::BeforeFirst),
    }
}

/// What a look into an index file gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup<E> {
    Found(E),
    /// The index is sound, and even its first entry is not before.
    BeforeFirst,
    /// The file is missing or cannot be an index.
    Damaged,
}

/// The last entry of an index file at or below a relative offset.
pub(crate) fn offset_entry_before(path: &Path, relative: u32) -> Result<Lookup<OffsetEntry>, LogError> {
    last_before(path, OffsetEntry::decode, |e| e.relative <= relative)
}

/// The last entry of a time index file for which `before` holds; it must hold for a prefix.
pub(crate) fn time_entry_before(
    path: &Path,
    before: impl Fn(&TimeEntry) -> bool,
) -> Result<Lookup<TimeEntry>, LogError> {
    last_before(path, TimeEntry::decode, before)
}
