//! What of a Kafka node is taken over, what is left out, and what stands against it. Nothing is written, and no log is read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use millpond_broker::OFFSETS_TOPIC;
use millpond_log::LogError;
use millpond_log::inspect::read_snapshot;
use millpond_metadata::config::{TopicConfig, topic_config};
use millpond_metadata::{
    BrokerScope, ConfigChange, ConfigOperation, Image, MetadataError, MetadataRecord, NewTopic, Settings,
    TopicDefaults, alter_broker_configs, create_topic,
};
use millpond_types::{LeaderEpoch, TopicId, TopicName, TopicPartition};
use uuid::Uuid;

use super::kafka::{Cluster, FoundPartition, KafkaTopic, LogDir, ResourceKind, SkippedFolder};

/// Names that begin so are Millpond's own.
const OWN_PREFIXES: [&str; 2] = ["__millpond_", "_millpond_"];

/// Topics of Kafka's own that mean nothing here, and what is in them.
const LEFT_OUT_TOPICS: [(&str, &str); 2] = [
    ("__transaction_state", "Kafka's notes of transactional ids; a transactional producer begins anew"),
    ("__share_group_state", "where share groups were, which Millpond does not have"),
];

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) cluster_id: String,
    /// The new folder's metadata.
    pub(super) changes: Vec<MetadataRecord>,
    /// What they come to.
    pub(super) image: Image,
    pub(super) partitions: Vec<PlannedPartition>,
    /// The newest epoch of a leader that Kafka's metadata know.
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) taken: Vec<TakenSetting>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) skipped: Vec<SkippedFolder>,
}

/// A partition that is taken over.
#[derive(Debug)]
pub(super) struct PlannedPartition {
    pub(super) topic_id: TopicId,
    pub(super) config: TopicConfig,
    pub(super) found: FoundPartition,
}

/// A configuration that holds here, too.
#[derive(Debug)]
pub(super) struct TakenSetting {
    /// Whose it is, as in "topic pond".
    pub(super) whose: String,
    pub(super) name: String,
    pub(super) value: String,
}

/// Something that is not taken over.
#[derive(Debug)]
pub(super) struct LeftOut {
    pub(super) what: String,
    pub(super) why: String,
}

/// Plans the import of a node with these folders and this metadata, but for the topics `without`. The errors are all that stands
/// against it.
pub(super) fn plan(dirs: &[LogDir], cluster: &Cluster, without: &[TopicName]) -> Result<Plan, Vec<String>> {
    let mut planning = Planning {
        node_id: dirs.first().map_or(0, |dir| dir.node_id),
        cluster,
        without,
        folders: BTreeMap::new(),
        problems: Vec::new(),
        plan: Plan {
            cluster_id: dirs.first().map_or(String::new(), |dir| dir.cluster_id.clone()),
            changes: Vec::new(),
            image: Image::new(""),
            partitions: Vec::new(),
            leader_epoch: 0,
            taken: Vec::new(),
            left_out: Vec::new(),
            skipped: dirs.iter().flat_map(|dir| dir.skipped.clone()).collect(),
        },
    };
    planning.folders(dirs);
    planning.broker_configs();
    for topic in cluster.topics() {
        planning.topic(topic);
    }
    planning.others();
    if planning.problems.is_empty() { Ok(planning.plan) } else { Err(planning.problems) }
}

struct Planning<'a> {
    node_id: i32,
    cluster: &'a Cluster,
    without: &'a [TopicName],
    /// The partitions' folders that no topic has claimed yet.
    folders: BTreeMap<TopicPartition, FoundPartition>,
    problems: Vec<String>,
    plan: Plan,
}

