//! What the clients know: what was acknowledged, what was shown, and what is in doubt.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millpond_types::{Offset, ProducerId, TopicId};

/// Everything that the clients know.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) topics: BTreeMap<String, TopicModel>,
    /// By group, topic and partition.
    pub(crate) committed: BTreeMap<(String, String, i32), Committed>,
}

/// A topic.
#[derive(Debug)]
pub(crate) struct TopicModel {
    /// None while nobody was told of it.
    pub(crate) id: Option<TopicId>,
    pub(crate) existence: Existence,
    /// As many as were acknowledged.
    pub(crate) partitions: Vec<PartitionModel>,
    /// As many as there may be, if the last answer is missing.
    pub(crate) partitions_max: usize,
    /// Of the records with one key the newest stays.
    pub(crate) is_compacted: bool,
}

/// A record that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) key: u8,
    /// A number that stands for the value; `None` for a tombstone.
    pub(crate) value: Option<u64>,
}

/// Whether a topic is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existence {
    Yes,
    /// The answer to its creation is missing.
    PerhapsMade,
    /// The answer to its deletion is missing.
    PerhapsDeleted,
}

/// One partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionModel {
    /// What was appended, by offset.
    pub(crate) records: Vec<Sent>,
    /// Offsets at which compaction was seen to have taken something out.
    pub(crate) compacted: BTreeSet<Offset>,
    /// Everything below was acknowledged as durable, or was shown.
    pub(crate) durable_end: Offset,
    /// Everything below was acknowledged as appended.
    pub(crate) appended_end: Offset,
    /// Records below it were deleted, as somebody was told.
    pub(crate) start_min: Offset,
    /// Records from here on were not deleted by anybody.
    pub(crate) start_max: Offset,
    /// A sync or a write has failed; until the next start, nothing is promised beyond `durable_end`.
    pub(crate) disk_failed: bool,
    /// Requests without an answer yet, oldest first.
    pub(crate) in_flight: VecDeque<InFlight>,
    pub(crate) producers: BTreeMap<ProducerId, ProducerModel>,
}

impl PartitionModel {
    pub(crate) fn end(&self) -> Offset {
        self.records.len() as Offset
    }

    /// Compares what was read from `from` to `end` with what was sent, and takes note of what compaction took out.
    pub(crate) fn check_read(
        &mut self,
        found: &[(Offset, Sent)],
        from: Offset,
        end: Offset,
        is_compacted: bool,
    ) -> Result<(), String> {
        let Some(expected) = self.records.get(from as usize..end as usize) else {
            return Err(format!("{} records from {from} to {end}, and {} were sent", found.len(), self.end()));
        };
        let sent = (from..).zip(expected.iter().copied());
        if !is_compacted {
            let wrong = found.iter().find(|(offset, record)| self.records.get(*offset as usize) != Some(record));
            let as_sent = sent.eq(found.iter().copied());
            return if as_sent {
                Ok(())
            } else {
                Err(format!("{} records from {from} to {end}; the first that is not as sent: {wrong:?}", found.len()))
            };
        }
        let mut left = found.iter().peekable();
        let mut missing = Vec::new();
        for (offset, record) in sent {
            match left.next_if(|(found, _)| *found == offset) {
                Some((_, found)) if *found != record => {
                    return Err(format!("offset {offset} is not as sent: {found:?}"));
                }
                Some(_) if self.compacted.contains(&offset) => return Err(format!("offset {offset} has come back")),
                Some(_) => {}
                None => missing.push((offset, record)),
            }
        }
        if let Some((offset, record)) = left.next() {
            return Err(format!("offset {offset} is there twice, or out of order: {record:?}"));
        }
        // What is missing has made room: a newer record of its key is there, or it was a tombstone, and nothing older is left.
        for (offset, record) in &missing {
            // Newer ones that are not shown take no part.
            let shown = self.records.get(..end as usize).unwrap_or_default();
            let newest = shown.iter().rposition(|other| other.key == record.key);
            let is_newest = newest == Some(*offset as usize);
            if is_newest && record.value.is_some() {
                return Err(format!("offset {offset} is missing, the newest record of its key: {record:?}"));
            }
            if record.value.is_none() && found.iter().any(|(older, other)| older < offset && other.key == record.key) {
                return Err(format!("the tombstone at offset {offset} is gone, and what it deletes is there"));
            }
        }
        self.compacted.extend(missing.iter().map(|(offset, _)| *offset));
        Ok(())
    }
}

/// A Produce request with acks=all that waits for its answer.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    pub(crate) base_offset: Offset,
    pub(crate) end_offset: Offset,
    /// Who sends it again after a crash.
    pub(crate) producer: Option<ProducerId>,
    pub(crate) batch: Vec<u8>,
    pub(crate) records: Vec<Sent>,
}

/// An idempotent producer's state in one partition.
#[derive(Debug, Default)]
pub(crate) struct ProducerModel {
    pub(crate) next_sequence: i32,
    /// After each of its batches: the offset and the sequence that come next.
    pub(crate) appended: Vec<(Offset, i32)>,
}

/// A group's offset.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// What was acknowledged last.
    pub(crate) acknowledged: Option<Offset>,
    /// What was asked for since, without an answer.
    pub(crate) in_doubt: Vec<Offset>,
}

impl TopicModel {
    pub(crate) fn new(id: Option<TopicId>, existence: Existence, partitions: usize, is_compacted: bool) -> TopicModel {
        TopicModel {
            id,
            existence,
            partitions: (0..partitions).map(|_| PartitionModel::default()).collect(),
            partitions_max: partitions,
            is_compacted,
        }
    }
}
