//! Finding offsets by timestamp.

use std::sync::Arc;

use millpond_records::BatchView;
use millpond_types::{Offset, TimestampMs};

use crate::scan::{Scanner, Step};
use crate::segment::Segment;
use crate::{LogError, PartitionLog};

/// The records of a batch in which a timestamp is looked for take at most so many bytes decompressed; in a larger
/// one, the batch's first offset is the answer.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;

impl PartitionLog {
    /// The first record at or after the log's start and below `end` whose timestamp is at least `timestamp_ms`, and its
    /// timestamp.
    pub fn offset_for_timestamp(
        &self,
        timestamp_ms: TimestampMs,
        end: Offset,
    ) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let from = self.log_start_offset();
        let end = end.min(self.log_end_offset());
        for segment in self.segments_between(from, end) {
            if segment.max_timestamp()?.timestamp < timestamp_ms {
                continue;
            }
            let found = or_deleted(self.search_segment(&segment, timestamp_ms, from, end))?;
            if found.flatten().is_some() {
                return Ok(found.flatten());
            }
        }
        Ok(None)
    }

    /// The largest timestamp of the records below `end`, and the first record that has it. `None` if no record has a
    /// timestamp.
    pub fn max_timestamp(&self, end: Offset) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let from = self.log_start_offset();
        let end = end.min(self.log_end_offset());
        let mut largest = -1;
        let mut holder = None;
        for segment in self.segments_between(from, end) {
            if segment.max_timestamp()?.timestamp <= largest {
                continue;
            }
            let found = or_deleted(self.largest_of_segment(&segment, from, end))?.flatten();
            if let Some(timestamp) = found.filter(|timestamp| *timestamp > largest) {
                largest = timestamp;
                holder = Some(segment);
            }
        }
        let Some(segment) = holder else { return Ok(None) };
        let found = or_deleted(self.search_segment(&segment, largest, from, end))?.flatten();
        Ok(found)
    }

    /// The segments that may hold records of `[from, end)`.
    fn segments_between(&self, from: Offset, end: Offset) -> Vec<Arc<Segment>> {
        let segments = self.segments.read();
        let first = segments.partition_point(|segment| segment.base_offset() <= from).saturating_sub(1);
        segments.iter().skip(first).take_while(|segment| segment.base_offset() < end).cloned().collect()
    }

    fn search_segment(
        &self,
        segment: &Arc<Segment>,
        timestamp_ms: TimestampMs,
        from: Offset,
        end: Offset,
    ) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let file = self.open_files.file_of(segment)?;
        // All records up to that of this entry are older.
        let older = segment.time_before(timestamp_ms)?.map_or(from, |entry| entry.offset + 1);
        let Some((position, _)) = segment.locate(&file, older.max(from))? else { return Ok(None) };
        let mut scanner = Scanner::headers(&file, position, segment.size());
        while let Step::Batch(position, header, _) = scanner.step()? {
            if header.base_offset >= end {
                break;
            }
            if header.max_timestamp < timestamp_ms || header.last_offset() < from {
                continue;
            }
            let bytes = file.read_at(header.size(), position)?;
            if let Some(found) = search_batch(&bytes, timestamp_ms, from, end) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The largest timestamp of the batches of a segment that lie in `[from, end)`.
    fn largest_of_segment(
        &self,
        segment: &Arc<Segment>,
        from: Offset,
        end: Offset,
    ) -> Result<Option<TimestampMs>, LogError> {
        let file = self.open_files.file_of(segment)?;
        // Up to this entry its timestamp is the largest, but the record may lie before the log's start.
        let known = segment.time_within(end)?.filter(|entry| entry.offset >= from);
        let Some((position, _)) = segment.locate(&file, known.map_or(from, |entry| entry.offset))? else {
            return Ok(None);
        };
        let mut largest = known.map_or(-1, |entry| entry.timestamp);
        let mut scanner = Scanner::headers(&file, position, segment.size());
        while let Step::Batch(_, header, _) = scanner.step()? {
            if header.base_offset >= end {
                break;
            }
            largest = largest.max(header.max_timestamp);
        }
        Ok((largest >= 0).then_some(largest))
    }
}

/// The first record in the batch at or after `from`, below `end` and not older than `timestamp_ms`.
fn search_batch(bytes: &[u8], timestamp_ms: TimestampMs, from: Offset, end: Offset) -> Option<(Offset, TimestampMs)> {
    let batch = BatchView::parse(bytes).ok()?;
    let whole = Some((batch.header.base_offset.max(from), batch.header.max_timestamp));
    // The broker does not look into batches on the way in, so records that cannot be read are possible here, and
    // then the batch is the best that can be said.
    let Ok(mut records) = batch.records(DECOMPRESSED_BYTES_MAX) else { return whole };
    while let Some(record) = records.next() {
        let Ok(record) = record else { return whole };
        if record.timestamp >= timestamp_ms && record.offset >= from && record.offset < end {
            return Some((record.offset, record.timestamp));
        }
    }
    None
}

/// `None` if the segment was deleted meanwhile.
fn or_deleted<T>(result: Result<T, LogError>) -> Result<Option<T>, LogError> {
    match result {
        Err(LogError::Disk(error)) if error.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}
