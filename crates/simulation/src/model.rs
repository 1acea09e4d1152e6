//! What the clients know: what was acknowledged, what was shown, and what is in doubt.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millpond_types::{Offset, ProducerId, TopicId};

/// Everything that the clients know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) topics: BTreeMap<String, TopicModel>,
    /// By group, topic and partition.
    pub(crate) committed: BTreeMap<(String, String, i32), Committed>,
}

/// A topic.
#[derive(Debug, Clone)]
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
    pub(crate) kind: Kind,
}

/// What a record has to do with transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// It is in a transaction of this producer.
    InTransactionOf(ProducerId),
    /// It ends one, if one is open.
    Marker {
        producer: ProducerId,
        commits: bool,
    },
}

/// What became of a record, for who sees the records up to some offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It counts.
    Committed,
    /// The marker at this offset says that it does not.
    Aborted(Offset),
    /// Its transaction is open.
    Open,
    Marker,
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
#[derive(Debug, Clone, Default)]
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

    /// What became of each record below `end`, and where the marker is that says so.
    fn fates(&self, end: Offset) -> Vec<(Fate, Option<Offset>)> {
        let mut fates: Vec<(Fate, Option<Offset>)> = Vec::new();
        let mut open: BTreeMap<ProducerId, Vec<usize>> = BTreeMap::new();
        for (place, record) in self.records.iter().take(end as usize).enumerate() {
            let fate = match record.kind {
                Kind::Plain => (Fate::Committed, None),
                Kind::InTransactionOf(producer) => {
                    open.entry(producer).or_default().push(place);
                    (Fate::Open, None)
                }
                Kind::Marker { producer, commits } => {
                    let at = place as Offset;
                    let fate = if commits { Fate::Committed } else { Fate::Aborted(at) };
                    for place in open.remove(&producer).unwrap_or_default() {
                        if let Some(slot) = fates.get_mut(place) {
                            *slot = (fate, Some(at));
                        }
                    }
                    (Fate::Marker, None)
                }
            };
            fates.push(fate);
        }
        fates
    }

    /// Whether a transaction of the producer is open.
    pub(crate) fn is_open(&self, producer: ProducerId) -> bool {
        let of_producer = |record: &&Sent| match record.kind {
            Kind::InTransactionOf(other) | Kind::Marker { producer: other, .. } => other == producer,
            Kind::Plain => false,
        };
        self.records.iter().rfind(of_producer).is_some_and(|last| matches!(last.kind, Kind::InTransactionOf(_)))
    }

    /// Compares what readers of committed records got from `from` on with what others got, who saw the records up to `end`.
    pub(crate) fn check_committed(
        &self,
        committed: &[(Offset, Sent)],
        stable_end: Offset,
        all: &[(Offset, Sent)],
        (from, start, end): (Offset, Offset, Offset),
    ) -> Result<(), String> {
        let fates = self.fates(end);
        let fate = |offset: Offset| fates.get(offset as usize).map_or(Fate::Open, |(fate, _)| *fate);
        let first_open = (start.max(0)..end).find(|offset| fate(*offset) == Fate::Open).unwrap_or(end);
        // A transaction that began below the start holds readers there, unless a crash has made the log forget it.
        let began_before = (0..start.min(end)).any(|offset| fate(offset) == Fate::Open);
        if stable_end != first_open && !(began_before && stable_end == start) {
            return Err(format!(
                "the last stable offset is {stable_end} instead of {first_open} (the log: {start} to {end})"
            ));
        }
        let is_expected =
            |(offset, _): &&(Offset, Sent)| *offset >= from && *offset < stable_end && fate(*offset) == Fate::Committed;
        let expected: Vec<(Offset, Sent)> = all.iter().filter(is_expected).copied().collect();
        let wrong = committed.iter().find(|found| !expected.contains(found));
        let missing = expected.iter().find(|record| !committed.contains(record));
        match (wrong, missing) {
            (None, None) if committed.len() == expected.len() => Ok(()),
            (None, None) => Err("a committed record was read twice".to_owned()),
            (wrong, missing) => Err(format!("of committed records {wrong:?} was read, and {missing:?} was not")),
        }
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
        // What is missing has made room: a newer record of its key is there, or it was a tombstone, and nothing older is left. Or it
        // was aborted. Of a transaction of which the marker is missing nothing is left.
        let fates = self.fates(end);
        let fate = |offset: Offset| fates.get(offset as usize).copied().unwrap_or((Fate::Open, None));
        for (offset, record) in &missing {
            match fate(*offset).0 {
                Fate::Aborted(_) => continue,
                Fate::Open => return Err(format!("offset {offset} is missing, of an open transaction: {record:?}")),
                Fate::Marker => match found.iter().find(|(other, _)| fate(*other).1 == Some(*offset)) {
                    Some(left) => {
                        return Err(format!(
                            "the marker at offset {offset} is missing, and of its transaction {left:?} is there"
                        ));
                    }
                    None => continue,
                },
                Fate::Committed => {}
            }
            // Newer ones that are not shown take no part.
            let shown = self.records.iter().enumerate().take(end as usize);
            let counts = |place: usize| fate(place as Offset).0 == Fate::Committed;
            let mut of_key = shown.filter(|(place, other)| other.key == record.key && counts(*place));
            let is_newest = of_key.next_back().is_some_and(|(place, _)| place == *offset as usize);
            if is_newest && record.value.is_some() {
                return Err(format!("offset {offset} is missing, the newest record of its key: {record:?}"));
            }
            let deletes = |(older, other): &&(Offset, Sent)| {
                older < offset && other.key == record.key && fate(*older).0 == Fate::Committed
            };
            if record.value.is_none() && found.iter().any(|older| deletes(&older)) {
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
#[derive(Debug, Clone, Default)]
pub(crate) struct ProducerModel {
    pub(crate) next_sequence: i32,
    /// After each of its batches: the offset and the sequence that come next.
    pub(crate) appended: Vec<(Offset, i32)>,
}

/// A group's offset.
#[derive(Debug, Clone, Default)]
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
