//! The node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millpond_coordinator::{GroupRequest, GroupResponse};
use millpond_disk::FolderLock;
use millpond_metadata::config::ConfigEntry;
use millpond_metadata::{Actor, BrokerScope, Image, MetadataError, Settings, TopicImage};
use millpond_types::{
    LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, TimestampMs, TopicId, TopicName,
};
use prometheus_client::registry::Registry;

use crate::blocking::blocking;
use crate::checkpoints::Checkpoints;
use crate::compaction;
use crate::configs::ConfigWish;
use crate::driver::Driver;
use crate::errors::{OpenError, TopicError, TrimError};
use crate::gate::{Gate, Gates};
use crate::groups::Groups;
use crate::maintenance;
use crate::metrics::{BrokerMetrics, Sizes};
use crate::parallel;
use crate::partition::Partition;
use crate::producer_ids::ProducerIds;
use crate::start::{BrokerOptions, Started, Workers, leave_clean_marker, start};
use crate::stop::StoppableThread;
use crate::sync::Syncer;
use crate::topics::{NewTopicRequest, Topics};

/// A node: its topics, groups and threads, in this process. Made by [`Broker::open`], shared by all who serve
/// clients; ended by [`Broker::shutdown`]. Dropped without that, it leaves its folder as `kill -9` would.
#[derive(Debug)]
pub struct Broker {
    pub(crate) gates: Gates,
    producer_ids: ProducerIds,
    stopping: AtomicBool,
    // In the order in which they end: those that ask for syncs before those that sync, and the lock last.
    groups: Arc<Groups>,
    maintenance: StoppableThread,
    compaction: StoppableThread,
    pub(crate) topics: Arc<Topics>,
    checkpoints: Arc<Checkpoints>,
    _syncer: Syncer,
    _lock: FolderLock,
}

/// The data folder, as DescribeLogDirs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir {
    /// Its path.
    pub path: String,
    /// Bytes that are free on its file system.
    pub usable_bytes: u64,
    /// Bytes of all logs and what is free: what the node could fill.
    pub total_bytes: u64,
    /// Every partition with the bytes of its log.
    pub partitions: Vec<(TopicName, PartitionIndex, u64)>,
}

impl Broker {
    /// Opens the data folder and starts the node's threads. Reads and verifies as much as the last end makes necessary,
    /// so it may take time; it needs no runtime.
    pub fn open(options: BrokerOptions) -> Result<Arc<Broker>, OpenError> {
        let started = start(options, Workers::Threads)?;
        let groups = Groups::start(started.topics.clone()).map_err(OpenError::Thread)?;
        let maintenance = maintenance::start(started.topics.clone(), started.checkpoints.clone());
        let compaction = compaction::start(started.topics.clone()).map_err(OpenError::Thread)?;
        Ok(Broker::assemble(started, groups, maintenance.map_err(OpenError::Thread)?, compaction))
    }

    /// The same without threads: what they do is done when the [`Driver`] is told to. For simulations, which want to choose
    /// the order in which things happen. A thread that waits ([`Partition::durable_blocking`]) would wait in vain.
    pub fn open_driven(options: BrokerOptions) -> Result<(Arc<Broker>, Driver), OpenError> {
        let started = start(options, Workers::Driver)?;
        let (groups, worker) = Groups::without_thread(started.topics.clone());
        let driver = Driver::new(&started, worker);
        driver.load_groups();
        Ok((Broker::assemble(started, groups, StoppableThread::none(), StoppableThread::none()), driver))
    }

    fn assemble(
        started: Started,
        groups: Groups,
        maintenance: StoppableThread,
        compaction: StoppableThread,
    ) -> Arc<Broker> {
        Arc::new(Broker {
            gates: Gates::default(),
            producer_ids: ProducerIds::default(),
            stopping: AtomicBool::new(false),
            groups: Arc::new(groups),
            maintenance,
            compaction,
            topics: started.topics,
            checkpoints: started.checkpoints,
            _syncer: started.syncer,
            _lock: started.lock,
        })
    }

