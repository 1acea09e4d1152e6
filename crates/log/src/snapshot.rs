//! The `.snapshot` files: what producers had written up to an offset, in Kafka's format, version 1.
//!
//! ```text
//! | version (2) = 1 | CRC-32C of all that follows (4) | count (4) | entry *
//! entry: | producer id (8) | epoch (2) | last sequence (4) | last offset (8) | offset delta (4) | timestamp (8)
//!        | coordinator epoch (4), -1 is none | first offset of its open transaction (8), -1 is none |
//! ```
//!
//! Kafka writes one entry a producer, with its last batch. Here there is one for each batch that is remembered, oldest
//! first: Kafka's tools show them all, and its loader lets the last one win, so the format is kept and a retry
//! of an older batch is recognised after a restart. A producer of which only a marker came in its epoch has one entry
//! with last sequence and last offset -1, and offset delta -1 if it may go on with any sequence. The last entry's timestamp is that of the last batch or marker.

use std::path::Path;

use millpond_records::crc32c;
use millpond_types::{NO_SEQUENCE, Offset};

use crate::producers::{ProducedBatch, Producer, Producers};
use crate::{LogError, names};

const VERSION: i16 = 1;
const ENTRY_LEN: usize = 46;
/// Version and CRC.
const CRC_END: usize = 6;

/// What stands in the entry of a producer without a batch.
const NO_BATCH: ProducedBatch =
    ProducedBatch { last_sequence: NO_SEQUENCE, last_offset: -1, offset_delta: 0, timestamp: -1 };

pub(crate) fn encode(producers: &Producers) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count = 0u32;
    for (id, producer) in producers.iter() {
        let nothing = ProducedBatch { offset_delta: if producer.takes_any_sequence { -1 } else { 0 }, ..NO_BATCH };
        let last = producer.batches.back().copied().unwrap_or(nothing);
        let last = ProducedBatch { timestamp: producer.last_timestamp, ..last };
        let older = producer.batches.iter().take(producer.batches.len().saturating_sub(1));
        for batch in older.chain([&last]) {
            entries.extend_from_slice(&id.to_be_bytes());
            entries.extend_from_slice(&producer.epoch.to_be_bytes());
            entries.extend_from_slice(&batch.last_sequence.to_be_bytes());
            entries.extend_from_slice(&batch.last_offset.to_be_bytes());
            entries.extend_from_slice(&batch.offset_delta.to_be_bytes());
            entries.extend_from_slice(&batch.timestamp.to_be_bytes());
            entries.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            entries.extend_from_slice(&producer.open_transaction.unwrap_or(-1).to_be_bytes());
            count += 1;
        }
    }
    let mut covered = count.to_be_bytes().to_vec();
    covered.extend_from_slice(&entries);
    let mut bytes = VERSION.to_be_bytes().to_vec();
    bytes.extend_from_slice(&crc32c(&covered).to_be_bytes());
    bytes.extend_from_slice(&covered);
    bytes
}

/// `None`: these bytes are no snapshot of version 1, or damaged.
pub(crate) fn decode(bytes: &[u8]) -> Option<Producers> {
    let (version, rest) = bytes.split_first_chunk::<2>()?;
    let (crc, covered) = rest.split_first_chunk::<4>()?;
    debug_assert_eq!(bytes.len() - covered.len(), CRC_END, "version and CRC come first");
    if i16::from_be_bytes(*version) != VERSION || u32::from_be_bytes(*crc) != crc32c(covered) {
        return None;
    }
    let (count, entries) = covered.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
    let (entries, rest) = entries.as_chunks::<ENTRY_LEN>();
    if entries.len() != count || !rest.is_empty() {
        return None;
    }
    let mut producers = Producers::default();
    for entry in entries {
        let (id, rest) = entry.split_first_chunk::<8>()?;
        let (epoch, rest) = rest.split_first_chunk::<2>()?;
        let (last_sequence, rest) = rest.split_first_chunk::<4>()?;
        let (last_offset, rest) = rest.split_first_chunk::<8>()?;
        let (offset_delta, rest) = rest.split_first_chunk::<4>()?;
        let (timestamp, rest) = rest.split_first_chunk::<8>()?;
        let (coordinator_epoch, rest) = rest.split_first_chunk::<4>()?;
        let (open_transaction, _) = rest.split_first_chunk::<8>()?;
        let batch = ProducedBatch {
            last_sequence: i32::from_be_bytes(*last_sequence),
            last_offset: i64::from_be_bytes(*last_offset),
            offset_delta: i32::from_be_bytes(*offset_delta),
            timestamp: i64::from_be_bytes(*timestamp),
        };
        let open_transaction = i64::from_be_bytes(*open_transaction);
        let entry = Producer {
            epoch: i16::from_be_bytes(*epoch),
            last_timestamp: batch.timestamp,
            batches: (batch.last_offset >= 0 && batch.offset_delta >= 0).then_some(batch).into_iter().collect(),
            coordinator_epoch: i32::from_be_bytes(*coordinator_epoch),
            open_transaction: (open_transaction >= 0).then_some(open_transaction),
            takes_any_sequence: batch.last_offset < 0 && batch.offset_delta < 0,
        };
        producers.restore(i64::from_be_bytes(*id), entry);
    }
    Some(producers)
}

/// Writes the snapshot at `offset` so that a crash leaves none or all of it.
pub(crate) fn write(dir: &Path, offset: Offset, bytes: &[u8]) -> Result<(), LogError> {
    Ok(millpond_disk::replace_file(&names::path(dir, offset, names::SNAPSHOT), bytes)?)
}

/// Reads the snapshot at `offset`; `None` if there is none or it is damaged.
pub(crate) fn read(dir: &Path, offset: Offset) -> Result<Option<Producers>, LogError> {
    let path = names::path(dir, offset, names::SNAPSHOT);
    let Some(bytes) = millpond_disk::read_file(&path)? else { return Ok(None) };
    let found = decode(&bytes);
    if found.is_none() {
        tracing::warn!(file = %path.display(), "a producer snapshot is damaged and not used");
    }
    Ok(found)
}
