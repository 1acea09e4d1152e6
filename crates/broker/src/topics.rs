//! Topics come, grow and go: the metadata and the partitions, kept in step.
//!
//! Invariants:
//!
//! - The metadata's record is the truth. It is durable **before** a folder is made or removed: a crash in
//!   between leaves a topic without folders, which the start makes, or folders of a topic known to be deleted,
//!   which the start removes. In the other order a crash would leave folders of which nobody knows whether
//!   they hold something.
//! - A topic is in the directory before it is in the image, and leaves the image first: who finds a topic
//!   finds its partitions.
//! - Changes happen one after the other, under the lock of the metadata's log. They wait for the disk, so they
//!   are called on threads that may block.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use millpond_log::{LogBudget, PartitionLog, read_topic_id};
use millpond_metadata::config::TopicConfig;
use millpond_metadata::{
    Actor, Image, MetadataError, MetadataRecord, NewTopic, Settings, TopicDefaults, TopicImage, create_partitions,
    create_topic, delete_topic, set_topic_owner,
};
use millpond_types::{NodeId, PartitionIndex, TopicId, TopicPartition};
use parking_lot::{Mutex, RwLock};

use crate::configs::log_options;
use crate::directory::{Directory, Entry};
use crate::errors::TopicError;
use crate::folders::{self, DELETE_SUFFIX, METADATA_TOPIC, STRAY_SUFFIX};
use crate::groups::OFFSETS_TOPIC;
use crate::ids::Ids;
use crate::metadata_log::MetadataLog;
use crate::parallel;
use crate::partition::{Partition, Surroundings};
use crate::start::{Workers, holds_records};
use crate::topic::Topic;

/// Names that begin so are for internal topics alone.
const NODES_PREFIX: &str = "__millpond_";

/// A topic that is to be made. −1 partitions or replicas are the node's default.
#[derive(Debug, Clone)]
pub struct NewTopicRequest {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas of each: −1 or 1.
    pub replication_factor: i16,
    /// The nodes by partition, for who chooses them by hand.
    pub assignments: std::collections::BTreeMap<i32, Vec<NodeId>>,
    /// Its configurations that differ from the defaults.
    pub configs: Vec<(String, Option<String>)>,
    /// The stream that alone may write to it. Its partitions start held.
    pub owner: Option<String>,
    /// Whether it belongs to the node itself: clients may read, but neither write nor delete it.
    pub internal: bool,
}

impl NewTopicRequest {
    /// A topic with all defaults.
    pub fn new(name: impl Into<String>) -> NewTopicRequest {
        NewTopicRequest {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            assignments: std::collections::BTreeMap::new(),
            configs: Vec::new(),
            owner: None,
            internal: false,
        }
    }

    fn with_id(self, id: TopicId) -> NewTopic {
        NewTopic {
            name: self.name,
            id,
            partitions: self.partitions,
            replication_factor: self.replication_factor,
            assignments: self.assignments,
            configs: self.configs,
            owner: self.owner,
            internal: self.internal,
        }
    }
}

/// All topics of the node.
#[derive(Debug)]
pub(crate) struct Topics {
    pub(crate) data_dir: PathBuf,
    pub(crate) settings: Arc<Settings>,
    pub(crate) node_id: NodeId,
    pub(crate) log_budget: Arc<LogBudget>,
    pub(crate) workers: Workers,
    pub(crate) ids: Ids,
    pub(crate) around: Surroundings,
    pub(crate) image: RwLock<Arc<Image>>,
    pub(crate) directory: Directory,
    /// Held during every change.
    pub(crate) metadata_log: Mutex<MetadataLog>,
    /// Somebody has frozen the data folder.
    pub(crate) has_frozen: AtomicBool,
    /// How often that was done.
    pub(crate) frozen_count: AtomicU64,
}

impl Topics {
    /// All that exists right now.
    pub(crate) fn image(&self) -> Arc<Image> {
        self.image.read().clone()
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// On how many threads partitions are made, renamed or closed.
    pub(crate) fn threads(&self) -> usize {
        self.workers.parallelism(parallel::THREADS)
    }

    /// Bytes of batches that are kept in memory.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.log_budget.tail_bytes()
    }

