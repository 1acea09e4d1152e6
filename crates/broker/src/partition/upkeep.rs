//! What the node does to a partition without being asked by a client: sync, delete what is old, checkpoint, end.

use std::sync::atomic::Ordering;

use millpond_log::LogError;
use millpond_types::Offset;

use super::{Life, Partition};
use crate::durability::Ended;
use crate::errors::TrimError;

impl Partition {
    /// The records below `to` are not served any more; whole segments of them go. The caller writes the new start down, and
    /// then has their files deleted.
    pub(crate) fn advance_log_start(&self, to: Offset) -> Result<Offset, TrimError> {
        let _upkeep = self.around.standstill.upkeep.read();
        let _life = self.open().ok_or(TrimError::Closed)?;
        let (log_start, visible_end) = (self.log_start(), self.visible_end());
        if to > visible_end || to < 0 {
            return Err(TrimError::OutOfRange { offset: to, log_start, visible_end });
        }
        if let Some((name, offset)) = self.lowest_pin().filter(|(_, offset)| *offset < to) {
            return Err(TrimError::Pinned { name, offset });
        }
        let log_start = self.log.advance_log_start(to)?;
        self.visibility.started_at(log_start);
        Ok(log_start)
    }

    /// The log's start is written down: the files of what lies below it go.
    pub(crate) fn delete_gone(&self) -> Result<(), LogError> {
        let _upkeep = self.around.standstill.upkeep.read();
        let (_, durable_start) = self.around.checkpoints.of(&self.name());
        match self.open() {
            Some(_life) => self.log.delete_gone(durable_start),
            None => Ok(()),
        }
    }

    /// The topic is gone: whoever waits is woken, and everything answers so from now on.
    pub(crate) fn delete(&self) {
        *self.life.write() = Life::Deleted;
        self.durability.end(Ended::Deleted);
        self.visibility.wake_all();
    }

    /// Takes no more appends.
    pub(crate) fn stop(&self) {
        let mut life = self.life.write();
        if *life == Life::Open {
            *life = Life::Stopped;
        }
        drop(life);
        self.visibility.wake_all();
    }

    /// Syncs and closes the log of a stopped partition, so that the next start need not look into it. Gives the offset
    /// up to which it is known to be right.
    pub(crate) fn close(&self) -> Result<Offset, LogError> {
        let _alone = self.rounds.lock();
        if let Some(Ended::Poisoned(reason)) = self.durability.ended() {
            tracing::warn!(partition = %self.name(), reason, "not closed cleanly");
        }
        let closed = self.log.close(self.around.clock.now_ms());
        match &closed {
            Ok(end) => self.safe_up_to(*end),
            Err(error) => self.poison(error.to_string()),
        }
        self.durability.end(Ended::Stopped);
        self.visibility.wake_all();
        closed
    }

    /// Tells whoever waits for a sync that none will come.
    pub(crate) fn give_up(&self) {
        self.stop();
        self.durability.end(Ended::Stopped);
    }

    /// Begins a new segment if the active one is old enough, and deletes those that are too old or too many, but none
    /// that somebody needs or that was never shown. Says how many it deleted.
    pub(crate) fn enforce_retention(&self) -> Result<u64, LogError> {
        let _upkeep = self.around.standstill.upkeep.read();
        let Some(_life) = self.open() else { return Ok(0) };
        let now_ms = self.around.clock.now_ms();
        let pinned = self.lowest_pin().map_or(Offset::MAX, |(_, offset)| offset);
        self.log.expire_producers(now_ms);
        self.log.roll_if_due(now_ms)?;
        let deleted = self.log.enforce_retention(now_ms, pinned.min(self.visible_end()))?;
        self.visibility.started_at(self.log_start());
        Ok(deleted)
    }

    /// Removes the files of deleted segments whose delay is over.
    pub(crate) fn purge_deleted(&self) -> Result<(), LogError> {
        let _upkeep = self.around.standstill.upkeep.read();
        if let Some(_life) = self.open() {
            self.log.purge_deleted(self.around.clock.now_ms())?;
        }
        Ok(())
    }

    /// Writes down what spares a start after a crash from reading the log again, if anything was appended since it was
    /// done last.
    pub(crate) fn checkpoint(&self) {
        let end = self.end();
        if self.checkpointed_end.load(Ordering::Relaxed) != end && self.durability.ended().is_none() {
            let _upkeep = self.around.standstill.upkeep.read();
            let _alone = self.rounds.lock();
            let Some(_life) = self.open() else { return };
            match self.log.checkpoint() {
                Ok(durable_end) => {
                    self.safe_up_to(durable_end);
                    self.checkpointed_end.store(end, Ordering::Relaxed);
                }
                Err(LogError::Poisoned { reason }) => self.poison(reason),
                Err(error) => tracing::warn!(partition = %self.name(), %error, "no checkpoint was made"),
            }
        }
    }
}
