//! Reads the files beside the batches entry by entry: `.index`, `.timeindex` and `.txnindex`.
//!
//! ```text
//! .txnindex   | version (2) = 0 | producer id (8) | first offset (8) | last offset (8) | last stable offset (8) |
//! ```
//!
//! The other two: src/index.rs. What is in them is not believed; [`verify`](super::verify) looks whether it fits the batches.

use std::marker::PhantomData;
use std::path::Path;

use millpond_disk::File;
use millpond_types::{Offset, ProducerId, TimestampMs};

use super::window::Window;
use crate::LogError;

/// An entry of `.index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The last offset of a batch, counted from the segment's base offset.
    pub relative_offset: u32,
    /// Where in `.log` that batch begins.
    pub position: u32,
}

/// An entry of `.timeindex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeIndexEntry {
    /// The largest timestamp of the segment's records up to the offset, ms since 1970.
    pub timestamp: TimestampMs,
    /// The last offset of the first batch that has it, counted from the segment's base offset.
    pub relative_offset: u32,
}

/// An entry of `.txnindex`: a transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionIndexEntry {
    /// The version of the entry; 0 is the only one.
    pub version: i16,
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
    /// The offset of the marker that ended it.
    pub last_offset: Offset,
    /// Below it all transactions were over when it ended.
    pub last_stable_offset: Offset,
}

/// What lies in a file in entries of one length.
pub trait Entry: Sized {
    /// Its length in bytes.
    const LEN: usize;

    /// Reads it from that many bytes.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl Entry for IndexEntry {
    const LEN: usize = 8;

    fn decode(bytes: &[u8]) -> Option<IndexEntry> {
        Some(IndexEntry {
            relative_offset: u32::from_be_bytes(array(bytes, 0)?),
            position: u32::from_be_bytes(array(bytes, 4)?),
        })
    }
}

impl Entry for TimeIndexEntry {
    const LEN: usize = 12;

    fn decode(bytes: &[u8]) -> Option<TimeIndexEntry> {
        Some(TimeIndexEntry {
            timestamp: i64::from_be_bytes(array(bytes, 0)?),
            relative_offset: u32::from_be_bytes(array(bytes, 8)?),
        })
    }
}

impl Entry for TransactionIndexEntry {
    const LEN: usize = 34;

    fn decode(bytes: &[u8]) -> Option<TransactionIndexEntry> {
        Some(TransactionIndexEntry {
            version: i16::from_be_bytes(array(bytes, 0)?),
            producer_id: i64::from_be_bytes(array(bytes, 2)?),
            first_offset: i64::from_be_bytes(array(bytes, 10)?),
            last_offset: i64::from_be_bytes(array(bytes, 18)?),
            last_stable_offset: i64::from_be_bytes(array(bytes, 26)?),
        })
    }
}

/// Reads the entries of a file, one after the other. Kafka reserves room in the indexes of the segment that it writes; the
/// zeros at a file's end are not given.
#[derive(Debug)]
pub struct Entries<E> {
    file: File,
    len: u64,
    position: u64,
    window: Window,
    /// Entries of zeros that came, and nothing after them so far.
    zeros: u64,
    /// The entry behind those zeros.
    behind_zeros: Option<(u64, E)>,
    entry: PhantomData<E>,
}

impl<E: Entry> Entries<E> {
    /// Begins at the front of a file; `None` if it does not exist.
    pub fn open(path: &Path) -> Result<Option<Entries<E>>, LogError> {
        let file = match File::open_read_only(path) {
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened?,
        };
        let len = file.len()?;
        let (window, behind_zeros) = (Window::default(), None);
        Ok(Some(Entries { file, len, position: 0, window, zeros: 0, behind_zeros, entry: PhantomData }))
    }

    /// Bytes at the file's end that are no whole entry.
    pub fn rest(&self) -> u64 {
        self.len % E::LEN as u64
    }

