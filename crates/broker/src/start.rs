//! From a data folder to a running node, and back.
//!
//! The order of a start: lock; `meta.properties`; the clean marker, which is deleted as soon as it is read, so that a
//! crash while starting counts as one; the metadata's log; folders that no topic claims; all logs, several at
//! once; what the journal has and they lack; then the threads. After a clean stop no segment is read. After any other end each log is verified
//! from its recovery point, and what was verified is durable before it is served.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use millpond_disk::FolderLock;
use millpond_log::journal::{self, Journal, JournalOptions};
use millpond_log::{LogBudget, LogError, LogOptions, PartitionLog, Recovery, read_topic_id};
use millpond_metadata::config::TopicConfig;
use millpond_metadata::{Image, Settings, TopicImage};
use millpond_types::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use parking_lot::{Mutex, RwLock};

use crate::checkpoints::{Checkpoints, metadata_partition};
use crate::clock::Clock;
use crate::configs::log_options;
use crate::directory::{Directory, Entry};
use crate::errors::OpenError;
use crate::folders::{self, DELETE_SUFFIX, STRAY_SUFFIX};
use crate::frozen::FROZEN_PREFIX;
use crate::ids::Ids;
use crate::meta_properties::{self, MetaProperties};
use crate::metadata_log::{self, MetadataLog, ReplayError};
use crate::metrics::BrokerMetrics;
use crate::parallel;
use crate::partition::{Partition, Surroundings};
use crate::space::DiskRoom;
use crate::sync::Syncer;
use crate::topic::Topic;
use crate::topics::Topics;

/// The files that share `millpond.journal.bytes`: while one is written, the logs of those before are synced.
const JOURNAL_FILES: usize = 4;

/// There only after a clean stop (Kafka's name).
pub(crate) const CLEAN_MARKER: &str = ".kafka_cleanshutdown";

/// The id of every node, which is always the only one.
pub(crate) const NODE_ID: NodeId = 1;

/// What a node is to be.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Where its data lie. Made if it does not exist.
    pub data_dir: PathBuf,
    /// How it is set.
    pub settings: Settings,
    /// Its id, as clients see it.
    pub node_id: NodeId,
    /// Its clock.
    pub clock: Clock,
    /// Where the ids of its topics come from.
    pub ids: Ids,
}

impl BrokerOptions {
    /// Node 1 with all defaults, by the machine's clock.
    pub fn new(data_dir: impl Into<PathBuf>) -> BrokerOptions {
        BrokerOptions {
            data_dir: data_dir.into(),
            settings: Settings::default(),
            node_id: NODE_ID,
            clock: Clock::system(),
            ids: Ids::random(),
        }
    }
}

/// A node whose logs are open.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) topics: Arc<Topics>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) syncer: Syncer,
    pub(crate) lock: FolderLock,
}

/// Who does what no caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    /// The node's threads.
    Threads,
    /// Whoever has the [`Driver`](crate::Driver). Then nothing is done on any other thread than the caller's.
    Driver,
}

impl Workers {
    /// On how many threads the same may be done to many partitions.
    pub(crate) fn parallelism(self, wanted: usize) -> usize {
        match self {
            Workers::Threads => wanted.max(1),
            Workers::Driver => 1,
        }
    }
}

