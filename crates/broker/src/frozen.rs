//! The data folder as it is at one moment, while the node goes on: what a backup of a running node reads.
//!
//! [`Broker::freeze`] gives all files that make it a second name below `.frozen-N` in the data folder. What is there is what a power
//! cut at that moment could have left, so a start knows what to do with it; all partitions' ends are of the same moment, between two
//! acknowledgements. It goes with the [`Frozen`], and after a crash at the next start.
//!
//! # The order
//!
//! 1. Upkeep waits (retention, compaction, cuts, checkpoints, DeleteRecords), then topics and configurations. Produce and fetch do not.
//! 2. The queries' state is frozen. It is the oldest part: queries go on from there by the steps that their logs tell.
//! 3. The moment: no partition's records become ready, and each one's ready end is noted.
//! 4. Each log is frozen up to its noted end.
//!
//! A step of a stream is in its log when its outputs are ready, so a step that was ready at the moment has its outputs there. Pins
//! move with the queries' state, after it, and nothing that they let go goes before the end of 4: what queries read again is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millpond_disk::DiskError;
use millpond_log::checkpoint::{self, LOG_STARTS, RECOVERY_POINTS};
use millpond_log::{FrozenLog, LogError};
use millpond_types::{Offset, TopicPartition};
use parking_lot::RwLock;

use crate::Broker;
use crate::checkpoints::metadata_partition;
use crate::folders;
use crate::meta_properties;
use crate::topics::Topics;

/// What keeps still while a data folder is frozen.
#[derive(Debug, Default)]
pub(crate) struct Standstill {
    /// Held (to read) by what changes files otherwise than by appending and syncing. Before all locks of a partition, and only once.
    pub(crate) upkeep: RwLock<()>,
    /// Held (to read) when records of a partition become ready.
    pub(crate) moment: RwLock<()>,
}

/// What the folders of frozen data folders begin with.
pub(crate) const FROZEN_PREFIX: &str = ".frozen-";

/// A file of a frozen data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenEntry {
    /// Where it is, from the folder that holds all of them, which is where it was in the data folder.
    pub path: String,
    /// So many bytes of it belong there; the file may be longer.
    pub bytes: u64,
    /// It may turn out to be shorter than that, but never than this: a query that was started again has cut off what no step had
    /// committed.
    pub bytes_settled: u64,
}

/// A data folder as it was at one moment. Dropped, its folder goes.
#[derive(Debug)]
pub struct Frozen {
    dir: PathBuf,
    files: Vec<FrozenEntry>,
    /// How many logs had failed before.
    poisoned: u64,
    topics: Arc<Topics>,
}

/// Why a data folder cannot be frozen.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// Only one at a time.
    #[error("another backup of this node is being taken. Wait until it has ended")]
    Busy,
    /// The node stops.
    #[error("the node stops. Take the backup when it has stopped")]
    Stopping,
    /// The disk said no.
    #[error("the data folder cannot be frozen: {0}. It takes hard links, and a little room on its file system")]
    Disk(#[from] DiskError),
    /// A log cannot be frozen.
    #[error(
        "{partition}: {source}. The records that it shows are safe: start the node again, and take the backup then"
    )]
    Log {
        /// The partition.
        partition: TopicPartition,
        /// What is wrong with it.
        source: LogError,
    },
    /// The queries' state cannot be frozen.
    #[error("the state of the queries cannot be copied: {0}")]
    State(String),
}

impl Frozen {
    /// The folder that has the files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files.
    pub fn files(&self) -> &[FrozenEntry] {
        &self.files
    }

    /// Whether what was read of the files until now is what was frozen. Not if a log's disk has failed since: what could not be
    /// written may be missing from its file.
    pub fn is_sound(&self) -> bool {
        self.topics.around.metrics.logs_poisoned.get() == self.poisoned
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = millpond_disk::remove_dir_all(&self.dir) {
            tracing::warn!(%error, "what a backup has read stays until the next start");
        }
        self.topics.has_frozen.store(false, Ordering::Release);
    }
}

