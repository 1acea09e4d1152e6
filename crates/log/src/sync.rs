//! Making appended batches durable, checkpoints, and the close.

use std::sync::atomic::Ordering;

use millpond_types::{Offset, TimestampMs};

use crate::append::Unsynced;
use crate::log::Writer;
use crate::{LogError, PartitionLog, names, snapshot};

impl PartitionLog {
    /// Makes everything durable that was appended before the call, in the log's own files, and returns the new durable end.
    /// Appends go on meanwhile. Callers at the same time wait for each other, and one round serves all that came before it.
    ///
    /// What it covers is not given to the journal any more; [`PartitionLog::sync_behind_journal`] leaves that as it is.
    ///
    /// The first failure poisons the log for good: after a failed fsync the page cache may have dropped the bytes, and
    /// another fsync would lie.
    pub fn sync(&self) -> Result<Offset, LogError> {
        let wanted = self.log_end_offset();
        let _round = self.round.lock();
        self.check_poison()?;
        let synced = self.recovery_point();
        // Another round, while this call waited, has covered all that it came for.
        if synced >= wanted && !self.has_news() {
            self.restart_fresh(synced);
            return Ok(synced);
        }
        self.restart_fresh(Offset::MAX);
        self.or_poison(self.sync_round())
    }

    /// Nothing below `end` waits for the journal: if nothing came since, what comes next does.
    fn restart_fresh(&self, end: Offset) {
        let mut writer = self.writer.lock();
        let next_offset = writer.next_offset;
        if next_offset <= end {
            writer.fresh.restart(next_offset);
        }
    }

    /// The same for batches that the journal has made durable, or is about to: they are synced at leisure, while the
    /// journal goes on to take what is appended.
    pub fn sync_behind_journal(&self) -> Result<(), LogError> {
        let _round = self.round.lock();
        self.check_poison()?;
        self.or_poison(self.sync_round())?;
        Ok(())
    }

    /// Whether something beside batches waits for a sync: a new segment's name, for one.
    fn has_news(&self) -> bool {
        let writer = self.writer.lock();
        writer.length_dirty || writer.folder_dirty || writer.epochs_dirty || !writer.unsynced.is_empty()
    }

    /// One round; the caller holds the round's lock.
    pub(crate) fn sync_round(&self) -> Result<Offset, LogError> {
        let mut writer = self.writer.lock();
        let Writer { next_offset: end, .. } = *writer;
        let active = writer.active.clone();
        let unsynced = std::mem::take(&mut writer.unsynced);
        writer.length_dirty = false;
        // A segment that is finished late gets its index files late.
        let folder_dirty = std::mem::take(&mut writer.folder_dirty) || !unsynced.is_empty();
        let epochs_dirty = std::mem::take(&mut writer.epochs_dirty);
        let epochs = epochs_dirty.then(|| self.epochs.read().clone());
        drop(writer);

        let mut unfinished = Vec::new();
        for rolled in unsynced {
            match rolled.finish(&self.dir) {
                // Its bytes are durable; only what can be built again from them has no room.
                Err(LogError::Disk(error)) if error.is_full() => unfinished.push(rolled),
                other => other?,
            }
        }
        // A start after a crash completes the indexes of the segment that the recovery point lies in or ends, and of those behind it.
        let synced = unfinished.first().map_or(end, |rolled: &Unsynced| rolled.snapshot.0.min(end));
        if !unfinished.is_empty() {
            self.writer.lock().unsynced.splice(..0, unfinished);
        }
        active.sync()?;
        self.open_files.shrink();
        if folder_dirty {
            millpond_disk::sync_dir(&self.dir)?;
        }
        match epochs.map(|epochs| epochs.write(&self.dir)) {
            // A start learns them from the batches behind the recovery point.
            Some(Err(LogError::Disk(error))) if error.is_full() => self.writer.lock().epochs_dirty = true,
            Some(other) => {
                other?;
                self.synced_end.fetch_max(synced, Ordering::AcqRel);
            }
            None => drop(self.synced_end.fetch_max(synced, Ordering::AcqRel)),
        }
        self.durable_end.fetch_max(end, Ordering::AcqRel);
        Ok(end)
    }

    /// Syncs, and writes the active segment's indexes and a producer snapshot, so that after a crash no more is read
    /// than what was appended since. Returns up to where the log is durable; what the recovery point checkpoint may say is
    /// [`PartitionLog::recovery_point`]. Call it every minute or so.
    pub fn checkpoint(&self) -> Result<Offset, LogError> {
        let _round = self.round.lock();
        self.check_poison()?;
        self.or_poison(self.sync_round())?;
        let (active, end, producers) = {
            let writer = self.writer.lock();
            // Between the sync and here more may have come; what the snapshot says must lie below its own offset, and
            // whether that is durable does not matter: recovery uses none above the end that it finds.
            (writer.active.clone(), writer.next_offset, snapshot::encode(&writer.producers))
        };
        if self.writer.lock().checkpoint_snapshot == Some(end) {
            return Ok(self.durable_end_offset());
        }
        // Durable, since recovery believes what they say of what lies below the recovery point.
        active.write_indexes(false, true)?;
        self.replace_checkpoint_snapshot(end, &producers)?;
        Ok(self.durable_end_offset())
    }

    fn replace_checkpoint_snapshot(&self, offset: Offset, bytes: &[u8]) -> Result<(), LogError> {
        snapshot::write(&self.dir, offset, bytes)?;
        let previous = self.writer.lock().checkpoint_snapshot.replace(offset);
        let is_base = |offset: Offset| self.segments.read().iter().any(|segment| segment.base_offset() == offset);
        if let Some(previous) = previous.filter(|previous| *previous != offset && !is_base(*previous)) {
            millpond_disk::remove_file(&names::path(&self.dir, previous, names::SNAPSHOT))?;
        }
        Ok(())
    }

    /// Stops all writing and makes durable what a clean start needs: batches, indexes, and a snapshot at the end.
    /// Returns the recovery point, which [`PartitionLog::open`] with `clean` wants to have back.
    pub fn close(&self, now_ms: TimestampMs) -> Result<Offset, LogError> {
        let _round = self.round.lock();
        self.check_poison()?;
        let expiration_ms = self.options().producer_id_expiration_ms;
        let (active, end, producers) = {
            let mut writer = self.writer.lock();
            // Under the append lock, so that no append slips in between this and the last sync.
            let _ = self.poison.set("it is closed".to_owned());
            writer.producers.expire(now_ms, expiration_ms);
            (writer.active.clone(), writer.next_offset, snapshot::encode(&writer.producers))
        };
        self.sync_round()?;
        active.write_indexes(true, true)?;
        self.replace_checkpoint_snapshot(end, &producers)?;
        millpond_disk::sync_dir(&self.dir)?;
        Ok(end)
    }

    /// Forgets the producers that have not written for `producer.id.expiration.ms`.
    pub fn expire_producers(&self, now_ms: TimestampMs) {
        let expiration_ms = self.options().producer_id_expiration_ms;
        self.writer.lock().producers.expire(now_ms, expiration_ms);
    }
}