    /// Stops: no more is appended, everything is synced and closed, and the next start will have nothing to verify.
    /// Says what could not be closed; then the next start verifies that.
    pub async fn shutdown(self: &Arc<Broker>) -> Result<(), OpenError> {
        if self.stopping.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let broker = self.clone();
        blocking(move || broker.close()).await
    }

    fn close(&self) -> Result<(), OpenError> {
        self.groups.stop();
        self.maintenance.stop();
        self.compaction.stop();
        // A data folder is not frozen in the middle.
        let _upkeep = self.topics.around.standstill.upkeep.read();
        // No topic comes or goes any more.
        let metadata_log = self.topics.metadata_log.lock();
        let partitions = self.topics.directory().partitions();
        partitions.iter().for_each(|partition| partition.stop());
        // Each is closed, even if another could not be.
        let closed = parallel::try_all(partitions, self.topics.threads(), |partition| {
            let failed = |source| OpenError::Log { path: partition.log().dir().to_owned(), source };
            Ok::<_, std::convert::Infallible>((partition.name(), partition.close().map_err(failed)))
        });
        let Ok(closed) = closed;
        let mut points = BTreeMap::new();
        for (name, closed) in closed {
            points.insert(name, closed?);
        }
        let now_ms = self.now_ms();
        let metadata_end = metadata_log
            .close(now_ms)
            .map_err(|source| OpenError::Log { path: self.topics.data_dir.clone(), source })?;
        self.checkpoints
            .write_at_end(points, metadata_end, &self.topics)
            .map_err(|source| OpenError::Log { path: self.topics.data_dir.clone(), source })?;
        leave_clean_marker(&self.topics.data_dir)
    }

    /// Whether [`Broker::shutdown`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Topics and configurations as they are right now. Cheap.
    pub fn image(&self) -> Arc<Image> {
        self.topics.image()
    }

    /// How the node was told to run.
    pub fn settings(&self) -> &Settings {
        &self.topics.settings
    }

    /// The time by the node's clock.
    pub fn now_ms(&self) -> TimestampMs {
        self.topics.around.clock.now_ms()
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> String {
        self.image().cluster_id().to_owned()
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.topics.node_id
    }

    /// The epoch of all partitions: 0 at first, one more after each end that was not clean.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.topics.around.leader_epoch
    }

    /// A partition by its topic's name.
    pub fn partition(&self, topic: &str, index: PartitionIndex) -> Option<Arc<Partition>> {
        self.topics.directory().partition(topic, index)
    }

