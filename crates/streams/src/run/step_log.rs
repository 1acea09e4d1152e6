//! The internal topic of step records: writing, reading back, and keeping it short.
//!
//! A query needs its steps since its last checkpoint, and one without state only its last. The topic's start moves up
//! to the oldest step that any query needs. A query that has not moved for long (it is paused, failed, or nobody
//! writes to its inputs) would hold it, so its few steps are **carried**: appended again at the end. A step that
//! stands there twice is one step.

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond_broker::{Broker, NewTopicRequest, Partition};
use millpond_records::{BatchBuilder, BatchOptions, batches};
use millpond_types::Offset;
use parking_lot::Mutex;

use super::failure::QueryFailure;
use super::step_record::StepRecord;
use super::waits::Waits;
use super::{QueryId, STEPS_TOPIC};

/// When the log is made shorter.
#[derive(Debug, Clone, Copy)]
pub struct StepLogLimits {
    /// The start of the log is moved after so many records.
    pub trim_every_records: usize,
    /// Steps that lie so many records further back than the end are carried.
    pub carry_distance_records: Offset,
}

impl Default for StepLogLimits {
    fn default() -> StepLogLimits {
        StepLogLimits { trim_every_records: 4_096, carry_distance_records: 65_536 }
    }
}

/// Bytes of a batch of carried steps, at most.
const CARRY_BATCH_BYTES_MAX: usize = 500_000;
const READ_BYTES_MAX: usize = 1 << 20;
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// What is done with a record's offset and value.
type EachRecord<'a> = dyn FnMut(Offset, &[u8]) -> Result<(), QueryFailure> + 'a;

/// The step log of the node. Shared by the queries' threads.
pub(crate) struct StepLog {
    broker: Arc<Broker>,
    waits: Waits,
    partition: Arc<Partition>,
    limits: StepLogLimits,
    needed: Mutex<Needed>,
}

#[derive(Default)]
struct Needed {
    /// Where the steps stand that a query needs.
    by_query: BTreeMap<QueryId, BTreeMap<u64, Offset>>,
    appended_since_trim: usize,
}

impl StepLog {
    /// Opens the log, or makes its topic, and finds out whose steps stand where. Not to be called on a thread of the
    /// async runtime.
    pub(crate) fn open(broker: Arc<Broker>, waits: Waits, limits: StepLogLimits) -> Result<StepLog, QueryFailure> {
        if broker.partition(STEPS_TOPIC, 0).is_none() {
            let request = NewTopicRequest {
                partitions: 1,
                internal: true,
                configs: vec![
                    ("retention.ms".to_owned(), Some("-1".to_owned())),
                    ("retention.bytes".to_owned(), Some("-1".to_owned())),
                ],
                ..NewTopicRequest::new(STEPS_TOPIC)
            };
            waits.finish(broker.create_topic(request, false)).map_err(|e| QueryFailure::topic(STEPS_TOPIC, e))?;
        }
        let partition = broker
            .partition(STEPS_TOPIC, 0)
            .ok_or_else(|| QueryFailure::Steps(format!("the topic {STEPS_TOPIC} was made and is not there")))?;
        let log = StepLog { broker, waits, partition, limits, needed: Mutex::default() };
        log.find_steps()?;
        Ok(log)
    }

    fn find_steps(&self) -> Result<(), QueryFailure> {
        let mut needed = self.needed.lock();
        self.each_record(self.partition.log_start(), self.partition.visible_end(), &mut |offset, bytes| {
            let record = decode(offset, bytes)?;
            needed.by_query.entry(record.query).or_default().insert(record.step, offset);
            Ok(())
        })
    }

    fn each_record(&self, from: Offset, to: Offset, each: &mut EachRecord<'_>) -> Result<(), QueryFailure> {
        let mut position = from;
        while position < to {
            let fetched = self
                .partition
                .read(position, READ_BYTES_MAX, true)
                .map_err(|error| QueryFailure::fetch(STEPS_TOPIC, error))?;
            let before = position;
            for batch in fetched.chunks.iter().flat_map(|chunk| batches(chunk)) {
                let damaged = |error| QueryFailure::Steps(format!("a bad batch behind offset {before}: {error}"));
                let batch = batch.map_err(damaged)?;
                let mut records = batch.records(DECOMPRESSED_BYTES_MAX).map_err(damaged)?;
                while let Some(record) = records.next() {
                    let record = record.map_err(damaged)?;
                    if (from..to).contains(&record.offset) {
                        each(record.offset, record.value.unwrap_or_default())?;
                    }
                }
                position = position.max(batch.header.next_offset());
            }
            if position == before {
                break;
            }
        }
        Ok(())
    }

    /// Appends a step. It is not durable before [`StepLog::sync`] with what this gives.
    pub(crate) fn append(&self, record: &StepRecord) -> Result<Offset, QueryFailure> {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.push(record.clock_ms, None, Some(&record.encode()), &[]);
        let mut needed = self.needed.lock();
        let appended =
            self.partition.append_owned(batch.build()).map_err(|error| QueryFailure::produce(STEPS_TOPIC, error))?;
        needed.by_query.entry(record.query).or_default().insert(record.step, appended.base_offset);
        needed.appended_since_trim += 1;
        Ok(appended.last_offset + 1)
    }

    /// The offset after the last step.
    pub(crate) fn end(&self) -> Offset {
        self.partition.end()
    }

    /// Waits until everything below `end` is durable.
    pub(crate) fn sync(&self, end: Offset) -> Result<(), QueryFailure> {
        self.waits.durable(&self.partition, end).map_err(|error| QueryFailure::produce(STEPS_TOPIC, error))
    }

