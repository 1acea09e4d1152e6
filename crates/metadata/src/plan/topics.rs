//! Topics come, grow and go.

use std::collections::BTreeMap;
use std::ops::Range;

use millpond_types::{NodeId, TopicId, TopicName};

use crate::config::{TOPIC_CONFIGS, nearest, topic_config};
use crate::error::MetadataError;
use crate::image::{Image, TopicImage};
use crate::record::{MetadataRecord, RecordedTopic};
use crate::settings::Settings;

/// A topic that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name, not checked yet.
    pub name: String,
    /// Its id; who calls brings the randomness.
    pub id: TopicId,
    /// How many partitions, −1 for the default (or as many as `assignments` has).
    pub partitions: i32,
    /// How many replicas, −1 for the default (or as many as `assignments` has).
    pub replication_factor: i16,
    /// Replicas by partition; empty to let the node choose.
    pub assignments: BTreeMap<i32, Vec<NodeId>>,
    /// Its overrides; of a name that comes twice, the later value holds.
    pub configs: Vec<(String, Option<String>)>,
    /// The stream that alone may write to it.
    pub owner: Option<String>,
    /// Whether it belongs to the node itself.
    pub internal: bool,
}

impl NewTopic {
    /// A topic with the node's defaults and no overrides.
    pub fn new(name: impl Into<String>, id: TopicId) -> NewTopic {
        NewTopic {
            name: name.into(),
            id,
            partitions: -1,
            replication_factor: -1,
            assignments: BTreeMap::new(),
            configs: Vec::new(),
            owner: None,
            internal: false,
        }
    }
}

/// What a topic gets when nobody says otherwise, and how far the node goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicDefaults {
    /// `num.partitions`
    pub partitions: i32,
    /// `millpond.partitions.max`
    pub partitions_max: u64,
    /// The one node that replicas can be on.
    pub node_id: NodeId,
}

impl TopicDefaults {
    /// The defaults that the settings give.
    pub fn new(settings: &Settings, node_id: NodeId) -> TopicDefaults {
        TopicDefaults { partitions: settings.num_partitions, partitions_max: settings.partitions_max, node_id }
    }
}

/// Who wants a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A client; keeps its hands off internal topics and those of streams.
    Client,
    /// The node itself, for its own topics and for streams.
    Node,
}

/// Plans a new topic.
pub fn create_topic(
    image: &Image,
    topic: NewTopic,
    defaults: &TopicDefaults,
) -> Result<Vec<MetadataRecord>, MetadataError> {
    let name = TopicName::new(&topic.name)?;
    if image.topic(&name).is_some() {
        return Err(MetadataError::TopicExists(topic.name));
    }
    if let Some(existing) = colliding(image, &name) {
        return Err(MetadataError::NameCollision { name: topic.name, existing });
    }
    assert!(image.topic_by_id(topic.id).is_none(), "the id {} of the new topic is taken", topic.id);
    let partition_count = wanted_partitions(&topic, defaults)?;
    check_room(image, partition_count as u64, defaults)?;
    let mut configs = BTreeMap::new();
    for (config, value) in &topic.configs {
        let Some(value) = value else {
            return Err(MetadataError::config(config, "a new topic's config needs a value, null is none"));
        };
        configs.insert(config.clone(), check_topic_config(config, value)?);
    }
    check_together(&configs)?;
    Ok(vec![MetadataRecord::TopicCreated(RecordedTopic {
        id: topic.id,
        name,
        partition_count,
        configs,
        owner: topic.owner,
        internal: topic.internal,
    })])
}

/// Plans the end of a topic. `enabled` is the setting `delete.topic.enable`; the node itself may always.
pub fn delete_topic(
    image: &Image,
    name: &str,
    actor: Actor,
    enabled: bool,
) -> Result<Vec<MetadataRecord>, MetadataError> {
    let topic = existing(image, name)?;
    if actor == Actor::Client {
        if !enabled {
            return Err(MetadataError::TopicDeletionDisabled);
        }
        check_free(topic)?;
    }
    Ok(vec![MetadataRecord::TopicDeleted { id: topic.id }])
}

/// Plans that a topic has `count` partitions from now on; `assignments` lists the replicas of each new one, or is
/// `None` to let the node choose.
pub fn create_partitions(
    image: &Image,
    name: &str,
    count: i32,
    assignments: Option<&[Vec<NodeId>]>,
    actor: Actor,
    defaults: &TopicDefaults,
) -> Result<Vec<MetadataRecord>, MetadataError> {
    let topic = existing(image, name)?;
    if actor == Actor::Client {
        check_free(topic)?;
    }
    if count <= topic.partition_count {
        let has = topic.partition_count;
        return Err(MetadataError::InvalidPartitions(if count == has {
            format!("topic '{name}' already has {has} partitions")
        } else {
            format!("topic '{name}' has {has} partitions; it cannot shrink to {count}")
        }));
    }
    let added = count - topic.partition_count;
    check_room(image, added as u64, defaults)?;
    if let Some(assignments) = assignments {
        if assignments.len() != added as usize {
            return Err(MetadataError::InvalidReplicaAssignment(format!(
                "{added} partitions would be added, but replicas are assigned to {}",
                assignments.len()
            )));
        }
        for (place, replicas) in assignments.iter().enumerate() {
            check_replicas(topic.partition_count + place as i32, replicas, defaults.node_id)?;
        }
    }
    Ok(vec![MetadataRecord::PartitionsAdded { id: topic.id, partition_count: count }])
}