impl Broker {
    /// Freezes the data folder. `freeze_state` does it to what queries remember, which the broker does not know: it is given the
    /// folder, and puts files below it where they lie in the data folder. Waits for the disk.
    pub fn freeze(&self, freeze_state: impl FnOnce(&Path) -> Result<(), String>) -> Result<Frozen, FreezeError> {
        let topics = &self.topics;
        if topics.has_frozen.swap(true, Ordering::AcqRel) {
            return Err(FreezeError::Busy);
        }
        let number = topics.frozen_count.fetch_add(1, Ordering::Relaxed);
        let dir = topics.data_dir.join(format!("{FROZEN_PREFIX}{number}"));
        // From here on dropping it takes away what there is of it.
        let poisoned = topics.around.metrics.logs_poisoned.get();
        let mut frozen = Frozen { dir, files: Vec::new(), poisoned, topics: topics.clone() };
        // Most of what is not in the logs' own files yet comes there now, when nobody waits for it.
        for partition in topics.directory().partitions() {
            partition.sync_behind_journal();
        }
        let standstill = topics.around.standstill.clone();
        let _no_upkeep = standstill.upkeep.write();
        let metadata_log = topics.metadata_log.lock();
        if self.is_stopping() {
            return Err(FreezeError::Stopping);
        }
        millpond_disk::create_dir(&frozen.dir)?;
        freeze_state(&frozen.dir).map_err(FreezeError::State)?;
        frozen.add_all()?;
        let partitions = topics.directory().partitions();
        let ends: Vec<Ends> = {
            let _nothing_becomes_ready = standstill.moment.write();
            partitions.iter().map(|partition| partition.ends()).collect()
        };
        let mut offsets = Offsets::default();
        let log = metadata_log.log();
        // Under the lock of the metadata nothing is there that is not durable, unless its disk has failed.
        let end = log.durable_end_offset();
        frozen.freeze_log(metadata_partition(), &mut offsets, |into| log.freeze(into, end, end))?;
        for (partition, Ends { ready, settled }) in partitions.iter().zip(ends) {
            frozen.freeze_log(partition.name(), &mut offsets, |into| partition.log().freeze(into, ready, settled))?;
        }
        frozen.add_file(meta_properties::FILE, |path| {
            millpond_disk::hard_link(&topics.data_dir.join(meta_properties::FILE), path)
        })?;
        for (name, offsets) in [(RECOVERY_POINTS, offsets.recovery_points), (LOG_STARTS, offsets.log_starts)] {
            frozen.add_file(name, |path| millpond_disk::write_file(path, checkpoint::encode(&offsets).as_bytes()))?;
        }
        Ok(frozen)
    }
}

/// Where a partition ends at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// What may be acknowledged ends here.
    pub(crate) ready: Offset,
    /// What is never cut ends here.
    pub(crate) settled: Offset,
}

/// What the checkpoints are to say.
#[derive(Default)]
struct Offsets {
    recovery_points: BTreeMap<TopicPartition, Offset>,
    log_starts: BTreeMap<TopicPartition, Offset>,
}

impl Frozen {
    fn freeze_log(
        &mut self,
        partition: TopicPartition,
        offsets: &mut Offsets,
        freeze: impl FnOnce(&Path) -> Result<FrozenLog, LogError>,
    ) -> Result<(), FreezeError> {
        let into = folders::partition(&self.dir, &partition);
        millpond_disk::create_dir(&into)?;
        let frozen = match freeze(&into) {
            Ok(frozen) => frozen,
            Err(LogError::Disk(error)) => return Err(error.into()),
            Err(source) => return Err(FreezeError::Log { partition, source }),
        };
        let folder = folders::partition(Path::new(""), &partition);
        self.files.extend(frozen.files.into_iter().map(|file| FrozenEntry {
            path: folder.join(file.name).to_string_lossy().into_owned(),
            bytes: file.bytes,
            bytes_settled: file.bytes_settled,
        }));
        if frozen.log_start_offset > 0 {
            offsets.log_starts.insert(partition.clone(), frozen.log_start_offset);
        }
        offsets.recovery_points.insert(partition, frozen.recovery_point);
        Ok(())
    }