    /// Entries of zeros at the file's end; known when all others were read.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The next entry, and where in the file it lies.
    // Not an Iterator: what can fail is reading, and not only the item.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<(u64, E)>, LogError> {
        if self.zeros > 0 && self.behind_zeros.is_some() {
            self.zeros -= 1;
            let entry = E::decode(&vec![0; E::LEN]);
            let behind = self.behind_zeros.as_ref().map_or(self.position, |(position, _)| *position);
            return Ok(entry.map(|entry| (behind - (self.zeros + 1) * E::LEN as u64, entry)));
        }
        if let Some(behind) = self.behind_zeros.take() {
            return Ok(Some(behind));
        }
        loop {
            let position = self.position;
            let bytes = self.window.bytes(&self.file, position, E::LEN, self.len)?;
            let Some(entry) = E::decode(bytes) else { return Ok(None) };
            let is_zero = bytes.iter().all(|byte| *byte == 0);
            self.position += E::LEN as u64;
            if is_zero {
                self.zeros += 1;
            } else if self.zeros > 0 {
                // So those zeros were no room that is reserved.
                self.behind_zeros = Some((position, entry));
                return self.next();
            } else {
                return Ok(Some((position, entry)));
            }
        }
    }
}

/// The last entry of a file that is not zeros, without reading all of it. `None` if there is none.
pub(super) fn last<E: Entry>(path: &Path) -> Result<Option<E>, LogError> {
    let file = match File::open_read_only(path) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let at = |place: u64| file.read_at(E::LEN, place * E::LEN as u64);
    // The zeros that Kafka reserves lie behind all entries.
    let (mut low, mut high) = (0, file.len()? / E::LEN as u64);
    while low < high {
        let middle = (low + high) / 2;
        if at(middle)?.iter().all(|byte| *byte == 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    match low.checked_sub(1) {
        Some(place) => Ok(E::decode(&at(place)?)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(entries: &[(u32, u32)], rest: usize) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000000.index");
        let mut bytes: Vec<u8> =
            entries.iter().flat_map(|(o, p)| [o.to_be_bytes(), p.to_be_bytes()].concat()).collect();
        bytes.resize(bytes.len() + rest, 0);
        millpond_disk::write_file(&path, &bytes).unwrap();
        (dir, path)
    }

    fn check(entries: &[(u32, u32)], rest: usize, expected: usize, zeros: u64) {
        let (_dir, path) = written(entries, rest);
        let mut file = Entries::<IndexEntry>::open(&path).unwrap().unwrap();
        let mut found = Vec::new();
        while let Some((position, entry)) = file.next().unwrap() {
            assert_eq!(position, found.len() as u64 * 8);
            found.push((entry.relative_offset, entry.position));
        }
        assert_eq!(found, entries[..expected]);
        assert_eq!((file.zeros(), file.rest()), (zeros, (entries.len() * 8 + rest) as u64 % 8));
        let last = last::<IndexEntry>(&path).unwrap().map(|entry| (entry.relative_offset, entry.position));
        if !found.contains(&(0, 0)) {
            assert_eq!(last, found.last().copied());
        }
    }

    #[test]
    fn entries_come_in_order_without_the_zeros_at_the_end() {
        check(&[], 0, 0, 0);
        check(&[(1, 100), (2, 200)], 0, 2, 0);
        check(&[(1, 100), (2, 200)], 800, 2, 100);
        check(&[(1, 100), (2, 200)], 5, 2, 0);
        check(&[(0, 0), (0, 0), (0, 0)], 0, 0, 3);
        check(&[(1, 100), (0, 0), (0, 0), (9, 9), (0, 0)], 0, 4, 1);
    }

    #[test]
    fn a_file_that_is_missing_has_no_entries() {
        let path = Path::new("/nowhere/00000000000000000000.index");
        assert!(Entries::<IndexEntry>::open(path).unwrap().is_none());
        assert_eq!(last::<IndexEntry>(path).unwrap(), None);
    }
}
