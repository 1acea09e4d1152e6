//! Whether the snapshots of producers fit the batches before them.

use std::collections::{HashMap, VecDeque};

use millpond_records::BatchHeader;
use millpond_types::{Offset, ProducerEpoch, ProducerId};

use super::finding::{Finding, FindingKind, finding};
use crate::LogError;
use crate::inspect::{ListedFile, SnapshotEntry, read_snapshot};
use crate::producers::{BATCHES_KEPT, PRODUCERS_MAX};

const REMEDY: &str =
    "stop the node, delete this file and start it again: what producers have sent is learned from the batches";

/// The last batches of each producer, as the walk over the log comes by. At most [`PRODUCERS_MAX`] producers.
#[derive(Debug, Clone, Default)]
pub(super) struct SeenProducers {
    by_id: HashMap<ProducerId, Seen>,
    /// The first offset that was seen.
    from: Option<Offset>,
    /// Something was not seen, or was forgotten: what is missing here says nothing.
    pub(super) has_gaps: bool,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    epoch: ProducerEpoch,
    batches: VecDeque<SeenBatch>,
}

#[derive(Debug, Clone, Copy)]
struct SeenBatch {
    last_sequence: i32,
    last_offset: Offset,
    offset_delta: i32,
}

impl SeenProducers {
    /// Whether no batch came by yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.from.is_none() && !self.has_gaps
    }

    /// Takes note of the next batch.
    pub(super) fn note(&mut self, header: &BatchHeader) {
        self.from.get_or_insert(header.base_offset);
        if !header.has_producer() {
            return;
        }
        if self.by_id.len() >= PRODUCERS_MAX && !self.by_id.contains_key(&header.producer_id) {
            self.by_id.clear();
            self.has_gaps = true;
        }
        let seen = self.by_id.entry(header.producer_id).or_default();
        if seen.epoch != header.producer_epoch {
            *seen = Seen { epoch: header.producer_epoch, batches: VecDeque::new() };
        }
        // The marker of a transaction has no sequence, and is no batch that could be sent again.
        if header.is_control() {
            return;
        }
        if seen.batches.len() == BATCHES_KEPT {
            seen.batches.pop_front();
        }
        let (last_sequence, last_offset) = (header.last_sequence(), header.last_offset());
        seen.batches.push_back(SeenBatch { last_sequence, last_offset, offset_delta: header.last_offset_delta });
    }

    /// Looks at the snapshot at `offset`, up to where the walk has come. Of offsets below `holes_below` batches may have been
    /// taken out since. `false`: it is not there any more.
    pub(super) fn check(
        &self,
        (offset, file): (Offset, &ListedFile),
        holes_below: Offset,
        mut found: impl FnMut(Finding),
    ) -> Result<bool, LogError> {
        let wrong = |what: String| finding(FindingKind::Snapshot, &file.path, what, REMEDY);
        let entries = match read_snapshot(&file.path)? {
            None => return Ok(false),
            Some(Err(what)) => {
                found(wrong(what));
                return Ok(true);
            }
            Some(Ok(entries)) => entries,
        };
        for entry in entries {
            if entry.last_offset >= offset {
                let (id, last) = (entry.producer_id, entry.last_offset);
                found(
                    wrong(format!("producer {id} wrote offset {last}, and the snapshot is of what was before"))
                        .of(last),
                );
            } else if let Some(what) = self.contradiction(&entry, holes_below) {
                found(wrong(what).of(entry.last_offset));
            }
        }
        Ok(true)
    }

    /// What the log says against an entry.
    fn contradiction(&self, entry: &SnapshotEntry, holes_below: Offset) -> Option<String> {
        let is_here =
            self.from.is_some_and(|from| entry.last_offset.saturating_sub(i64::from(entry.offset_delta)) >= from);
        if !is_here || entry.last_sequence < 0 {
            return None;
        }
        let (id, epoch, sequence) = (entry.producer_id, entry.producer_epoch, entry.last_sequence);
        let seen = self.by_id.get(&id).filter(|seen| seen.epoch == epoch);
        let batch = seen.and_then(|seen| seen.batches.iter().find(|batch| batch.last_offset == entry.last_offset));
        let said = format!("producer {id} (epoch {epoch}) wrote sequence {sequence} at offset {}", entry.last_offset);
        match batch {
            Some(batch) if (batch.last_sequence, batch.offset_delta) == (sequence, entry.offset_delta) => None,
            Some(batch) => Some(format!(
                "it says that {said} in a batch of {} offsets; the batch there has {} and ends with sequence {}",
                i64::from(entry.offset_delta) + 1,
                i64::from(batch.offset_delta) + 1,
                batch.last_sequence
            )),
            None if self.has_gaps || entry.last_offset < holes_below => None,
            None => Some(format!("it says that {said}; no such batch is among the last ones of this producer")),
        }
    }
}
