//! Which records have a newer one with their key, when there are more keys than the memory takes.
//!
//! ```text
//! 1. spill      each record's hash and offset goes to one of some parts, by its hash; within a part offsets rise
//! 2. sort out   part by part the newest offset of each key is noted, and the other ones are written down: lists of rising offsets
//! 3. look up    while the log is passed once more, the lists are read along, all at a time
//! ```
//!
//! All parts lie in one file, as blocks; all lists lie in another. A part with more keys than fit is gone over several times, each time for
//! a range of hashes. The files are void after a crash: every start removes what ends in `.cleaned`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use millpond_disk::File;
use millpond_types::{Offset, TopicId};

use super::STEP_BYTES;
use super::latest::{KeyHash, LatestOffsets};
use crate::LogError;

const KEYS: &str = "spilled-keys.cleaned";
const LISTS: &str = "superseded.cleaned";

/// A hash and an offset.
const ENTRY_LEN: usize = 24;
const OFFSET_LEN: usize = 8;

/// Parts, at most; fewer when there is little memory, so that their buffers are not too small.
const PARTS_MAX: usize = 256;
const PARTS_MIN: usize = 4;
/// Memory for which there is one part more.
const BYTES_A_PART: usize = 64 << 10;
/// Bytes of a block, and of a list that are read at a time, at most.
const BLOCK_BYTES_MAX: usize = 16 << 10;

/// What stays free on the disk, at the least: a tenth of it, of a large one so many bytes. Producers need it more.
const FREE_BYTES_KEPT_MAX: u64 = 1 << 30;

/// Whether the disk has room to spill more.
pub(super) fn has_room(dir: &Path) -> Result<bool, LogError> {
    let space = millpond_disk::space(dir)?;
    Ok(space.free_bytes > (space.total_bytes / 10).min(FREE_BYTES_KEPT_MAX))
}

/// Takes in the keys of all records.
#[derive(Debug)]
pub(super) struct Spill {
    dir: PathBuf,
    file: File,
    topic_id: TopicId,
    bytes_max: usize,
    block_bytes: usize,
    parts: Vec<Part>,
    /// Blocks in the file.
    blocks: u32,
    /// Bytes since somebody asked.
    written: u64,
}

#[derive(Debug, Default)]
struct Part {
    /// Its blocks in the file, all of them full.
    blocks: Vec<u32>,
    /// What does not fill one yet. It stays in memory.
    rest: Vec<u8>,
}

impl Spill {
    /// With at most about `bytes_max` bytes of memory, also for what comes after.
    pub(super) fn create(dir: &Path, topic_id: TopicId, bytes_max: usize) -> Result<Spill, LogError> {
        remove(dir)?;
        let parts = (bytes_max / BYTES_A_PART).clamp(PARTS_MIN, PARTS_MAX);
        let block_bytes = (bytes_max / 4 / parts).clamp(ENTRY_LEN, BLOCK_BYTES_MAX) / ENTRY_LEN * ENTRY_LEN;
        Ok(Spill {
            dir: dir.to_owned(),
            file: File::create_new(&dir.join(KEYS))?,
            topic_id,
            bytes_max,
            block_bytes,
            parts: (0..parts).map(|_| Part::default()).collect(),
            blocks: 0,
            written: 0,
        })
    }

    /// Takes note of a record's key. Offsets rise from call to call.
    pub(super) fn note(&mut self, hash: KeyHash, offset: Offset) -> Result<(), LogError> {
        // The table takes its places from the other half of the hash.
        let part = ((u128::from(hash[1]) * self.parts.len() as u128) >> 64) as usize;
        let part = self.parts.get_mut(part).expect("a share of the parts is one of them");
        part.rest.extend_from_slice(&hash[0].to_le_bytes());
        part.rest.extend_from_slice(&hash[1].to_le_bytes());
        part.rest.extend_from_slice(&offset.to_le_bytes());
        if part.rest.len() < self.block_bytes {
            return Ok(());
        }
        self.file.write_all_at(&part.rest, u64::from(self.blocks) * self.block_bytes as u64)?;
        self.written += part.rest.len() as u64;
        part.rest.clear();
        part.blocks.push(self.blocks);
        self.blocks = self.blocks.checked_add(1).expect("a log has fewer records than fill so many blocks");
        Ok(())
    }

    /// Bytes that were written since the last call.
    pub(super) fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written)
    }

    /// All keys are there.
    pub(super) fn sort_out(self) -> Result<SortOut, LogError> {
        let lists = File::create_new(&self.dir.join(LISTS))?;
        Ok(SortOut {
            spill: self,
            lists_file: lists,
            lists_bytes: 0,
            lists: Vec::new(),
            buffer: Vec::new(),
            part: 0,
            ranges: vec![ALL],
            scan: None,
            keys: 0,
        })
    }

    /// The entries of a part from its block `block` on: one block, or what does not fill one.
    fn read(&self, part: &Part, block: usize) -> Result<Vec<u8>, LogError> {
        match part.blocks.get(block) {
            Some(number) => Ok(self.file.read_at(self.block_bytes, u64::from(*number) * self.block_bytes as u64)?),
            None => Ok(part.rest.clone()),
        }
    }
}

