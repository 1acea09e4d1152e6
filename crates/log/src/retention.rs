//! What a log gives up at its old end: by age, by size, by request.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millpond_types::{Offset, TimestampMs};

use crate::append::Unsynced;
use crate::segment::Segment;
use crate::{LogError, LogOptions, PartitionLog, names, snapshot};

/// The files of deleted segments, which are removed when the delay is over.
#[derive(Debug)]
pub(crate) struct DeletedFiles {
    /// When the delay began: at the first clean-up after the deletion.
    since_ms: Option<TimestampMs>,
    paths: Vec<PathBuf>,
}

impl PartitionLog {
    /// Takes the oldest segments out that are too old, too many bytes, or below the log's start; but none that holds
    /// anything at or after `floor` (`i64::MAX`: no such bound) or that was not synced. Returns how many.
    ///
    /// Their files stay until [`PartitionLog::delete_gone`], which the caller calls when it has checkpointed the log's start:
    /// a power cut can leave any of the files that were to go, and then the start alone tells which.
    pub fn enforce_retention(&self, now_ms: TimestampMs, floor: Offset) -> Result<u64, LogError> {
        let options = self.options();
        self.check_poison()?;
        let round = self.round.lock();
        // Not what only the journal has: after a crash the log goes on from its own files' end.
        let floor = floor.min(self.recovery_point());
        let mut surplus_bytes = match options.retention_bytes {
            bytes if bytes >= 0 => self.size_bytes().saturating_sub(bytes as u64),
            _ => 0,
        };
        let mut gone = 0;
        loop {
            let (oldest, end) = {
                let segments = self.segments.read();
                let end = segments.get(gone + 1).map(|next| next.base_offset());
                let Some(oldest) = segments.get(gone) else { break };
                (oldest.clone(), end)
            };
            let too_large = oldest.size() > 0 && oldest.size() <= surplus_bytes;
            let below_start = end.is_some_and(|end| end <= self.log_start_offset());
            // Compaction leaves empty segments; they must not keep what follows.
            let is_left_over = oldest.size() == 0 && end.is_some() && (options.retention_ms >= 0 || surplus_bytes > 0);
            let wanted = below_start || is_left_over || too_large || is_expired(&oldest, &options, now_ms)?;
            if !wanted || end.unwrap_or(self.log_end_offset()) > floor {
                break;
            }
            // The active segment is deleted, too, but a log always has one.
            if end.is_none() && !self.roll_if_unchanged(&oldest, floor)? {
                break;
            }
            surplus_bytes = surplus_bytes.saturating_sub(oldest.size());
            gone += 1;
        }
        self.take_oldest(gone)?;
        drop(round);
        Ok(gone as u64)
    }

    /// Begins a new segment behind the active one, if that has not grown beyond `floor` since it was looked at.
    fn roll_if_unchanged(&self, active: &Arc<Segment>, floor: Offset) -> Result<bool, LogError> {
        let mut writer = self.writer.lock();
        self.check_poison()?;
        if !Arc::ptr_eq(&writer.active, active) || writer.position == 0 || writer.next_offset > floor {
            return Ok(false);
        }
        let options = self.options();
        self.roll(&mut writer, &options)?;
        Ok(true)
    }

    /// Moves the log's start up to `to` (Kafka's DeleteRecords) and takes the segments out that lie below it as a whole.
    /// A `to` below the start changes nothing. Returns the start; the caller checkpoints it, and then calls
    /// [`PartitionLog::delete_gone`].
    pub fn advance_log_start(&self, to: Offset) -> Result<Offset, LogError> {
        let (log_start, log_end) = (self.log_start_offset(), self.log_end_offset());
        if to > log_end {
            return Err(LogError::OutOfRange { offset: to, log_start, log_end });
        }
        self.check_poison()?;
        if to > self.recovery_point() {
            // The new start must not lie beyond what a crash leaves in the files.
            self.sync_behind_journal()?;
        }
        let round = self.round.lock();
        self.log_start.fetch_max(to, Ordering::AcqRel);
        let below = {
            let segments = self.segments.read();
            segments.iter().skip(1).take_while(|next| next.base_offset() <= to).count()
        };
        self.take_oldest(below)?;
        drop(round);
        Ok(self.log_start_offset())
    }

