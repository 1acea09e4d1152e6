//! The input partitions of a query: how far it is in each, their watermarks, and which are idle.

use std::collections::BTreeSet;
use std::sync::Arc;

use millpond_broker::{Broker, Partition, Waiter};
use millpond_types::{Offset, PartitionIndex, TimestampMs, TopicId, TopicName};

use super::failure::QueryFailure;
use super::step_record::{PartitionStep, SourceStep, StepRecord};
use crate::plan::{SourcePlan, StartPosition};

/// One input partition.
pub(crate) struct Input {
    pub(crate) partition: Arc<Partition>,
    /// The next record to read.
    pub(crate) position: Offset,
    /// The greatest watermark that its records gave.
    pub(crate) watermark: Option<TimestampMs>,
    /// Whether it has been without records for so long that nobody waits for it.
    pub(crate) idle: bool,
    /// When a record was last read, or the query began to look; by the node's clock, ms.
    active_ms: TimestampMs,
}

/// The partitions of one source.
pub(crate) struct SourceInputs {
    pub(crate) topic: TopicName,
    pub(crate) id: TopicId,
    has_watermark: bool,
    pub(crate) partitions: Vec<Input>,
    /// Who pins: the stream's name, with the source's place if the topic is read twice.
    pin: String,
}

/// All input partitions, in the order of sources and partitions.
pub(crate) struct Inputs {
    pub(crate) sources: Vec<SourceInputs>,
}

/// Where a query begins that has never run: the slices of its birth, all empty.
pub(crate) fn birth(
    broker: &Broker,
    sources: &[SourcePlan],
    start: StartPosition,
) -> Result<Vec<SourceStep>, QueryFailure> {
    let begin = |partition: &Partition| {
        let from = match start {
            StartPosition::Earliest => partition.log_start(),
            StartPosition::Latest => partition.last_stable_offset(),
        };
        PartitionStep { from, to: from, watermark: None, idle: false }
    };
    sources
        .iter()
        .map(|source| {
            let (topic, partitions) = find(broker, &source.topic)?;
            Ok(SourceStep { topic, partitions: partitions.iter().map(|partition| begin(partition)).collect() })
        })
        .collect()
}

/// Under which name a query pins the records of the source at `place`.
pub(crate) fn pin_name(stream: &str, sources: &[SourcePlan], place: usize) -> String {
    let again = sources[..place].iter().any(|other| other.topic == sources[place].topic);
    if again { format!("{stream}#{place}") } else { stream.to_owned() }
}

/// A topic's partitions as they are now.
fn find(broker: &Broker, topic: &TopicName) -> Result<(TopicId, Vec<Arc<Partition>>), QueryFailure> {
    let gone = || {
        QueryFailure::Topic {
        topic: topic.to_string(),
        reason: "it was deleted, and the query reads it. Drop the stream; or make the topic again and register the stream anew".to_owned(),
    }
    };
    let image = broker.topic(topic).ok_or_else(gone)?;
    let partitions = (0..image.partition_count).map(|index| broker.partition_by_id(image.id, index).ok_or_else(gone));
    Ok((image.id, partitions.collect::<Result<_, _>>()?))
}

impl Inputs {
    /// As the last step left them.
    pub(crate) fn after(
        broker: &Broker,
        stream: &str,
        sources: &[SourcePlan],
        last: &StepRecord,
        now_ms: TimestampMs,
    ) -> Result<Inputs, QueryFailure> {
        if last.sources.len() != sources.len() {
            let (steps, plan) = (last.sources.len(), sources.len());
            return Err(QueryFailure::Steps(format!("its steps have {steps} sources and its plan {plan}")));
        }
        let mut inputs = Inputs { sources: Vec::with_capacity(sources.len()) };
        for (place, (source, step)) in sources.iter().zip(&last.sources).enumerate() {
            inputs.sources.push(SourceInputs {
                topic: source.topic.clone(),
                id: step.topic,
                has_watermark: source.watermark.is_some(),
                partitions: Vec::new(),
                pin: pin_name(stream, sources, place),
            });
        }
        inputs.refresh(broker, now_ms)?;
        inputs.apply(last)?;
        Ok(inputs)
    }

    /// Takes partitions on that are new, and sees whether the topics are still those that they were.
    pub(crate) fn refresh(&mut self, broker: &Broker, now_ms: TimestampMs) -> Result<(), QueryFailure> {
        for source in &mut self.sources {
            let known = source.partitions.len();
            match broker.topic(&source.topic) {
                Some(topic) if topic.id == source.id && topic.partition_count as usize == known => continue,
                _ => {}
            }
            let (id, partitions) = find(broker, &source.topic)?;
            if id != source.id {
                return Err(QueryFailure::Topic {
                    topic: source.topic.to_string(),
                    reason: "it was deleted and made again, and the query's positions are those of the old one. Drop the stream and register it anew".to_owned(),
                });
            }
            source.partitions.extend(partitions.into_iter().skip(known).map(|partition| Input {
                position: partition.log_start(),
                partition,
                watermark: None,
                idle: false,
                active_ms: now_ms,
            }));
        }
        Ok(())
    }