/// Removes both files.
pub(super) fn remove(dir: &Path) -> Result<(), LogError> {
    millpond_disk::remove_file(&dir.join(KEYS))?;
    Ok(millpond_disk::remove_file(&dir.join(LISTS))?)
}

/// Hashes, by their second half, the last one included.
type Range = (u64, u64);
const ALL: Range = (0, u64::MAX);

/// Finds those that have a newer one.
#[derive(Debug)]
pub(super) struct SortOut {
    spill: Spill,
    lists_file: File,
    lists_bytes: u64,
    /// Where each list begins and ends in the file.
    lists: Vec<(u64, u64)>,
    /// What comes next in the file.
    buffer: Vec<u8>,
    part: usize,
    /// Those of the part that are to be looked at; the last one is next.
    ranges: Vec<Range>,
    scan: Option<Scan>,
    keys: u64,
}

/// A range of a part that is gone over: once to note the keys, and then for the offsets that are not the newest ones.
#[derive(Debug)]
struct Scan {
    range: Range,
    newest: LatestOffsets,
    block: usize,
    is_second: bool,
    list_begin: u64,
}

/// How a step went.
pub(super) enum Sorted {
    /// There is more to do. So many bytes were read.
    More(u64),
    /// That was all.
    Done(Superseded),
}

impl SortOut {
    /// Goes over some blocks. `keys` counts the keys that there are.
    pub(super) fn step(&mut self, keys: &mut u64) -> Result<Sorted, LogError> {
        let mut read = 0;
        while read < STEP_BYTES as u64 {
            let Some(part) = self.spill.parts.get(self.part) else {
                *keys = self.keys;
                return self.finish().map(Sorted::Done);
            };
            let Some(mut scan) = self.scan.take() else {
                match self.ranges.pop() {
                    Some(range) => self.scan = Some(self.begin(range)),
                    None => (self.part, self.ranges) = (self.part + 1, vec![ALL]),
                }
                continue;
            };
            if scan.block > part.blocks.len() {
                if scan.is_second {
                    self.end(&scan);
                } else {
                    self.scan = Some(Scan { block: 0, is_second: true, ..scan });
                }
                continue;
            }
            let block = self.spill.read(part, scan.block)?;
            read += block.len() as u64;
            scan.block += 1;
            let fits = if scan.is_second { self.write_older(&scan, &block).map(|()| true)? } else { scan.note(&block) };
            if fits {
                self.scan = Some(scan);
            } else {
                let (first, last) = scan.range;
                assert!(first < last, "keys of one hash take one place");
                let middle = first + (last - first) / 2;
                self.ranges.extend([(middle + 1, last), (first, middle)]);
            }
        }
        Ok(Sorted::More(read))
    }

    fn begin(&self, range: Range) -> Scan {
        let newest = LatestOffsets::new(self.spill.topic_id, self.spill.bytes_max / 2);
        Scan { range, newest, block: 0, is_second: false, list_begin: self.lists_end() }
    }

    fn end(&mut self, scan: &Scan) {
        self.keys += scan.newest.len() as u64;
        if self.lists_end() > scan.list_begin {
            self.lists.push((scan.list_begin, self.lists_end()));
        }
    }

    fn lists_end(&self) -> u64 {
        self.lists_bytes + self.buffer.len() as u64
    }

    fn write_older(&mut self, scan: &Scan, block: &[u8]) -> Result<(), LogError> {
        for (hash, offset) in scan.entries(block) {
            if scan.newest.of_hash(hash).is_some_and(|newest| newest > offset) {
                self.buffer.extend_from_slice(&offset.to_le_bytes());
            }
        }
        if self.buffer.len() >= self.spill.block_bytes { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.lists_file.write_all_at(&self.buffer, self.lists_bytes)?;
        self.lists_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<Superseded, LogError> {
        self.flush()?;
        millpond_disk::remove_file(&self.spill.dir.join(KEYS))?;
        let lists = std::mem::take(&mut self.lists);
        let buffer_bytes = (self.spill.bytes_max / 2 / lists.len().max(1)).clamp(OFFSET_LEN, BLOCK_BYTES_MAX);
        let mut superseded = Superseded {
            file: File::open_read_only(&self.spill.dir.join(LISTS))?,
            buffer_bytes: buffer_bytes / OFFSET_LEN * OFFSET_LEN,
            lists: lists.into_iter().map(|(at, end)| List { at, end, bytes: Vec::new(), place: 0 }).collect(),
            heads: BinaryHeap::new(),
        };
        for list in 0..superseded.lists.len() {
            superseded.advance(list)?;
        }
        Ok(superseded)
    }
}

impl Scan {
    /// The entries of a block that lie in the range.
    fn entries<'a>(&self, block: &'a [u8]) -> impl Iterator<Item = (KeyHash, Offset)> + use<'a> {
        let (first, last) = self.range;
        let (entries, _) = block.as_chunks::<ENTRY_LEN>();
        entries.iter().filter_map(move |entry| {
            let (fields, _) = entry.as_chunks::<8>();
            let [place, part, offset] = fields else { return None };
            let hash = [u64::from_le_bytes(*place), u64::from_le_bytes(*part)];
            (first..=last).contains(&hash[1]).then(|| (hash, Offset::from_le_bytes(*offset)))
        })
    }

