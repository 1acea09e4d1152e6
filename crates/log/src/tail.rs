//! The newest batches of a log, in memory, for those who read as fast as is written.
//!
//! Owns the memory that all tails of a node take together. It does not own the truth: what is here lies in the
//! active segment, too, so a batch may be dropped at any time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::{BufMut, Bytes, BytesMut};
use millpond_types::Offset;
use parking_lot::{Mutex, RwLock};

use crate::FetchedBytes;

/// What a batch costs beside its bytes, about.
const BATCH_OVERHEAD_BYTES: usize = 128;

/// Batches smaller than this are copied into the tail, lest they hold the much larger network frame they came
/// in; and put together when they are read, lest an answer consists of thousands of pieces.
pub(crate) const COPY_BELOW_BYTES: usize = 1024;

/// How many other tails are asked to give something back for one append, at most.
const TAILS_ASKED_MAX: usize = 64;

/// The bytes that all tails of a node may hold together. One for the node.
#[derive(Debug)]
pub(crate) struct TailBudget {
    bytes_max: usize,
    used: AtomicUsize,
    /// The tails there are, and which one is asked next to give something back.
    tails: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    tails: Vec<Weak<Tail>>,
    next: usize,
}

impl TailBudget {
    /// A budget of `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Arc<TailBudget> {
        Arc::new(TailBudget { bytes_max, used: AtomicUsize::new(0), tails: Mutex::default() })
    }

    /// The bytes that all tails hold now.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The bound.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Brings the node below its bound: tails that hold more than their share give back their oldest batches,
    /// `own` first, since the others' readers have not been seen to lag.
    fn reclaim(&self, own: &Tail) {
        let tails_now = self.tails.lock().tails.len().max(1);
        let share = self.bytes_max / tails_now;
        own.shrink(self, share);
        for _ in 0..TAILS_ASKED_MAX {
            if self.used_bytes() <= self.bytes_max {
                return;
            }
            let Some(other) = self.next_tail() else { continue };
            other.shrink(self, share);
        }
        // Too many tails to find the ones that hold too much; this one makes do with nothing for now.
        own.shrink(self, 0);
    }

    fn next_tail(&self) -> Option<Arc<Tail>> {
        let mut registry = self.tails.lock();
        let place = if registry.next < registry.tails.len() { registry.next } else { 0 };
        registry.next = place + 1;
        let found = registry.tails.get(place)?.upgrade();
        if found.is_none() {
            registry.tails.swap_remove(place);
        }
        found
    }
}

/// The tail of one log: batches one after the other up to the log's end.
#[derive(Debug)]
pub(crate) struct Tail {
    budget: Arc<TailBudget>,
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    batches: VecDeque<TailBatch>,
    bytes: usize,
}

#[derive(Debug)]
struct TailBatch {
    base_offset: Offset,
    next_offset: Offset,
    bytes: Bytes,
}

impl Held {
    fn pop_oldest(&mut self) -> usize {
        let Some(oldest) = self.batches.pop_front() else { return 0 };
        let cost = oldest.bytes.len() + BATCH_OVERHEAD_BYTES;
        self.bytes -= cost;
        cost
    }
}

impl Tail {
    pub(crate) fn new(budget: Arc<TailBudget>) -> Arc<Tail> {
        let tail = Arc::new(Tail { budget, held: RwLock::default() });
        tail.budget.tails.lock().tails.push(Arc::downgrade(&tail));
        tail
    }

    /// Adds the log's newest batch. The log appends one after the other, so the tail has no holes.
    pub(crate) fn push(&self, base_offset: Offset, next_offset: Offset, bytes: Bytes, bytes_max: usize) {
        let bytes = if bytes.len() < COPY_BELOW_BYTES { Bytes::copy_from_slice(&bytes) } else { bytes };
        let cost = bytes.len() + BATCH_OVERHEAD_BYTES;
        let mut freed = 0;
        {
            let mut held = self.held.write();
            held.batches.push_back(TailBatch { base_offset, next_offset, bytes });
            held.bytes += cost;
            while held.bytes > bytes_max {
                freed += held.pop_oldest();
            }
        }
        let used = self.budget.used.fetch_add(cost, Ordering::Relaxed) + cost;
        self.budget.used.fetch_sub(freed, Ordering::Relaxed);
        if used - freed.min(used) > self.budget.bytes_max {
            self.budget.reclaim(self);
        }
    }

    /// Drops batches at and after `offset`.
    pub(crate) fn truncate_to(&self, offset: Offset) {
        let mut freed = 0;
        let mut held = self.held.write();
        while held.batches.back().is_some_and(|last| last.next_offset > offset) {
            let Some(last) = held.batches.pop_back() else { break };
            let cost = last.bytes.len() + BATCH_OVERHEAD_BYTES;
            held.bytes -= cost;
            freed += cost;
        }
        drop(held);
        self.budget.used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Drops batches that end at or before `offset`.
    pub(crate) fn forget_below(&self, offset: Offset) {
        let mut held = self.held.write();
        let mut freed = 0;
        while held.batches.front().is_some_and(|oldest| oldest.next_offset <= offset) {
            freed += held.pop_oldest();
        }
        drop(held);
        self.budget.used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Drops the oldest batches until at most `bytes_max` bytes are held.
    fn shrink(&self, budget: &TailBudget, bytes_max: usize) {
        let mut held = self.held.write();
        let mut freed = 0;
        while held.bytes > bytes_max {
            freed += held.pop_oldest();
        }
        drop(held);
        budget.used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Appends to `fetched` the whole batches from the one that contains `from` on that end at or before `end`,
    /// as long as `fetched` stays within `bytes_max`; a first batch may be larger if `whole_first_batch`.
    /// `false` means that `from` is not here (any more) and `fetched` is as it was.
    pub(crate) fn read(
        &self,
        from: Offset,
        end: Offset,
        bytes_max: usize,
        whole_first_batch: bool,
        fetched: &mut FetchedBytes,
    ) -> bool {
        let mut found: Vec<Bytes> = Vec::new();
        {
            let held = self.held.read();
            if held.batches.front().is_none_or(|oldest| from < oldest.base_offset) {
                return false;
            }
            let place = held.batches.partition_point(|batch| batch.next_offset <= from);
            for batch in held.batches.range(place..) {
                let first = fetched.len == 0;
                let fits = fetched.len + batch.bytes.len() <= bytes_max || (first && whole_first_batch);
                if batch.next_offset > end || !fits {
                    break;
                }
                if first {
                    fetched.base_offset = batch.base_offset;
                }
                fetched.len += batch.bytes.len();
                fetched.next_offset = batch.next_offset;
                found.push(batch.bytes.clone());
            }
        }
        // The appender does not wait for the copies.
        join_small(found, &mut fetched.chunks);
        true
    }
}

/// Appends `batches` to `chunks`, neighbours that are small as one chunk.
fn join_small(batches: Vec<Bytes>, chunks: &mut Vec<Bytes>) {
    let mut small = BytesMut::new();
    for batch in batches {
        if batch.len() < COPY_BELOW_BYTES {
            small.put_slice(&batch);
            continue;
        }
        if !small.is_empty() {
            chunks.push(small.split().freeze());
        }
        chunks.push(batch);
    }
    if !small.is_empty() {
        chunks.push(small.freeze());
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held.get_mut().bytes, Ordering::Relaxed);
        // No other Arc is left, so all that cannot be upgraded any more goes, this one among them.
        self.budget.tails.lock().tails.retain(|tail| tail.strong_count() > 0);
    }
}
