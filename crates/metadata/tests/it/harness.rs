//! A node that has nothing but an image.

use std::collections::BTreeMap;

use millpond_metadata::config::TopicConfig;
use millpond_metadata::*;
use millpond_types::TopicId;
use uuid::Uuid;

pub(crate) struct Node {
    pub(crate) image: Image,
    pub(crate) settings: Settings,
    /// Every record so far, as it is stored.
    pub(crate) log: Vec<Vec<u8>>,
    next_id: u128,
}

impl Node {
    pub(crate) fn new() -> Node {
        Node::with(&[])
    }

    pub(crate) fn with(settings: &[(&str, &str)]) -> Node {
        Node { image: Image::new("cluster"), settings: settings_of(settings).unwrap(), log: Vec::new(), next_id: 1 }
    }

    pub(crate) fn defaults(&self) -> TopicDefaults {
        TopicDefaults::new(&self.settings, 1)
    }

    /// Fulfils a wish; says how many records it took.
    pub(crate) fn apply(
        &mut self,
        planned: Result<Vec<MetadataRecord>, MetadataError>,
    ) -> Result<usize, MetadataError> {
        let records = planned?;
        for record in &records {
            self.image.apply(record);
            self.log.push(record.encode());
        }
        Ok(records.len())
    }

    pub(crate) fn create(&mut self, name: &str, change: impl FnOnce(&mut NewTopic)) -> Result<usize, MetadataError> {
        let mut topic = NewTopic::new(name, TopicId::from_uuid(Uuid::from_u128(self.next_id)));
        self.next_id += 1;
        change(&mut topic);
        let planned = create_topic(&self.image, topic, &self.defaults());
        self.apply(planned)
    }

    pub(crate) fn alter(&mut self, topic: &str, changes: &[ConfigChange]) -> Result<usize, MetadataError> {
        let planned = alter_topic_configs(&self.image, topic, changes);
        self.apply(planned)
    }

    pub(crate) fn alter_broker(
        &mut self,
        scope: BrokerScope,
        changes: &[ConfigChange],
    ) -> Result<usize, MetadataError> {
        let planned = alter_broker_configs(&self.image, scope, changes);
        self.apply(planned)
    }

    pub(crate) fn overrides(&self, topic: &str) -> Vec<(&str, &str)> {
        let configs = &self.image.topic(topic).unwrap().configs;
        configs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    pub(crate) fn config(&self, topic: &str) -> TopicConfig {
        let topic = self.image.topic(topic).unwrap();
        TopicConfig::resolve(&topic.configs, self.image.broker_configs(), &self.settings)
    }

    /// The image that the log alone gives.
    pub(crate) fn replayed(&self) -> Image {
        let mut image = Image::new("cluster");
        for record in &self.log {
            image.apply(&MetadataRecord::decode(record).unwrap());
        }
        image
    }
}

pub(crate) fn settings_of(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Settings::from_pairs(&pairs.iter().map(owned).collect::<Vec<_>>())
}

pub(crate) fn set(name: &str, value: &str) -> ConfigChange {
    change(name, ConfigOperation::Set, Some(value))
}

pub(crate) fn change(name: &str, operation: ConfigOperation, value: Option<&str>) -> ConfigChange {
    ConfigChange { name: name.to_owned(), operation, value: value.map(str::to_owned) }
}

pub(crate) fn configs(pairs: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect()
}

pub(crate) fn runtime() -> BTreeMap<&'static str, String> {
    BTreeMap::from([("node.id", "1".to_owned()), ("log.dirs", "/data".to_owned())])
}
