//! What a chunk looks like.
//!
//! ```text
//! head     magic u32 · CRC-32C u32 of the rest of the head · bytes of the head u32 · how many entries u32
//!          lap u64 · number in the lap u32 · oldest lap that counts u64
//! table    for each entry: topic id 16 bytes · partition i32 · kind u32 · base offset i64 · end offset i64
//!          bytes u32 · CRC-32C u32 of them
//! entries  one after the other
//! zeros    up to a whole block
//! ```
//!
//! All numbers are little-endian.

use bytes::{Buf, BufMut};
use millpond_disk::{BLOCK_BYTES, BlockBuffer};
use millpond_records::crc32c;
use millpond_types::{Offset, PartitionIndex, TopicId};

/// Bytes of one chunk, at most: the buffer it is put together in.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Bytes of one log's batches in one chunk, at most.
pub const ENTRY_BYTES_MAX: usize = CHUNK_BYTES_MAX / 2;

/// `MPJ1`.
const MAGIC: u32 = u32::from_le_bytes(*b"MPJ1");
const FIXED_LEN: usize = 36;
const TABLE_ENTRY_LEN: usize = 48;
/// What the CRC of a head covers begins here.
const CRC_FROM: usize = 8;

/// What an entry says of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Batches.
    Batches,
    /// The log was cut; what earlier entries say of it does not count.
    Cut,
}

/// A line of a chunk's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableEntry {
    pub(super) topic_id: TopicId,
    pub(super) partition: PartitionIndex,
    pub(super) kind: Kind,
    pub(super) base_offset: Offset,
    /// The offset after the last batch.
    pub(super) end_offset: Offset,
    pub(super) len: u32,
    pub(super) crc: u32,
}

/// A chunk without its entries' bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) lap: u64,
    /// Counts the lap's chunks, from 0.
    pub(super) number: u32,
    /// Laps before this one do not count any more.
    pub(super) oldest_lap: u64,
    pub(super) table: Vec<TableEntry>,
}

/// The bytes that a chunk takes in its file.
pub(super) fn chunk_len(entries: usize, entries_len: usize) -> usize {
    (head_len(entries) + entries_len).next_multiple_of(BLOCK_BYTES)
}

pub(super) fn head_len(entries: usize) -> usize {
    FIXED_LEN + entries * TABLE_ENTRY_LEN
}

impl Head {
    /// Puts a whole chunk into the empty `buffer`: this head, whose entries' `len` and `crc` are filled in here, and
    /// the bytes, piece after piece for each entry.
    pub(super) fn encode<'a, Pieces>(mut self, bytes: impl Iterator<Item = Pieces>, buffer: &mut BlockBuffer)
    where
        Pieces: Iterator<Item = &'a [u8]>,
    {
        let head_len = head_len(self.table.len());
        buffer.put_zeros(head_len);
        for (entry, pieces) in self.table.iter_mut().zip(bytes) {
            let from = buffer.len();
            pieces.for_each(|piece| buffer.put(piece));
            let written = buffer.as_slice().get(from..).unwrap_or_default();
            entry.len = u32::try_from(written.len()).expect("a chunk is far below 4 GiB");
            entry.crc = crc32c(written);
        }
        let head = self.head_bytes(head_len);
        if let Some(room) = buffer.as_mut_slice().get_mut(..head_len) {
            room.copy_from_slice(&head);
        }
        buffer.pad();
    }

    fn head_bytes(&self, head_len: usize) -> Vec<u8> {
        let mut rest = Vec::with_capacity(head_len);
        rest.put_u32_le(head_len as u32);
        rest.put_u32_le(self.table.len() as u32);
        rest.put_u64_le(self.lap);
        rest.put_u32_le(self.number);
        rest.put_u64_le(self.oldest_lap);
        for entry in &self.table {
            rest.put_slice(entry.topic_id.as_uuid().as_bytes());
            rest.put_i32_le(entry.partition);
            rest.put_u32_le(match entry.kind {
                Kind::Batches => 0,
                Kind::Cut => 1,
            });
            rest.put_i64_le(entry.base_offset);
            rest.put_i64_le(entry.end_offset);
            rest.put_u32_le(entry.len);
            rest.put_u32_le(entry.crc);
        }
        let mut head = Vec::with_capacity(head_len);
        head.put_u32_le(MAGIC);
        head.put_u32_le(crc32c(&rest));
        head.extend_from_slice(&rest);
        head
    }

    /// How many bytes a head takes, from its first block; `None` if no chunk begins there.
    pub(super) fn len(block: &[u8]) -> Option<usize> {
        let mut block = block.get(..FIXED_LEN)?;
        let (magic, _crc, head_len) = (block.get_u32_le(), block.get_u32_le(), block.get_u32_le() as usize);
        let plausible =
            (FIXED_LEN..=CHUNK_BYTES_MAX).contains(&head_len) && (head_len - FIXED_LEN).is_multiple_of(TABLE_ENTRY_LEN);
        (magic == MAGIC && plausible).then_some(head_len)
    }

