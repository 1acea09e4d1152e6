//! What the two passes do with a batch.

use std::path::Path;

use millpond_records::{BatchHeader, BatchView, Retained, TransactionMarker};
use millpond_types::Offset;

use super::{Compaction, Newest, Phase, Place, Step, spill};
use crate::{DECOMPRESSED_BYTES_MAX, LogError, PRODUCERS_MAX};

impl Compaction {
    pub(super) fn begin_rewrite(&mut self) -> Step {
        self.place = Place::default();
        self.phase = Phase::Rewrite;
        // What lies behind the end stays as it is.
        let end = self.end;
        if let Newest::Table(latest) = &self.newest {
            self.compacted.keys = latest.len() as u64;
        }
        self.segments.retain(|(segment, _)| segment.base_offset() < end);
        Step::More(0)
    }

    /// Notes where the keys of a batch were written. `false`: the table is full, and the batch lies behind the end now.
    pub(super) fn note(&mut self, batch: &BatchView<'_>) -> bool {
        let header = batch.header;
        if header.is_control() {
            return true;
        }
        self.note_producer(&header);
        if header.next_offset() <= self.first_dirty || self.transactions.is_aborted(&header) {
            return true;
        }
        if !self.read_keys(batch, self.first_dirty) {
            return true;
        }
        let Newest::Table(latest) = &mut self.newest else { unreachable!("the first pass fills a table") };
        let fits = self.keys_of_batch.iter().all(|(hash, offset)| latest.note(*hash, *offset));
        if fits {
            return true;
        }
        // What was noted of it is true all the same. Of a first batch that alone is too much, what does not fit stays twice.
        self.end = if header.base_offset > self.first_dirty { header.base_offset } else { header.next_offset() };
        false
    }

    /// Spills where the keys of a batch were written.
    pub(super) fn spill(&mut self, batch: &BatchView<'_>) -> Result<(), LogError> {
        if batch.header.is_control() {
            return Ok(());
        }
        self.note_producer(&batch.header);
        if self.transactions.is_aborted(&batch.header) || !self.read_keys(batch, 0) {
            return Ok(());
        }
        let Phase::Spill(spill) = &mut self.phase else { unreachable!("the keys are being spilled") };
        self.keys_of_batch.iter().try_for_each(|(hash, offset)| spill.note(*hash, *offset))
    }

    /// Notes a batch of records as its producer's last one so far.
    fn note_producer(&mut self, header: &BatchHeader) {
        if header.has_producer()
            && (self.last_offsets.len() < PRODUCERS_MAX || self.last_offsets.contains_key(&header.producer_id))
        {
            self.last_offsets.insert(header.producer_id, header.last_offset());
        }
    }

    /// Puts the hashes and offsets of a batch's keys from `from` on where they are looked for. `false`: it cannot be read. Then it stays
    /// as a whole, and takes no place of others.
    fn read_keys(&mut self, batch: &BatchView<'_>, from: Offset) -> bool {
        let (newest, keys) = (&self.newest, &mut self.keys_of_batch);
        let Newest::Table(hashes) = newest else { unreachable!("keys are read before they are sorted out") };
        keys.clear();
        let read = batch.records(DECOMPRESSED_BYTES_MAX).and_then(|mut records| {
            records.for_each(|record| {
                if let Some(key) = record.key.filter(|_| record.offset >= from) {
                    keys.push((hashes.hash(key), record.offset));
                }
            })
        });
        read.is_ok()
    }

    /// Removes what was spilled.
    pub(super) fn forget_spilled(&mut self, dir: &Path) {
        if std::mem::take(&mut self.has_spilled)
            && let Err(error) = spill::remove(dir)
        {
            tracing::warn!(%error, "the keys that compaction had spilled stay on the disk until the next start");
        }
    }

    /// Writes of a batch what stays.
    pub(super) fn pass_on(&mut self, batch: &BatchView<'_>, log_start: Offset) -> Result<(), LogError> {
        let header = batch.header;
        if header.is_control() {
            return self.pass_on_control(batch);
        }
        self.transactions.pass(&header);
        let (end, newest, now_ms) = (self.end, &mut self.newest, self.now_ms);
        let mut failure = None;
        let Some((output, _)) = &mut self.output else { unreachable!("the second pass writes") };
        if header.base_offset >= end {
            return output.take_whole(batch);
        }
        let mut without_key = 0;
        let tombstones_go = header.delete_horizon_ms().is_some_and(|horizon| now_ms >= horizon);
        let retained = match self.transactions.is_aborted(&header) {
            true => Ok(Retained::Nothing),
            false => batch.retain(DECOMPRESSED_BYTES_MAX, self.delete_horizon_ms, |record| {
                if record.offset >= end {
                    return true;
                }
                if record.offset < log_start {
                    return false;
                }
                let Some(key) = record.key else {
                    without_key += 1;
                    return false;
                };
                let is_newest = newest.is(key, record.offset).unwrap_or_else(|error| {
                    failure = Some(error);
                    true
                });
                is_newest && (record.value.is_some() || !tombstones_go)
            }),
        };
        if let Some(failure) = failure {
            return Err(failure);
        }
        let is_last = self.segments.last().is_some_and(|(_, end)| *end == header.next_offset())
            || header.has_producer() && self.last_offsets.get(&header.producer_id) == Some(&header.last_offset());
        self.compacted.records_without_key += without_key;
        match retained {
            Err(_) => {
                self.compacted.batches_unreadable += 1;
                output.take_whole(batch)
            }
            Ok(Retained::Whole) if header.record_count > 0 || is_last => output.take_whole(batch),
            Ok(Retained::Rest { bytes, removed }) => {
                self.compacted.records_removed += u64::from(removed);
                output.take(&bytes)
            }
            Ok(Retained::Whole | Retained::Nothing) => {
                self.compacted.records_removed += u64::try_from(header.record_count).unwrap_or(0);
                match is_last {
                    true if header.record_count == 0 => output.take_whole(batch),
                    true => output.take(&batch.emptied()),
                    false => {
                        output.leave_out();
                        Ok(())
                    }
                }
            }
        }
    }

    /// Writes a control batch, unless it says nothing any more.
    fn pass_on_control(&mut self, batch: &BatchView<'_>) -> Result<(), LogError> {
        let header = batch.header;
        let Some((output, _)) = &mut self.output else { unreachable!("the second pass writes") };
        let Ok(Some(marker)) = TransactionMarker::read(batch) else { return output.take_whole(batch) };
        let says_something = self.transactions.end(marker.producer_id);
        let is_last = self.segments.last().is_some_and(|(_, end)| *end == header.next_offset())
            || self.without_records.get(&marker.producer_id) == Some(&marker.producer_epoch);
        if says_something || is_last || header.base_offset >= self.end {
            output.take_whole(batch)?;
        } else {
            match header.delete_horizon_ms() {
                Some(horizon) if self.now_ms >= horizon => {
                    output.leave_out();
                    return Ok(());
                }
                Some(_) => output.take_whole(batch)?,
                None => match batch.with_delete_horizon(DECOMPRESSED_BYTES_MAX, self.delete_horizon_ms) {
                    Ok(bytes) => output.take(&bytes)?,
                    Err(_) => output.take_whole(batch)?,
                },
            }
        }
        if let Some(aborted) = self.transactions.aborted_by(&marker, header.base_offset) {
            output.note_aborted(aborted);
        }
        Ok(())
    }
}