    /// Puts every partition where a step left it.
    pub(crate) fn apply(&mut self, step: &StepRecord) -> Result<(), QueryFailure> {
        for (source, taken) in self.sources.iter_mut().zip(&step.sources) {
            if taken.topic != source.id || taken.partitions.len() > source.partitions.len() {
                return Err(QueryFailure::Topic {
                    topic: source.topic.to_string(),
                    reason: "it is not the topic that the query read before. Drop the stream and register it anew"
                        .to_owned(),
                });
            }
            for (input, taken) in source.partitions.iter_mut().zip(&taken.partitions) {
                input.position = taken.to;
                input.watermark = taken.watermark;
                input.idle = taken.idle;
            }
        }
        Ok(())
    }

    /// One entry per partition, in order: source and partition index.
    pub(crate) fn each(&self) -> impl Iterator<Item = (usize, PartitionIndex, &Input)> {
        self.sources.iter().enumerate().flat_map(|(place, source)| {
            source.partitions.iter().map(move |input| (place, input.partition.index(), input))
        })
    }

    /// The partition of a source.
    pub(crate) fn input(&mut self, source: usize, partition: PartitionIndex) -> &mut Input {
        &mut self.sources[source].partitions[partition as usize]
    }

    /// Whether there is something to read.
    pub(crate) fn has_records(&self) -> bool {
        self.each().any(|(_, _, input)| input.has_records())
    }

    /// Wakes `waiter` when there is something new to read.
    pub(crate) fn watch(&self, waiter: &Arc<Waiter>) {
        self.each().for_each(|(_, _, input)| input.partition.watch(waiter));
    }

    /// Whether a partition has been quiet for so long that the step has to say so.
    pub(crate) fn some_idle_due(&self, now_ms: TimestampMs, timeout_ms: i64) -> bool {
        let marked = |source: &SourceInputs| source.has_watermark;
        self.sources
            .iter()
            .filter(|source| marked(source))
            .flat_map(|source| &source.partitions)
            .any(|input| input.is_idle_due(now_ms, timeout_ms))
    }

    /// When the next partition will be idle, if that can move the watermark at all; ms of the node's clock. Else nobody
    /// has to look: an idle query sleeps.
    pub(crate) fn next_idle_ms(&self, timeout_ms: i64) -> Option<TimestampMs> {
        let all: BTreeSet<usize> = (0..self.sources.len()).collect();
        let marked = || self.sources.iter().filter(|source| source.has_watermark).flat_map(|source| &source.partitions);
        let reachable = marked().filter_map(|input| input.watermark).max()?;
        if self.watermark(&all).is_some_and(|watermark| watermark >= reachable) {
            return None;
        }
        marked().filter(|input| !input.idle && !input.has_records()).map(|input| input.active_ms + timeout_ms).min()
    }

    /// The watermark of some sources: the least of the partitions that are not idle; once all are, the greatest.
    /// None while a partition that counts has none.
    pub(crate) fn watermark(&self, sources: &BTreeSet<usize>) -> Option<TimestampMs> {
        let inputs = || {
            let marked =
                self.sources.iter().enumerate().filter(|(place, s)| s.has_watermark && sources.contains(place));
            marked.flat_map(|(_, source)| &source.partitions)
        };
        if inputs().all(|input| input.idle) {
            return inputs().filter_map(|input| input.watermark).max();
        }
        inputs().filter(|input| !input.idle).map(|input| input.watermark).min().flatten()
    }

    /// The partition that the watermark of the whole query waits for.
    pub(crate) fn held_by(&self) -> Option<(String, PartitionIndex)> {
        let active = self.sources.iter().filter(|source| source.has_watermark).flat_map(|source| &source.partitions);
        let slowest = active.filter(|input| !input.idle).min_by_key(|input| input.watermark)?;
        Some((slowest.partition.topic().to_string(), slowest.partition.index()))
    }

    /// Keeps what is needed from being deleted: from the positions of `step` on.
    pub(crate) fn pin(&self, step: &StepRecord) {
        for (place, source) in self.sources.iter().enumerate() {
            for input in &source.partitions {
                let from = step.partition(place, input.partition.index()).map_or(input.position, |taken| taken.to);
                input.partition.pin(&source.pin, from);
            }
        }
    }
}

impl Input {
    /// Whether there is something to read.
    pub(crate) fn has_records(&self) -> bool {
        self.partition.last_stable_offset() > self.position
    }

    fn is_idle_due(&self, now_ms: TimestampMs, timeout_ms: i64) -> bool {
        !self.idle && !self.has_records() && now_ms - self.active_ms >= timeout_ms
    }

    /// A step read up to `to`, perhaps nothing; decides whether the partition is idle now.
    pub(crate) fn advance(&mut self, to: Offset, now_ms: TimestampMs, idle_timeout_ms: Option<i64>) {
        if to > self.position {
            (self.position, self.idle, self.active_ms) = (to, false, now_ms);
        } else if let Some(timeout_ms) = idle_timeout_ms {
            self.idle |= self.is_idle_due(now_ms, timeout_ms);
        }
    }
}
