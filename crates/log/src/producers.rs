//! What idempotent producers have written, so that a batch sent twice is appended once (KIP-98).
//!
//! Owns the last [`BATCHES_KEPT`] batches of each producer id. A producer has at most that many requests in
//! flight, so a batch that is sent again is among them.

use std::collections::{HashMap, VecDeque};

use millpond_records::{BatchHeader, increment_sequence};
use millpond_types::{Offset, ProducerEpoch, ProducerId, TimestampMs};

use crate::AppendError;

/// Batches kept of each producer, which is also how many requests a producer may have in flight (Kafka's number).
pub(crate) const BATCHES_KEPT: usize = 5;

/// Producers remembered by a log, at most. Beyond it, those that have not written for longest are forgotten: a
/// producer that nothing is known of may go on with any sequence.
pub const PRODUCERS_MAX: usize = 5_000;

/// A batch of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducedBatch {
    pub(crate) last_sequence: i32,
    pub(crate) last_offset: Offset,
    /// Last − first offset, which is also last − first sequence.
    pub(crate) offset_delta: i32,
    /// When it was appended.
    pub(crate) timestamp: TimestampMs,
}

impl ProducedBatch {
    fn first_offset(&self) -> Offset {
        self.last_offset - i64::from(self.offset_delta)
    }

    fn first_sequence(&self) -> i32 {
        increment_sequence(self.last_sequence, -self.offset_delta)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: ProducerEpoch,
    /// Oldest first, at most [`BATCHES_KEPT`], at least one.
    pub(crate) batches: VecDeque<ProducedBatch>,
}

impl Producer {
    fn last_timestamp(&self) -> TimestampMs {
        self.batches.back().map_or(-1, |batch| batch.timestamp)
    }
}

/// A producer that has written to a log lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Who.
    pub producer_id: ProducerId,
    /// The newest epoch that wrote.
    pub producer_epoch: ProducerEpoch,
    /// The last sequence number.
    pub last_sequence: i32,
    /// The offset of that record.
    pub last_offset: Offset,
    /// When it was appended, ms since 1970.
    pub last_timestamp: TimestampMs,
}

/// All producers of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: HashMap<ProducerId, Producer>,
}

/// What is to be done with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    New,
    /// It was appended before, at these first and last offsets.
    Duplicate(Offset, Offset),
}

impl Producers {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether a batch with a producer may be appended at `next_offset`.
    pub(crate) fn check(&self, header: &BatchHeader, next_offset: Offset) -> Result<Verdict, AppendError> {
        let Some(producer) = self.by_id.get(&header.producer_id) else { return Ok(Verdict::New) };
        let (last_sequence, expected) = if header.producer_epoch == producer.epoch {
            let same = |batch: &&ProducedBatch| {
                batch.first_sequence() == header.base_sequence && batch.last_sequence == header.last_sequence()
            };
            if let Some(batch) = producer.batches.iter().find(same) {
                return Ok(Verdict::Duplicate(batch.first_offset(), batch.last_offset));
            }
            let last = producer.batches.back().map_or(-1, |batch| batch.last_sequence);
            (last, increment_sequence(last, 1))
        } else if header.producer_epoch < producer.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: header.producer_id,
                found: header.producer_epoch,
                current: producer.epoch,
            });
        } else {
            (-1, 0)
        };
        if header.base_sequence == expected {
            return Ok(Verdict::New);
        }
        Err(AppendError::OutOfOrderSequence {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            last_sequence,
            found: header.base_sequence,
            next_offset,
        })
    }

    /// Takes note of a batch that was appended: `header` with its offsets stamped.
    pub(crate) fn note(&mut self, header: &BatchHeader, timestamp: TimestampMs) {
        let batch = ProducedBatch {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp,
        };
        self.note_batch(header.producer_id, header.producer_epoch, batch);
    }

    pub(crate) fn note_batch(&mut self, id: ProducerId, epoch: ProducerEpoch, batch: ProducedBatch) {
        if self.by_id.len() >= PRODUCERS_MAX && !self.by_id.contains_key(&id) {
            self.forget_oldest();
        }
        let producer =
            self.by_id.entry(id).or_insert_with(|| Producer { epoch, batches: VecDeque::with_capacity(BATCHES_KEPT) });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.batches.push_back(batch);
    }

    /// Forgets a sixteenth of the producers, so that the search is paid once for many.
    fn forget_oldest(&mut self) {
        let mut written: Vec<(TimestampMs, ProducerId)> =
            self.by_id.iter().map(|(id, producer)| (producer.last_timestamp(), *id)).collect();
        written.sort_unstable();
        for (_, id) in written.into_iter().take(PRODUCERS_MAX / 16) {
            self.by_id.remove(&id);
        }
    }

    /// Forgets the producers that have not written for `expiration_ms`.
    pub(crate) fn expire(&mut self, now_ms: TimestampMs, expiration_ms: i64) {
        self.by_id.retain(|_, producer| now_ms.saturating_sub(producer.last_timestamp()) < expiration_ms);
    }

    /// The producers, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProducerId, &Producer)> {
        let mut ids: Vec<(ProducerId, &Producer)> = self.by_id.iter().map(|(id, producer)| (*id, producer)).collect();
        ids.sort_unstable_by_key(|(id, _)| *id);
        ids.into_iter()
    }

    pub(crate) fn active(&self) -> Vec<ActiveProducer> {
        let newest = |(producer_id, producer): (ProducerId, &Producer)| {
            producer.batches.back().map(|last| ActiveProducer {
                producer_id,
                producer_epoch: producer.epoch,
                last_sequence: last.last_sequence,
                last_offset: last.last_offset,
                last_timestamp: last.timestamp,
            })
        };
        self.iter().filter_map(newest).collect()
    }
}