/// Opens the data folder.
pub(crate) fn start(options: BrokerOptions, workers: Workers) -> Result<Started, OpenError> {
    let data_dir = options.data_dir;
    millpond_disk::create_dir_all(&data_dir)
        .map_err(|source| OpenError::NotWritable { path: data_dir.clone(), source })?;
    let lock = take_lock(&data_dir)?;
    let (mut properties, is_new) = MetaProperties::read_or_create(&data_dir, options.node_id)?;
    let clean = is_new || take_clean_marker(&data_dir)?;
    if !clean {
        // Durable before a batch is stamped with it.
        properties.leader_epoch = properties.leader_epoch.checked_add(1).ok_or_else(|| OpenError::Damaged {
            path: data_dir.join(meta_properties::FILE),
            what: format!("its leader epoch {} is the last one that there is", properties.leader_epoch),
        })?;
        properties.write(&data_dir)?;
    }
    let settings = Arc::new(options.settings);
    let opening = Opening {
        clean,
        log_budget: LogBudget::with_files(settings.tail_bytes_max, settings.open_files_max),
        checkpoints: Arc::new(Checkpoints::read(&data_dir)),
        clock: options.clock,
        ids: options.ids.clone(),
        data_dir,
        settings,
        workers,
    };
    let metadata_log = opening.metadata_log(properties.leader_epoch)?;
    let replayed = metadata_log.replay(&properties.cluster_id).map_err(|error| opening.explain(error))?;
    opening.sort_out_folders(&replayed.image, &replayed.deleted)?;

    let logs = opening.logs(&replayed.image)?;
    let journal = opening.journal(&logs, properties.leader_epoch)?;
    opening.write_recovery_points(&logs, &metadata_log).map_err(failed_at(&opening.data_dir))?;
    let metrics = Arc::new(BrokerMetrics::default());
    let mut syncer = Syncer::new(journal, metrics.clone());
    if workers == Workers::Threads {
        syncer.start_threads(opening.settings.sync_threads).map_err(OpenError::Thread)?;
    }
    let around = Surroundings {
        clock: opening.clock.clone(),
        queue: syncer.queue().clone(),
        journal: syncer.journal().cloned(),
        checkpoints: opening.checkpoints.clone(),
        standstill: Arc::default(),
        room: Arc::new(DiskRoom::new(opening.data_dir.clone(), opening.settings.disk_reserve_bytes)),
        metrics,
        leader_epoch: properties.leader_epoch,
        sync_before_ack: opening.settings.sync_before_ack,
    };
    let directory = directory(logs, &around);
    let topics = Topics {
        data_dir: opening.data_dir,
        settings: opening.settings,
        node_id: options.node_id,
        log_budget: opening.log_budget,
        workers,
        ids: options.ids,
        around,
        image: RwLock::new(Arc::new(replayed.image)),
        directory,
        metadata_log: Mutex::new(metadata_log),
        has_frozen: AtomicBool::new(false),
        frozen_count: AtomicU64::new(0),
    };
    Ok(Started { topics: Arc::new(topics), checkpoints: opening.checkpoints, syncer, lock })
}

pub(crate) fn take_lock(data_dir: &Path) -> Result<FolderLock, OpenError> {
    FolderLock::take(data_dir).map_err(|source| {
        let path = data_dir.to_owned();
        match source.source.kind() {
            std::io::ErrorKind::ResourceBusy => OpenError::InUse { path, source },
            _ => OpenError::NotWritable { path, source },
        }
    })
}

/// Whether the node was stopped cleanly. The marker is gone, durably, when this returns.
fn take_clean_marker(data_dir: &Path) -> Result<bool, OpenError> {
    let path = data_dir.join(CLEAN_MARKER);
    let clean = millpond_disk::exists(&path)?;
    if clean {
        millpond_disk::remove_file(&path)?;
        millpond_disk::sync_dir(data_dir)?;
    }
    Ok(clean)
}