    /// Takes the oldest `count` segments out of the log. The caller holds the round's lock.
    fn take_oldest(&self, count: usize) -> Result<(), LogError> {
        if count == 0 {
            return Ok(());
        }
        // While it says that some of them were being replaced, a start would miss the new one.
        self.settle_swap()?;
        let gone: Vec<(Arc<Segment>, Offset)> = {
            let mut segments = self.segments.write();
            assert!(count < segments.len(), "the active segment is never deleted");
            let ends: Vec<Offset> = segments.iter().skip(1).take(count).map(|next| next.base_offset()).collect();
            let gone = segments.drain(..count).zip(ends).collect();
            if let Some(first) = segments.first() {
                self.log_start.fetch_max(first.base_offset(), Ordering::AcqRel);
            }
            gone
        };
        let is_gone = |rolled: &mut Unsynced| gone.iter().any(|(segment, _)| Arc::ptr_eq(segment, &rolled.segment));
        let unsynced: Vec<Unsynced> = self.writer.lock().unsynced.extract_if(.., is_gone).collect();
        // Should the power go before it is written down where the log starts, these segments are there again, and the snapshot vouches
        // for their transaction indexes.
        unsynced.iter().try_for_each(|rolled| rolled.segment.store_txn_index())?;
        // What producers had written before the oldest segment that stays is still needed.
        if let Some(Unsynced { snapshot: (offset, bytes), .. }) = unsynced.last() {
            snapshot::write(&self.dir, *offset, bytes)?;
        }
        self.gone.lock().extend(gone);
        Ok(())
    }

    /// Takes note that the log starts at `durable_start` at the least, as was written down, and renames the files of segments
    /// that were taken out and lie below it, so that a later clean-up removes them. Leader epochs that ended below it are forgotten.
    pub fn delete_gone(&self, durable_start: Offset) -> Result<(), LogError> {
        let durable_start = durable_start.min(self.log_start_offset());
        let before = self.durable_start.fetch_max(durable_start, Ordering::AcqRel);
        if before < durable_start && self.epochs.write().truncate_from_start(durable_start) {
            self.writer.lock().epochs_dirty = true;
        }
        let gone: Vec<_> = self.gone.lock().extract_if(.., |(_, end)| *end <= durable_start).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let mut paths = Vec::new();
        for (segment, _) in &gone {
            for kind in [names::LOG, names::INDEX, names::TIME_INDEX, names::TXN_INDEX, names::SNAPSHOT] {
                let path = segment.path(kind);
                let mut deleted = path.clone().into_os_string();
                deleted.push(names::DELETED);
                match millpond_disk::rename_file(&path, deleted.as_ref()) {
                    Ok(()) => paths.push(deleted.into()),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.open_files.forget(segment);
        }
        millpond_disk::sync_dir(&self.dir)?;
        tracing::info!(
            log = %self.dir.display(), segments = gone.len(), log_start = self.log_start_offset(), "deleted old segments"
        );
        self.deleted.lock().push(DeletedFiles { since_ms: None, paths });
        Ok(())
    }

    /// Removes the files of segments whose deletion a clean-up at least `file.delete.delay.ms` ago has seen, so that who
    /// was reading them can end. Returns how many files it removed, or the first failure; what could not be removed is
    /// tried again at the next clean-up.
    pub fn purge_deleted(&self, now_ms: TimestampMs) -> Result<u64, LogError> {
        let delay_ms = self.options().file_delete_delay_ms;
        let due: Vec<DeletedFiles> = {
            let mut deleted = self.deleted.lock();
            let (waiting, due) = deleted.drain(..).partition(|files: &DeletedFiles| {
                files.since_ms.is_none_or(|since| now_ms.saturating_sub(since) < delay_ms) && delay_ms > 0
            });
            *deleted = waiting;
            deleted.iter_mut().for_each(|files| files.since_ms = files.since_ms.or(Some(now_ms)));
            due
        };
        let mut removed = 0;
        let mut failure = None;
        for mut files in due {
            files.paths.retain(|path| match millpond_disk::remove_file(path) {
                Ok(()) => {
                    removed += 1;
                    false
                }
                Err(error) => {
                    failure.get_or_insert(error);
                    true
                }
            });
            if !files.paths.is_empty() {
                self.deleted.lock().push(files);
            }
        }
        failure.map_or(Ok(removed), |error| Err(error.into()))
    }
}

/// Whether the newest record of a segment is older than `retention.ms`. Where no record has a timestamp, the file's
/// last write counts.
fn is_expired(segment: &Segment, options: &LogOptions, now_ms: TimestampMs) -> Result<bool, LogError> {
    if options.retention_ms < 0 || segment.size() == 0 {
        return Ok(false);
    }
    let newest = match segment.max_timestamp()?.timestamp {
        timestamp if timestamp >= 0 => timestamp,
        _ => millpond_disk::modified_ms(&segment.path(names::LOG))?,
    };
    Ok(now_ms.saturating_sub(newest) > options.retention_ms)
}
