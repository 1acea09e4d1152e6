//! Compacts one log after the other, where `cleanup.policy` says so: the one with the largest dirty part first.
//!
//! One thread, nicer than those that serve clients. It works in steps of about a megabyte, after each of which it waits until no
//! more than `log.cleaner.io.max.bytes.per.second` were read and written. A log that cannot be compacted is left alone
//! for [`RETRY_MS`].

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_log::{Cleanable, Compacted, Compaction, LogError, Step};
use millpond_types::{PartitionIndex, TimestampMs, TopicId};

use crate::partition::Partition;
use crate::priority::lower_thread_priority;
use crate::stop::{Stop, StoppableThread};
use crate::topics::Topics;

/// How much nicer the thread is than the others (`nice(2)`); queries are at 5.
const NICE: i32 = 10;
/// A log whose compaction failed is tried again after so long.
const RETRY_MS: i64 = 60_000;

/// Starts the thread.
pub(crate) fn start(topics: Arc<Topics>) -> std::io::Result<StoppableThread> {
    StoppableThread::start("compaction", move |stop| {
        lower_thread_priority(NICE);
        work(CompactionTurns::new(topics), stop);
    })
}

fn work(mut turns: CompactionTurns, stop: &Stop) {
    let settings = turns.topics.settings.clone();
    let interval = Duration::from_millis(u64::try_from(settings.compaction_interval_ms).unwrap_or(1).max(1));
    let seconds_a_byte = settings.compaction_bytes_per_second_max.recip();
    let mut until = Instant::now() + interval;
    while stop.sleep(until) {
        let begun = Instant::now();
        // Whatever is wrong with one log, the others are compacted.
        let step = catch_unwind(AssertUnwindSafe(|| turns.step())).unwrap_or_else(|_| {
            tracing::error!("a turn of compaction ended in a panic; it is tried again");
            None
        });
        until = match step {
            Some(bytes) => begun + Duration::from_secs_f64(bytes as f64 * seconds_a_byte),
            None => begun + interval,
        };
    }
    turns.end();
}

/// What the thread does, step by step.
#[derive(Debug)]
pub(crate) struct CompactionTurns {
    topics: Arc<Topics>,
    running: Option<Running>,
    /// Until when a log is left alone. No more entries than there are partitions.
    failed: HashMap<(TopicId, PartitionIndex), TimestampMs>,
}

#[derive(Debug)]
struct Running {
    partition: Arc<Partition>,
    compaction: Compaction,
    begun: Instant,
}

impl CompactionTurns {
    pub(crate) fn new(topics: Arc<Topics>) -> CompactionTurns {
        CompactionTurns { topics, running: None, failed: HashMap::new() }
    }

    /// Does a step of the compaction that runs, or begins one. Gives the bytes that were read and written; none: there is nothing
    /// to do.
    pub(crate) fn step(&mut self) -> Option<u64> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.begin()?,
        };
        let metrics = &self.topics.around.metrics;
        let before = running.compaction.so_far();
        let step = running.partition.compaction_step(&mut running.compaction);
        let after = running.compaction.so_far();
        metrics.compaction_bytes_read.inc_by(after.bytes_read - before.bytes_read);
        metrics.compaction_bytes_written.inc_by(after.bytes_written - before.bytes_written);
        metrics.records_compacted.inc_by(after.records_removed - before.records_removed);
        match step {
            Ok(Some(Step::More(bytes))) => {
                self.running = Some(running);
                return Some(bytes);
            }
            Ok(Some(Step::Done(compacted))) => {
                metrics.compactions.inc();
                report(&running, &compacted);
            }
            // The topic is gone, or retention or somebody's DeleteRecords was faster.
            Ok(None | Some(Step::Abandoned)) => {}
            Err(error) => self.failed(&running.partition, &error),
        }
        Some(0)
    }

    /// Leaves what runs undone, and removes what it has written.
    pub(crate) fn end(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.partition.end_compaction(&mut running.compaction);
        }
    }

    fn begin(&mut self) -> Option<Running> {
        let now_ms = self.topics.around.clock.now_ms();
        self.failed.retain(|_, until| *until > now_ms);
        let mut found: Option<(Arc<Partition>, Cleanable)> = None;
        for partition in self.topics.directory().partitions() {
            if self.failed.contains_key(&(partition.topic_id(), partition.index())) {
                continue;
            }
            match partition.due_compaction() {
                Ok(Some(cleanable)) if found.as_ref().is_none_or(|(_, first)| comes_before(&cleanable, first)) => {
                    found = Some((partition, cleanable));
                }
                Ok(_) => {}
                Err(error) => self.failed(&partition, &error),
            }
        }
        let (partition, _) = found?;
        match partition.begin_compaction(self.topics.settings.compaction_keys_bytes_max) {
            Ok(compaction) => Some(Running { partition, compaction: compaction?, begun: Instant::now() }),
            Err(error) => {
                self.failed(&partition, &error);
                None
            }
        }
    }

    fn failed(&mut self, partition: &Partition, error: &LogError) {
        let until = self.topics.around.clock.now_ms().saturating_add(RETRY_MS);
        self.failed.insert((partition.topic_id(), partition.index()), until);
        self.topics.around.metrics.compactions_failed.inc();
        tracing::warn!(partition = %partition.name(), %error, "compaction failed; the log stays as it is");
    }
}

fn comes_before(one: &Cleanable, other: &Cleanable) -> bool {
    (one.is_overdue, one.dirty_ratio()) > (other.is_overdue, other.dirty_ratio())
}

fn report(running: &Running, compacted: &Compacted) {
    tracing::info!(
        partition = %running.partition.name(),
        milliseconds = running.begun.elapsed().as_millis(),
        bytes_read = compacted.bytes_read,
        bytes_written = compacted.bytes_written,
        records_removed = compacted.records_removed,
        clean_below = compacted.clean_below,
        "compacted a log"
    );
    if compacted.records_without_key > 0 {
        tracing::warn!(
            partition = %running.partition.name(), records = compacted.records_without_key,
            "records without a key, from before the topic was compacted, were removed"
        );
    }
    if compacted.batches_unreadable > 0 {
        tracing::warn!(
            partition = %running.partition.name(), batches = compacted.batches_unreadable,
            "batches that cannot be read stay in a compacted log as they are"
        );
    }
}
