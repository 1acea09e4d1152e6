//! What idempotent producers have written, so that a batch sent twice is appended once, and which of them are in the
//! middle of a transaction (KIP-98).
//!
//! Owns the last [`BATCHES_KEPT`] batches of each producer id. A producer has at most that many requests in
//! flight, so a batch that is sent again is among them. A producer whose transaction is open is never forgotten.

use std::collections::{BTreeSet, HashMap, VecDeque};

use millpond_records::{BatchHeader, TransactionMarker, TransactionResult, increment_sequence};
use millpond_types::{
    CoordinatorEpoch, NO_COORDINATOR_EPOCH, NO_SEQUENCE, Offset, ProducerEpoch, ProducerId, TimestampMs,
};

use crate::{AbortedTransaction, AppendError};

/// Batches kept of each producer, which is also how many requests a producer may have in flight (Kafka's number).
pub(crate) const BATCHES_KEPT: usize = 5;

/// Producers remembered by a log, at most. Beyond it, those that have not written for longest are forgotten: a
/// producer that nothing is known of may go on with any sequence.
pub const PRODUCERS_MAX: usize = 5_000;

/// Transactions that are open in a log at a time, at most: another one is refused. It is less than [`PRODUCERS_MAX`], so that
/// there is always a producer to forget. A log that comes from elsewhere may have more.
pub const OPEN_TRANSACTIONS_MAX: usize = 4_000;

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
    /// Oldest first, at most [`BATCHES_KEPT`]; none of a producer of which only a marker came in this epoch.
    pub(crate) batches: VecDeque<ProducedBatch>,
    /// When its last batch was appended, or the marker that ended its last transaction.
    pub(crate) last_timestamp: TimestampMs,
    /// That of the last marker; [`NO_COORDINATOR_EPOCH`] before the first.
    pub(crate) coordinator_epoch: CoordinatorEpoch,
    /// The first offset of the transaction that it is in.
    pub(crate) open_transaction: Option<Offset>,
    /// Nothing is known of what it sent before: only a marker is there, the records may have been deleted. So it may go on with any
    /// sequence, as one that is not known at all.
    pub(crate) takes_any_sequence: bool,
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Producer {
        Producer {
            epoch,
            batches: VecDeque::with_capacity(BATCHES_KEPT),
            last_timestamp: -1,
            coordinator_epoch: NO_COORDINATOR_EPOCH,
            open_transaction: None,
            takes_any_sequence: true,
        }
    }

    /// The batches of older epochs mean nothing in a new one.
    fn go_to_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
            self.takes_any_sequence = false;
        }
    }

    fn push(&mut self, batch: ProducedBatch) {
        self.takes_any_sequence = false;
        if self.batches.len() == BATCHES_KEPT {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
    }
}

/// A transaction that a marker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndedTransaction {
    pub(crate) producer_id: ProducerId,
    pub(crate) result: TransactionResult,
    pub(crate) first_offset: Offset,
    /// That of the marker.
    pub(crate) last_offset: Offset,
    /// The first offset of the transactions that are open still, or the one after the marker.
    pub(crate) last_stable_offset: Offset,
}

impl EndedTransaction {
    /// What the transaction index says of it; nothing if it was committed.
    pub(crate) fn aborted(&self) -> Option<AbortedTransaction> {
        (self.result == TransactionResult::Abort).then_some(AbortedTransaction {
            producer_id: self.producer_id,
            first_offset: self.first_offset,
            last_offset: self.last_offset,
            last_stable_offset: self.last_stable_offset,
        })
    }
}

/// A producer that has written to a log lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Who.
    pub producer_id: ProducerId,
    /// The newest epoch that wrote.
    pub producer_epoch: ProducerEpoch,
    /// The last sequence number in that epoch, -1 if there is none.
    pub last_sequence: i32,
    /// The offset of that record, -1 if there is none.
    pub last_offset: Offset,
    /// When it or the last marker was appended, ms since 1970.
    pub last_timestamp: TimestampMs,
    /// Which coordinator ended its last transaction, -1 if there was none.
    pub coordinator_epoch: CoordinatorEpoch,
    /// The first offset of the transaction that it is in.
    pub open_transaction: Option<Offset>,
}