    /// `false`: not all keys of the range fit.
    fn note(&mut self, block: &[u8]) -> bool {
        self.entries(block).all(|(hash, offset)| self.newest.note(hash, offset))
    }
}

/// The offsets of the records that have a newer one.
#[derive(Debug)]
pub(super) struct Superseded {
    file: File,
    buffer_bytes: usize,
    lists: Vec<List>,
    /// The next offset of each list.
    heads: BinaryHeap<Reverse<(Offset, usize)>>,
}

#[derive(Debug)]
struct List {
    /// What follows in the file.
    at: u64,
    end: u64,
    bytes: Vec<u8>,
    /// The next one in `bytes`.
    place: usize,
}

impl Superseded {
    /// Whether the record at `offset` has a newer one. Asked with rising offsets.
    pub(super) fn contains(&mut self, offset: Offset) -> Result<bool, LogError> {
        while let Some(Reverse((head, list))) = self.heads.peek().copied()
            && head <= offset
        {
            self.heads.pop();
            self.advance(list)?;
            if head == offset {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes the next offset of a list its head.
    fn advance(&mut self, number: usize) -> Result<(), LogError> {
        let Some(list) = self.lists.get_mut(number) else { return Ok(()) };
        if list.place >= list.bytes.len() {
            let len = usize::try_from(list.end - list.at).unwrap_or(usize::MAX).min(self.buffer_bytes);
            list.bytes = self.file.read_at(len, list.at)?;
            list.at += list.bytes.len() as u64;
            list.place = 0;
        }
        let Some(bytes) = list.bytes.get(list.place..).and_then(|rest| rest.first_chunk::<OFFSET_LEN>()) else {
            return Ok(());
        };
        list.place += OFFSET_LEN;
        self.heads.push(Reverse((Offset::from_le_bytes(*bytes), number)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn topic_id() -> TopicId {
        TopicId::from_uuid(uuid::Uuid::from_bytes([3; 16]))
    }

    /// Which of the keys at the offsets 0, 3, 6 … have a newer one, and how many keys there are.
    fn superseded(keys: &[u32], bytes_max: usize) -> (Vec<bool>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let hashes = LatestOffsets::new(topic_id(), 0);
        let mut spill = Spill::create(folder.path(), topic_id(), bytes_max).unwrap();
        for (place, key) in keys.iter().enumerate() {
            spill.note(hashes.hash(&key.to_le_bytes()), place as Offset * 3).unwrap();
        }
        let (mut sort_out, mut count) = (spill.sort_out().unwrap(), 0);
        let mut superseded = loop {
            match sort_out.step(&mut count).unwrap() {
                Sorted::More(_) => {}
                Sorted::Done(superseded) => break superseded,
            }
        };
        let found = (0..keys.len() * 3).map(|offset| superseded.contains(offset as Offset).unwrap());
        let found: Vec<bool> = found.collect();
        assert!(found.iter().enumerate().all(|(offset, found)| offset % 3 == 0 || !found));
        remove(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        (found.into_iter().step_by(3).collect(), count)
    }

    fn expected(keys: &[u32]) -> (Vec<bool>, u64) {
        let newest: HashMap<u32, usize> = keys.iter().enumerate().map(|(place, key)| (*key, place)).collect();
        (keys.iter().enumerate().map(|(place, key)| newest[key] > place).collect(), newest.len() as u64)
    }

    #[test]
    fn with_many_times_the_keys_that_fit_it_knows_what_a_map_would_know() {
        let keys: Vec<u32> = (0..50_000u32).map(|n| n.wrapping_mul(2_654_435_761) % 30_000).collect();
        for bytes_max in [20_000, 200_000, 64 << 20] {
            assert_eq!(superseded(&keys, bytes_max), expected(&keys), "{bytes_max}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn it_always_does(keys in proptest::collection::vec(0..200u32, 0..300), bytes_max in 0..20_000usize) {
            prop_assert_eq!(superseded(&keys, bytes_max), expected(&keys));
        }
    }
}