    /// Reads a head of the length that [`Head::len`] gave. `None` if it is not whole.
    pub(super) fn decode(bytes: &[u8]) -> Option<Head> {
        let mut fixed = bytes.get(..FIXED_LEN)?;
        let (_magic, crc) = (fixed.get_u32_le(), fixed.get_u32_le());
        if crc32c(bytes.get(CRC_FROM..)?) != crc {
            return None;
        }
        let (_head_len, count) = (fixed.get_u32_le(), fixed.get_u32_le() as usize);
        let (lap, number, oldest_lap) = (fixed.get_u64_le(), fixed.get_u32_le(), fixed.get_u64_le());
        let (lines, rest) = bytes.get(FIXED_LEN..)?.as_chunks::<TABLE_ENTRY_LEN>();
        if lines.len() != count || !rest.is_empty() {
            return None;
        }
        let table = lines.iter().map(TableEntry::decode).collect::<Option<Vec<_>>>()?;
        Some(Head { lap, number, oldest_lap, table })
    }

    /// Bytes of all entries.
    pub(super) fn entries_len(&self) -> usize {
        self.table.iter().map(|entry| entry.len as usize).sum()
    }
}

impl TableEntry {
    fn decode(line: &[u8; TABLE_ENTRY_LEN]) -> Option<TableEntry> {
        let mut line = &line[..];
        let topic_id = TopicId::from_uuid(uuid::Uuid::from_u128(line.get_u128()));
        let partition = line.get_i32_le();
        let kind = match line.get_u32_le() {
            0 => Kind::Batches,
            1 => Kind::Cut,
            _ => return None,
        };
        let (base_offset, end_offset) = (line.get_i64_le(), line.get_i64_le());
        let (len, crc) = (line.get_u32_le(), line.get_u32_le());
        Some(TableEntry { topic_id, partition, kind, base_offset, end_offset, len, crc })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = (TableEntry, Vec<u8>)> {
        let offsets = (any::<i64>(), any::<i64>());
        (any::<u128>(), any::<i32>(), any::<bool>(), offsets, proptest::collection::vec(any::<u8>(), 0..3000)).prop_map(
            |(id, partition, cut, (base_offset, end_offset), bytes)| {
                let kind = if cut { Kind::Cut } else { Kind::Batches };
                let topic_id = TopicId::from_uuid(uuid::Uuid::from_u128(id));
                (TableEntry { topic_id, partition, kind, base_offset, end_offset, len: 0, crc: 0 }, bytes)
            },
        )
    }

    proptest! {
        #[test]
        fn a_chunk_comes_back_and_no_bit_of_its_head_may_change(
            entries in proptest::collection::vec(entry(), 0..20),
            numbers in (any::<u64>(), any::<u32>(), any::<u64>()),
            flip in any::<prop::sample::Index>(),
        ) {
            let (table, bytes): (Vec<TableEntry>, Vec<Vec<u8>>) = entries.into_iter().unzip();
            let head = Head { lap: numbers.0, number: numbers.1, oldest_lap: numbers.2, table };
            let mut buffer = BlockBuffer::new(CHUNK_BYTES_MAX);
            // Each in two pieces.
            let pieces = bytes.iter().map(|bytes| { let (a, b) = bytes.split_at(bytes.len() / 2); [a, b].into_iter() });
            head.clone().encode(pieces, &mut buffer);
            let len = Head::len(buffer.as_slice()).unwrap();
            let found = Head::decode(&buffer.as_slice()[..len]).unwrap();
            prop_assert_eq!((found.lap, found.number, found.oldest_lap), numbers);
            let all: usize = bytes.iter().map(Vec::len).sum();
            prop_assert_eq!(found.entries_len(), all);
            prop_assert_eq!(buffer.len(), chunk_len(bytes.len(), all));
            let mut at = len;
            for (entry, bytes) in found.table.iter().zip(&bytes) {
                prop_assert_eq!(&buffer.as_slice()[at..at + entry.len as usize], &bytes[..]);
                prop_assert_eq!(entry.crc, crc32c(bytes));
                at += bytes.len();
            }
            let unfilled: Vec<TableEntry> = found.table.into_iter().map(|e| TableEntry { len: 0, crc: 0, ..e }).collect();
            prop_assert_eq!(unfilled, head.table);

            let bit = flip.index(8 * len);
            buffer.as_mut_slice()[bit / 8] ^= 1 << (bit % 8);
            let changed = Head::len(buffer.as_slice()).and_then(|len| Head::decode(buffer.as_slice().get(..len)?));
            prop_assert_eq!(changed, None, "bit {}", bit);
        }
    }
}
