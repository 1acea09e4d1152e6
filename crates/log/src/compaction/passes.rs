//! What the two passes do with a batch.

use millpond_records::{BatchView, Retained, TransactionMarker};
use millpond_types::Offset;

use super::{Compaction, Place, Step};
use crate::{DECOMPRESSED_BYTES_MAX, LogError, PRODUCERS_MAX};

impl Compaction {
    pub(super) fn begin_rewrite(&mut self) -> Step {
        self.place = Place::default();
        self.is_collected = true;
        // What lies behind the end stays as it is.
        let end = self.end;
        self.compacted.keys = self.latest.len() as u64;
        self.segments.retain(|(segment, _)| segment.base_offset() < end);
        Step::More(0)
    }

    /// Notes where the keys of a batch were written. `false`: the table is full, and the batch lies behind the end now.
    pub(super) fn note(&mut self, batch: &BatchView<'_>) -> bool {
        let header = batch.header;
        if header.is_control() {
            return true;
        }
        if header.has_producer()
            && (self.last_offsets.len() < PRODUCERS_MAX || self.last_offsets.contains_key(&header.producer_id))
        {
            self.last_offsets.insert(header.producer_id, header.last_offset());
        }
        if header.next_offset() <= self.first_dirty || self.transactions.is_aborted(&header) {
            return true;
        }
        let (latest, keys, first_dirty) = (&self.latest, &mut self.keys_of_batch, self.first_dirty);
        keys.clear();
        let read = batch.records(DECOMPRESSED_BYTES_MAX).and_then(|mut records| {
            records.for_each(|record| {
                if let Some(key) = record.key.filter(|_| record.offset >= first_dirty) {
                    keys.push((latest.hash(key), record.offset));
                }
            })
        });
        if read.is_err() {
            // It stays as a whole, and takes no place of others.
            return true;
        }
        let fits = keys.iter().all(|(hash, offset)| self.latest.note(*hash, *offset));
        if fits {
            return true;
        }
        // What was noted of it is true all the same. Of a first batch that alone is too much, what does not fit stays twice.
        self.end = if header.base_offset > self.first_dirty { header.base_offset } else { header.next_offset() };
        false
    }

    /// Writes of a batch what stays.
    pub(super) fn pass_on(&mut self, batch: &BatchView<'_>, log_start: Offset) -> Result<(), LogError> {
        let header = batch.header;
        if header.is_control() {
            return self.pass_on_control(batch);
        }
        self.transactions.pass(&header);
        let (end, latest, now_ms) = (self.end, &self.latest, self.now_ms);
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
                let is_latest = latest.of(key).is_none_or(|latest| record.offset >= latest);
                is_latest && (record.value.is_some() || !tombstones_go)
            }),
        };
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
