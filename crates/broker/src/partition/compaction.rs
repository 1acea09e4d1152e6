//! Compaction of a partition's log, step by step: between the steps the topic may be deleted.

use std::panic::{AssertUnwindSafe, catch_unwind};

use millpond_log::{Cleanable, Compaction, LogError, Step};
use millpond_types::Offset;

use super::Partition;

impl Partition {
    /// What there is to compact, if it is worth it.
    pub(crate) fn due_compaction(&self) -> Result<Option<Cleanable>, LogError> {
        if self.log.awaits_sync_to_compact() {
            // Small writes are durable by way of the journal, long before they are in the log's own files.
            self.sync_behind_journal();
        }
        let Some(_life) = self.open() else { return Ok(None) };
        if self.log.poisoned().is_some() {
            return Ok(None);
        }
        let cleanable = self.log.cleanable(self.around.clock.now_ms(), self.compaction_floor())?;
        Ok(cleanable.filter(|cleanable| self.log.is_due(cleanable)))
    }

    /// Begins to compact it. Its keys may take so many bytes of memory.
    pub(crate) fn begin_compaction(&self, keys_bytes_max: usize) -> Result<Option<Compaction>, LogError> {
        let _upkeep = self.around.standstill.upkeep.read();
        let Some(_life) = self.open() else { return Ok(None) };
        self.log.begin_compaction(self.around.clock.now_ms(), self.compaction_floor(), keys_bytes_max)
    }

    /// Does the next step; none if the topic is gone, or the node stops.
    pub(crate) fn compaction_step(&self, compaction: &mut Compaction) -> Result<Option<Step>, LogError> {
        let _upkeep = self.around.standstill.upkeep.read();
        let Some(_life) = self.open() else { return Ok(None) };
        // A panic leaves the log in an unknown state, as it does in a sync.
        let step = catch_unwind(AssertUnwindSafe(|| self.log.compaction_step(compaction)));
        let Ok(step) = step else {
            self.poison("compaction ended in a panic, see the node's log".to_owned());
            return Ok(None);
        };
        if let Some(reason) = self.log.poisoned() {
            self.poison(reason.to_owned());
        }
        step.map(Some)
    }

    /// Removes what an unfinished compaction has written.
    pub(crate) fn end_compaction(&self, compaction: &mut Compaction) {
        let _upkeep = self.around.standstill.upkeep.read();
        if let Some(_life) = self.open() {
            self.log.end_compaction(compaction);
        }
    }

    /// What lies at or above it stays as it is: what was never shown may be cut, and what a query would read again after
    /// a crash must be what it read before.
    fn compaction_floor(&self) -> Offset {
        self.lowest_pin().map_or(Offset::MAX, |(_, offset)| offset).min(self.visible_end())
    }
}
