//! How what was appended to a partition becomes durable: by way of the journal, or by a sync of its log.

use std::sync::atomic::Ordering;

use millpond_log::{FreshBatches, LogError};
use millpond_types::Offset;
use parking_lot::RwLockReadGuard;

use super::{Life, Partition};
use crate::durability::Ended;

/// With so many bytes in the journal that its own files may not have yet, a log is synced, though no lap has ended.
const BEHIND_BYTES_MAX: usize = 1 << 20;

impl Partition {
    /// Keeps the log from being cut while the result is held; none while it is being cut.
    pub(crate) fn keep_uncut(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.uncut.try_read()
    }

    /// Takes what was appended since the last round, for the journal; `None` if the log has to be synced. Called by the
    /// journal's thread, between whose rounds and those of the sync threads the partition's mark decides.
    pub(crate) fn take_fresh(&self) -> Option<FreshBatches> {
        // Only now: what is appended from here on may not be covered.
        self.dirty.begin();
        self.log.take_fresh()
    }

    /// What [`Partition::take_fresh`] gave up to `end` is in the journal.
    pub(crate) fn journaled(&self, end: Offset) {
        self.log.journaled(end);
        self.safe_up_to(end);
    }

    /// Takes note that the log has an entry in this lap of the journal. Says whether that is the first.
    pub(crate) fn joins_lap(&self, lap: u64) -> bool {
        self.journaled_lap.swap(lap, Ordering::AcqRel) != lap
    }

    /// Takes note that `bytes` more are in the journal. Says, once, whether the log has so much to sync that it should be.
    pub(crate) fn has_much_behind(&self, bytes: usize) -> bool {
        let before = self.behind_bytes.fetch_add(bytes, Ordering::AcqRel);
        before < BEHIND_BYTES_MAX && before + bytes >= BEHIND_BYTES_MAX
    }

    /// Syncs the log, whose batches the journal has made durable before. Says whether all of it is in its own files now, or
    /// will not be missed.
    pub(crate) fn sync_behind_journal(&self) -> bool {
        let _alone = self.rounds.lock();
        let life = self.life.read();
        match *life {
            Life::Open => {}
            // Perhaps it is closed already, perhaps it never will be: a lap's release is not worth finding out.
            Life::Stopped => return false,
            Life::Deleted => return true,
        }
        self.behind_bytes.store(0, Ordering::Release);
        self.around.metrics.syncs.inc();
        match self.log.sync_behind_journal() {
            Ok(()) => true,
            Err(error) => {
                self.poison(error.to_string());
                false
            }
        }
    }

    /// One sync of everything appended before it in the partition's own log, and the news of it to all who wait. Called by
    /// the sync threads.
    pub(crate) fn sync_round(&self) {
        let _alone = self.rounds.lock();
        // Only now: what was appended while this waited for its turn is covered by this round.
        self.dirty.begin();
        let Some(_life) = self.open() else { return };
        self.around.metrics.syncs.inc();
        let started = std::time::Instant::now();
        // A panic in the log leaves it in an unknown state, which is what a failed sync does, too.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.log.sync()));
        match outcome {
            Ok(Ok(durable_end)) => {
                self.around.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
                self.safe_up_to(durable_end);
            }
            Ok(Err(LogError::Poisoned { reason })) => self.poison(reason),
            Ok(Err(error)) => self.poison(error.to_string()),
            Err(_) => self.poison("the sync ended in a panic, see the node's log".to_owned()),
        }
    }

    /// Everything below `end` may be answered for, and shown.
    pub(super) fn safe_up_to(&self, end: Offset) {
        let _moment = self.around.standstill.moment.read();
        // Shown first: who produced and was answered finds the records.
        self.visibility.ready(end);
        self.durability.moved_to(end);
    }

    /// A write or a sync failed: nothing more is appended, and nothing more becomes durable.
    pub(super) fn poison(&self, reason: String) {
        if self.durability.end(Ended::Poisoned(reason.clone())) {
            self.around.metrics.logs_poisoned.inc();
            tracing::error!(partition = %self.name(), reason, "the disk failed; this partition accepts no more writes");
        }
        self.log.poison(reason);
    }
}
