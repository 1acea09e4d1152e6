//! The aborted transactions of a segment: `.txnindex`, in Kafka's format (KIP-98).
//!
//! ```text
//! entry: | version (2) = 0 | producer id (8) | first offset (8) | last offset (8) | last stable offset (8) |
//! ```
//!
//! Big-endian; one entry for each transaction whose ABORT marker lies in the segment, in the order of the markers, which are
//! the last offsets. There is no file while there is no entry.
//!
//! There is no checksum, either: what is read is checked for order, and built anew from `.log` when it has none. What a
//! file lacks at its end cannot be seen in it, so it is synced before the producers' snapshot that follows it is written.
//! A sound snapshot thus vouches for all entries below it (rebuild.rs).

use std::path::Path;

use millpond_disk::File;
use millpond_types::{Offset, ProducerId};
use parking_lot::RwLock;

use crate::LogError;

const VERSION: i16 = 0;
pub(crate) const ENTRY_LEN: usize = 34;

/// Entries read at once.
const CHUNK_ENTRIES: u64 = 128;

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
    /// The offset of the marker that ended it.
    pub last_offset: Offset,
    /// Up to where all transactions were ended once it was.
    pub last_stable_offset: Offset,
}

impl AbortedTransaction {
    fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[0..2].copy_from_slice(&VERSION.to_be_bytes());
        bytes[2..10].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[10..18].copy_from_slice(&self.first_offset.to_be_bytes());
        bytes[18..26].copy_from_slice(&self.last_offset.to_be_bytes());
        bytes[26..34].copy_from_slice(&self.last_stable_offset.to_be_bytes());
        bytes
    }

    /// `None` for an entry that none of ours or Kafka's can be; zeros, which a power cut may leave, among them.
    fn decode(bytes: &[u8; ENTRY_LEN], segment_base: Offset) -> Option<AbortedTransaction> {
        let (version, rest) = bytes.split_first_chunk::<2>()?;
        let (fields, _) = rest.as_chunks::<8>();
        let [producer_id, first_offset, last_offset, last_stable_offset] = fields else { return None };
        let entry = AbortedTransaction {
            producer_id: i64::from_be_bytes(*producer_id),
            first_offset: i64::from_be_bytes(*first_offset),
            last_offset: i64::from_be_bytes(*last_offset),
            last_stable_offset: i64::from_be_bytes(*last_stable_offset),
        };
        let possible = i16::from_be_bytes(*version) == VERSION
            && entry.producer_id >= 0
            && (0..entry.last_offset).contains(&entry.first_offset)
            && entry.last_offset >= segment_base
            && (0..=entry.last_offset.saturating_add(1)).contains(&entry.last_stable_offset);
        possible.then_some(entry)
    }

    /// Whether it has records in `[from, to)`, or may have.
    fn overlaps(&self, from: Offset, to: Offset) -> bool {
        self.last_offset >= from && self.first_offset < to
    }
}

/// The index of one segment.
#[derive(Debug)]
pub(crate) struct TxnIndex {
    entries: RwLock<Entries>,
}

#[derive(Debug)]
enum Entries {
    /// Of the active segment, and of a rolled one whose index was not written yet. Bounded by `segment.index.bytes`.
    Memory {
        entries: Vec<AbortedTransaction>,
        /// How many of them are in the file.
        written: usize,
        /// The file's length. What lies behind those that are written is void.
        file_len: u64,
    },
    /// In the file, of so many bytes.
    Disk { len: u64, verified: bool },
}

/// What a search in one segment's index says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// No later segment has anything for the range.
    Done,
    /// The next segment may.
    GoOn,
    /// The file is not what it must be: why.
    Damaged(&'static str),
}

impl TxnIndex {
    /// Of a new segment.
    pub(crate) fn new() -> TxnIndex {
        TxnIndex { entries: RwLock::new(Entries::Memory { entries: Vec::new(), written: 0, file_len: 0 }) }
    }

    /// Of a segment whose file has `len` bytes, 0 if there is none.
    pub(crate) fn on_disk(len: u64) -> TxnIndex {
        TxnIndex { entries: RwLock::new(Entries::Disk { len, verified: false }) }
    }

