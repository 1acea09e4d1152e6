//! The dirty partitions, and the threads that sync them one by one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::partition::Partition;

/// Where a partition stands between its appends and the syncs.
#[derive(Debug, Default)]
pub(crate) struct DirtyMark(AtomicU8);

const CLEAN: u8 = 0;
/// In a queue: the coming round covers whatever is appended until it begins.
const QUEUED: u8 = 1;
/// A round runs, and nothing was appended since it began.
const SYNCING: u8 = 2;
/// A round runs, and another must follow it.
const SYNCING_DIRTY: u8 = 3;

impl DirtyMark {
    /// Something was appended. Says whether the caller has to queue the partition.
    fn mark(&self) -> bool {
        let mark = |state| match state {
            CLEAN => Some(QUEUED),
            SYNCING => Some(SYNCING_DIRTY),
            _ => None,
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, mark) == Ok(CLEAN)
    }

    /// The round begins: from here on an append is not sure to be covered by it.
    pub(crate) fn begin(&self) {
        self.0.store(SYNCING, Ordering::SeqCst);
    }

    /// The round is over. Says whether the caller has to queue the partition again.
    fn finish(&self) -> bool {
        let finish = |state| Some(if state == SYNCING_DIRTY { QUEUED } else { CLEAN });
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, finish) == Ok(SYNCING_DIRTY)
    }
}

/// Dirty partitions on their way to whoever syncs them.
#[derive(Debug, Default)]
pub(crate) struct SyncQueue {
    state: Mutex<Dirty>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Dirty {
    partitions: VecDeque<Arc<Partition>>,
    /// Whoever takes from the queue sleeps for a set time and need not be woken.
    paused: bool,
    stopping: bool,
}

impl SyncQueue {
    /// Sees to it that everything appended to `partition` before this call is synced soon.
    pub(crate) fn request(&self, partition: &Arc<Partition>) {
        if partition.dirty_mark().mark() {
            self.push(partition.clone());
        }
    }

    pub(super) fn push(&self, partition: Arc<Partition>) {
        let mut dirty = self.state.lock();
        if !dirty.stopping {
            dirty.partitions.push_back(partition);
            let wake = !dirty.paused;
            drop(dirty);
            if wake {
                self.changed.notify_one();
            }
        }
    }

    /// The round of `partition` is over: queues it again if something was appended meanwhile.
    pub(super) fn finished(&self, partition: &Arc<Partition>) {
        if partition.dirty_mark().finish() {
            self.push(partition.clone());
        }
    }

    /// The next dirty partition; none when the thread shall end.
    fn next(&self) -> Option<Arc<Partition>> {
        let mut dirty = self.state.lock();
        loop {
            if dirty.stopping {
                return None;
            }
            if let Some(partition) = dirty.partitions.pop_front() {
                return Some(partition);
            }
            self.changed.wait(&mut dirty);
        }
    }

    /// The next dirty partition; none if there is none right now.
    pub(super) fn next_now(&self) -> Option<Arc<Partition>> {
        self.state.lock().partitions.pop_front()
    }

    /// Whether there is no dirty partition right now.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().partitions.is_empty()
    }

    /// Waits until there is a dirty partition. Says whether to go on.
    pub(super) fn wait(&self) -> bool {
        let mut dirty = self.state.lock();
        while !dirty.stopping && dirty.partitions.is_empty() {
            self.changed.wait(&mut dirty);
        }
        !dirty.stopping
    }

    /// Sleeps, whatever comes. Says whether to go on.
    pub(super) fn sleep_until(&self, until: Instant) -> bool {
        let mut dirty = self.state.lock();
        dirty.paused = true;
        while !dirty.stopping && !self.changed.wait_until(&mut dirty, until).timed_out() {}
        dirty.paused = false;
        !dirty.stopping
    }

    /// Takes up to `count` partitions, those first that have waited longest.
    pub(super) fn take(&self, count: usize) -> Vec<Arc<Partition>> {
        let mut dirty = self.state.lock();
        let count = count.min(dirty.partitions.len());
        dirty.partitions.drain(..count).collect()
    }

    /// Ends the threads that take from it. What is in it is forgotten.
    pub(super) fn stop(&self) {
        let left = {
            let mut dirty = self.state.lock();
            dirty.stopping = true;
            std::mem::take(&mut dirty.partitions)
        };
        self.changed.notify_all();
        drop(left);
    }
}

/// Syncs the logs of the partitions in `direct`, one after the other. Those that were appended to meanwhile go to `front`.
pub(super) fn work(direct: &SyncQueue, front: &SyncQueue) {
    while let Some(partition) = direct.next() {
        sync(&partition, front);
    }
}

/// Syncs one log. If it was appended to meanwhile, it goes to `front`.
pub(super) fn sync(partition: &Arc<Partition>, front: &SyncQueue) {
    partition.sync_round();
    front.finished(partition);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_during_a_round_asks_for_exactly_one_more() {
        let mark = DirtyMark::default();
        assert!(mark.mark(), "the first append queues");
        assert!(!mark.mark(), "the second rides along");
        mark.begin();
        assert!(!mark.mark(), "while a round runs, nobody queues");
        assert!(!mark.mark());
        assert!(mark.finish(), "the round's thread queues again");
        assert!(!mark.mark());
        mark.begin();
        assert!(!mark.finish(), "nothing came: clean");
        assert!(mark.mark());
    }
}
