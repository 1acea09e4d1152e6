//! `flush.messages` and `flush.ms`, where no acknowledgement waits for the disk (`millpond.sync.before.ack=false`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use millpond_types::TimestampMs;

use super::Partition;

/// There is nothing that was not synced.
const NONE: TimestampMs = -1;

/// What was appended since the last sync was asked for.
#[derive(Debug)]
pub(super) struct Unflushed {
    records: AtomicU64,
    /// When the first of them was appended.
    since_ms: AtomicI64,
}

impl Default for Unflushed {
    fn default() -> Unflushed {
        Unflushed { records: AtomicU64::new(0), since_ms: AtomicI64::new(NONE) }
    }
}

impl Unflushed {
    /// Takes note of so many records more. Says whether a sync is due, once.
    fn note(&self, records: u64, messages_max: i64, ms_max: i64, now_ms: TimestampMs) -> bool {
        let count = self.records.fetch_add(records, Ordering::Relaxed) + records;
        if records > 0 {
            let _ = self.since_ms.compare_exchange(NONE, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        }
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        let is_old = since_ms != NONE && now_ms.saturating_sub(since_ms) >= ms_max;
        let is_due = count > 0 && (is_old || i64::try_from(count).unwrap_or(i64::MAX) >= messages_max);
        is_due && {
            self.since_ms.store(NONE, Ordering::Relaxed);
            self.records.swap(0, Ordering::Relaxed) > 0
        }
    }
}

impl Partition {
    /// Asks for a sync if the topic's configuration wants one after these records, or by now.
    pub(crate) fn flush_if_due(self: &Arc<Self>, records: u64) {
        let (messages_max, ms_max) = self.topic.flush();
        if (messages_max, ms_max) == (i64::MAX, i64::MAX) {
            return;
        }
        if self.unflushed.note(records, messages_max, ms_max, self.around.clock.now_ms()) {
            self.request_sync();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_due_after_so_many_records_or_so_long() {
        let unflushed = Unflushed::default();
        assert!(!unflushed.note(9, 10, i64::MAX, 0));
        assert!(unflushed.note(1, 10, i64::MAX, 0));
        assert!(!unflushed.note(9, 10, i64::MAX, 0), "it begins anew");
        let unflushed = Unflushed::default();
        assert!(!unflushed.note(0, i64::MAX, 100, 1_000), "nothing is there");
        assert!(!unflushed.note(1, i64::MAX, 100, 1_000));
        assert!(!unflushed.note(5, i64::MAX, 100, 1_099));
        assert!(unflushed.note(0, i64::MAX, 100, 1_100));
        assert!(!unflushed.note(0, i64::MAX, 100, 9_999));
        assert!(unflushed.note(1, i64::MAX, 0, 10_000), "0 ms is at once");
    }
}
