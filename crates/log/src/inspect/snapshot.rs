//! Reads a `.snapshot` file as it is, with all that Kafka has in it too. The form: src/snapshot.rs.

use std::path::Path;

use millpond_disk::File;
use millpond_records::crc32c;
use millpond_types::{Offset, ProducerEpoch, ProducerId, TimestampMs};

use crate::LogError;

/// Bytes of a snapshot that is read, at most. Ours are a hundredth of it.
const SNAPSHOT_BYTES_MAX: usize = 64 << 20;

const VERSION: i16 = 1;
const ENTRY_LEN: usize = 46;

/// What a snapshot tells of a producer. Millpond has an entry for each of its last batches, Kafka one for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Who.
    pub producer_id: ProducerId,
    /// In which epoch.
    pub producer_epoch: ProducerEpoch,
    /// The sequence number of the batch's last record; -1 without a batch.
    pub last_sequence: i32,
    /// The offset of that record; -1 without a batch.
    pub last_offset: Offset,
    /// Last − first offset of the batch.
    pub offset_delta: i32,
    /// When the batch was appended, ms since 1970.
    pub timestamp: TimestampMs,
    /// Which coordinator ended its last transaction; -1 if there was none.
    pub coordinator_epoch: i32,
    /// Where the transaction began that it is in; -1 if it is in none.
    pub current_transaction_first_offset: Offset,
}

/// The entries of a snapshot. `None`: it does not exist. The inner error says what is wrong with it.
pub fn read_snapshot(path: &Path) -> Result<Option<Result<Vec<SnapshotEntry>, String>>, LogError> {
    let file = match File::open_read_only(path) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let len = file.len()?;
    if len > SNAPSHOT_BYTES_MAX as u64 {
        return Ok(Some(Err(format!("its {len} bytes are more than a snapshot can have"))));
    }
    let bytes = file.read_at(usize::try_from(len).unwrap_or(SNAPSHOT_BYTES_MAX), 0)?;
    Ok(Some(decode(&bytes)))
}

fn decode(bytes: &[u8]) -> Result<Vec<SnapshotEntry>, String> {
    let too_short = || format!("its {} bytes are too few for a snapshot", bytes.len());
    let (version, rest) = bytes.split_first_chunk::<2>().ok_or_else(too_short)?;
    let (crc, covered) = rest.split_first_chunk::<4>().ok_or_else(too_short)?;
    let (version, stored) = (i16::from_be_bytes(*version), u32::from_be_bytes(*crc));
    if version != VERSION {
        return Err(format!("its version is {version}, and only {VERSION} is known"));
    }
    let computed = crc32c(covered);
    if stored != computed {
        return Err(format!("its CRC-32C is {stored:#010x}, and that of its entries {computed:#010x}"));
    }
    let (count, entries) = covered.split_first_chunk::<4>().ok_or_else(too_short)?;
    let count = u32::from_be_bytes(*count);
    let (entries, rest) = entries.as_chunks::<ENTRY_LEN>();
    if entries.len() as u64 != u64::from(count) || !rest.is_empty() {
        return Err(format!("it promises {count} entries and holds {}, with {} bytes more", entries.len(), rest.len()));
    }
    entries.iter().map(|entry| decode_entry(entry).ok_or_else(too_short)).collect()
}

fn decode_entry(bytes: &[u8; ENTRY_LEN]) -> Option<SnapshotEntry> {
    let (producer_id, rest) = bytes.split_first_chunk()?;
    let (producer_epoch, rest) = rest.split_first_chunk()?;
    let (last_sequence, rest) = rest.split_first_chunk()?;
    let (last_offset, rest) = rest.split_first_chunk()?;
    let (offset_delta, rest) = rest.split_first_chunk()?;
    let (timestamp, rest) = rest.split_first_chunk()?;
    let (coordinator_epoch, rest) = rest.split_first_chunk()?;
    let (first_offset, _) = rest.split_first_chunk()?;
    Some(SnapshotEntry {
        producer_id: i64::from_be_bytes(*producer_id),
        producer_epoch: i16::from_be_bytes(*producer_epoch),
        last_sequence: i32::from_be_bytes(*last_sequence),
        last_offset: i64::from_be_bytes(*last_offset),
        offset_delta: i32::from_be_bytes(*offset_delta),
        timestamp: i64::from_be_bytes(*timestamp),
        coordinator_epoch: i32::from_be_bytes(*coordinator_epoch),
        current_transaction_first_offset: i64::from_be_bytes(*first_offset),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kafka's bytes of two producers: one with a batch, one that has only begun a transaction.
    fn written() -> Vec<u8> {
        let mut covered = 2u32.to_be_bytes().to_vec();
        for (id, sequence, offset, delta, transaction) in [(7i64, 12i32, 40i64, 3i32, -1i64), (8, -1, -1, 0, 41)] {
            covered.extend_from_slice(&id.to_be_bytes());
            covered.extend_from_slice(&5i16.to_be_bytes());
            covered.extend_from_slice(&sequence.to_be_bytes());
            covered.extend_from_slice(&offset.to_be_bytes());
            covered.extend_from_slice(&delta.to_be_bytes());
            covered.extend_from_slice(&1_700i64.to_be_bytes());
            covered.extend_from_slice(&2i32.to_be_bytes());
            covered.extend_from_slice(&transaction.to_be_bytes());
        }
        [&1i16.to_be_bytes()[..], &crc32c(&covered).to_be_bytes(), &covered].concat()
    }

    #[test]
    fn entries_are_read_with_all_their_fields() {
        let found = decode(&written()).unwrap();
        let expected = SnapshotEntry {
            producer_id: 7,
            producer_epoch: 5,
            last_sequence: 12,
            last_offset: 40,
            offset_delta: 3,
            timestamp: 1_700,
            coordinator_epoch: 2,
            current_transaction_first_offset: -1,
        };
        assert_eq!(found[0], expected);
        assert_eq!((found[1].producer_id, found[1].current_transaction_first_offset), (8, 41));
    }

    #[test]
    fn no_bit_of_it_may_change_and_none_may_be_missing() {
        let sound = written();
        for bit in 0..8 * sound.len() {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_err(), "bit {bit}");
        }
        for len in 0..sound.len() {
            assert!(decode(&sound[..len]).is_err(), "{len} bytes");
        }
    }
}
