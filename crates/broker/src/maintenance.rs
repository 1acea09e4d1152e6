//! What has to be done from time to time: roll and delete segments by age and size, remove deleted files, write the
//! checkpoints.
//!
//! One thread. It sleeps until the next of these is due, and forgets about a failure until the next time: what
//! was not deleted today is deleted in five minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::checkpoints::Checkpoints;
use crate::stop::{Stop, StoppableThread};
use crate::topics::Topics;

/// How often logs that `flush.ms` is about are looked at.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// Starts the thread.
pub(crate) fn start(topics: Arc<Topics>, checkpoints: Arc<Checkpoints>) -> std::io::Result<StoppableThread> {
    StoppableThread::start("maintenance", move |stop| work(&topics, &checkpoints, stop))
}

fn interval(milliseconds: i64) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0).max(1))
}

fn work(topics: &Topics, checkpoints: &Checkpoints, stop: &Stop) {
    let retention_interval = interval(topics.settings.retention_check_interval_ms);
    let checkpoint_interval = interval(topics.settings.checkpoint_interval_ms);
    let mut retention = Instant::now() + retention_interval;
    let mut checkpoint = Instant::now() + checkpoint_interval;
    // Where every acknowledgement waits for the disk, there is nothing to flush.
    let flush_interval = (!topics.settings.sync_before_ack).then_some(FLUSH_INTERVAL);
    let mut flush = flush_interval.map(|interval| Instant::now() + interval);
    while stop.sleep(flush.into_iter().chain([retention, checkpoint]).min().unwrap_or(checkpoint)) {
        let now = Instant::now();
        if flush.is_some_and(|flush| now >= flush) {
            topics.directory().partitions().iter().for_each(|partition| partition.flush_if_due(0));
            flush = flush_interval.map(|interval| now + interval);
        }
        if now >= retention {
            enforce_retention(topics, checkpoints);
            retention = now + retention_interval;
        }
        if now >= checkpoint {
            purge_deleted(topics);
            if let Err(error) = checkpoints.write(topics) {
                tracing::warn!(%error, "the checkpoints were not written; a start after a crash will verify more");
            }
            checkpoint = now + checkpoint_interval;
        }
    }
}

/// Rolls segments that are old enough and deletes those that are too old or too many. Says how many it deleted.
pub(crate) fn enforce_retention(topics: &Topics, checkpoints: &Checkpoints) -> u64 {
    let mut deleted = 0;
    let partitions = topics.directory().partitions();
    for partition in &partitions {
        match partition.enforce_retention() {
            Ok(segments) => deleted += segments,
            Err(error) => tracing::warn!(partition = %partition.name(), %error, "retention failed"),
        }
    }
    topics.around.metrics.segments_deleted.inc_by(deleted);
    // What of the files that go is still there after a power cut means nothing if it is known where the logs start.
    if let Err(error) = checkpoints.write_log_starts(topics) {
        tracing::warn!(%error, "where logs start could not be written down; files of deleted segments stay");
        return deleted;
    }
    for partition in &partitions {
        if let Err(error) = partition.delete_gone() {
            tracing::warn!(partition = %partition.name(), %error, "files of deleted segments stay until the next start");
        }
    }
    deleted
}

/// Removes the files of deleted segments whose delay is over.
pub(crate) fn purge_deleted(topics: &Topics) {
    for partition in topics.directory().partitions() {
        if let Err(error) = partition.purge_deleted() {
            tracing::warn!(partition = %partition.name(), %error, "files of deleted segments stay");
        }
    }
}
