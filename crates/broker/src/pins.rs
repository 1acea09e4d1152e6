//! Who still needs which records of a partition.

use std::collections::BTreeMap;

use millpond_types::Offset;
use parking_lot::Mutex;

/// The offsets from which on somebody needs a partition's records, by who it is. Bounded by the number of streams
/// that read the partition: each has one name.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    by_name: Mutex<BTreeMap<String, Offset>>,
}

impl Pins {
    /// `name` needs the records from `offset` on, and no earlier ones any more.
    pub(crate) fn set(&self, name: &str, offset: Offset) {
        let mut by_name = self.by_name.lock();
        match by_name.get_mut(name) {
            Some(pinned) => *pinned = offset,
            None => drop(by_name.insert(name.to_owned(), offset)),
        }
    }

    /// `name` needs nothing more.
    pub(crate) fn remove(&self, name: &str) {
        self.by_name.lock().remove(name);
    }

    /// The offset from which on everything is needed, and by whom.
    pub(crate) fn lowest(&self) -> Option<(String, Offset)> {
        let by_name = self.by_name.lock();
        by_name.iter().min_by_key(|(_, offset)| **offset).map(|(name, offset)| (name.clone(), *offset))
    }
}