/// All producers of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: HashMap<ProducerId, Producer>,
    /// The first offsets of the transactions that are open.
    open: BTreeSet<Offset>,
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

    /// Whether a batch with a producer may be appended at `next_offset`. Not for markers.
    pub(crate) fn check(&self, header: &BatchHeader, next_offset: Offset) -> Result<Verdict, AppendError> {
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            self.check_transaction(header, None)?;
            return Ok(Verdict::New);
        };
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
        let takes_any = producer.takes_any_sequence && header.producer_epoch == producer.epoch;
        if header.base_sequence == expected || takes_any {
            self.check_transaction(header, producer.open_transaction)?;
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

    /// Whether the batch fits the transaction that its producer is in, or may begin one.
    fn check_transaction(&self, header: &BatchHeader, open: Option<Offset>) -> Result<(), AppendError> {
        let producer_id = header.producer_id;
        match (open, header.is_transactional()) {
            (Some(first_offset), false) => Err(AppendError::TransactionOpen { producer_id, first_offset }),
            (None, true) if self.open.len() >= OPEN_TRANSACTIONS_MAX => {
                Err(AppendError::TooManyTransactions { producer_id })
            }
            _ => Ok(()),
        }
    }

    /// Whether a marker may be appended.
    pub(crate) fn check_marker(&self, marker: &TransactionMarker) -> Result<(), AppendError> {
        let Some(producer) = self.by_id.get(&marker.producer_id) else { return Ok(()) };
        let producer_id = marker.producer_id;
        if marker.producer_epoch < producer.epoch {
            let (found, current) = (marker.producer_epoch, producer.epoch);
            return Err(AppendError::InvalidProducerEpoch { producer_id, found, current });
        }
        if marker.coordinator_epoch < producer.coordinator_epoch {
            let (found, current) = (marker.coordinator_epoch, producer.coordinator_epoch);
            return Err(AppendError::CoordinatorFenced { producer_id, found, current });
        }
        Ok(())
    }

    /// Takes note of a batch that was appended: `header` with its offsets stamped. Says whether a transaction began with it.
    pub(crate) fn note(&mut self, header: &BatchHeader, timestamp: TimestampMs) -> bool {
        let producer = self.producer(header.producer_id, header.producer_epoch);
        producer.go_to_epoch(header.producer_epoch);
        producer.push(ProducedBatch {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp,
        });
        producer.last_timestamp = timestamp;
        let begins = header.is_transactional() && producer.open_transaction.is_none();
        if begins {
            producer.open_transaction = Some(header.base_offset);
            self.open.insert(header.base_offset);
        }
        begins
    }

    /// Takes note of a marker that was appended at `offset`. `None`: its producer had written nothing since the last one.
    pub(crate) fn note_marker(
        &mut self,
        marker: &TransactionMarker,
        offset: Offset,
        timestamp: TimestampMs,
    ) -> Option<EndedTransaction> {
        let producer = self.producer(marker.producer_id, marker.producer_epoch);
        producer.go_to_epoch(marker.producer_epoch);
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.last_timestamp = timestamp;
        let first_offset = producer.open_transaction.take()?;
        self.open.remove(&first_offset);
        Some(EndedTransaction {
            producer_id: marker.producer_id,
            result: marker.result,
            first_offset,
            last_offset: offset,
            last_stable_offset: self.first_open_transaction().unwrap_or(offset + 1),
        })
    }

    /// Takes in what a snapshot tells of a producer, with one of its batches if it has any; an entry for the next one follows.
    pub(crate) fn restore(&mut self, id: ProducerId, entry: Producer) {
        let producer = self.producer(id, entry.epoch);
        let before = producer.open_transaction;
        producer.go_to_epoch(entry.epoch);
        entry.batches.into_iter().for_each(|batch| producer.push(batch));
        producer.last_timestamp = entry.last_timestamp;
        producer.coordinator_epoch = entry.coordinator_epoch;
        producer.open_transaction = entry.open_transaction;
        producer.takes_any_sequence = producer.batches.is_empty() && entry.takes_any_sequence;
        if let Some(before) = before {
            self.open.remove(&before);
        }
        self.open.extend(entry.open_transaction);
    }

    /// The first offset of all transactions that are open.
    pub(crate) fn first_open_transaction(&self) -> Option<Offset> {
        self.open.first().copied()
    }

    /// The producer of this id, which is made if it is not there.
    fn producer(&mut self, id: ProducerId, epoch: ProducerEpoch) -> &mut Producer {
        if self.by_id.len() >= PRODUCERS_MAX && !self.by_id.contains_key(&id) {
            self.forget_oldest();
        }
        self.by_id.entry(id).or_insert_with(|| Producer::new(epoch))
    }

    /// Forgets a sixteenth of the producers, so that the search is paid once for many; none whose transaction is open.
    fn forget_oldest(&mut self) {
        let idle = self.by_id.iter().filter(|(_, producer)| producer.open_transaction.is_none());
        let mut written: Vec<(TimestampMs, ProducerId)> =
            idle.map(|(id, producer)| (producer.last_timestamp, *id)).collect();
        written.sort_unstable();
        for (_, id) in written.into_iter().take(PRODUCERS_MAX / 16) {
            self.by_id.remove(&id);
        }
    }

    /// Forgets the producers that have not written for `expiration_ms`; none whose transaction is open.
    pub(crate) fn expire(&mut self, now_ms: TimestampMs, expiration_ms: i64) {
        self.by_id.retain(|_, producer| {
            producer.open_transaction.is_some() || now_ms.saturating_sub(producer.last_timestamp) < expiration_ms
        });
    }

    /// The producers, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProducerId, &Producer)> {
        let mut ids: Vec<(ProducerId, &Producer)> = self.by_id.iter().map(|(id, producer)| (*id, producer)).collect();
        ids.sort_unstable_by_key(|(id, _)| *id);
        ids.into_iter()
    }

    pub(crate) fn active(&self) -> Vec<ActiveProducer> {
        let shown = |(producer_id, producer): (ProducerId, &Producer)| {
            let last = producer.batches.back();
            ActiveProducer {
                producer_id,
                producer_epoch: producer.epoch,
                last_sequence: last.map_or(NO_SEQUENCE, |batch| batch.last_sequence),
                last_offset: last.map_or(-1, |batch| batch.last_offset),
                last_timestamp: producer.last_timestamp,
                coordinator_epoch: producer.coordinator_epoch,
                open_transaction: producer.open_transaction,
            }
        };
        self.iter().map(shown).collect()
    }
}
