//! Written down from time to time, so that the next start has little to read: how far each log is known to be sound,
//! and where it starts.
//!
//! Lines go by name, and what they say is believed unseen. So they must never say more than is true of the log that has
//! the name now: they are forgotten before a log is made, lowered when one is cut, and written anew after a crash.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millpond_log::LogError;
use millpond_log::checkpoint::{self, LOG_STARTS, RECOVERY_POINTS};
use millpond_types::{Offset, TopicName, TopicPartition};
use parking_lot::Mutex;

use crate::folders::METADATA_TOPIC;
use crate::topics::Topics;

/// An offset for each partition.
pub(crate) type Offsets = BTreeMap<TopicPartition, Offset>;

/// The two checkpoint files of a data folder. Each is written only when it would say something new.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    recovery_points: Checkpoint,
    log_starts: Checkpoint,
}

#[derive(Debug)]
struct Checkpoint {
    path: PathBuf,
    /// Held while it is written.
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    offsets: Offsets,
    /// The file says just that. Not after a read or a write that failed: then it may say something else.
    sure: bool,
}

impl Checkpoint {
    /// Reads the file. One that is damaged (a power cut on a bad disk) says nothing: then recovery reads more.
    fn read(path: PathBuf) -> Checkpoint {
        let written = match checkpoint::read(&path) {
            Ok(offsets) => Written { offsets, sure: true },
            Err(error) => {
                tracing::warn!(%error, "a checkpoint cannot be read; more of the logs is verified instead");
                Written { offsets: Offsets::new(), sure: false }
            }
        };
        Checkpoint { path, written: Mutex::new(written) }
    }

    fn write(&self, collect: impl FnOnce() -> Offsets) -> Result<(), LogError> {
        self.change(|_| Some(collect()))
    }

    /// Replaces what was written by what `change` makes of it; none if it stays.
    fn change(&self, change: impl FnOnce(&Offsets) -> Option<Offsets>) -> Result<(), LogError> {
        let mut written = self.written.lock();
        // Collected under the lock, so that of two writers the later one writes the later offsets.
        let changed = change(&written.offsets).filter(|offsets| *offsets != written.offsets);
        if changed.is_none() && written.sure {
            return Ok(());
        }
        let offsets = changed.unwrap_or_else(|| written.offsets.clone());
        written.sure = false;
        checkpoint::write(&self.path, &offsets)?;
        *written = Written { offsets, sure: true };
        Ok(())
    }
}

impl Checkpoints {
    /// Those of the folder `data_dir`.
    pub(crate) fn read(data_dir: &Path) -> Checkpoints {
        Checkpoints {
            recovery_points: Checkpoint::read(data_dir.join(RECOVERY_POINTS)),
            log_starts: Checkpoint::read(data_dir.join(LOG_STARTS)),
        }
    }

    /// What they say of a partition; 0 if nothing.
    pub(crate) fn of(&self, partition: &TopicPartition) -> (Offset, Offset) {
        let of = |checkpoint: &Checkpoint| checkpoint.written.lock().offsets.get(partition).copied().unwrap_or(0);
        (of(&self.recovery_points), of(&self.log_starts))
    }

    /// Forgets what the files say of these partitions, whose logs are about to be made: they say it of logs that had the names
    /// before.
    pub(crate) fn forget(&self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        let without = |written: &Offsets| {
            // Mostly the names are new: of many partitions no copy is made then.
            if !partitions.iter().any(|partition| written.contains_key(partition)) {
                return None;
            }
            let mut offsets = written.clone();
            for partition in partitions {
                offsets.remove(partition);
            }
            Some(offsets)
        };
        self.recovery_points.change(without)?;
        self.log_starts.change(without)
    }

    /// A log is about to be cut at `offset`. Whoever looks at it in the middle must not be told of more than is there then.
    pub(crate) fn before_cut(&self, partition: &TopicPartition, offset: Offset) -> Result<(), LogError> {
        self.recovery_points.change(|written| lowered(written, partition, offset))
    }

    /// A log was cut at `end`: nothing is known of what will come behind it.
    pub(crate) fn cut(&self, partition: &TopicPartition, end: Offset) -> Result<(), LogError> {
        self.recovery_points.change(|written| lowered(written, partition, end))?;
        self.log_starts.change(|written| lowered(written, partition, end))
    }

    /// Writes the recovery points of all logs of the node, at the start: where one lost something, the old one is too high
    /// for what comes next.
    pub(crate) fn recovered(&self, points: Offsets) -> Result<(), LogError> {
        self.recovery_points.write(|| points)
    }

    /// Writes both, as all logs are now.
    pub(crate) fn write(&self, topics: &Topics) -> Result<(), LogError> {
        // What takes long is done before the checkpoint's own lock is taken: who makes a topic waits for that.
        let metadata_end = topics.metadata_log.lock().checkpoint();
        for partition in topics.directory().partitions() {
            partition.checkpoint();
        }
        self.recovery_points.write(|| {
            let partitions = topics.directory().partitions();
            let mut offsets: Offsets =
                partitions.iter().map(|partition| (partition.name(), partition.log().recovery_point())).collect();
            offsets.insert(metadata_partition(), metadata_end);
            offsets
        })?;
        self.write_log_starts(topics)
    }

    /// Writes both when all logs are closed: `points` are what a clean start wants to have back.
    pub(crate) fn write_at_end(&self, points: Offsets, metadata_end: Offset, topics: &Topics) -> Result<(), LogError> {
        self.recovery_points.write(|| {
            let mut points = points;
            points.insert(metadata_partition(), metadata_end);
            points
        })?;
        self.write_log_starts(topics)
    }

    /// Writes where the logs start: needed before anybody is told that records are deleted.
    pub(crate) fn write_log_starts(&self, topics: &Topics) -> Result<(), LogError> {
        self.log_starts.write(|| {
            let partitions = topics.directory().partitions();
            let starts = partitions.iter().map(|partition| (partition.name(), partition.log_start()));
            starts.filter(|(_, start)| *start > 0).collect()
        })
    }
}

/// With at most `end` for a partition; none if that is so.
fn lowered(written: &Offsets, partition: &TopicPartition, end: Offset) -> Option<Offsets> {
    written.get(partition).filter(|offset| **offset > end)?;
    let mut offsets = written.clone();
    offsets.insert(partition.clone(), end);
    Some(offsets)
}

/// The metadata's log, as the checkpoints name it.
pub(crate) fn metadata_partition() -> TopicPartition {
    TopicPartition::new(TopicName::new(METADATA_TOPIC).expect("a topic name"), 0)
}