    /// Whether the file is not looked into.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(&*self.entries.read(), Entries::Memory { .. })
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        match &*self.entries.read() {
            Entries::Memory { entries, .. } => entries.is_empty(),
            Entries::Disk { len, .. } => *len == 0,
        }
    }

    /// Whether it takes no further entry, by the bound of the other indexes. Only those that are in memory take any.
    pub(crate) fn is_full(&self, bytes_max: u32) -> bool {
        match &*self.entries.read() {
            Entries::Memory { entries, .. } => entries.len() >= (bytes_max as usize / ENTRY_LEN).max(1),
            Entries::Disk { .. } => false,
        }
    }

    /// Adds the newest entry. An index that is not in memory has it already.
    pub(crate) fn push(&self, entry: AbortedTransaction) {
        if let Entries::Memory { entries, .. } = &mut *self.entries.write() {
            entries.push(entry);
        }
    }

    /// Takes `entries` into memory, which are the first of what the file has, of `file_len` bytes.
    pub(crate) fn set(&self, entries: Vec<AbortedTransaction>, file_len: u64) {
        let written = entries.len();
        *self.entries.write() = Entries::Memory { entries, written, file_len };
    }

    /// The file's length as it is known.
    pub(crate) fn file_len(&self) -> u64 {
        match &*self.entries.read() {
            Entries::Memory { file_len, .. } => *file_len,
            Entries::Disk { len, .. } => *len,
        }
    }

    /// Forgets the transactions that were ended at or after `offset`, of an index in memory.
    pub(crate) fn truncate_to(&self, offset: Offset) {
        if let Entries::Memory { entries, written, .. } = &mut *self.entries.write() {
            entries.truncate(entries.partition_point(|entry| entry.last_offset < offset));
            *written = entries.len().min(*written);
        }
    }

    /// Makes the file hold what is in memory, durably. The caller sees to it that nobody else does.
    pub(crate) fn store(&self, dir: &Path, path: &Path) -> Result<(), LogError> {
        let (at, bytes, is_new, count) = match &*self.entries.read() {
            Entries::Memory { entries, written, file_len } => {
                let at = (*written * ENTRY_LEN) as u64;
                if *written == entries.len() && *file_len == at {
                    return Ok(());
                }
                let bytes: Vec<u8> = entries.iter().skip(*written).flat_map(AbortedTransaction::encode).collect();
                (at, bytes, *file_len == 0, entries.len())
            }
            Entries::Disk { .. } => return Ok(()),
        };
        let len = at + bytes.len() as u64;
        if len == 0 {
            millpond_disk::remove_file(path)?;
        } else {
            let file = File::open_or_create(path)?;
            file.write_all_at(&bytes, at)?;
            file.set_len(len)?;
            file.sync_data()?;
        }
        if is_new || len == 0 {
            millpond_disk::sync_dir(dir)?;
        }
        if let Entries::Memory { written, file_len, .. } = &mut *self.entries.write() {
            (*written, *file_len) = (count, len);
        }
        Ok(())
    }

    /// Lets the memory go, once all is stored.
    pub(crate) fn leave_memory(&self) {
        let mut held = self.entries.write();
        if let Entries::Memory { entries, .. } = &*held {
            *held = Entries::Disk { len: (entries.len() * ENTRY_LEN) as u64, verified: true };
        }
    }

    /// Writes a file anew whose old one is not to be used, of an index that is not in memory.
    pub(crate) fn replace(&self, path: &Path, entries: &[AbortedTransaction]) -> Result<(), LogError> {
        let bytes: Vec<u8> = entries.iter().flat_map(AbortedTransaction::encode).collect();
        match bytes.is_empty() {
            true => millpond_disk::remove_file(path)?,
            false => millpond_disk::replace_file(path, &bytes)?,
        }
        if let Entries::Disk { len, verified } = &mut *self.entries.write() {
            (*len, *verified) = (bytes.len() as u64, true);
        }
        Ok(())
    }

    /// Adds to `found` the transactions with records in `[from, to)` that were aborted in this segment.
    pub(crate) fn search(
        &self,
        path: &Path,
        segment_base: Offset,
        (from, to): (Offset, Offset),
        found: &mut Vec<AbortedTransaction>,
    ) -> Result<Search, LogError> {
        let take = |entry: &AbortedTransaction, found: &mut Vec<AbortedTransaction>| {
            if entry.overlaps(from, to) {
                found.push(*entry);
            }
            entry.last_stable_offset < to
        };
        // With the lock held during the look, the file is this segment's: before another takes its place, the entries are loaded.
        let held = self.entries.read();
        let (len, verified) = match &*held {
            Entries::Memory { entries, .. } => {
                let first = entries.partition_point(|entry| entry.last_offset < from);
                let done = entries.iter().skip(first).any(|entry| !take(entry, found));
                return Ok(if done { Search::Done } else { Search::GoOn });
            }
            Entries::Disk { len: 0, .. } => return Ok(Search::GoOn),
            Entries::Disk { len, verified } => (*len, *verified),
        };
        let mut file = match IndexFile::open(path, segment_base, len)? {
            Ok(file) => file,
            Err(damage) => return Ok(Search::Damaged(damage)),
        };
        if !verified && file.walk(0, |_| true)?.is_none() {
            return Ok(Search::Damaged("it holds no transactions in the order of their ends"));
        }
        let Some(first) = file.first_that_ends_at(from)? else {
            return Ok(Search::Damaged("an entry of it cannot be one"));
        };
        let search = match file.walk(first, |entry| take(entry, found))? {
            Some(true) => Search::GoOn,
            Some(false) => Search::Done,
            None => return Ok(Search::Damaged("it holds no transactions in the order of their ends")),
        };
        drop(held);
        if !verified && let Entries::Disk { verified, .. } = &mut *self.entries.write() {
            *verified = true;
        }
        Ok(search)
    }
}

