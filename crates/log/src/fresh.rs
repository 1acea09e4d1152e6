//! What was appended and is not durable yet, kept for the journal to take.

use bytes::Bytes;
use millpond_types::Offset;

use crate::PartitionLog;

/// Batches that neither a sync nor the journal covers yet. Under the append lock.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// The first batch's base offset, or the log's end if there is none.
    base_offset: Offset,
    batches: Vec<Bytes>,
    bytes: usize,
    /// There was more than the journal takes; only a sync helps.
    overflowed: bool,
}

/// Batches of a log that are to become durable by way of the journal.
#[derive(Debug)]
pub struct FreshBatches {
    /// The first batch's base offset.
    pub base_offset: Offset,
    /// The offset after the last batch: the log's end when they were taken.
    pub end_offset: Offset,
    /// The batches, as they lie in the log.
    pub batches: Vec<Bytes>,
    /// Their bytes.
    pub bytes: usize,
}

impl Fresh {
    pub(crate) fn new(end: Offset) -> Fresh {
        Fresh { base_offset: end, batches: Vec::new(), bytes: 0, overflowed: false }
    }

    /// Takes in the batch that was appended; `bytes_max` is [`LogOptions::journal_bytes_max`](crate::LogOptions).
    pub(crate) fn push(&mut self, batch: &Bytes, bytes_max: usize) {
        self.bytes += batch.len();
        if self.overflowed || self.bytes > bytes_max {
            self.overflowed = true;
            self.batches = Vec::new();
        } else {
            self.batches.push(batch.clone());
        }
    }

    /// Starts anew at `end`.
    pub(crate) fn restart(&mut self, end: Offset) {
        self.base_offset = end;
        self.batches.clear();
        self.bytes = 0;
        self.overflowed = false;
    }
}

impl PartitionLog {
    /// Takes what was appended since it was last taken, or since the last [`PartitionLog::sync`] began. `None`: the journal
    /// cannot make this durable, a sync must.
    ///
    /// Not while a [`PartitionLog::sync`] of this log runs: what it covers is not here, and not durable yet either.
    pub fn take_fresh(&self) -> Option<FreshBatches> {
        let mut writer = self.writer.lock();
        let end_offset = writer.next_offset;
        let fresh = &mut writer.fresh;
        if fresh.overflowed || self.poisoned().is_some() {
            return None;
        }
        let (base_offset, batches, bytes) = (fresh.base_offset, std::mem::take(&mut fresh.batches), fresh.bytes);
        fresh.restart(end_offset);
        Some(FreshBatches { base_offset, end_offset, batches, bytes })
    }

    /// What [`PartitionLog::take_fresh`] gave up to `end` is in the journal: it survives a power cut.
    pub fn journaled(&self, end: Offset) {
        self.durable_end.fetch_max(end, std::sync::atomic::Ordering::AcqRel);
    }
}