/// Plans that a topic belongs to a stream from now on, or to nobody.
pub fn set_topic_owner(image: &Image, name: &str, owner: Option<&str>) -> Result<Vec<MetadataRecord>, MetadataError> {
    let topic = existing(image, name)?;
    if topic.owner.as_deref() == owner {
        return Ok(Vec::new());
    }
    Ok(vec![MetadataRecord::TopicOwnerChanged { id: topic.id, owner: owner.map(str::to_owned) }])
}

/// Plans that the next `count` producer ids are given out; they may be used once the records are durable.
pub fn allocate_producer_ids(image: &Image, count: i64) -> (Range<i64>, Vec<MetadataRecord>) {
    assert!(count > 0, "a block of producer ids holds at least one");
    let first = image.next_producer_id();
    let next_producer_id = first.checked_add(count).expect("2^63 producer ids are enough");
    (first..next_producer_id, vec![MetadataRecord::ProducerIdsAllocated { next_producer_id }])
}

pub(super) fn existing<'a>(image: &'a Image, name: &str) -> Result<&'a TopicImage, MetadataError> {
    image.topic(name).map(|topic| &**topic).ok_or_else(|| MetadataError::UnknownTopic(name.to_owned()))
}

/// Refuses changes that only the node itself may make.
fn check_free(topic: &TopicImage) -> Result<(), MetadataError> {
    if topic.internal {
        return Err(MetadataError::InternalTopic(topic.name.to_string()));
    }
    match &topic.owner {
        Some(stream) => Err(MetadataError::OwnedByStream { topic: topic.name.to_string(), stream: stream.clone() }),
        None => Ok(()),
    }
}

/// Checks one override and answers how it is stored.
pub(super) fn check_topic_config(name: &str, value: &str) -> Result<String, MetadataError> {
    let definition = topic_config(name).ok_or_else(|| {
        let nearest = nearest(name, TOPIC_CONFIGS.iter().map(|definition| definition.name));
        let hint = nearest.map(|nearest| format!("; did you mean '{nearest}'?")).unwrap_or_default();
        MetadataError::config(name, format!("there is no such topic config{hint}"))
    })?;
    definition.check(value).map_err(|reason| MetadataError::config(name, reason))
}

/// Checks what no override can be asked for alone.
pub(super) fn check_together(overrides: &BTreeMap<String, String>) -> Result<(), MetadataError> {
    let lag_ms = |name| overrides.get(name).and_then(|value| value.parse::<i64>().ok());
    if let (Some(least), Some(most)) = (lag_ms("min.compaction.lag.ms"), lag_ms("max.compaction.lag.ms"))
        && least > most
    {
        let reason = format!("{least} is more than max.compaction.lag.ms = {most}");
        return Err(MetadataError::config("min.compaction.lag.ms", reason));
    }
    Ok(())
}

fn colliding(image: &Image, name: &TopicName) -> Option<String> {
    if !name.contains(['.', '_']) {
        return None;
    }
    let same = |other: &str| {
        other.len() == name.len()
            && other
                .bytes()
                .zip(name.bytes())
                .all(|(one, two)| one == two || (matches!(one, b'.' | b'_') && matches!(two, b'.' | b'_')))
    };
    image.topics().find(|topic| same(&topic.name)).map(|topic| topic.name.to_string())
}

fn wanted_partitions(topic: &NewTopic, defaults: &TopicDefaults) -> Result<i32, MetadataError> {
    if topic.assignments.is_empty() {
        if !matches!(topic.replication_factor, -1 | 1) {
            return Err(MetadataError::InvalidReplicationFactor(topic.replication_factor));
        }
        return match topic.partitions {
            -1 => Ok(defaults.partitions),
            1.. => Ok(topic.partitions),
            other => Err(MetadataError::InvalidPartitions(format!(
                "{other}; a topic has at least 1 partition (or -1, the default of {})",
                defaults.partitions
            ))),
        };
    }
    if topic.partitions != -1 || topic.replication_factor != -1 {
        return Err(MetadataError::InvalidRequest(
            "replicas are assigned by hand, so the numbers of partitions and replicas must both be -1".to_owned(),
        ));
    }
    for (expected, (partition, replicas)) in topic.assignments.iter().enumerate() {
        if *partition != expected as i32 {
            return Err(MetadataError::InvalidReplicaAssignment(format!(
                "partitions must be numbered from 0 without gaps, but {expected} is missing"
            )));
        }
        check_replicas(*partition, replicas, defaults.node_id)?;
    }
    Ok(topic.assignments.len() as i32)
}

fn check_replicas(partition: i32, replicas: &[NodeId], node_id: NodeId) -> Result<(), MetadataError> {
    if replicas == [node_id] {
        return Ok(());
    }
    Err(MetadataError::InvalidReplicaAssignment(format!(
        "partition {partition} is assigned to {replicas:?}; the only node is {node_id}"
    )))
}

fn check_room(image: &Image, added: u64, defaults: &TopicDefaults) -> Result<(), MetadataError> {
    let wanted = image.partition_count().saturating_add(added);
    if wanted > defaults.partitions_max {
        return Err(MetadataError::TooManyPartitions { wanted, max: defaults.partitions_max });
    }
    Ok(())
}