impl Planning<'_> {
    fn folders(&mut self, dirs: &[LogDir]) {
        for found in dirs.iter().flat_map(|dir| &dir.partitions) {
            if let Some(other) = self.folders.insert(found.partition.clone(), found.clone()) {
                let (one, other) = (found.dir.display(), other.dir.display());
                self.problems.push(format!(
                    "{one} and {other} are both said to be the partition {}. Start Kafka once more to see which one it takes",
                    found.partition
                ));
            }
        }
        for topic in self.without {
            if !self.cluster.topics().iter().any(|found| found.name == topic.as_str()) {
                self.problems.push(format!("there is no topic '{topic}' to leave out"));
            }
        }
    }

    fn broker_configs(&mut self) {
        let brokers: Vec<String> = self.cluster.configured_brokers().map(str::to_owned).collect();
        for broker in brokers {
            let (whose, scope) = match broker.as_str() {
                "" => ("all brokers".to_owned(), Some(BrokerScope::Default)),
                id if id == self.node_id.to_string() => (format!("broker {id}"), Some(BrokerScope::Node)),
                id => (format!("broker {id}"), None),
            };
            for (name, value) in self.cluster.configs(ResourceKind::Broker, &broker) {
                let set = ConfigOperation::Set;
                let change = ConfigChange { name: name.clone(), operation: set, value: Some(value.clone()) };
                let planned = match scope {
                    Some(scope) => {
                        alter_broker_configs(&self.plan.image, scope, &[change]).map_err(|error| match error {
                            MetadataError::InvalidConfig { reason, .. } => reason,
                            error => error.to_string(),
                        })
                    }
                    None => Err(format!("it is of another broker than {}, whose folders these are", self.node_id)),
                };
                // A value that is refused is not shown: some are passwords.
                match planned {
                    Ok(changes) => {
                        self.change(changes);
                        self.plan.taken.push(TakenSetting { whose: whose.clone(), name, value });
                    }
                    Err(why) => self.leave_out(format!("{name} of {whose}"), why),
                }
            }
        }
    }

    fn topic(&mut self, topic: &KafkaTopic) {
        let name = topic.name.as_str();
        let left_out = LEFT_OUT_TOPICS.iter().find(|(other, _)| *other == name);
        if left_out.is_some() || self.without.iter().any(|without| without.as_str() == name) {
            let bytes: u64 = self.claim_all(topic).iter().map(|found| found.bytes).sum();
            match left_out {
                Some((_, what)) if bytes > 0 => {
                    self.leave_out(format!("topic {name}"), format!("{bytes} bytes: {what}"))
                }
                Some(_) => {}
                None => self.leave_out(format!("topic {name}"), format!("{bytes} bytes: as --without says")),
            }
            return;
        }
        if OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            self.problem(name, "names that begin so are Millpond's own. Copy it to a topic of another name first");
            return;
        }
        let configs = self.cluster.configs(ResourceKind::Topic, name);
        if configs.get("remote.storage.enable").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            self.problem(
                name,
                "its remote.storage.enable is true: its older segments are in remote storage, which is not read. Have Kafka take them \
                 back to its disk first",
            );
            return;
        }
        if let Some(why) = self.unfit_partitions(topic) {
            self.problem(name, &why);
            return;
        }
        let id = TopicId::from_uuid(Uuid::from_u128(topic.id));
        let mut found = self.claim_all(topic);
        if let Some(why) = self.unfit_folders(topic, id, &found) {
            self.problem(name, &why);
            return;
        }
        let Some(configs) = self.create(topic, id, configs) else { return };
        let config = TopicConfig::resolve(&configs, self.plan.image.broker_configs(), &Settings::default());
        let planned = |found| PlannedPartition { topic_id: id, config: config.clone(), found };
        self.plan.partitions.extend(found.drain(..).map(planned));
        let epochs = topic.partitions.values().map(|partition| partition.leader_epoch);
        self.plan.leader_epoch = epochs.fold(self.plan.leader_epoch, LeaderEpoch::max);
    }

    /// The folders of all its partitions that are there.
    fn claim_all(&mut self, topic: &KafkaTopic) -> Vec<FoundPartition> {
        let Ok(name) = TopicName::new(&topic.name) else { return Vec::new() };
        let partition = |index: &i32| TopicPartition::new(name.clone(), *index);
        topic.partitions.keys().filter_map(|index| self.folders.remove(&partition(index))).collect()
    }

    /// Why the partitions of a topic are none for one node.
    fn unfit_partitions(&self, topic: &KafkaTopic) -> Option<String> {
        if topic.partitions.is_empty() || topic.id == 0 {
            return Some("Kafka's metadata know no partition of it, or no id".to_owned());
        }
        for (expected, (index, partition)) in topic.partitions.iter().enumerate() {
            if i32::try_from(expected) != Ok(*index) {
                return Some(format!("Kafka's metadata know no partition {expected} of it, and one {index}"));
            }
            if partition.replicas != [self.node_id] {
                return Some(format!(
                    "partition {index} is on the nodes {:?}, and these are the folders of node {}, which may lack records. Have Kafka \
                     put it on this node alone first (kafka-reassign-partitions)",
                    partition.replicas, self.node_id
                ));
            }
        }
        None
    }

    /// Why the folders of a topic are none that can be taken over.
    fn unfit_folders(&self, topic: &KafkaTopic, id: TopicId, found: &[FoundPartition]) -> Option<String> {
        let missing: Vec<String> = topic
            .partitions
            .keys()
            .filter(|index| !found.iter().any(|found| found.partition.partition == **index))
            .map(|index| format!("{}-{index}", topic.name))
            .collect();
        if let Some(first) = missing.first() {
            let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
            return Some(format!(
                "there is no folder {first}{more}. If Kafka has several log.dirs, name each with --from-kafka; or else start Kafka once \
                 more, and stop it cleanly"
            ));
        }
        found.iter().find_map(|found| {
            if let Some(other) = found.topic_id.filter(|other| *other != id) {
                let dir = found.dir.display();
                return Some(format!("{dir} is of a topic with the id {other}, and Kafka's metadata have {id}"));
            }
            match open_transaction(found) {
                Ok(None) => None,
                Ok(Some(why)) => Some(why),
                Err(error) => Some(error.to_string()),
            }
        })
    }

    /// Makes the topic in the plan; answers its configurations. Those that are not taken over are noted.
    fn create(
        &mut self,
        topic: &KafkaTopic,
        id: TopicId,
        configs: BTreeMap<String, String>,
    ) -> Option<BTreeMap<String, String>> {
        let whose = format!("topic {}", topic.name);
        let mut kept = BTreeMap::new();
        for (name, value) in configs {
            let checked = match topic_config(&name) {
                Some(definition) => definition.check(&value),
                None => Err("Millpond has no such configuration".to_owned()),
            };
            match checked {
                Ok(value) => drop(kept.insert(name, value)),
                Err(why) => self.leave_out(format!("{name} of {whose}"), why),
            }
        }
        let new = NewTopic {
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            configs: kept.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
            internal: topic.name == OFFSETS_TOPIC,
            ..NewTopic::new(topic.name.clone(), id)
        };
        // How many partitions a node may have is asked when one is made, not of those that are there.
        let defaults =
            TopicDefaults { partitions_max: u64::MAX, ..TopicDefaults::new(&Settings::default(), self.node_id) };
        match create_topic(&self.plan.image, new, &defaults) {
            Ok(changes) => self.change(changes),
            Err(error) => {
                self.problem(&topic.name, &error.to_string());
                return None;
            }
        }
        let taken = kept.iter().map(|(name, value)| (whose.clone(), name.clone(), value.clone()));
        self.plan.taken.extend(taken.map(|(whose, name, value)| TakenSetting { whose, name, value }));
        Some(kept)
    }

    /// What is neither a topic nor its configuration.
    fn others(&mut self) {
        if self.cluster.next_producer_id() > 0 {
            let next_producer_id = self.cluster.next_producer_id();
            self.change(vec![MetadataRecord::ProducerIdsAllocated { next_producer_id }]);
        }
        for (whose, configs) in self.cluster.other_configs() {
            let names: Vec<&str> = configs.keys().map(String::as_str).collect();
            self.leave_out(format!("{} of {whose}", names.join(", ")), "Millpond has no such configuration".to_owned());
        }
        for (count, what) in self.cluster.others() {
            self.leave_out(format!("{count} {what}"), "Millpond does not have them".to_owned());
        }
        for found in std::mem::take(&mut self.folders).into_values() {
            let why = "Kafka's metadata know no such partition";
            self.plan.skipped.push(SkippedFolder { dir: found.dir, why });
        }
    }

    fn change(&mut self, changes: Vec<MetadataRecord>) {
        for change in changes {
            self.plan.image.apply(&change);
            self.plan.changes.push(change);
        }
    }

    fn leave_out(&mut self, what: String, why: String) {
        self.plan.left_out.push(LeftOut { what, why });
    }

    fn problem(&mut self, topic: &str, why: &str) {
        self.problems.push(format!("topic {topic}: {why}; or leave the topic out with --without {topic}"));
    }
}

/// What to say of a transaction that was neither committed nor aborted, as the snapshot tells that a clean stop leaves.
fn open_transaction(found: &FoundPartition) -> Result<Option<String>, LogError> {
    let path: PathBuf = found.dir.join(format!("{:020}.snapshot", found.recovery_point));
    if !found.was_closed {
        return Ok(None);
    }
    // One that is damaged says nothing; the log itself is looked at later.
    let entries = read_snapshot(&path)?.and_then(Result::ok).unwrap_or_default();
    let open = entries.iter().find(|entry| entry.current_transaction_first_offset >= 0);
    Ok(open.map(|open| still_open(&found.partition, open.producer_id, open.current_transaction_first_offset)))
}

/// What to say of a transaction that was neither committed nor aborted.
pub(super) fn still_open(partition: &TopicPartition, producer_id: i64, first_offset: i64) -> String {
    format!(
        "{partition} has a transaction of producer {producer_id}, from offset {first_offset} on, that was neither committed nor aborted. \
         Start Kafka once more, wait until it has timed out (or kafka-transactions abort), and stop Kafka cleanly"
    )
}

#[cfg(test)]
mod tests;
