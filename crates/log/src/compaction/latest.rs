//! Where each key was written last, in bounded memory.
//!
//! A table with open addressing: 128 bits of a key's SipHash and its offset. The hash is keyed with the topic's id: should somebody
//! find two keys that are taken for one, they are so in one topic alone.

use std::hash::Hasher as _;

use millpond_types::{Offset, TopicId};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

/// Bytes of a slot.
pub(crate) const SLOT_BYTES: usize = size_of::<Slot>();
/// Slots that a table has at first, if it may have as many.
const SLOTS_FIRST: usize = 64;
/// Slots of the smallest table.
const SLOTS_MIN: usize = 8;

/// The newest offset of each key that was noted.
#[derive(Debug)]
pub(crate) struct LatestOffsets {
    topic_id: [u8; 16],
    slots: Vec<Slot>,
    len: usize,
    /// Slots that it may grow to.
    slots_max: usize,
}

/// What stands for a key.
pub(crate) type KeyHash = [u64; 2];

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: KeyHash,
    /// -1: the slot is free.
    offset: Offset,
}

const FREE: Slot = Slot { hash: [0; 2], offset: -1 };

impl LatestOffsets {
    /// A table that takes at most `bytes_max` bytes, also while it grows.
    pub(crate) fn new(topic_id: TopicId, bytes_max: usize) -> LatestOffsets {
        // While it grows, the old table and the new one of twice the size are there: the last one takes two thirds.
        let slots_max = (bytes_max / SLOT_BYTES * 2 / 3).max(SLOTS_MIN);
        let doublings = (slots_max / SLOTS_FIRST.min(slots_max)).ilog2();
        let slots = vec![FREE; slots_max >> doublings];
        LatestOffsets { topic_id: topic_id.as_uuid().into_bytes(), slots, len: 0, slots_max }
    }

    /// How many keys it knows.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes note that there is a record at `offset` with the key that has this hash. `false`: there is no room for another key.
    pub(crate) fn note(&mut self, hash: KeyHash, offset: Offset) -> bool {
        loop {
            let place = self.place_of(hash);
            let has_room = self.has_room();
            let slot = self.slot_mut(place);
            if slot.offset >= 0 {
                slot.offset = slot.offset.max(offset);
                return true;
            }
            if has_room {
                *slot = Slot { hash, offset };
                self.len += 1;
                return true;
            }
            if !self.grow() {
                return false;
            }
        }
    }

    /// The newest offset that was noted for `key`.
    pub(crate) fn of(&self, key: &[u8]) -> Option<Offset> {
        self.of_hash(self.hash(key))
    }

    /// The same for the key that has this hash.
    pub(crate) fn of_hash(&self, hash: KeyHash) -> Option<Offset> {
        let place = self.place_of(hash);
        self.slots.get(place).map(|slot| slot.offset).filter(|offset| *offset >= 0)
    }

    /// What stands for a key.
    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        // The same in every table of a topic.
        let mut hasher = SipHasher24::new_with_key(&self.topic_id);
        hasher.write(key);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }

    /// The slot that has `hash`, or the free one where it would be.
    fn place_of(&self, hash: KeyHash) -> usize {
        let slots = self.slots.len();
        // The upper bits of a product spread evenly over any number of slots.
        let mut place = ((u128::from(hash[0]) * slots as u128) >> 64) as usize;
        loop {
            match self.slots.get(place) {
                Some(slot) if slot.offset >= 0 && slot.hash != hash => place = (place + 1) % slots,
                _ => return place,
            }
        }
    }

    fn slot_mut(&mut self, place: usize) -> &mut Slot {
        self.slots.get_mut(place).expect("a place lies in the table")
    }

    /// A fifth stays free, so that searches are short.
    fn has_room(&self) -> bool {
        self.len < self.slots.len() / 5 * 4
    }

    /// Doubles the table, if that may be.
    fn grow(&mut self) -> bool {
        let slots = self.slots.len() * 2;
        if slots > self.slots_max {
            return false;
        }
        let before = std::mem::replace(&mut self.slots, vec![FREE; slots]);
        for slot in before.into_iter().filter(|slot| slot.offset >= 0) {
            let place = self.place_of(slot.hash);
            *self.slot_mut(place) = slot;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn table(bytes_max: usize) -> LatestOffsets {
        LatestOffsets::new(TopicId::from_uuid(uuid::Uuid::from_bytes([7; 16])), bytes_max)
    }

    fn note(latest: &mut LatestOffsets, key: &[u8], offset: Offset) -> bool {
        latest.note(latest.hash(key), offset)
    }

    #[test]
    fn it_knows_what_a_map_would_know() {
        let mut latest = table(1 << 20);
        let mut expected = HashMap::new();
        for n in 0..40_000i64 {
            let key = (n * 7_919 % 9_000).to_be_bytes();
            assert!(note(&mut latest, &key, n));
            expected.insert(key, n);
        }
        assert_eq!(latest.len(), expected.len());
        for (key, offset) in expected {
            assert_eq!(latest.of(&key), Some(offset));
        }
        assert_eq!(latest.of(b"never seen"), None);
        assert!(note(&mut latest, &0i64.to_be_bytes(), 3));
        assert!(latest.of(&0i64.to_be_bytes()) > Some(3), "an older offset does not count");
    }

    #[test]
    fn it_keeps_within_its_bytes_and_says_when_it_is_full() {
        let mut latest = table(100_000);
        let taken = (0..).take_while(|n: &u64| note(&mut latest, &n.to_be_bytes(), 1)).count();
        assert!(latest.slots.len() * 3 / 2 * SLOT_BYTES <= 100_000);
        assert!(taken * SLOT_BYTES > 100_000 / 2, "{taken} keys");
        // What is in can still be moved, and be found.
        assert!(note(&mut latest, &0u64.to_be_bytes(), 9));
        assert_eq!((latest.of(&0u64.to_be_bytes()), latest.of(&(taken as u64).to_be_bytes())), (Some(9), None));
    }
}
