//! A log's figures, from its indexes and the headers that no index has yet.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use millpond_disk::File;
use millpond_records::{BatchHeader, HEADER_LEN};
use millpond_types::{LeaderEpoch, Offset, ProducerId, TimestampMs, TopicId};

use super::entries::last;
use super::{IndexEntry, PartitionFolder, SegmentFiles, TimeIndexEntry, read_snapshot};
use crate::epochs::LeaderEpochs;
use crate::index::{self, Lookup};
use crate::scan::{Scanner, Step};
use crate::{LogError, names, read_topic_id};

/// Producers of a log that are counted, at most.
pub const PRODUCERS_COUNTED_MAX: usize = 100_000;

/// A log's figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whose it is; `None` if the folder does not tell.
    pub topic_id: Option<TopicId>,
    /// The offset that the next record gets.
    pub end_offset: Offset,
    /// The segments, oldest first.
    pub segments: Vec<SegmentSummary>,
    /// Bytes of the segments' `.log` files.
    pub log_bytes: u64,
    /// Bytes of deleted segments' files, and of those that are being made.
    pub aside_bytes: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// The timestamp of the first record on the disk, ms since 1970.
    pub first_timestamp: Option<TimestampMs>,
    /// The largest timestamp, ms since 1970.
    pub last_timestamp: Option<TimestampMs>,
    /// Producers in the newest snapshot and in the batches behind it, at most [`PRODUCERS_COUNTED_MAX`].
    pub producers: usize,
    /// The newest leader epoch that wrote.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// A segment's figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Its first offset.
    pub base_offset: Offset,
    /// Where the next one begins.
    pub end_offset: Offset,
    /// Its `.log` file.
    pub path: PathBuf,
    /// Bytes of that file.
    pub log_bytes: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// The timestamp of its first record, ms since 1970.
    pub first_timestamp: Option<TimestampMs>,
    /// Its largest timestamp, ms since 1970.
    pub last_timestamp: Option<TimestampMs>,
}

/// What the headers from a position on tell.
struct Headers {
    end_offset: Offset,
    largest_timestamp: TimestampMs,
    leader_epoch: Option<LeaderEpoch>,
}

/// The figures of the log in a partition's folder. `None`: the folder does not exist (any more).
///
/// Of damage nothing is said: the log counts as ended at the first thing that is no batch, and [`verify`](super::verify) tells
/// more.
pub fn summarize(dir: &Path) -> Result<Option<Summary>, LogError> {
    let Some(folder) = PartitionFolder::read(dir)? else { return Ok(None) };
    let epochs = undamaged(LeaderEpochs::read_file(&dir.join(names::LEADER_EPOCHS)))?.unwrap_or_default();
    let mut summary = Summary {
        topic_id: undamaged(read_topic_id(dir))?,
        end_offset: 0,
        segments: Vec::with_capacity(folder.segments.len()),
        log_bytes: folder.log_bytes(),
        aside_bytes: folder.aside_bytes,
        bytes: folder.bytes,
        first_timestamp: None,
        last_timestamp: None,
        producers: 0,
        leader_epoch: epochs.latest(),
    };
    for (segment, next_base) in folder.segments_from(0) {
        let Some(found) = unless_gone(summarize_segment(segment, next_base))? else { continue };
        let (segment, headers) = found;
        summary.end_offset = segment.end_offset;
        summary.last_timestamp = summary.last_timestamp.max(segment.last_timestamp);
        summary.first_timestamp = summary.first_timestamp.or(segment.first_timestamp);
        summary.leader_epoch = summary.leader_epoch.max(headers.and_then(|headers| headers.leader_epoch));
        summary.segments.push(segment);
    }
    summary.producers = count_producers(&folder)?;
    Ok(Some(summary))
}

/// Figures of a segment, and what the headers say that were read for it.
fn summarize_segment(
    segment: &SegmentFiles,
    next_base: Option<Offset>,
) -> Result<(SegmentSummary, Option<Headers>), LogError> {
    let file = File::open_read_only(&segment.log.path)?;
    let first = BatchHeader::parse(&file.read_at(HEADER_LEN, 0)?).ok();
    let last_time = match &segment.time_index {
        Some(time_index) => last::<TimeIndexEntry>(&time_index.path)?.map(|entry| entry.timestamp),
        None => None,
    };
    // Of the newest segment the indexes have only the front.
    let is_told = last_time.is_some() && next_base.is_some();
    let headers = if is_told || first.is_none() { None } else { Some(read_headers(segment, &file)?) };
    let read = headers.as_ref().map(|headers| headers.largest_timestamp);
    let end_offset = match (next_base, &headers) {
        (Some(next_base), _) => next_base,
        (None, Some(headers)) => headers.end_offset,
        (None, None) => segment.base_offset,
    };
    let summary = SegmentSummary {
        base_offset: segment.base_offset,
        end_offset,
        path: segment.log.path.clone(),
        log_bytes: segment.log.len,
        bytes: segment.bytes(),
        first_timestamp: first.as_ref().and_then(first_timestamp),
        last_timestamp: last_time.max(read).filter(|timestamp| *timestamp >= 0),
    };
    Ok((summary, headers))
}

