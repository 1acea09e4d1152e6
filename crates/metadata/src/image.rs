//! What exists right now.

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond_types::{TopicId, TopicName};

use crate::plan::BrokerScope;
use crate::record::MetadataRecord;

/// Every topic, every configuration changed while running, and the producer ids given out.
///
/// Cheap to clone (the maps are shared until one side applies a record), so that a request keeps one image for its
/// whole life while the node goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    cluster_id: Arc<str>,
    topics: Arc<BTreeMap<TopicName, Arc<TopicImage>>>,
    topics_by_id: Arc<BTreeMap<TopicId, Arc<TopicImage>>>,
    broker_configs: Arc<BrokerConfigs>,
    next_producer_id: i64,
    partition_count: u64,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its id, new for each topic that is created, also under an old name.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its partitions are 0 to this − 1.
    pub partition_count: i32,
    /// Its overrides and nothing else; [`TopicConfig::resolve`](crate::config::TopicConfig::resolve) knows the rest.
    pub configs: BTreeMap<String, String>,
    /// The stream that alone may write to it.
    pub owner: Option<String>,
    /// Whether it belongs to the node itself, like `__consumer_offsets`.
    pub internal: bool,
}

/// The broker's configurations that were set while running (IncrementalAlterConfigs on a broker).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerConfigs {
    /// Set for this node.
    pub node: BTreeMap<String, String>,
    /// Set for all nodes, used where [`node`](BrokerConfigs::node) has nothing.
    pub default: BTreeMap<String, String>,
}

impl Image {
    /// A cluster that has nothing yet.
    pub fn new(cluster_id: impl Into<Arc<str>>) -> Image {
        Image {
            cluster_id: cluster_id.into(),
            topics: Arc::default(),
            topics_by_id: Arc::default(),
            broker_configs: Arc::default(),
            next_producer_id: 0,
            partition_count: 0,
        }
    }

    /// The cluster's id as clients see it.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// All topics in the order of their names.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// The topic with this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// The topic with this id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics_by_id.get(&id)
    }

    /// What was set on the broker while running.
    pub fn broker_configs(&self) -> &BrokerConfigs {
        &self.broker_configs
    }

    /// The first producer id that was never given out.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// How many partitions all topics have together.
    pub fn partition_count(&self) -> u64 {
        self.partition_count
    }

    /// Makes the change that `record` tells.
    ///
    /// A record about a topic that is not there changes nothing: the log is replayed in order, so such a topic was
    /// deleted by the time the record was written.
    pub fn apply(&mut self, record: &MetadataRecord) {
        match record {
            MetadataRecord::TopicCreated(topic) => {
                if let Some(old) = self.topics.get(&topic.name).map(|old| old.id) {
                    self.remove_topic(old);
                }
                self.remove_topic(topic.id);
                self.put_topic(TopicImage {
                    id: topic.id,
                    name: topic.name.clone(),
                    partition_count: topic.partition_count,
                    configs: topic.configs.clone(),
                    owner: topic.owner.clone(),
                    internal: topic.internal,
                });
            }
            MetadataRecord::TopicDeleted { id } => self.remove_topic(*id),
            MetadataRecord::PartitionsAdded { id, partition_count } => {
                self.change_topic(*id, |topic| topic.partition_count = *partition_count);
            }
            MetadataRecord::TopicConfigsChanged { id, changes } => {
                self.change_topic(*id, |topic| change_configs(&mut topic.configs, changes));
            }
            MetadataRecord::TopicOwnerChanged { id, owner } => {
                self.change_topic(*id, |topic| topic.owner.clone_from(owner));
            }
            MetadataRecord::BrokerConfigsChanged { scope, changes } => {
                let configs = Arc::make_mut(&mut self.broker_configs);
                match scope {
                    BrokerScope::Node => change_configs(&mut configs.node, changes),
                    BrokerScope::Default => change_configs(&mut configs.default, changes),
                }
            }
            MetadataRecord::ProducerIdsAllocated { next_producer_id } => {
                self.next_producer_id = self.next_producer_id.max(*next_producer_id);
            }
        }
    }

    fn put_topic(&mut self, topic: TopicImage) {
        self.partition_count += topic.partition_count.max(0) as u64;
        let topic = Arc::new(topic);
        Arc::make_mut(&mut self.topics).insert(topic.name.clone(), topic.clone());
        Arc::make_mut(&mut self.topics_by_id).insert(topic.id, topic);
    }

    fn remove_topic(&mut self, id: TopicId) {
        if let Some(topic) = Arc::make_mut(&mut self.topics_by_id).remove(&id) {
            self.partition_count -= topic.partition_count.max(0) as u64;
            Arc::make_mut(&mut self.topics).remove(&topic.name);
        }
    }

    fn change_topic(&mut self, id: TopicId, change: impl FnOnce(&mut TopicImage)) {
        if let Some(topic) = self.topics_by_id.get(&id) {
            let mut topic = TopicImage::clone(topic);
            change(&mut topic);
            self.remove_topic(id);
            self.put_topic(topic);
        }
    }
}