    /// Makes a topic; with `validate_only` says what it would be.
    pub(crate) fn create(&self, request: NewTopicRequest, validate_only: bool) -> Result<Arc<TopicImage>, TopicError> {
        // Made by a client before the node needs it, such a topic would be one that clients write and delete.
        let is_nodes = request.name == OFFSETS_TOPIC || request.name.starts_with(NODES_PREFIX);
        if request.name == METADATA_TOPIC || (is_nodes && !request.internal) {
            return Err(TopicError::Reserved(request.name));
        }
        let log = self.metadata_log.lock();
        let id = self.ids.topic_id();
        let image = self.image();
        let changes = create_topic(&image, request.with_id(id), &TopicDefaults::new(&self.settings, self.node_id))?;
        let image = changed(&image, &changes);
        let topic = image.topic_by_id(id).expect("the topic that was just created").clone();
        if validate_only {
            return Ok(topic);
        }
        self.write(&log, &changes)?;
        match self.make_partitions(&image, &topic, Vec::new()) {
            Ok(entry) => self.directory.put(entry),
            Err(error) => {
                self.take_back(&log, &topic);
                return Err(error);
            }
        }
        self.publish(image);
        Ok(topic)
    }

    /// The topic is not to be, though it is written down: writes down that it is gone.
    fn take_back(&self, log: &MetadataLog, topic: &TopicImage) {
        let changes = [MetadataRecord::TopicDeleted { id: topic.id }];
        if let Err(error) = self.write(log, &changes) {
            tracing::error!(topic = %topic.name, %error, "a topic whose folders could not be made will be there after the next start");
        }
        for index in 0..topic.partition_count {
            let dir = folders::partition(&self.data_dir, &TopicPartition::new(topic.name.clone(), index));
            // What stood there before is not this topic's to remove.
            let is_ours = match read_topic_id(&dir) {
                Ok(id) => id == topic.id,
                Err(_) => matches!(holds_records(&dir), Ok(false)),
            };
            if is_ours && let Err(error) = millpond_disk::remove_dir_all(&dir) {
                tracing::warn!(topic = %topic.name, %error, "the next start removes this folder");
            }
        }
    }

    /// Takes a topic away, and gives its folders, which have a new name now, for removal. `id` guards against a
    /// topic of the same name that was made in the meantime.
    pub(crate) fn delete(&self, name: &str, id: Option<TopicId>, actor: Actor) -> Result<Vec<PathBuf>, TopicError> {
        let log = self.metadata_log.lock();
        let image = self.image();
        if let Some(id) = id.filter(|id| image.topic(name).is_none_or(|topic| topic.id != *id)) {
            return Err(MetadataError::UnknownTopicId(id).into());
        }
        let changes = delete_topic(&image, name, actor, self.settings.delete_topics)?;
        let id = image.topic(name).expect("a topic that can be deleted").id;
        self.write(&log, &changes)?;
        self.publish(changed(&image, &changes));
        let entry = self.directory.remove(id).expect("a topic in the image is in the directory");
        for partition in &entry.partitions {
            partition.delete();
        }
        // The topic is gone whatever happens to its folders. One that keeps its name is renamed at the next start: it
        // belongs to a topic known to be deleted.
        let renamed = parallel::try_all(entry.partitions.iter().collect(), self.threads(), |partition| {
            let aside = folders::set_aside(&folders::partition(&self.data_dir, &partition.name()), DELETE_SUFFIX);
            let warn = |error| tracing::warn!(%error, "the folder of a deleted topic stays until the next start");
            Ok::<_, std::convert::Infallible>(aside.map_err(warn).ok())
        });
        let Ok(renamed) = renamed;
        Ok(renamed.into_iter().flatten().collect())
    }

    /// Gives a topic more partitions, up to `count`; with `validate_only` only says whether it could.
    pub(crate) fn grow(
        &self,
        name: &str,
        count: i32,
        assignments: Option<&[Vec<NodeId>]>,
        actor: Actor,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        let log = self.metadata_log.lock();
        let image = self.image();
        let defaults = TopicDefaults::new(&self.settings, self.node_id);
        let changes = create_partitions(&image, name, count, assignments, actor, &defaults)?;
        if validate_only {
            return Ok(());
        }
        let image = changed(&image, &changes);
        let topic = image.topic(name).expect("a topic that can grow").clone();
        self.write(&log, &changes)?;
        let entry = self.directory.topic(name).expect("a topic in the image is in the directory");
        let entry = self.make_partitions(&image, &topic, entry.partitions.clone())?;
        self.directory.put(entry);
        self.publish(image);
        Ok(())
    }