    fn add_file(&mut self, name: &str, make: impl FnOnce(&Path) -> Result<(), DiskError>) -> Result<(), FreezeError> {
        let path = self.dir.join(name);
        make(&path)?;
        let bytes = millpond_disk::file_bytes(&path)?;
        self.files.push(FrozenEntry { path: name.to_owned(), bytes, bytes_settled: bytes });
        Ok(())
    }

    /// Takes note of all files that are there.
    fn add_all(&mut self) -> Result<(), FreezeError> {
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in millpond_disk::list(&self.dir.join(&folder))? {
                let path = if folder.is_empty() { entry.name } else { format!("{folder}/{}", entry.name) };
                if entry.is_dir {
                    folders.push(path);
                } else {
                    self.files.push(FrozenEntry { path, bytes: entry.len, bytes_settled: entry.len });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::time::Duration;

    use millpond_records::{BatchBuilder, BatchOptions};

    use crate::{Broker, BrokerOptions, NewTopicRequest};

    const PATIENCE: Duration = Duration::from_secs(60);
    /// What does not wait is done by then.
    const A_WHILE: Duration = Duration::from_millis(300);

    /// Does it on a thread, and tells when it is done.
    fn begun(work: impl FnOnce() + Send + 'static) -> mpsc::Receiver<()> {
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || {
            work();
            let _ = done.send(());
        });
        is_done
    }

    async fn node(dir: &std::path::Path) -> Arc<Broker> {
        let broker = Broker::open(BrokerOptions::new(dir)).unwrap();
        broker.create_topic(NewTopicRequest::new("t"), false).await.unwrap();
        broker
    }

    fn freezing_waits_for(broker: &Arc<Broker>, held: impl Sized) {
        let freezing = broker.clone();
        let frozen = begun(move || drop(freezing.freeze(|_| Ok(())).unwrap()));
        frozen.recv_timeout(A_WHILE).unwrap_err();
        drop(held);
        frozen.recv_timeout(PATIENCE).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_becomes_ready_at_the_moment() {
        let dir = tempfile::tempdir().unwrap();
        let broker = node(dir.path()).await;
        let standstill = broker.topics.around.standstill.clone();
        let partition = broker.partition("t", 0).unwrap();

        let moment = standstill.moment.write();
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.push(0, None, Some(b"value"), &[]);
        partition.append_owned(batch.build()).unwrap();
        let producer = partition.clone();
        let answered = begun(move || producer.durable_blocking(1, PATIENCE).unwrap());
        answered.recv_timeout(A_WHILE).unwrap_err();
        assert_eq!(partition.visible_end(), 0);
        drop(moment);
        answered.recv_timeout(PATIENCE).unwrap();

        freezing_waits_for(&broker, standstill.moment.read());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn upkeep_waits_and_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let broker = node(dir.path()).await;
        let partition = broker.partition("t", 0).unwrap();
        let standstill = broker.topics.around.standstill.clone();
        let kinds: [fn(&crate::Partition); 4] = [
            |partition| _ = partition.enforce_retention().unwrap(),
            |partition| _ = partition.advance_log_start(0).unwrap(),
            |partition| partition.delete_gone().unwrap(),
            |partition| partition.purge_deleted().unwrap(),
        ];
        for kind in kinds {
            let frozen = standstill.upkeep.write();
            let partition = partition.clone();
            let done = begun(move || kind(&partition));
            done.recv_timeout(A_WHILE).unwrap_err();
            drop(frozen);
            done.recv_timeout(PATIENCE).unwrap();
        }
        freezing_waits_for(&broker, standstill.upkeep.read());
    }
}