/// The timestamp of a batch's first record, as far as the header tells.
fn first_timestamp(header: &BatchHeader) -> Option<TimestampMs> {
    let timestamp = match header.delete_horizon_ms() {
        None => header.base_timestamp,
        // The horizon has the field of the first timestamp.
        Some(_) => header.max_timestamp,
    };
    Some(timestamp).filter(|timestamp| *timestamp >= 0)
}

/// Reads a segment's headers, from the batch of the last index entry on, if there is a time index that knows what is before.
fn read_headers(segment: &SegmentFiles, file: &File) -> Result<Headers, LogError> {
    let entry = match (&segment.index, &segment.time_index) {
        (Some(index), Some(_)) => last::<IndexEntry>(&index.path)?,
        _ => None,
    };
    let start = entry.map(|entry| (entry.position, segment.absolute(entry.relative_offset)));
    let start = start.and_then(|start| batch_at(file, start));
    let mut found = Headers { end_offset: segment.base_offset, largest_timestamp: -1, leader_epoch: None };
    let mut scanner = Scanner::headers(file, start.unwrap_or(0), file.len()?);
    while let Step::Batch(_, header, _) = scanner.step()? {
        if header.last_offset_delta < 0 || header.base_offset < found.end_offset {
            break;
        }
        found.end_offset = header.next_offset();
        found.largest_timestamp = found.largest_timestamp.max(header.max_timestamp);
        found.leader_epoch = found.leader_epoch.max(Some(header.leader_epoch).filter(|epoch| *epoch >= 0));
    }
    Ok(found)
}

/// The position that an index entry tells, if a batch with that last offset begins there.
fn batch_at(file: &File, (position, last_offset): (u32, Offset)) -> Option<u64> {
    let position = u64::from(position);
    let header = BatchHeader::parse(&file.read_at(HEADER_LEN, position).ok()?).ok()?;
    (header.last_offset() == last_offset).then_some(position)
}

/// The producers in the newest sound snapshot and in the batches behind it.
fn count_producers(folder: &PartitionFolder) -> Result<usize, LogError> {
    let mut producers: HashSet<ProducerId> = HashSet::new();
    let mut from = 0;
    for (offset, file) in folder.snapshots.iter().rev() {
        if let Some(Ok(entries)) = read_snapshot(&file.path)? {
            producers.extend(entries.iter().map(|entry| entry.producer_id).take(PRODUCERS_COUNTED_MAX));
            from = *offset;
            break;
        }
    }
    for (segment, next_base) in folder.segments_from(from) {
        if producers.len() >= PRODUCERS_COUNTED_MAX || next_base.is_some_and(|next| next <= from) {
            continue;
        }
        unless_gone(collect_producers(segment, from, &mut producers))?;
    }
    Ok(producers.len())
}

fn collect_producers(
    segment: &SegmentFiles,
    from: Offset,
    producers: &mut HashSet<ProducerId>,
) -> Result<(), LogError> {
    let file = File::open_read_only(&segment.log.path)?;
    let relative = u32::try_from(from - segment.base_offset).ok();
    let start = match (relative, &segment.index) {
        (Some(relative), Some(index)) => match index::offset_entry_before(&index.path, relative)? {
            Lookup::Found(entry) => Some((entry.position, segment.absolute(entry.relative))),
            Lookup::BeforeFirst | Lookup::Damaged => None,
        },
        _ => None,
    };
    let start = start.and_then(|start| batch_at(&file, start));
    let mut scanner = Scanner::headers(&file, start.unwrap_or(0), file.len()?);
    while let Step::Batch(_, header, _) = scanner.step()? {
        if header.has_producer() && header.base_offset >= from && producers.len() < PRODUCERS_COUNTED_MAX {
            producers.insert(header.producer_id);
        }
    }
    Ok(())
}

/// `None` for what a damaged file does not tell.
fn undamaged<T>(result: Result<T, LogError>) -> Result<Option<T>, LogError> {
    match result {
        Err(LogError::Damaged { .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// `None` if a file was deleted meanwhile.
fn unless_gone<T>(result: Result<T, LogError>) -> Result<Option<T>, LogError> {
    match result {
        Err(LogError::Disk(error)) if error.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}
