//! What Kafka's metadata comes to, record by record.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{QuotaEntity, Record};

/// A cluster of Kafka, as far as it matters here.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    topics: BTreeMap<u128, KafkaTopic>,
    /// By kind of resource and name.
    configs: BTreeMap<(i8, String), BTreeMap<String, String>>,
    next_producer_id: i64,
    access_control_entries: BTreeSet<u128>,
    scram_users: BTreeSet<(String, i8)>,
    client_quotas: BTreeSet<(QuotaEntity, String)>,
    delegation_tokens: BTreeSet<String>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KafkaTopic {
    pub(crate) id: u128,
    pub(crate) name: String,
    pub(crate) partitions: BTreeMap<i32, KafkaPartition>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KafkaPartition {
    /// The nodes that have it.
    pub(crate) replicas: Vec<i32>,
    pub(crate) leader_epoch: i32,
}

/// What configurations can belong to; the numbers are those of Kafka's `ConfigResource.Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum ResourceKind {
    Topic = 2,
    Broker = 4,
}

impl Cluster {
    /// Makes the change that a record tells; the error is what cannot be about it.
    pub(crate) fn apply(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Topic { name, id } => {
                if let Some(other) = self.topics.values().find(|topic| topic.name == name || topic.id == id) {
                    return Err(format!("it makes the topic '{name}', and there is '{}' already", other.name));
                }
                self.topics.insert(id, KafkaTopic { id, name, partitions: BTreeMap::new() });
            }
            Record::Partition { topic_id, partition, replicas, leader_epoch } => {
                let partitions = &mut self.topic(topic_id)?.partitions;
                partitions.insert(partition, KafkaPartition { replicas, leader_epoch });
            }
            Record::PartitionChange { topic_id, partition, replicas, new_leader } => {
                let topic = self.topic(topic_id)?;
                let missing = format!("it changes partition {partition} of '{}', which is not there", topic.name);
                let found = topic.partitions.get_mut(&partition).ok_or(missing)?;
                found.leader_epoch = found.leader_epoch.saturating_add(i32::from(new_leader));
                if let Some(replicas) = replicas {
                    found.replicas = replicas;
                }
            }
            Record::RemoveTopic { id } => {
                let name = self.topic(id)?.name.clone();
                self.topics.remove(&id);
                self.configs.remove(&(ResourceKind::Topic as i8, name));
            }
            Record::Config { resource_type, resource, name, value } => {
                let configs = self.configs.entry((resource_type, resource)).or_default();
                match value {
                    Some(value) => drop(configs.insert(name, value)),
                    None => drop(configs.remove(&name)),
                }
            }
            Record::ProducerIds { next_producer_id } => {
                self.next_producer_id = self.next_producer_id.max(next_producer_id);
            }
            Record::AccessControlEntry { id } => drop(self.access_control_entries.insert(id)),
            Record::RemoveAccessControlEntry { id } => drop(self.access_control_entries.remove(&id)),
            Record::ScramUser { name, mechanism } => drop(self.scram_users.insert((name, mechanism))),
            Record::RemoveScramUser { name, mechanism } => drop(self.scram_users.remove(&(name, mechanism))),
            Record::ClientQuota { entity, key, removed: false } => drop(self.client_quotas.insert((entity, key))),
            Record::ClientQuota { entity, key, removed: true } => drop(self.client_quotas.remove(&(entity, key))),
            Record::DelegationToken { id } => drop(self.delegation_tokens.insert(id)),
            Record::RemoveDelegationToken { id } => drop(self.delegation_tokens.remove(&id)),
            // Transactions are the replay's.
            Record::BeginTransaction | Record::EndTransaction | Record::AbortTransaction | Record::Other => {}
        }
        Ok(())
    }

    fn topic(&mut self, id: u128) -> Result<&mut KafkaTopic, String> {
        self.topics
            .get_mut(&id)
            .ok_or_else(|| format!("it speaks of a topic with the id {id:#034x}, which is not there"))
    }

    /// All topics, by name.
    pub(crate) fn topics(&self) -> Vec<&KafkaTopic> {
        let mut topics: Vec<&KafkaTopic> = self.topics.values().collect();
        topics.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        topics
    }

    /// What was set for a resource.
    pub(crate) fn configs(&self, kind: ResourceKind, name: &str) -> BTreeMap<String, String> {
        self.configs.get(&(kind as i8, name.to_owned())).cloned().unwrap_or_default()
    }

    /// The names of the brokers with configurations of their own; the empty one stands for all.
    pub(crate) fn configured_brokers(&self) -> impl Iterator<Item = &str> {
        self.configs
            .iter()
            .filter(|((kind, _), configs)| *kind == ResourceKind::Broker as i8 && !configs.is_empty())
            .map(|((_, name), _)| name.as_str())
    }

    /// Configurations of what is neither a topic nor a broker: whose, and which.
    pub(crate) fn other_configs(&self) -> impl Iterator<Item = (String, &BTreeMap<String, String>)> {
        let is_other = |kind: i8| kind != ResourceKind::Topic as i8 && kind != ResourceKind::Broker as i8;
        self.configs.iter().filter(move |((kind, _), configs)| is_other(*kind) && !configs.is_empty()).map(
            |((kind, name), configs)| {
                let kind = match kind {
                    8 => "the logger of broker".to_owned(),
                    16 => "client metrics".to_owned(),
                    32 => "group".to_owned(),
                    other => format!("resource of type {other}"),
                };
                (format!("{kind} '{name}'"), configs)
            },
        )
    }

    /// The first producer id that was never given out.
    pub(crate) fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// How many there are of what Millpond does not have, and what it is.
    pub(crate) fn others(&self) -> Vec<(usize, &'static str)> {
        let mut others = vec![
            (self.access_control_entries.len(), "access control entries"),
            (self.scram_users.len(), "SCRAM credentials of users"),
            (self.client_quotas.len(), "client quotas"),
            (self.delegation_tokens.len(), "delegation tokens"),
        ];
        others.retain(|(count, _)| *count > 0);
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, id: u128) -> Record {
        Record::Topic { name: name.to_owned(), id }
    }

    fn config(resource_type: i8, resource: &str, name: &str, value: Option<&str>) -> Record {
        let (resource, name) = (resource.to_owned(), name.to_owned());
        Record::Config { resource_type, resource, name, value: value.map(str::to_owned) }
    }

    fn cluster(records: impl IntoIterator<Item = Record>) -> Cluster {
        let mut cluster = Cluster::default();
        records.into_iter().for_each(|record| cluster.apply(record).unwrap());
        cluster
    }

    #[test]
    fn a_topic_made_again_has_nothing_of_the_one_before() {
        let part =
            |topic_id, leader_epoch| Record::Partition { topic_id, partition: 0, replicas: vec![1], leader_epoch };
        let change = Record::PartitionChange { topic_id: 2, partition: 0, replicas: None, new_leader: true };
        let found = cluster([
            topic("pond", 1),
            part(1, 4),
            config(2, "pond", "retention.ms", Some("7")),
            Record::RemoveTopic { id: 1 },
            topic("pond", 2),
            part(2, 0),
            change.clone(),
            change,
        ]);
        let partitions = BTreeMap::from([(0, KafkaPartition { replicas: vec![1], leader_epoch: 2 })]);
        assert_eq!(found.topics(), [&KafkaTopic { id: 2, name: "pond".to_owned(), partitions }]);
        assert!(found.configs(ResourceKind::Topic, "pond").is_empty());
    }

    #[test]
    fn configurations_are_kept_by_whose_they_are() {
        let found = cluster([
            config(2, "pond", "retention.ms", Some("7")),
            config(2, "pond", "retention.ms", Some("8")),
            config(2, "pond", "segment.ms", Some("9")),
            config(2, "pond", "segment.ms", None),
            config(4, "", "log.retention.ms", Some("1")),
            config(4, "2", "gone", Some("1")),
            config(4, "2", "gone", None),
            config(32, "flock", "consumer.session.timeout.ms", Some("1")),
        ]);
        let pond = BTreeMap::from([("retention.ms".to_owned(), "8".to_owned())]);
        assert_eq!(found.configs(ResourceKind::Topic, "pond"), pond);
        assert_eq!(found.configured_brokers().collect::<Vec<_>>(), [""]);
        let others: Vec<String> = found.other_configs().map(|(whose, _)| whose).collect();
        assert_eq!(others, ["group 'flock'"]);
    }

    #[test]
    fn what_is_left_out_is_counted_as_it_is_at_the_end() {
        let quota = |removed| Record::ClientQuota { entity: vec![], key: "rate".to_owned(), removed };
        let found = cluster([
            Record::AccessControlEntry { id: 1 },
            Record::AccessControlEntry { id: 2 },
            Record::RemoveAccessControlEntry { id: 1 },
            Record::ScramUser { name: "al".to_owned(), mechanism: 1 },
            quota(false),
            quota(true),
            Record::ProducerIds { next_producer_id: 2000 },
        ]);
        assert_eq!(found.others(), [(1, "access control entries"), (1, "SCRAM credentials of users")]);
        assert_eq!(found.next_producer_id(), 2000);
    }

    #[test]
    fn records_that_contradict_each_other_are_told() {
        let mut found = cluster([topic("pond", 1)]);
        assert!(found.apply(topic("pond", 2)).unwrap_err().contains("there is 'pond' already"));
        assert!(found.apply(Record::RemoveTopic { id: 9 }).unwrap_err().contains("not there"));
        let change = Record::PartitionChange { topic_id: 1, partition: 3, replicas: None, new_leader: false };
        assert!(found.apply(change).unwrap_err().contains("partition 3 of 'pond'"));
    }
}