    /// `query` does not need its steps below `step` any more.
    pub(crate) fn forget_before(&self, query: QueryId, step: u64) {
        let mut needed = self.needed.lock();
        if let Some(steps) = needed.by_query.get_mut(&query) {
            while steps.first_key_value().is_some_and(|(oldest, _)| *oldest < step) {
                steps.pop_first();
            }
        }
    }

    /// The query is gone.
    pub(crate) fn forget(&self, query: QueryId) {
        self.needed.lock().by_query.remove(&query);
    }

    /// The queries that have steps here.
    pub(crate) fn queries(&self) -> Vec<QueryId> {
        self.needed.lock().by_query.keys().copied().collect()
    }

    /// The steps that `query` needs, in order.
    pub(crate) fn read(&self, query: QueryId) -> Result<Vec<StepRecord>, QueryFailure> {
        let places: Vec<Offset> = match self.needed.lock().by_query.get(&query) {
            Some(steps) => steps.values().copied().collect(),
            None => Vec::new(),
        };
        let mut found = Vec::with_capacity(places.len());
        for place in places {
            self.each_record(place, place + 1, &mut |offset, bytes| {
                found.push(decode(offset, bytes)?);
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Moves the log's start, when enough was appended since the last time.
    pub(crate) fn trim(&self) -> Result<(), QueryFailure> {
        let mut needed = self.needed.lock();
        if needed.appended_since_trim < self.limits.trim_every_records {
            return Ok(());
        }
        needed.appended_since_trim = 0;
        let end = self.partition.end();
        let too_far = end - self.limits.carry_distance_records;
        for steps in needed.by_query.values_mut() {
            if steps.values().any(|place| *place < too_far) {
                self.carry(steps)?;
            }
        }
        let oldest = needed.by_query.values().flat_map(BTreeMap::values).min().copied().unwrap_or(end);
        drop(needed);
        // Carried steps must be where they went before they leave where they were.
        self.sync(self.partition.end())?;
        if oldest > self.partition.log_start() {
            let deleted = self.waits.finish(self.broker.delete_records(&self.partition, oldest));
            deleted.map_err(|error| QueryFailure::trim(STEPS_TOPIC, error))?;
        }
        Ok(())
    }

    fn carry(&self, steps: &mut BTreeMap<u64, Offset>) -> Result<(), QueryFailure> {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        let mut in_batch: Vec<u64> = Vec::new();
        let mut moved: Vec<(u64, Offset)> = Vec::new();
        let mut flush = |batch: &mut BatchBuilder, in_batch: &mut Vec<u64>| -> Result<(), QueryFailure> {
            let full = std::mem::replace(batch, BatchBuilder::new(BatchOptions::default()));
            if full.is_empty() {
                return Ok(());
            }
            let appended =
                self.partition.append_owned(full.build()).map_err(|error| QueryFailure::produce(STEPS_TOPIC, error))?;
            moved.extend(in_batch.drain(..).zip(appended.base_offset..));
            Ok(())
        };
        for (step, place) in steps.iter() {
            self.each_record(*place, *place + 1, &mut |offset, bytes| {
                batch.push(decode(offset, bytes)?.clock_ms, None, Some(bytes), &[]);
                in_batch.push(*step);
                Ok(())
            })?;
            if batch.size_estimate() > CARRY_BATCH_BYTES_MAX {
                flush(&mut batch, &mut in_batch)?;
            }
        }
        flush(&mut batch, &mut in_batch)?;
        steps.extend(moved);
        Ok(())
    }
}

fn decode(offset: Offset, bytes: &[u8]) -> Result<StepRecord, QueryFailure> {
    StepRecord::decode(bytes).map_err(|error| QueryFailure::Steps(format!("at offset {offset}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::step_record::Counters;
    use crate::run::tests::support::open;

    const LIMITS: StepLogLimits = StepLogLimits { trim_every_records: 20, carry_distance_records: 50 };

    fn record(query: u64, step: u64) -> StepRecord {
        StepRecord {
            query: QueryId(query),
            step,
            clock_ms: 5,
            checkpoint: false,
            sources: Vec::new(),
            output_ends: vec![i64::try_from(step).unwrap()],
            errors_end: None,
            counters: Counters::default(),
        }
    }

    fn steps(log: &StepLog, query: u64) -> Vec<u64> {
        log.read(QueryId(query)).unwrap().iter().map(|record| record.step).collect()
    }

    #[test]
    fn the_log_stays_short_and_carries_the_steps_of_who_sleeps() {
        let dir = tempfile::tempdir().unwrap();
        let node = open(dir.path(), |_| {});
        let waits = Waits::Threads(node.runtime.handle().clone());
        let log = StepLog::open(node.broker.clone(), waits.clone(), LIMITS).unwrap();
        for step in 0..3 {
            log.sync(log.append(&record(1, step)).unwrap()).unwrap();
        }
        for step in 0..1000 {
            log.sync(log.append(&record(2, step)).unwrap()).unwrap();
            log.forget_before(QueryId(2), step);
            log.trim().unwrap();
        }
        let kept = log.partition.end() - log.partition.log_start();
        assert!(kept < 100, "{kept} records are kept");
        assert_eq!(steps(&log, 1), [0, 1, 2]);
        assert_eq!(steps(&log, 2), [999]);
        let again = StepLog::open(node.broker.clone(), waits, LIMITS).unwrap();
        assert_eq!(steps(&again, 1), [0, 1, 2], "a step that stands there twice is one");
        assert_eq!(steps(&again, 2).last(), Some(&999));
        again.forget(QueryId(1));
        assert_eq!(steps(&again, 1), [0; 0]);
        drop((log, again));
        node.stop();
    }
}