/// Says that everything was closed: the last thing a clean stop does.
pub(crate) fn leave_clean_marker(data_dir: &Path) -> Result<(), OpenError> {
    Ok(millpond_disk::replace_file(&data_dir.join(CLEAN_MARKER), br#"{"version":0,"brokerEpoch":-1}"#)?)
}

/// Gives the logs to their partitions.
fn directory(logs: Vec<Opened>, around: &Surroundings) -> Directory {
    let directory = Directory::default();
    let mut logs = logs.into_iter().peekable();
    let partition = |opened: Opened| Arc::new(Partition::new(opened.topic, opened.index, opened.log, around.clone()));
    while let Some(first) = logs.next() {
        let topic = first.topic.clone();
        let mut partitions = vec![partition(first)];
        while let Some(next) = logs.next_if(|next| Arc::ptr_eq(&next.topic, &topic)) {
            partitions.push(partition(next));
        }
        directory.put(Entry { topic, partitions });
    }
    directory
}

/// A log that was opened, and whose it is.
struct Opened {
    topic: Arc<Topic>,
    index: PartitionIndex,
    log: PartitionLog,
}

/// What is needed while the logs are opened.
struct Opening {
    data_dir: PathBuf,
    settings: Arc<Settings>,
    clock: Clock,
    ids: Ids,
    clean: bool,
    log_budget: Arc<LogBudget>,
    checkpoints: Arc<Checkpoints>,
    workers: Workers,
}

impl Opening {
    fn metadata_log(&self, leader_epoch: LeaderEpoch) -> Result<MetadataLog, OpenError> {
        let partition = metadata_partition();
        let dir = folders::partition(&self.data_dir, &partition);
        let options = metadata_log::options();
        let log = match self.find(&dir)? {
            // Each change is synced before the next, and what it lacked the node would forget.
            Some(_) => self.open(&dir, &partition, options, true)?,
            None => {
                self.checkpoints.forget(std::slice::from_ref(&partition)).map_err(failed_at(&self.data_dir))?;
                let id = self.ids.topic_id();
                PartitionLog::create(&dir, id, options, self.log_budget.clone()).map_err(failed_at(&dir))?
            }
        };
        Ok(MetadataLog::new(log, leader_epoch))
    }

    fn explain(&self, error: ReplayError) -> OpenError {
        let path = folders::partition(&self.data_dir, &metadata_partition());
        match error {
            ReplayError::Newer { .. } => {
                OpenError::NewerVersion { path: self.data_dir.clone(), what: format!("in {}, {error}", path.display()) }
            }
            ReplayError::Record { .. } | ReplayError::Log(_) => OpenError::Damaged { path, what: error.to_string() },
        }
    }

    /// Whose log is in the folder; none if there is no log. A folder in which making a log was interrupted is taken away:
    /// nothing was acknowledged there.
    fn find(&self, dir: &Path) -> Result<Option<TopicId>, OpenError> {
        if !millpond_disk::exists(dir)? {
            return Ok(None);
        }
        match read_topic_id(dir) {
            Ok(id) => Ok(Some(id)),
            Err(LogError::Damaged { .. }) if !holds_records(dir)? => {
                tracing::warn!(folder = %dir.display(), "making this log was interrupted; it is made anew");
                millpond_disk::remove_dir_all(dir)?;
                Ok(None)
            }
            Err(source) => Err(failed_at(dir)(source)),
        }
    }

    /// Removes the folders of deleted topics, and renames those that nobody knows.
    fn sort_out_folders(&self, image: &Image, deleted: &BTreeSet<TopicId>) -> Result<(), OpenError> {
        for entry in millpond_disk::list(&self.data_dir)? {
            let dir = self.data_dir.join(&entry.name);
            if !entry.is_dir {
                continue;
            }
            if folders::is_set_aside(&entry.name, DELETE_SUFFIX) || entry.name.starts_with(FROZEN_PREFIX) {
                millpond_disk::remove_dir_all(&dir)?;
                continue;
            }
            let Some(partition) = TopicPartition::from_folder_name(&entry.name) else { continue };
            if partition == metadata_partition() {
                continue;
            }
            // What does not say whose it is, is nobody's to rename; if a topic claims it, opening it looks closer.
            let Ok(id) = read_topic_id(&dir) else { continue };
            let claimed = image
                .topic(&partition.topic)
                .is_some_and(|topic| topic.id == id && partition.partition < topic.partition_count);
            if claimed {
                continue;
            }
            if deleted.contains(&id) {
                let aside = folders::set_aside(&dir, DELETE_SUFFIX)?;
                millpond_disk::remove_dir_all(&aside)?;
            } else {
                let aside = folders::set_aside(&dir, STRAY_SUFFIX)?;
                tracing::warn!(
                    folder = %aside.display(), topic_id = %id,
                    "no topic claims this folder and nobody deleted it; it was renamed and is kept"
                );
            }
        }
        Ok(())
    }

    /// Opens the logs of all topics, and makes those that a crash kept from being made.
    fn logs(&self, image: &Image) -> Result<Vec<Opened>, OpenError> {
        let mut work: Vec<(Arc<Topic>, LogOptions, PartitionIndex)> = Vec::new();
        for topic in image.topics() {
            let (state, options) = self.topic(image, topic);
            work.extend((0..topic.partition_count).map(|index| (state.clone(), options.clone(), index)));
        }
        parallel::try_all(work, self.workers.parallelism(self.settings.recovery_threads), |(topic, options, index)| {
            let partition = TopicPartition::new(topic.name().clone(), index);
            let dir = folders::partition(&self.data_dir, &partition);
            let log = match self.find(&dir)? {
                Some(_) => self.open(&dir, &partition, options, false)?,
                None => {
                    tracing::warn!(%partition, "the topic has no folder for this partition; an empty one is made");
                    self.checkpoints.forget(std::slice::from_ref(&partition)).map_err(failed_at(&self.data_dir))?;
                    PartitionLog::create(&dir, topic.id(), options, self.log_budget.clone()).map_err(failed_at(&dir))?
                }
            };
            Ok::<_, OpenError>(Opened { topic, index, log })
        })
    }

    /// Puts back what the journal has and the logs lack, and opens the journal, if the node is to have one.
    fn journal(&self, logs: &[Opened], leader_epoch: LeaderEpoch) -> Result<Option<Journal>, OpenError> {
        if !self.clean {
            let by_name: HashMap<(TopicId, PartitionIndex), &PartitionLog> =
                logs.iter().map(|opened| ((opened.topic.id(), opened.index), &opened.log)).collect();
            let find = |topic_id, index| by_name.get(&(topic_id, index)).copied();
            let replayed =
                journal::replay(&self.data_dir, find, self.clock.now_ms()).map_err(failed_at(&self.data_dir))?;
            if replayed.bytes_restored > 0 {
                let (bytes, logs) = (replayed.bytes_restored, replayed.logs_restored);
                tracing::info!(bytes, logs, "put back from the journal what the logs had lost");
            }
            if !replayed.failures.is_empty() {
                let kept = journal::keep_files(&self.data_dir, &leader_epoch.to_string())?;
                tracing::error!(
                    failures = replayed.failures.join("; "), journal = %kept.display(),
                    "the journal holds acknowledged records whose logs were damaged before them; its files are kept"
                );
            }
        }
        let files_max = if self.settings.has_journal() { JOURNAL_FILES } else { 0 };
        let options = JournalOptions { file_bytes: self.settings.journal_bytes / JOURNAL_FILES as u64, files_max };
        let journal = Journal::open(&self.data_dir, options)?;
        Ok((files_max > 0).then_some(journal))
    }

    /// All logs are durable to their ends now, and some may end earlier than they did.
    fn write_recovery_points(&self, logs: &[Opened], metadata_log: &MetadataLog) -> Result<(), LogError> {
        let name = |opened: &Opened| TopicPartition::new(opened.topic.name().clone(), opened.index);
        let points = logs.iter().map(|opened| (name(opened), opened.log.recovery_point()));
        self.checkpoints.recovered(points.chain([(metadata_partition(), metadata_log.recovery_point())]).collect())
    }

    fn topic(&self, image: &Image, topic: &TopicImage) -> (Arc<Topic>, LogOptions) {
        let config = TopicConfig::resolve(&topic.configs, image.broker_configs(), &self.settings);
        (Arc::new(Topic::new(topic, &config)), log_options(&config, &self.settings))
    }

    fn open(
        &self,
        dir: &Path,
        partition: &TopicPartition,
        options: LogOptions,
        refuse_damage: bool,
    ) -> Result<PartitionLog, OpenError> {
        let (recovery_point, log_start_offset): (Offset, Offset) = self.checkpoints.of(partition);
        let recovery = Recovery { clean: self.clean, recovery_point, log_start_offset, refuse_damage };
        let (log, recovered) = PartitionLog::open(dir, options, self.log_budget.clone(), recovery, self.clock.now_ms())
            .map_err(failed_at(dir))?;
        if recovered.bytes_verified > 0 {
            tracing::info!(%partition, bytes = recovered.bytes_verified, "verified a log");
        }
        Ok(log)
    }
}

pub(crate) fn failed_at(dir: &Path) -> impl FnOnce(LogError) -> OpenError {
    let path = dir.to_owned();
    |source| OpenError::Log { path, source }
}

/// Whether there is a segment in the folder with anything in it.
pub(crate) fn holds_records(dir: &Path) -> Result<bool, OpenError> {
    Ok(millpond_disk::list(dir)?.iter().any(|entry| entry.name.ends_with(".log") && entry.len > 0))
}