    /// A partition by its topic's id.
    pub fn partition_by_id(&self, id: TopicId, index: PartitionIndex) -> Option<Arc<Partition>> {
        self.topics.directory().partition_by_id(id, index)
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<Arc<TopicImage>> {
        self.image().topic(name).cloned()
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<TopicImage>> {
        self.image().topic_by_id(id).cloned()
    }

    /// Makes a topic; with `validate_only` only says what it would be.
    pub async fn create_topic(
        &self,
        request: NewTopicRequest,
        validate_only: bool,
    ) -> Result<Arc<TopicImage>, TopicError> {
        self.changing(move |topics| topics.create(request, validate_only)).await
    }

    /// The topic of this name, made with all defaults if there is none and the settings allow it.
    pub async fn auto_create_topic(&self, name: &str) -> Result<Arc<TopicImage>, TopicError> {
        if let Some(topic) = self.topic(name) {
            return Ok(topic);
        }
        if !self.settings().auto_create_topics {
            return Err(TopicError::AutoCreateDisabled(name.to_owned()));
        }
        match self.create_topic(NewTopicRequest::new(name), false).await {
            // Somebody was faster.
            Err(TopicError::Metadata(MetadataError::TopicExists(_))) if self.topic(name).is_some() => {
                self.topic(name).ok_or_else(|| MetadataError::UnknownTopic(name.to_owned()).into())
            }
            created => created,
        }
    }

    /// Deletes a topic with all its records.
    pub async fn delete_topic(&self, name: &str, actor: Actor) -> Result<(), TopicError> {
        self.delete(name.to_owned(), None, actor).await
    }

    /// Deletes the topic with this id, and never one of the same name that was made later.
    pub async fn delete_topic_by_id(&self, id: TopicId, actor: Actor) -> Result<(), TopicError> {
        let topic = self.topic_by_id(id).ok_or(MetadataError::UnknownTopicId(id))?;
        self.delete(topic.name.to_string(), Some(id), actor).await
    }

    async fn delete(&self, name: String, id: Option<TopicId>, actor: Actor) -> Result<(), TopicError> {
        self.check_actor(&name, actor)?;
        let groups = self.groups.clone();
        let forgotten = self.changing(move |topics| {
            let folders = topics.delete(&name, id, actor)?;
            let forgotten = TopicName::new(&name).ok().map(|topic| groups.topic_deleted(topic));
            // The topic is gone; its bytes follow in their own time. What is left when the node ends goes at the next start.
            match topics.workers {
                Workers::Threads => drop(tokio::task::spawn_blocking(move || remove_all(&folders))),
                Workers::Driver => remove_all(&folders),
            }
            Ok(forgotten)
        });
        if let Some(forgotten) = forgotten.await? {
            // What groups had read of it must not be found again by one of its name. Of a coordinator that has ended nobody waits.
            let _ = forgotten.await;
        }
        Ok(())
    }

    /// Gives a topic more partitions, up to `count`; with `validate_only` only says whether it could.
    pub async fn create_partitions(
        &self,
        topic: &str,
        count: i32,
        assignments: Option<Vec<Vec<NodeId>>>,
        actor: Actor,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        self.check_actor(topic, actor)?;
        let topic = topic.to_owned();
        self.changing(move |topics| topics.grow(&topic, count, assignments.as_deref(), actor, validate_only)).await
    }

    /// Gives a topic to a stream, or sets it free. Its partitions are held from then on, or shown.
    pub async fn set_topic_owner(&self, topic: &str, owner: Option<String>) -> Result<(), TopicError> {
        let topic = topic.to_owned();
        self.changing(move |topics| topics.set_owner(&topic, owner.as_deref())).await
    }

    /// Changes a topic's configurations; with `validate_only` only says whether they could be.
    pub async fn alter_topic_configs(
        &self,
        topic: &str,
        wish: ConfigWish,
        actor: Actor,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        self.check_actor(topic, actor)?;
        let topic = topic.to_owned();
        self.changing(move |topics| topics.alter_topic(&topic, &wish, validate_only)).await
    }

    /// Changes the broker's configurations; with `validate_only` only says whether they could be.
    pub async fn alter_broker_configs(
        &self,
        scope: BrokerScope,
        wish: ConfigWish,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        self.changing(move |topics| topics.alter_broker(scope, &wish, validate_only)).await
    }

    /// A topic's configurations, their values and where those come from.
    pub fn describe_topic_configs(&self, topic: &str) -> Result<Vec<ConfigEntry>, TopicError> {
        self.topics.describe_topic(topic)
    }

    /// The broker's configurations. `runtime` has the values that only the front knows, such as its listeners.
    pub fn describe_broker_configs(&self, runtime: &BTreeMap<&str, String>) -> Vec<ConfigEntry> {
        self.topics.describe_broker(runtime)
    }

    /// Whether a topic is the node's own, so that clients cannot delete, trim, grow or configure it: it was made as
    /// internal, or has a gate. The rule for all that clients can do to a topic besides producing to it.
    pub fn refuse_clients_changes(&self, topic: &str) -> Result<(), MetadataError> {
        match self.topic(topic) {
            Some(found) if found.internal || self.gates.find(topic).is_some() => {
                Err(MetadataError::InternalTopic(topic.to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn check_actor(&self, topic: &str, actor: Actor) -> Result<(), MetadataError> {
        match actor {
            Actor::Client => self.refuse_clients_changes(topic),
            Actor::Node => Ok(()),
        }
    }

    async fn changing<Done: Send + 'static>(
        &self,
        change: impl FnOnce(&Topics) -> Result<Done, TopicError> + Send + 'static,
    ) -> Result<Done, TopicError> {
        if self.is_stopping() {
            return Err(TopicError::Stopping);
        }
        let topics = self.topics.clone();
        blocking(move || change(&topics)).await
    }

    /// Puts a gate before a topic, which need not exist yet. It marks the topic as the node's own.
    pub fn set_gate(&self, topic: TopicName, gate: Gate) {
        self.gates.set(topic, gate);
    }

    /// Asks the group coordinator. The answer to a JoinGroup or SyncGroup may take as long as a rebalance does;
    /// dropping the future takes the request back.
    pub async fn group_request(&self, request: GroupRequest) -> GroupResponse {
        self.groups.request(request).await
    }

    /// An id for an idempotent producer, with its first epoch. One that has an id already gets a new one, as in Kafka:
    /// without a transactional id nothing ties the two together.
    pub async fn init_producer_id(
        &self,
        _current: Option<(ProducerId, ProducerEpoch)>,
    ) -> Result<(ProducerId, ProducerEpoch), TopicError> {
        if self.is_stopping() {
            return Err(TopicError::Stopping);
        }
        self.producer_ids.next(&self.topics).await
    }

    /// Deletes the records below `to` as [`Broker::delete_records`] does, if `actor` may.
    pub async fn delete_records_as(
        &self,
        partition: &Arc<Partition>,
        to: Offset,
        actor: Actor,
    ) -> Result<Offset, TrimError> {
        let topic = partition.topic();
        self.check_actor(topic, actor).map_err(|_| TrimError::InternalTopic { topic: topic.clone() })?;
        self.delete_records(partition, to).await
    }

    /// Deletes the records below `to` (−1: all that are shown), for the node itself. Gives the log's new start, which
    /// is durable.
    pub async fn delete_records(&self, partition: &Arc<Partition>, to: Offset) -> Result<Offset, TrimError> {
        let (partition, topics, checkpoints) = (partition.clone(), self.topics.clone(), self.checkpoints.clone());
        blocking(move || {
            let to = if to == -1 { partition.visible_end() } else { to };
            let log_start = partition.advance_log_start(to)?;
            checkpoints.write_log_starts(&topics)?;
            partition.delete_gone()?;
            Ok(log_start)
        })
        .await
    }

    /// Deletes now what is too old or too much, instead of at the next `log.retention.check.interval.ms`. Says how many
    /// segments it deleted.
    pub async fn enforce_retention(&self) -> u64 {
        let (topics, checkpoints) = (self.topics.clone(), self.checkpoints.clone());
        blocking(move || {
            let deleted = maintenance::enforce_retention(&topics, &checkpoints);
            maintenance::purge_deleted(&topics);
            deleted
        })
        .await
    }

    /// The data folder and what every partition takes of it.
    pub fn describe_log_dirs(&self) -> Result<LogDir, millpond_disk::DiskError> {
        let usable_bytes = millpond_disk::free_bytes(&self.topics.data_dir)?;
        let mut partitions: Vec<(TopicName, PartitionIndex, u64)> = self
            .topics
            .directory()
            .partitions()
            .iter()
            .map(|partition| (partition.topic().clone(), partition.index(), partition.size_bytes()))
            .collect();
        partitions.sort_unstable();
        let total_bytes = usable_bytes + partitions.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
        Ok(LogDir { path: self.topics.data_dir.display().to_string(), usable_bytes, total_bytes, partitions })
    }

    /// What the node counts.
    pub fn metrics(&self) -> &BrokerMetrics {
        &self.topics.around.metrics
    }

    /// Adds what the node counts to a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics().register(registry);
        registry.register_collector(Box::new(Sizes { topics: Arc::downgrade(&self.topics) }));
    }
}

fn remove_all(folders: &[PathBuf]) {
    for folder in folders {
        if let Err(error) = millpond_disk::remove_dir_all(folder) {
            tracing::warn!(%error, "the folder of a deleted topic stays until the next start");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Partitions may be held for longer; without the threads nothing of them becomes durable any more.
        self.topics.directory().partitions().iter().for_each(|partition| partition.give_up());
        self.groups.stop();
    }
}
