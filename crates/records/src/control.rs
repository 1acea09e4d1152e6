//! Control batches that end a transaction (KIP-98).
//!
//! ```text
//! key    | version (2) = 0 | type (2): 0 aborted, 1 committed |
//! value  | version (2) = 0 | coordinator epoch (4) |
//! ```
//!
//! Such a batch holds one record and is transactional; its header names the producer whose transaction ends there, and has no
//! sequence. Newer versions begin with the same fields, so they are read as version 0, as Kafka does.

use millpond_types::{CoordinatorEpoch, NO_SEQUENCE, ProducerEpoch, ProducerId, TimestampMs};

use crate::varint::Cursor;
use crate::{BatchBuilder, BatchError, BatchOptions, BatchView, HEADER_LEN};

/// The version of key and value that is written.
const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// A marker's record is a tenth of it. Nobody compresses one.
const RECORD_BYTES_MAX: usize = 1024;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionResult {
    /// Its records are not for consumers that read committed ones.
    Abort,
    /// Its records count.
    Commit,
}

/// The end of a producer's transaction in a partition, as a control batch tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionMarker {
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// The producer's epoch. With KIP-890 the coordinator raises it before it ends a transaction.
    pub producer_epoch: ProducerEpoch,
    /// How it ended.
    pub result: TransactionResult,
    /// Which coordinator says so.
    pub coordinator_epoch: CoordinatorEpoch,
}

impl TransactionMarker {
    /// Bytes of the control batch.
    pub const BATCH_LEN: usize = HEADER_LEN + 17;

    /// The control batch.
    pub fn build(&self, timestamp_ms: TimestampMs) -> Vec<u8> {
        let kind = match self.result {
            TransactionResult::Abort => ABORT,
            TransactionResult::Commit => COMMIT,
        };
        let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        let value = [&VERSION.to_be_bytes()[..], &self.coordinator_epoch.to_be_bytes()].concat();
        let mut builder = BatchBuilder::new(BatchOptions {
            producer: Some((self.producer_id, self.producer_epoch, NO_SEQUENCE)),
            transactional: true,
            control: true,
            ..BatchOptions::default()
        });
        builder.push(timestamp_ms, Some(&key), Some(&value), &[]);
        builder.build()
    }

    /// Reads the marker of a control batch. `None`: it ends no transaction, as it is none, of another kind (those of
    /// Kafka's metadata log), or has no record left after a compaction.
    pub fn read(batch: &BatchView<'_>) -> Result<Option<TransactionMarker>, BatchError> {
        let header = &batch.header;
        if !header.is_control() || header.record_count == 0 {
            return Ok(None);
        }
        let mut records = batch.records(RECORD_BYTES_MAX)?;
        let Some(record) = records.next() else { return Ok(None) };
        let record = record?;
        let mut key = Cursor { rest: record.key.unwrap_or_default() };
        let (version, kind) = (key.array().map(i16::from_be_bytes), key.array().map(i16::from_be_bytes));
        let result = match (version, kind) {
            (Some(..0), _) => return Err(BatchError::Control("its key has a negative version")),
            (Some(_), Some(ABORT)) => TransactionResult::Abort,
            (Some(_), Some(COMMIT)) => TransactionResult::Commit,
            (Some(_), Some(_)) => return Ok(None),
            _ => return Err(BatchError::Control("its key is shorter than 4 bytes")),
        };
        let mut value = Cursor { rest: record.value.unwrap_or_default() };
        let (version, epoch) = (value.array().map(i16::from_be_bytes), value.array().map(i32::from_be_bytes));
        let coordinator_epoch = match (version, epoch) {
            (Some(..0), _) => return Err(BatchError::Control("its value has a negative version")),
            (Some(_), Some(epoch)) => epoch,
            _ => return Err(BatchError::Control("its value is shorter than 6 bytes")),
        };
        let (producer_id, producer_epoch) = (header.producer_id, header.producer_epoch);
        Ok(Some(TransactionMarker { producer_id, producer_epoch, result, coordinator_epoch }))
    }
}
