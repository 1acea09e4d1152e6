//! The 61 bytes in front of every batch.

use millpond_types::{LeaderEpoch, NO_PRODUCER_ID, Offset, ProducerEpoch, ProducerId, TimestampMs};

use crate::varint::Cursor;
use crate::{BatchError, Compression};

/// Length of a batch's header in bytes, from the base offset to the record count.
pub const HEADER_LEN: usize = 61;

/// The bytes that the length field does not count: base offset (8) and the field itself (4).
pub const LOG_OVERHEAD: usize = 12;

/// The format version this crate reads and writes.
pub const MAGIC: i8 = 2;

/// Where the CRC's range starts: at the attributes.
const CRC_FROM: usize = 21;

pub(crate) const COMPRESSION_MASK: i16 = 0x07;
pub(crate) const LOG_APPEND_TIME_BIT: i16 = 0x08;
pub(crate) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(crate) const CONTROL_BIT: i16 = 0x20;
pub(crate) const DELETE_HORIZON_BIT: i16 = 0x40;

/// Whose clock a batch's timestamps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's, a timestamp for each record.
    #[default]
    CreateTime,
    /// The broker's at the append, one for the whole batch.
    LogAppendTime,
}

/// A batch's header, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes of the batch after this field.
    pub batch_length: i32,
    /// The leader's epoch, -1 from a producer.
    pub leader_epoch: LeaderEpoch,
    /// Format version.
    pub magic: i8,
    /// CRC-32C of the attributes and all that follows.
    pub crc: u32,
    /// Compression, timestamp type and the kind of batch.
    pub attributes: i16,
    /// Offset of the last record − base offset.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas are added to, in ms; -1 is none. With a delete horizon it is that.
    pub base_timestamp: TimestampMs,
    /// The largest timestamp of the records in ms; -1 is none.
    pub max_timestamp: TimestampMs,
    /// Who wrote it, -1 without idempotence.
    pub producer_id: ProducerId,
    /// The producer's epoch, -1 without idempotence.
    pub producer_epoch: ProducerEpoch,
    /// The producer's number for the first record, -1 without idempotence.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`. The batch's end need not be there; the length field is checked
    /// to be at least a header's, and the magic to be 2.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::TooShort { found: bytes.len(), needed: HEADER_LEN });
        };
        let header = BatchHeader::from_array(header).unwrap_or_else(|| unreachable!("61 bytes hold every field"));
        if header.magic != MAGIC {
            return Err(BatchError::Magic(header.magic));
        }
        if header.batch_length < (HEADER_LEN - LOG_OVERHEAD) as i32 {
            return Err(BatchError::Length(header.batch_length));
        }
        Ok(header)
    }

    #[inline]
    fn from_array(bytes: &[u8; HEADER_LEN]) -> Option<BatchHeader> {
        let mut cursor = Cursor { rest: bytes };
        Some(BatchHeader {
            base_offset: i64::from_be_bytes(cursor.array()?),
            batch_length: i32::from_be_bytes(cursor.array()?),
            leader_epoch: i32::from_be_bytes(cursor.array()?),
            magic: i8::from_be_bytes(cursor.array()?),
            crc: u32::from_be_bytes(cursor.array()?),
            attributes: i16::from_be_bytes(cursor.array()?),
            last_offset_delta: i32::from_be_bytes(cursor.array()?),
            base_timestamp: i64::from_be_bytes(cursor.array()?),
            max_timestamp: i64::from_be_bytes(cursor.array()?),
            producer_id: i64::from_be_bytes(cursor.array()?),
            producer_epoch: i16::from_be_bytes(cursor.array()?),
            base_sequence: i32::from_be_bytes(cursor.array()?),
            record_count: i32::from_be_bytes(cursor.array()?),
        })
    }

    /// Appends the header's bytes.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&self.batch_length.to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.extend_from_slice(&self.magic.to_be_bytes());
        out.extend_from_slice(&self.crc.to_be_bytes());
        out.extend_from_slice(&self.attributes.to_be_bytes());
        out.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        out.extend_from_slice(&self.base_timestamp.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.producer_id.to_be_bytes());
        out.extend_from_slice(&self.producer_epoch.to_be_bytes());
        out.extend_from_slice(&self.base_sequence.to_be_bytes());
        out.extend_from_slice(&self.record_count.to_be_bytes());
    }

    /// The whole batch's length in bytes. [`BatchHeader::parse`] saw to it that it is at least [`HEADER_LEN`].
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().saturating_add(1)
    }

    /// The producer's number for the last record; after `i32::MAX` comes 0. -1 without idempotence.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        increment_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_code(self.attributes & COMPRESSION_MASK).ok_or(BatchError::CompressionCode(self.attributes))
    }

    /// Whose clock the timestamps come from.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch ends a transaction; its records are not for consumers.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// From when on a compaction may remove the batch's tombstones, in ms, if one has been here before (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<TimestampMs> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    /// Whether the producer is idempotent.
    pub fn has_producer(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }
}

/// The sequence number `by` records after `sequence`; after `i32::MAX` comes 0.
pub fn increment_sequence(sequence: i32, by: i32) -> i32 {
    (i64::from(sequence) + i64::from(by)).rem_euclid(1 << 31) as i32
}

/// Writes base offset and leader epoch into a batch. Both lie outside the CRC.
///
/// # Panics
/// If `batch` is shorter than a header: who stamps has validated it.
#[inline]
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    let header = batch.first_chunk_mut::<HEADER_LEN>().expect("only whole batches are stamped");
    header[0..8].copy_from_slice(&base_offset.to_be_bytes());
    header[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Checks the CRC of a batch; `batch` is exactly one.
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let covered = batch.get(CRC_FROM..header.size());
    let covered = covered.ok_or(BatchError::TooShort { found: batch.len(), needed: header.size() })?;
    let computed = crc32c(covered);
    if computed == header.crc { Ok(()) } else { Err(BatchError::Crc { stored: header.crc, computed }) }
}

/// CRC-32C (Castagnoli, iSCSI), by the processor's instruction where it has one.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_castagnolis() {
        // The check value of CRC-32C in every catalogue of CRCs.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn sequences_go_on_at_zero_after_the_largest() {
        assert_eq!(increment_sequence(i32::MAX, 0), i32::MAX);
        assert_eq!(increment_sequence(i32::MAX, 1), 0);
        assert_eq!(increment_sequence(i32::MAX - 2, 7), 4);
        assert_eq!(increment_sequence(0, i32::MAX), i32::MAX);
    }
}