fn change_configs(configs: &mut BTreeMap<String, String>, changes: &BTreeMap<String, Option<String>>) {
    for (name, value) in changes {
        match value {
            Some(value) => configs.insert(name.clone(), value.clone()),
            None => configs.remove(name),
        };
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::record::RecordedTopic;

    fn id(number: u128) -> TopicId {
        TopicId::from_uuid(Uuid::from_u128(number))
    }

    fn created(name: &str, number: u128, partition_count: i32) -> MetadataRecord {
        MetadataRecord::TopicCreated(RecordedTopic {
            id: id(number),
            name: TopicName::new(name).unwrap(),
            partition_count,
            configs: BTreeMap::new(),
            owner: None,
            internal: false,
        })
    }

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut image = Image::new("c");
        image.apply(&created("a", 1, 2));
        let before = image.clone();
        image.apply(&MetadataRecord::TopicDeleted { id: id(1) });
        assert_eq!(before.topic("a").map(|topic| topic.partition_count), Some(2));
        assert_eq!((image.topic("a"), image.topic_by_id(id(1)), image.partition_count()), (None, None, 0));
    }

    #[test]
    fn a_topic_is_found_under_its_name_and_its_id_after_each_change() {
        let mut image = Image::new("c");
        image.apply(&created("a", 1, 2));
        image.apply(&MetadataRecord::PartitionsAdded { id: id(1), partition_count: 5 });
        image.apply(&MetadataRecord::TopicConfigsChanged {
            id: id(1),
            changes: BTreeMap::from([("retention.ms".to_owned(), Some("7".to_owned()))]),
        });
        image.apply(&MetadataRecord::TopicOwnerChanged { id: id(1), owner: Some("s".to_owned()) });
        let topic = image.topic("a").unwrap();
        assert_eq!(Some(topic), image.topic_by_id(id(1)));
        assert_eq!((topic.partition_count, topic.configs["retention.ms"].as_str()), (5, "7"));
        assert_eq!(topic.owner.as_deref(), Some("s"));
        assert_eq!(image.partition_count(), 5);
    }

    #[test]
    fn a_topic_made_again_has_its_new_id_only() {
        let mut image = Image::new("c");
        image.apply(&created("a", 1, 2));
        image.apply(&created("a", 2, 1));
        assert_eq!(image.topic_by_id(id(1)), None);
        assert_eq!(image.topic("a").unwrap().id, id(2));
        assert_eq!(image.partition_count(), 1);
    }

    #[test]
    fn a_record_about_a_deleted_topic_changes_nothing() {
        let mut image = Image::new("c");
        let before = image.clone();
        image.apply(&MetadataRecord::PartitionsAdded { id: id(9), partition_count: 5 });
        image.apply(&MetadataRecord::TopicDeleted { id: id(9) });
        assert_eq!(image, before);
    }

    #[test]
    fn producer_ids_never_go_back() {
        let mut image = Image::new("c");
        image.apply(&MetadataRecord::ProducerIdsAllocated { next_producer_id: 2000 });
        image.apply(&MetadataRecord::ProducerIdsAllocated { next_producer_id: 1000 });
        assert_eq!(image.next_producer_id(), 2000);
    }
}
