//! Takes records out of a batch, as compaction does: what stays keeps its offset, its timestamp and its bytes.

use std::ops::Range;

use millpond_types::TimestampMs;

use crate::crc32c;
use crate::header::{COMPRESSION_MASK, DELETE_HORIZON_BIT};
use crate::varint::{self, Cursor};
use crate::{BatchError, BatchHeader, BatchView, Compression, HEADER_LEN, LOG_OVERHEAD, RecordView, TimestampType};

/// What is left of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retained {
    /// All of it, as it is.
    Whole,
    /// A batch with fewer records, or with a delete horizon.
    Rest {
        /// Its bytes.
        bytes: Vec<u8>,
        /// How many records were taken out.
        removed: u32,
    },
    /// No record.
    Nothing,
}

impl BatchView<'_> {
    /// Takes out the records that `keep` says no to. What stays keeps offsets, timestamps, compression, producer and sequence, and
    /// the batch still reaches from its base offset to its last one.
    ///
    /// A tombstone that stays in a batch without a delete horizon gives it this one: the time from which on its tombstones may
    /// go (KIP-534). The horizon lies in the field of the base timestamp, and the records' deltas count from there.
    ///
    /// # Errors
    /// Records that cannot be read, or more than `decompressed_bytes_max` of them.
    pub fn retain(
        &self,
        decompressed_bytes_max: usize,
        delete_horizon_ms: TimestampMs,
        mut keep: impl FnMut(&RecordView<'_>) -> bool,
    ) -> Result<Retained, BatchError> {
        let mut records = self.records(decompressed_bytes_max)?;
        let mut kept: Vec<Range<usize>> = Vec::new();
        let (mut count, mut removed, mut max_timestamp, mut has_tombstone) = (0i32, 0u32, -1, false);
        loop {
            let from = records.position;
            let Some(record) = records.next() else { break };
            let record = record?;
            if !keep(&record) {
                removed += 1;
                continue;
            }
            count += 1;
            max_timestamp = record.timestamp.max(max_timestamp);
            has_tombstone |= record.value.is_none();
            let to = records.position;
            match kept.last_mut() {
                Some(last) if last.end == from => last.end = to,
                _ => kept.push(from..to),
            }
        }
        let horizon = (has_tombstone && self.header.delete_horizon_ms().is_none()).then_some(delete_horizon_ms);
        if removed == 0 && horizon.is_none() {
            return Ok(Retained::Whole);
        }
        if count == 0 {
            return Ok(Retained::Nothing);
        }

        let mut header = BatchHeader { record_count: count, ..self.header };
        let mut payload = Vec::with_capacity(kept.iter().map(Range::len).sum());
        for range in kept {
            let bytes = records.payload.get(range).unwrap_or_default();
            match horizon.filter(|_| header.timestamp_type() == TimestampType::CreateTime) {
                None => payload.extend_from_slice(bytes),
                Some(horizon) => shift(bytes, self.header.base_timestamp.wrapping_sub(horizon), &mut payload),
            }
        }
        if let Some(horizon) = horizon {
            header.base_timestamp = horizon;
            header.attributes |= DELETE_HORIZON_BIT;
        }
        if header.timestamp_type() == TimestampType::CreateTime {
            header.max_timestamp = max_timestamp;
        }
        let codec = header.compression()?;
        let payload = if codec == Compression::None { payload } else { codec.compress(&payload) };
        let bytes = assemble(header, &payload).ok_or(BatchError::Length(i32::MAX))?;
        Ok(Retained::Rest { bytes, removed })
    }

    /// The batch as it is, with the time from which on it may go as a whole: for the marker of a transaction of which nothing is
    /// left (KIP-534).
    ///
    /// # Errors
    /// Records that cannot be read, or more than `decompressed_bytes_max` of them.
    pub fn with_delete_horizon(
        &self,
        decompressed_bytes_max: usize,
        horizon_ms: TimestampMs,
    ) -> Result<Vec<u8>, BatchError> {
        let mut records = self.records(decompressed_bytes_max)?;
        let mut payload = Vec::with_capacity(records.payload.len());
        while records.next().transpose()?.is_some() {}
        match self.header.timestamp_type() {
            TimestampType::LogAppendTime => payload.extend_from_slice(&records.payload),
            TimestampType::CreateTime => {
                shift(&records.payload, self.header.base_timestamp.wrapping_sub(horizon_ms), &mut payload);
            }
        }
        let mut header = BatchHeader { base_timestamp: horizon_ms, ..self.header };
        header.attributes |= DELETE_HORIZON_BIT;
        let codec = header.compression()?;
        let payload = if codec == Compression::None { payload } else { codec.compress(&payload) };
        assemble(header, &payload).ok_or(BatchError::Length(i32::MAX))
    }

    /// The batch without any record: it tells what its producer wrote last, and where the log's offsets have been.
    pub fn emptied(&self) -> Vec<u8> {
        let attributes = self.header.attributes & !(COMPRESSION_MASK | DELETE_HORIZON_BIT);
        // No record has a timestamp any more that somebody could look for.
        let header = BatchHeader { record_count: 0, attributes, base_timestamp: -1, max_timestamp: -1, ..self.header };
        assemble(header, &[]).unwrap_or_else(|| unreachable!("a header fits a batch"))
    }
}

/// Copies records with `by` added to the delta of each one's timestamp.
fn shift(records: &[u8], by: i64, out: &mut Vec<u8>) {
    let mut cursor = Cursor { rest: records };
    while !cursor.rest.is_empty() {
        let moved = shift_one(&mut cursor, by, out);
        moved.unwrap_or_else(|| unreachable!("these records were read before"));
    }
}

fn shift_one(cursor: &mut Cursor<'_>, by: i64, out: &mut Vec<u8>) -> Option<()> {
    let len = usize::try_from(cursor.varint()?).ok()?;
    let mut body = Cursor { rest: cursor.bytes(len)? };
    let [attributes] = body.array::<1>()?;
    let delta = body.varlong()?.wrapping_add(by);
    varint::put(out, (1 + varint::len(delta) + body.rest.len()) as i64);
    out.push(attributes);
    varint::put(out, delta);
    out.extend_from_slice(body.rest);
    Some(())
}

/// A batch's bytes; `None` if they were too many.
pub(crate) fn assemble(header: BatchHeader, payload: &[u8]) -> Option<Vec<u8>> {
    let len = HEADER_LEN + payload.len();
    let mut header = BatchHeader { batch_length: i32::try_from(len - LOG_OVERHEAD).ok()?, crc: 0, ..header };
    let mut bytes = Vec::with_capacity(len);
    header.put(&mut bytes);
    bytes.extend_from_slice(payload);
    header.crc = crc32c(bytes.get(21..).unwrap_or_default());
    bytes.splice(17..21, header.crc.to_be_bytes());
    Some(bytes)
}
