//! Finding partitions, by topic name or id.

use std::collections::HashMap;
use std::sync::Arc;

use millpond_types::{PartitionIndex, TopicId, TopicName};
use parking_lot::RwLock;

use crate::partition::Partition;
use crate::topic::Topic;

/// A topic and all of its partitions; replaced as a whole when it grows.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) topic: Arc<Topic>,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

impl Entry {
    fn partition(&self, index: PartitionIndex) -> Option<Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?).cloned()
    }
}

/// All partitions that are open.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    entries: RwLock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_name: HashMap<TopicName, Arc<Entry>>,
    by_id: HashMap<TopicId, Arc<Entry>>,
}

impl Directory {
    pub(crate) fn partition(&self, topic: &str, index: PartitionIndex) -> Option<Arc<Partition>> {
        self.entries.read().by_name.get(topic)?.partition(index)
    }

    pub(crate) fn partition_by_id(&self, id: TopicId, index: PartitionIndex) -> Option<Arc<Partition>> {
        self.entries.read().by_id.get(&id)?.partition(index)
    }

    pub(crate) fn topic(&self, topic: &str) -> Option<Arc<Entry>> {
        self.entries.read().by_name.get(topic).cloned()
    }

    /// Adds the topic, or replaces it by itself with more partitions.
    pub(crate) fn put(&self, entry: Entry) {
        let entry = Arc::new(entry);
        let mut entries = self.entries.write();
        entries.by_name.insert(entry.topic.name().clone(), entry.clone());
        entries.by_id.insert(entry.topic.id(), entry);
    }

    /// Takes the topic out.
    pub(crate) fn remove(&self, id: TopicId) -> Option<Arc<Entry>> {
        let mut entries = self.entries.write();
        let entry = entries.by_id.remove(&id)?;
        entries.by_name.remove(entry.topic.name());
        Some(entry)
    }

    /// All topics as they are now, by name: what is done to all of them is done in the same order each time.
    pub(crate) fn topics(&self) -> Vec<Arc<Entry>> {
        let mut topics: Vec<Arc<Entry>> = self.entries.read().by_name.values().cloned().collect();
        topics.sort_unstable_by(|one, other| one.topic.name().cmp(other.topic.name()));
        topics
    }

    /// All partitions as they are now, by topic and index.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.topics().iter().flat_map(|entry| entry.partitions.iter().cloned()).collect()
    }
}
