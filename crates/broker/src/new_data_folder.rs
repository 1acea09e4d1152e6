//! Makes a data folder out of logs that come from elsewhere: all of it, or none that a node would start on.
//!
//! From the first write on `meta.properties` says that the folder is not complete. Everything else is written and made
//! durable; then that file is replaced, which is the end. What was interrupted before may be begun again, and is then replaced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millpond_disk::FolderLock;
use millpond_log::checkpoint::{self, LOG_STARTS, RECOVERY_POINTS};
use millpond_log::{LogBudget, LogError, PartitionLog};
use millpond_metadata::MetadataRecord;
use millpond_types::{LeaderEpoch, Offset, TimestampMs, TopicPartition};

use crate::checkpoints::metadata_partition;
use crate::errors::OpenError;
use crate::folders;
use crate::ids::Ids;
use crate::meta_properties::{self, MetaProperties};
use crate::metadata_log::{self, MetadataLog};
use crate::start::{self, NODE_ID, failed_at};

/// Changes that go into one batch of the metadata's log.
const CHANGES_A_BATCH: usize = 1000;

/// A data folder in the making.
#[derive(Debug)]
pub struct NewDataFolder {
    path: PathBuf,
    properties: MetaProperties,
    recovery_points: BTreeMap<TopicPartition, Offset>,
    log_starts: BTreeMap<TopicPartition, Offset>,
    _lock: FolderLock,
}

impl NewDataFolder {
    /// Looks whether a data folder could be made at `path`: there is nothing, or what an earlier attempt has left.
    pub fn check(path: &Path) -> Result<(), OpenError> {
        if !millpond_disk::exists(path)? {
            return Ok(());
        }
        let occupied = |what| OpenError::Occupied { path: path.to_owned(), what };
        match MetaProperties::read(path) {
            Ok(None) => match meta_properties::refuse_others(path) {
                Err(OpenError::NotOurs { what, .. }) => Err(occupied(what)),
                checked => checked,
            },
            Ok(Some(_)) => Err(occupied("it holds the data of a node".to_owned())),
            Err(OpenError::Unfinished { .. }) => Ok(()),
            Err(OpenError::NotOurs { what, .. } | OpenError::NewerVersion { what, .. }) => Err(occupied(what)),
            Err(error) => Err(error),
        }
    }

    /// Begins one. An earlier attempt at the same place is removed. `what` is told to whoever starts a node on it before it is
    /// finished, as in "an import of /kafka was not finished".
    pub fn begin(path: &Path, cluster_id: &str, what: &str) -> Result<NewDataFolder, OpenError> {
        // Before the lock, which is a file: nothing is written where others have something.
        NewDataFolder::check(path)?;
        let not_writable = |source| OpenError::NotWritable { path: path.to_owned(), source };
        millpond_disk::create_dir_all(path).map_err(not_writable)?;
        let lock = start::take_lock(path)?;
        NewDataFolder::check(path)?;
        let properties = MetaProperties::new(cluster_id.to_owned(), NODE_ID);
        properties.write_unfinished(path, what).map_err(not_writable)?;
        for entry in millpond_disk::list(path)? {
            let at = path.join(&entry.name);
            match entry.name.as_str() {
                ".lock" | "lost+found" | meta_properties::FILE => {}
                _ if entry.is_dir => millpond_disk::remove_dir_all(&at)?,
                _ => millpond_disk::remove_file(&at)?,
            }
        }
        millpond_disk::sync_dir(path)?;
        let (recovery_points, log_starts) = (BTreeMap::new(), BTreeMap::new());
        Ok(NewDataFolder { path: path.to_owned(), properties, recovery_points, log_starts, _lock: lock })
    }

    /// Where the log of a partition is to be.
    pub fn partition_dir(&self, partition: &TopicPartition) -> PathBuf {
        folders::partition(&self.path, partition)
    }

    /// The log of a partition is in its place, durable and closed.
    pub fn add(&mut self, partition: TopicPartition, log_start_offset: Offset, log_end_offset: Offset) {
        if log_start_offset > 0 {
            self.log_starts.insert(partition.clone(), log_start_offset);
        }
        self.recovery_points.insert(partition, log_end_offset);
    }

    /// Finishes it, durably: a node that starts on it takes it for one that was stopped cleanly. `changes` make up its metadata;
    /// `leader_epoch` must be above that of every batch in its logs.
    pub fn finish(
        mut self,
        changes: &[MetadataRecord],
        leader_epoch: LeaderEpoch,
        now_ms: TimestampMs,
    ) -> Result<(), OpenError> {
        let partition = metadata_partition();
        let dir = folders::partition(&self.path, &partition);
        let options = metadata_log::options();
        let log = PartitionLog::create(&dir, Ids::random().topic_id(), options, LogBudget::new(0))
            .map_err(failed_at(&dir))?;
        let log = MetadataLog::new(log, leader_epoch);
        for changes in changes.chunks(CHANGES_A_BATCH) {
            let written = log.write(changes, now_ms).map_err(|reason| LogError::Poisoned { reason });
            written.map_err(failed_at(&dir))?;
        }
        let end = log.close(now_ms).map_err(failed_at(&dir))?;
        self.recovery_points.insert(partition, end);
        for (name, offsets) in [(RECOVERY_POINTS, &self.recovery_points), (LOG_STARTS, &self.log_starts)] {
            let path = self.path.join(name);
            checkpoint::write(&path, offsets).map_err(failed_at(&path))?;
        }
        start::leave_clean_marker(&self.path)?;
        self.properties.leader_epoch = leader_epoch;
        Ok(self.properties.write(&self.path)?)
    }
}
