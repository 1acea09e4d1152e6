//! The groups of a window: their keys as bytes, numbered in the order in which they came.

use std::hash::{BuildHasher, Hasher};

use hashbrown::{DefaultHashBuilder, HashTable};

/// Keys, each with a number from 0 on. A key is the row encoding of the grouping columns, so that bytes compare as the
/// columns do. A snapshot needs no draining: the keys lie one after the other.
#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`.
    ends: Vec<usize>,
}

impl KeyTable {
    /// How many keys.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The key with the number `group`.
    pub(crate) fn key(&self, group: usize) -> &[u8] {
        key_at(&self.bytes, &self.ends, group)
    }

    /// The number of `key`, a new one if it was never seen, and whether it is new.
    pub(crate) fn intern(&mut self, key: &[u8]) -> (usize, bool) {
        let KeyTable { table, hasher, bytes, ends } = self;
        let hash = hash_of(hasher, key);
        if let Some(group) = table.find(hash, |group| key_at(bytes, ends, *group as usize) == key) {
            return (*group as usize, false);
        }
        let group = ends.len();
        bytes.extend_from_slice(key);
        ends.push(bytes.len());
        let number = u32::try_from(group).expect("the memory limit of a query comes before 2^32 groups");
        table.insert_unique(hash, number, |group| hash_of(hasher, key_at(bytes, ends, *group as usize)));
        (group, true)
    }

    /// The numbers in the order of their keys.
    pub(crate) fn sorted(&self) -> Vec<u32> {
        let mut groups: Vec<u32> = (0..self.len() as u32).collect();
        groups.sort_unstable_by(|a, b| self.key(*a as usize).cmp(self.key(*b as usize)));
        groups
    }

    /// What it takes in memory, bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>() + self.table.allocation_size()
    }
}

fn key_at<'a>(bytes: &'a [u8], ends: &[usize], group: usize) -> &'a [u8] {
    let start = if group == 0 { 0 } else { ends[group - 1] };
    &bytes[start..ends[group]]
}

fn hash_of(hasher: &DefaultHashBuilder, key: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbered_as_they_come_and_found_again() {
        let mut table = KeyTable::default();
        for number in 0..10_000 {
            assert_eq!(table.intern(format!("key {number}").as_bytes()), (number, true));
        }
        for number in 0..10_000 {
            assert_eq!(table.intern(format!("key {number}").as_bytes()), (number, false));
        }
        assert_eq!(table.intern(b""), (10_000, true));
        assert_eq!(table.intern(b""), (10_000, false));
        assert_eq!(table.sorted()[..3], [10_000, 0, 1]);
        assert_eq!(table.key(123), b"key 123");
    }
}