    /// Gives a topic to a stream, or sets it free.
    pub(crate) fn set_owner(&self, name: &str, owner: Option<&str>) -> Result<(), TopicError> {
        let log = self.metadata_log.lock();
        let image = self.image();
        let changes = set_topic_owner(&image, name, owner)?;
        self.write(&log, &changes)?;
        let entry = self.directory.topic(name).expect("a topic in the image is in the directory");
        entry.topic.set_owner(owner);
        for partition in &entry.partitions {
            if owner.is_some() { partition.hold() } else { partition.release() }
        }
        self.publish(changed(&image, &changes));
        Ok(())
    }

    /// Plans a change that needs nothing but to be written down, and makes it.
    pub(crate) fn change<Planned>(
        &self,
        plan: impl FnOnce(&Image) -> Result<(Planned, Vec<MetadataRecord>), MetadataError>,
    ) -> Result<Planned, TopicError> {
        let log = self.metadata_log.lock();
        let image = self.image();
        let (planned, changes) = plan(&image)?;
        if !changes.is_empty() {
            self.write(&log, &changes)?;
            self.publish(changed(&image, &changes));
        }
        Ok(planned)
    }

    fn write(&self, log: &MetadataLog, changes: &[MetadataRecord]) -> Result<(), TopicError> {
        log.write(changes, self.around.clock.now_ms()).map_err(|reason| TopicError::Storage { reason })?;
        self.around.metrics.metadata_changes.inc_by(changes.len() as u64);
        Ok(())
    }

    fn publish(&self, image: Image) {
        *self.image.write() = Arc::new(image);
    }

    /// What a topic's configurations come to.
    pub(crate) fn config(&self, image: &Image, topic: &TopicImage) -> TopicConfig {
        TopicConfig::resolve(&topic.configs, image.broker_configs(), &self.settings)
    }

    /// Makes the partitions of `topic` that are not among `existing`, which are its first.
    fn make_partitions(
        &self,
        image: &Image,
        topic: &TopicImage,
        existing: Vec<Arc<Partition>>,
    ) -> Result<Entry, TopicError> {
        let config = self.config(image, topic);
        let options = log_options(&config, &self.settings);
        let state = match existing.first() {
            Some(partition) => partition.topic_state().clone(),
            None => Arc::new(Topic::new(topic, &config)),
        };
        let first = existing.len() as PartitionIndex;
        let names: Vec<TopicPartition> =
            (first..topic.partition_count).map(|index| TopicPartition::new(topic.name.clone(), index)).collect();
        let forgotten = self.around.checkpoints.forget(&names);
        forgotten.map_err(|error| TopicError::Storage { reason: error.to_string() })?;
        let make = |index: PartitionIndex| -> Result<Arc<Partition>, String> {
            let dir = folders::partition(&self.data_dir, &TopicPartition::new(topic.name.clone(), index));
            if millpond_disk::exists(&dir).map_err(|error| error.to_string())? {
                let aside = folders::set_aside(&dir, STRAY_SUFFIX).map_err(|error| error.to_string())?;
                tracing::warn!(folder = %aside.display(), "a folder stood where a new topic's goes; it was renamed");
            }
            let log = PartitionLog::create(&dir, topic.id, options.clone(), self.log_budget.clone());
            let log = log.map_err(|error| error.to_string())?;
            Ok(Arc::new(Partition::new(state.clone(), index, log, self.around.clone())))
        };
        let made = parallel::try_all((first..topic.partition_count).collect(), self.threads(), make)
            .map_err(|reason| TopicError::Storage { reason })?;
        Ok(Entry { topic: state, partitions: existing.into_iter().chain(made).collect() })
    }
}

/// The image with the changes made.
fn changed(image: &Image, changes: &[MetadataRecord]) -> Image {
    let mut image = image.clone();
    for change in changes {
        image.apply(change);
    }
    image
}
