//! The thread that writes the journal: each round takes what the dirty partitions have, and makes it durable at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use millpond_log::FreshBatches;

use super::pace::Pace;
use super::queue::SyncQueue;
use super::shared_journal::{BROKEN_LAP, SharedJournal};
use crate::metrics::BrokerMetrics;
use crate::partition::Partition;

/// Partitions that one round covers, at most; the others wait for the next.
const PARTITIONS_A_ROUND_MAX: usize = 8192;
/// A round that has so many bytes takes no further partition.
const ROUND_BYTES_MAX: usize = 4 << 20;

/// What the thread works with.
#[derive(Debug)]
pub(super) struct Rounds {
    front: Arc<SyncQueue>,
    direct: Arc<SyncQueue>,
    journal: Arc<SharedJournal>,
    metrics: Arc<BrokerMetrics>,
}

impl Rounds {
    pub(super) fn new(
        front: Arc<SyncQueue>,
        direct: Arc<SyncQueue>,
        journal: Arc<SharedJournal>,
        metrics: Arc<BrokerMetrics>,
    ) -> Rounds {
        Rounds { front, direct, journal, metrics }
    }

    pub(super) fn work(self) {
        let mut pace = Pace::new();
        while self.front.wait() && pace.wait(&self.front) {
            let (appends, bytes) = self.round();
            pace.served(appends, bytes);
        }
    }

    /// One round. Says how many appends it has served, and their bytes.
    pub(super) fn round(&self) -> (usize, usize) {
        let partitions = self.front.take(PARTITIONS_A_ROUND_MAX);
        // Until the round is over, no log is cut: what the journal says of it must be true.
        let mut uncut = Vec::with_capacity(partitions.len());
        let mut fresh: Vec<(&Arc<Partition>, FreshBatches)> = Vec::with_capacity(partitions.len());
        let mut bytes = 0;
        for partition in &partitions {
            if bytes >= ROUND_BYTES_MAX {
                self.front.push(partition.clone());
                continue;
            }
            // One that is being cut keeps nobody else waiting.
            let Some(guard) = partition.keep_uncut() else {
                self.direct.push(partition.clone());
                continue;
            };
            uncut.push(guard);
            match partition.take_fresh() {
                Some(batches) if batches.batches.is_empty() => self.front.finished(partition),
                Some(batches) => {
                    bytes += batches.bytes;
                    fresh.push((partition, batches));
                }
                None => self.direct.push(partition.clone()),
            }
        }
        if fresh.is_empty() {
            return (0, 0);
        }
        let began = Instant::now();
        // A panic leaves the journal in an unknown state, and must not leave everybody waiting.
        let written = catch_unwind(AssertUnwindSafe(|| self.journal.write(&fresh)));
        match written {
            Ok(Ok(())) => {
                self.metrics.journal_writes.inc();
                self.metrics.journal_bytes.inc_by(bytes as u64);
                self.metrics.journal_seconds.observe(began.elapsed().as_secs_f64());
                for (partition, batches) in &fresh {
                    partition.journaled(batches.end_offset);
                    self.front.finished(partition);
                }
            }
            failed => {
                if failed.is_err() {
                    self.journal.give_up("writing it ended in a panic, see the node's log");
                }
                for (partition, _) in &fresh {
                    if failed.is_err() {
                        // It may be there all the same: a later cut has to know.
                        partition.joins_lap(BROKEN_LAP);
                    }
                    self.direct.push(Arc::clone(partition));
                }
            }
        }
        (fresh.iter().map(|(_, batches)| batches.batches.len()).sum(), bytes)
    }
}