/// Writes the index of a segment that nobody knows yet, also if it is empty.
pub(crate) fn write_new(path: &Path, entries: &[AbortedTransaction]) -> Result<(), LogError> {
    let bytes: Vec<u8> = entries.iter().flat_map(AbortedTransaction::encode).collect();
    let file = File::create_new(path)?;
    file.write_all_at(&bytes, 0)?;
    Ok(file.sync_data()?)
}

/// All entries of a file. `None`: it is damaged. No file is no entries.
pub(crate) fn read(path: &Path, segment_base: Offset) -> Result<Option<Vec<AbortedTransaction>>, LogError> {
    let len = match File::open_read_only(path) {
        Ok(file) => file.len()?,
        Err(error) if error.is_not_found() => return Ok(Some(Vec::new())),
        Err(error) => return Err(error.into()),
    };
    let Ok(mut file) = IndexFile::open(path, segment_base, len)? else { return Ok(None) };
    let mut entries = Vec::new();
    let sound = file.walk(0, |entry| {
        entries.push(*entry);
        true
    })?;
    Ok(sound.map(|_| entries))
}

/// A file that is being looked into.
struct IndexFile {
    file: File,
    segment_base: Offset,
    count: u64,
}

impl IndexFile {
    /// The inner error says what is wrong with a file that should have `len` bytes.
    fn open(path: &Path, segment_base: Offset, len: u64) -> Result<Result<IndexFile, &'static str>, LogError> {
        let file = match File::open_read_only(path) {
            Err(error) if error.is_not_found() => return Ok(Err("it is missing")),
            opened => opened?,
        };
        if file.len()? != len || !len.is_multiple_of(ENTRY_LEN as u64) {
            return Ok(Err("it has not the length that it should have"));
        }
        Ok(Ok(IndexFile { file, segment_base, count: len / ENTRY_LEN as u64 }))
    }

    /// The place of the first transaction that ends at or after `offset`; the count if none does. `None`: damaged.
    fn first_that_ends_at(&self, offset: Offset) -> Result<Option<u64>, LogError> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = (low + high) / 2;
            let mut bytes = [0; ENTRY_LEN];
            self.file.read_exact_at(&mut bytes, middle * ENTRY_LEN as u64)?;
            let Some(entry) = AbortedTransaction::decode(&bytes, self.segment_base) else { return Ok(None) };
            if entry.last_offset < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(Some(low))
    }

    /// Gives the entries from `place` on to `each` until it says `false`, which is the result then. `None`: damaged.
    fn walk(
        &mut self,
        mut place: u64,
        mut each: impl FnMut(&AbortedTransaction) -> bool,
    ) -> Result<Option<bool>, LogError> {
        let mut last_offset = -1;
        while place < self.count {
            let count = CHUNK_ENTRIES.min(self.count - place);
            let bytes = self.file.read_at(count as usize * ENTRY_LEN, place * ENTRY_LEN as u64)?;
            let (entries, _) = bytes.as_chunks::<ENTRY_LEN>();
            if (entries.len() as u64) < count {
                return Ok(None);
            }
            for entry in entries {
                let entry = AbortedTransaction::decode(entry, self.segment_base);
                let Some(entry) = entry.filter(|entry| entry.last_offset > last_offset) else { return Ok(None) };
                last_offset = entry.last_offset;
                if !each(&entry) {
                    return Ok(Some(false));
                }
            }
            place += count;
        }
        Ok(Some(true))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn entry(producer_id: ProducerId, offsets: (Offset, Offset), last_stable_offset: Offset) -> AbortedTransaction {
        AbortedTransaction { producer_id, first_offset: offsets.0, last_offset: offsets.1, last_stable_offset }
    }

    /// Of a segment that begins at 100: one alone, two that overlap, and the long one that held the offset back.
    fn some() -> Vec<AbortedTransaction> {
        vec![entry(1, (90, 110), 111), entry(2, (130, 140), 120), entry(3, (135, 150), 120), entry(4, (120, 160), 161)]
    }

    struct Place {
        _dir: tempfile::TempDir,
        path: PathBuf,
    }

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            Place { path: dir.path().join("00000000000000000100.txnindex"), _dir: dir }
        }

        fn store(&self, index: &TxnIndex) {
            index.store(self.path.parent().unwrap(), &self.path).unwrap();
        }

        fn bytes(&self) -> Option<Vec<u8>> {
            millpond_disk::read_file(&self.path).unwrap()
        }
    }

    fn found(index: &TxnIndex, place: &Place, range: (Offset, Offset)) -> (Vec<ProducerId>, Search) {
        let mut found = Vec::new();
        let search = index.search(&place.path, 100, range, &mut found).unwrap();
        (found.iter().map(|entry| entry.producer_id).collect(), search)
    }

    #[test]
    fn memory_and_file_find_the_same_transactions() {
        let place = Place::new();
        let index = TxnIndex::new();
        some().into_iter().for_each(|entry| index.push(entry));
        for written in [false, true] {
            if written {
                place.store(&index);
                index.leave_memory();
            }
            for (range, expected, search) in [
                ((100, 105), &[1][..], Search::Done),
                ((111, 120), &[], Search::Done),
                ((111, 121), &[4], Search::Done),
                ((111, 131), &[2, 4], Search::Done),
                ((141, 200), &[3, 4], Search::GoOn),
                ((161, 200), &[], Search::GoOn),
                ((0, 1000), &[1, 2, 3, 4], Search::GoOn),
            ] {
                assert_eq!(found(&index, &place, range), (expected.to_vec(), search), "{range:?} {written}");
            }
        }
    }

    #[test]
    fn the_file_is_kafkas_and_is_there_only_with_entries() {
        let place = Place::new();
        let index = TxnIndex::new();
        place.store(&index);
        assert_eq!(place.bytes(), None);
        index.push(entry(7, (90, 110), 95));
        place.store(&index);
        let expected = [&[0, 0][..], &7i64.to_be_bytes(), &90i64.to_be_bytes(), &110i64.to_be_bytes()].concat();
        let expected = [expected, 95i64.to_be_bytes().to_vec()].concat();
        assert_eq!(place.bytes().unwrap(), expected);
        index.push(entry(8, (111, 120), 121));
        place.store(&index);
        assert_eq!(read(&place.path, 100).unwrap().unwrap(), [entry(7, (90, 110), 95), entry(8, (111, 120), 121)]);
        index.truncate_to(120);
        place.store(&index);
        assert_eq!(place.bytes().unwrap(), expected);
        index.truncate_to(110);
        place.store(&index);
        assert_eq!(place.bytes(), None);
    }

    #[test]
    fn what_the_file_has_beyond_what_is_known_is_cut() {
        let place = Place::new();
        millpond_disk::write_file(&place.path, &[1; 3 * ENTRY_LEN + 5]).unwrap();
        let index = TxnIndex::new();
        index.set(Vec::new(), (3 * ENTRY_LEN + 5) as u64);
        index.push(some()[0]);
        place.store(&index);
        assert_eq!(read(&place.path, 100).unwrap().unwrap(), [some()[0]]);
    }

    #[test]
    fn a_file_that_cannot_be_an_index_is_told_and_can_be_replaced() {
        let sound: Vec<u8> = some().iter().flat_map(AbortedTransaction::encode).collect();
        let len = sound.len();
        let mut swapped = sound.clone();
        swapped.rotate_left(ENTRY_LEN);
        let with = |at: usize, byte: u8| {
            let mut bytes = sound.clone();
            bytes[at] = byte;
            bytes
        };
        let damages = [
            ("zeros", vec![0; len]),
            ("too short", sound[..len - 1].to_vec()),
            ("out of order", swapped),
            ("another version", with(1, 1)),
            ("no producer", with(2, 0x80)),
            ("ends before it begins", with(17, 200)),
            ("before the segment", with(25, 99)),
            ("stable beyond its end", with(33, 112)),
        ];
        for (what, bytes) in damages {
            let place = Place::new();
            millpond_disk::write_file(&place.path, &bytes).unwrap();
            let index = TxnIndex::on_disk(len as u64);
            assert!(matches!(found(&index, &place, (100, 200)).1, Search::Damaged(_)), "{what}");
            assert_eq!(read(&place.path, 100).unwrap(), None, "{what}");
            index.replace(&place.path, &some()).unwrap();
            assert_eq!(found(&index, &place, (100, 200)), (vec![1, 2, 3, 4], Search::GoOn), "{what}");
            index.replace(&place.path, &[]).unwrap();
            assert_eq!((place.bytes(), index.is_empty()), (None, true), "{what}");
        }
        let place = Place::new();
        assert_eq!(found(&TxnIndex::on_disk(34), &place, (0, 200)).1, Search::Damaged("it is missing"));
        assert_eq!(read(&place.path, 100).unwrap(), Some(Vec::new()));
    }
}
