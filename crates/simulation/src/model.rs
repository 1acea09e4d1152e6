//! What the clients know: what was acknowledged, what was shown, and what is in doubt.

use std::collections::{BTreeMap, VecDeque};

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
    /// What was appended, by offset: a number that stands for the record.
    pub(crate) records: Vec<u64>,
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
}

/// A Produce request with acks=all that waits for its answer.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    pub(crate) base_offset: Offset,
    pub(crate) end_offset: Offset,
    /// Who sends it again after a crash.
    pub(crate) producer: Option<ProducerId>,
    pub(crate) batch: Vec<u8>,
    pub(crate) records: Vec<u64>,
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
    pub(crate) fn new(id: Option<TopicId>, existence: Existence, partitions: usize) -> TopicModel {
        TopicModel {
            id,
            existence,
            partitions: (0..partitions).map(|_| PartitionModel::default()).collect(),
            partitions_max: partitions,
        }
    }
}
