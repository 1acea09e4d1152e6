//! Group commit: one fdatasync of a log at a time, covering everything appended before it began.
//!
//! An append marks its partition dirty; a few threads take dirty partitions from a queue and sync them,
//! different partitions in parallel. What is appended to a partition while its sync runs marks it again
//! and is covered by the next round: so the busier a partition, the more appends share one sync. The
//! queue holds a partition at most once, so it is bounded by their number. With nothing dirty, the
//! threads sleep without a timeout.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::partition::Partition;

/// Where a partition stands between its appends and the syncs.
#[derive(Debug, Default)]
pub(crate) struct DirtyMark(AtomicU8);

const CLEAN: u8 = 0;
/// In the queue: the coming round covers whatever is appended until it begins.
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

/// The dirty partitions. The threads take from it, all partitions put themselves into it.
#[derive(Debug, Default)]
pub(crate) struct SyncQueue {
    state: Mutex<Dirty>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Dirty {
    partitions: VecDeque<Arc<Partition>>,
    stopping: bool,
}

impl SyncQueue {
    /// Sees to it that everything appended to `partition` before this call is synced soon.
    pub(crate) fn request(&self, partition: &Arc<Partition>) {
        if partition.dirty_mark().mark() {
            self.push(partition.clone());
        }
    }

    fn push(&self, partition: Arc<Partition>) {
        let mut dirty = self.state.lock();
        if !dirty.stopping {
            dirty.partitions.push_back(partition);
            drop(dirty);
            self.changed.notify_one();
        }
    }

    /// The next dirty partition; none when the threads shall end.
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

    fn work(&self) {
        while let Some(partition) = self.next() {
            partition.sync_round();
            if partition.dirty_mark().finish() {
                self.push(partition);
            }
        }
    }
}

/// The threads that sync. They end when this is dropped; what is dirty then is not synced any more.
#[derive(Debug)]
pub(crate) struct Syncer {
    queue: Arc<SyncQueue>,
    threads: Vec<JoinHandle<()>>,
}

impl Syncer {
    /// Starts `threads` threads (`millpond.sync.threads`): so many partitions are synced at the same time. They wait for
    /// the disk, not for a core, so there may be more than there are cores.
    pub(crate) fn start(threads: usize) -> std::io::Result<Syncer> {
        let queue = Arc::new(SyncQueue::default());
        let mut syncer = Syncer { queue: queue.clone(), threads: Vec::with_capacity(threads) };
        for number in 0..threads.max(1) {
            let queue = queue.clone();
            let thread = std::thread::Builder::new().name(format!("sync-{number}")).spawn(move || queue.work())?;
            syncer.threads.push(thread);
        }
        Ok(syncer)
    }

    /// Where partitions ask to be synced.
    pub(crate) fn queue(&self) -> &Arc<SyncQueue> {
        &self.queue
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        let left = {
            let mut dirty = self.queue.state.lock();
            dirty.stopping = true;
            std::mem::take(&mut dirty.partitions)
        };
        self.queue.changed.notify_all();
        drop(left);
        for thread in self.threads.drain(..) {
            // A sync thread that panicked has printed its message; here is nothing left to do about it.
            let _ = thread.join();
        }
    }
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
