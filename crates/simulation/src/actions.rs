//! What clients do: produce, read, make and delete topics, delete records.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millpond_broker::{Begun, Broker, Driver, FetchedBytes, NewTopicRequest, Partition, ProduceError};
use millpond_log::AppendError;
use millpond_metadata::Actor;
use millpond_records::{
    BatchBuilder, BatchHeader, BatchOptions, Compression, TransactionMarker, TransactionResult, batches,
};
use millpond_types::Offset;

use crate::model::{Existence, InFlight, Kind, Sent, TopicModel};
use crate::node::{at_once, poll_once};
use crate::world::{Shared, World};

/// Topics at a time, at most.
const TOPICS_MAX: usize = 5;
/// Requests of one producer to one partition that wait for their answers, at most, as in every client.
const IN_FLIGHT_MAX: usize = 5;
/// The most bytes of a batch, decompressed.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Bytes that readers ask for.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// Ids of idempotent producers.
const FIRST_PRODUCER_ID: i64 = 9_000;
/// Ids of transactional ones.
const FIRST_TRANSACTIONAL_ID: i64 = 9_100;
const TRANSACTIONAL_PRODUCERS: u64 = 2;

/// The number that stands for a record with this value.
pub(crate) fn number_of(value: &[u8]) -> u64 {
    value.get(..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// The value of a record: its number, and as many bytes that follow from it.
fn value_of(number: u64, len: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.extend((0..len).map(|at| (number as usize + at * at) as u8));
    value
}

/// Whether the value is as it was sent.
fn is_whole(value: &[u8]) -> bool {
    value.len() >= 8 && value == value_of(number_of(value), value.len() - 8)
}

/// The records of a partition from `from` to `end`, as what stands for them. A value that is not whole is 0.
pub(crate) fn read_all(partition: &Partition, from: Offset, end: Offset) -> Result<Vec<(Offset, Sent)>, String> {
    let mut found = Vec::new();
    read_through(from, end, |next| {
        let fetched = partition.read(next, READ_BYTES, true).map_err(|error| error.to_string())?;
        records_of(&fetched, &mut found, |_| true)?;
        Ok(fetched.next_offset)
    })?;
    found.retain(|(offset, _)| *offset >= from);
    Ok(found)
}

/// Reads from `from` to `end`: `read` reads at an offset, and gives the next one.
pub(crate) fn read_through(
    from: Offset,
    end: Offset,
    mut read: impl FnMut(Offset) -> Result<Offset, String>,
) -> Result<(), String> {
    let mut next = from;
    while next < end {
        let after = read(next)?;
        if after <= next {
            return Err(format!("nothing can be read at {next}, though {end} is shown"));
        }
        next = after;
    }
    Ok(())
}

/// The committed records from `from` on, and the last stable offset.
pub(crate) fn read_committed(partition: &Partition, from: Offset) -> Result<(Vec<(Offset, Sent)>, Offset), String> {
    let stable_end = partition.last_stable_offset();
    let mut found = Vec::new();
    read_through(from, stable_end, |next| {
        let (fetched, aborted) = partition.read_committed(next, READ_BYTES, true).map_err(|error| error.to_string())?;
        records_of(&fetched, &mut found, |header| !header.is_control() && !aborted.covers(header))?;
        Ok(fetched.next_offset)
    })?;
    found.retain(|(offset, _)| *offset >= from);
    Ok((found, stable_end))
}

/// Adds the records of the batches that are wanted.
fn records_of(
    fetched: &FetchedBytes,
    found: &mut Vec<(Offset, Sent)>,
    is_wanted: impl Fn(&BatchHeader) -> bool,
) -> Result<(), String> {
    for batch in fetched.chunks.iter().flat_map(|chunk| batches(chunk)) {
        let batch = batch.map_err(|error| error.to_string())?;
        millpond_records::verify_crc(batch.bytes).map_err(|error| error.to_string())?;
        let header = batch.header;
        if !is_wanted(&header) {
            continue;
        }
        if let Some(marker) = TransactionMarker::read(&batch).map_err(|error| error.to_string())? {
            found.push((header.base_offset, marker_sent(&marker)));
            continue;
        }
        let kind = match header.is_transactional() {
            true => Kind::InTransactionOf(header.producer_id),
            false => Kind::Plain,
        };
        let mut records = batch.records(BATCH_BYTES_MAX).map_err(|error| error.to_string())?;
        let each = records.for_each(|record| {
            let value = record.value.map(|value| if is_whole(value) { number_of(value) } else { 0 });
            let key = record.key.and_then(|key| std::str::from_utf8(key).ok()?.parse().ok());
            found.push((record.offset, Sent { key: key.unwrap_or(u8::MAX), value, kind }));
        });
        each.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// What stands for a marker.
fn marker_sent(marker: &TransactionMarker) -> Sent {
    let (producer, commits) = (marker.producer_id, marker.result == TransactionResult::Commit);
    Sent { key: u8::MAX, value: None, kind: Kind::Marker { producer, commits } }
}

impl World {
    fn some_topic(&mut self) -> Option<String> {
        let known: Vec<&String> = self
            .model
            .topics
            .iter()
            .filter(|(_, topic)| topic.existence == Existence::Yes)
            .map(|(name, _)| name)
            .collect();
        let place = self.random.index(known.len());
        known.get(place).map(|name| (*name).clone())
    }

    fn some_partition(&mut self, broker: &Broker) -> Option<(String, usize, Arc<Partition>)> {
        let topic = self.some_topic()?;
        let count = self.model.topics.get(&topic)?.partitions.len();
        let index = self.random.index(count);
        match broker.partition(&topic, index as i32) {
            Some(partition) => Some((topic, index, partition)),
            None => {
                self.violated(format!("{topic}-{index} is not there"));
                None
            }
        }
    }

    /// A client produces a batch.
    pub(crate) fn produce(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        let Some((topic, index, partition)) = self.some_partition(&broker) else { return };
        let (producer, kind) = match self.random.below(12) {
            0..4 => (None, Kind::Plain),
            4 => {
                let id = FIRST_TRANSACTIONAL_ID + self.random.below(TRANSACTIONAL_PRODUCERS) as i64;
                (Some(id), Kind::InTransactionOf(id))
            }
            _ => (Some(FIRST_PRODUCER_ID + self.random.below(3) as i64), Kind::Plain),
        };
        // Who wants to know what came of a batch waits for the disk.
        let acks_all = producer.is_some() || self.random.coin();
        let Some(topic_model) = self.model.topics.get_mut(&topic) else { return };
        let is_compacted = topic_model.is_compacted;
        let Some(model) = topic_model.partitions.get_mut(index) else { return };
        let waiting = model.in_flight.iter().filter(|request| request.producer == producer).count();
        if model.disk_failed || waiting >= IN_FLIGHT_MAX {
            return;
        }
        let sequence = producer.map(|id| model.producers.entry(id).or_default().next_sequence);
        let compression = match self.random.below(6) {
            0 => Compression::Lz4,
            1 => Compression::Zstd,
            _ => Compression::None,
        };
        let mut batch = BatchBuilder::new(BatchOptions {
            compression,
            producer: producer.zip(sequence).map(|(id, sequence)| (id, 0, sequence)),
            transactional: kind != Kind::Plain,
            ..BatchOptions::default()
        });
        let count = 1 + self.random.below(4);
        let mut sent = Vec::new();
        for _ in 0..count {
            self.next_record += 1;
            let len = match self.random.below(20) {
                0 => 10_000 + self.random.index(40_000),
                1..4 => self.random.index(5_000),
                _ => self.random.index(200),
            };
            let key = self.random.below(20) as u8;
            let value = (!is_compacted || self.random.below(5) > 0).then(|| value_of(self.next_record, len));
            sent.push(Sent { key, value: value.as_deref().map(number_of), kind });
            batch.push(broker.now_ms(), Some(key.to_string().as_bytes()), value.as_deref(), &[]);
        }
        let request = InFlight { base_offset: -1, end_offset: -1, producer, batch: batch.build(), records: sent };
        self.send(&broker, &topic, index, &partition, request, acks_all);
    }

    /// Sends a Produce request and takes note of the answer.
    fn send(
        &mut self,
        broker: &Broker,
        topic: &str,
        index: usize,
        partition: &Arc<Partition>,
        mut request: InFlight,
        acks_all: bool,
    ) {
        let begun = broker.begin_produce(partition, BytesMut::from(Bytes::from(request.batch.clone())));
        let count = request.records.len() as i32;
        let off = self.disk.is_off();
        self.event(format!("produce {count} to {topic}-{index}, acks {acks_all}: {begun:?}"));
        let Some(model) = self.model.topics.get_mut(topic).and_then(|topic| topic.partitions.get_mut(index)) else {
            return;
        };
        if off {
            // Nobody hears an answer any more. It may be in the log.
            model.disk_failed = true;
        }
        match begun {
            Ok(Begun::Appended(appended)) if !appended.duplicate => {
                if appended.base_offset != model.end() {
                    let end = model.end();
                    self.violated(format!("{topic}-{index}: appended at {}, {end} was next", appended.base_offset));
                    return;
                }
                model.records.extend(&request.records);
                if let Some(id) =
                    millpond_records::BatchHeader::parse(&request.batch).ok().map(|header| header.producer_id)
                    && let Some(producer) = model.producers.get_mut(&id)
                {
                    producer.next_sequence += count;
                    producer.appended.push((appended.last_offset + 1, producer.next_sequence));
                }
                request.base_offset = appended.base_offset;
                request.end_offset = appended.last_offset + 1;
                if acks_all {
                    model.in_flight.push_back(request);
                } else if !off {
                    model.appended_end = model.end();
                }
                self.summary.batches += 1;
            }
            Ok(Begun::Appended(appended)) => {
                let at = appended.base_offset as usize;
                let is_it = model.records.get(at..=appended.last_offset as usize) == Some(request.records.as_slice());
                if is_it {
                    request.base_offset = appended.base_offset;
                    request.end_offset = appended.last_offset + 1;
                    model.in_flight.push_back(request);
                } else {
                    self.violated(format!("{topic}-{index}: a new batch is taken for the one at {at}"));
                }
            }
            Ok(Begun::Gated(_)) => self.violated(format!("{topic} has a gate")),
            Err(ProduceError::DiskFull(_)) => {}
            Err(ProduceError::Log(AppendError::Disk(error))) if error.is_full() => {}
            Err(ProduceError::Poisoned { .. } | ProduceError::Log(AppendError::Disk(_))) => model.disk_failed = true,
            Err(error) => self.violated(format!("{topic}-{index}: a produce was refused: {error}")),
        }
    }

    /// The transactions that are open: topic, partition and producer.
    fn open_transactions(&self) -> Vec<(String, usize, i64)> {
        let mut open = Vec::new();
        for (name, topic) in self.model.topics.iter().filter(|(_, topic)| topic.existence == Existence::Yes) {
            for (index, model) in topic.partitions.iter().enumerate() {
                let producers = (0..TRANSACTIONAL_PRODUCERS as i64).map(|number| FIRST_TRANSACTIONAL_ID + number);
                let open_here = producers.filter(|producer| model.is_open(*producer));
                open.extend(open_here.map(|producer| (name.clone(), index, producer)));
            }
        }
        open
    }

    /// The coordinator ends a transaction in some partition; or it repeats a marker there, since an answer was lost.
    pub(crate) fn end_transaction(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        let (commits, repeats) = (self.random.coin(), self.random.below(20) == 0);
        let open = self.open_transactions();
        let place = self.random.index(open.len());
        let (topic, index, producer) = match open.into_iter().nth(place).filter(|_| !repeats) {
            Some(open) => open,
            None => {
                let Some((topic, index, _)) = self.some_partition(&broker) else { return };
                (topic, index, FIRST_TRANSACTIONAL_ID + self.random.below(TRANSACTIONAL_PRODUCERS) as i64)
            }
        };
        let Some(partition) = broker.partition(&topic, index as i32) else { return };
        let off_before = self.disk.is_off();
        let Some(model) = self.model.topics.get_mut(&topic).and_then(|topic| topic.partitions.get_mut(index)) else {
            return;
        };
        // A producer waits for all answers before it ends a transaction.
        let waits = model.in_flight.iter().any(|request| request.producer == Some(producer));
        if model.disk_failed || off_before || waits || !(repeats || model.is_open(producer)) {
            return;
        }
        let result = if commits { TransactionResult::Commit } else { TransactionResult::Abort };
        let marker = TransactionMarker { producer_id: producer, producer_epoch: 0, result, coordinator_epoch: 0 };
        let appended = partition.append_marker(&marker);
        let off = self.disk.is_off();
        self.event(format!("{result:?} of {producer} in {topic}-{index}: {appended:?}"));
        let Some(model) = self.model.topics.get_mut(&topic).and_then(|topic| topic.partitions.get_mut(index)) else {
            return;
        };
        if off {
            model.disk_failed = true;
        }
        match appended {
            Ok(appended) if appended.base_offset == model.end() => {
                model.records.push(marker_sent(&marker));
                if !off {
                    model.appended_end = model.end();
                }
                self.summary.markers += 1;
            }
            Ok(appended) => {
                let end = model.end();
                self.violated(format!("{topic}-{index}: a marker at {}, {end} was next", appended.base_offset));
            }
            Err(ProduceError::Log(AppendError::Disk(error))) if error.is_full() => {}
            Err(ProduceError::Poisoned { .. } | ProduceError::Log(AppendError::Disk(_))) => model.disk_failed = true,
            Err(error) => self.violated(format!("{topic}-{index}: a marker was refused: {error}")),
        }
    }

    /// After a start: idempotent producers send again what they have no answer to.
    pub(crate) fn send_again(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        let names: Vec<String> = self.model.topics.keys().cloned().collect();
        for name in names {
            let count = self.model.topics.get(&name).map_or(0, |topic| topic.partitions.len());
            for index in 0..count {
                let Some(partition) = broker.partition(&name, index as i32) else { continue };
                let Some(model) = self.model.topics.get_mut(&name).and_then(|topic| topic.partitions.get_mut(index))
                else {
                    continue;
                };
                let requests = std::mem::take(&mut model.in_flight);
                for request in requests.into_iter().filter(|request| request.producer.is_some()) {
                    self.send(&broker, &name, index, &partition, request, true);
                }
            }
        }
    }

    /// Takes the answers that have come.
    pub(crate) fn settle(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        for (name, topic) in &mut self.model.topics {
            for (index, model) in topic.partitions.iter_mut().enumerate() {
                let Some(partition) = broker.partition(name, index as i32) else { continue };
                while let Some(request) = model.in_flight.front() {
                    let answer = poll_once(pin!(partition.durable(request.end_offset)));
                    match answer {
                        // The answer of a node whose disk is off does not leave the machine.
                        _ if self.disk.is_off() => return,
                        None => break,
                        Some(Ok(())) => {
                            model.durable_end = model.durable_end.max(request.end_offset);
                            model.in_flight.pop_front();
                            self.summary.acknowledged += 1;
                        }
                        Some(Err(_)) => {
                            model.disk_failed = true;
                            break;
                        }
                    }
                }
            }
        }
    }

    /// A consumer reads from some offset to the end of what is shown.
    pub(crate) fn consume(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        let Some((topic, index, partition)) = self.some_partition(&broker) else { return };
        let (start, end) = (partition.log_start(), partition.visible_end());
        let from = start + self.random.below((end - start).max(0) as u64 + 1) as i64;
        let found = read_all(&partition, from, end);
        let committed = read_committed(&partition, from);
        if self.disk.is_off() {
            return;
        }
        let Some(topic_model) = self.model.topics.get_mut(&topic) else { return };
        let is_compacted = topic_model.is_compacted;
        let Some(model) = topic_model.partitions.get_mut(index) else { return };
        let checked = found.and_then(|found| {
            let (committed, stable_end) = committed?;
            model.check_committed(&committed, stable_end, &found, (from, start, end))?;
            model.check_read(&found, from, end, is_compacted)
        });
        match checked {
            Ok(()) => model.durable_end = model.durable_end.max(end),
            Err(violation) => self.violated(format!("{topic}-{index}, read from {from}: {violation}")),
        }
    }

    /// Makes a topic.
    pub(crate) fn create_topic(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        if self.model.topics.len() >= TOPICS_MAX {
            return;
        }
        // Few names, so that they come again.
        self.next_topic = (self.next_topic + 1) % 7;
        let name = format!("topic-{}", self.next_topic);
        if self.model.topics.contains_key(&name) {
            return;
        }
        let partitions = 1 + self.random.below(3) as i32;
        let policy = ["delete", "compact", "compact,delete"][self.random.index(3)];
        let configs = vec![
            ("cleanup.policy".to_owned(), Some(policy.to_owned())),
            ("delete.retention.ms".to_owned(), Some((self.random.below(3) * 600_000).to_string())),
        ];
        let is_compacted = policy != "delete";
        let request = NewTopicRequest { partitions, configs, ..NewTopicRequest::new(&name) };
        let made = at_once(broker.create_topic(request, false));
        self.event(format!("create {name} with {partitions}, {policy}: {:?}", made.as_ref().map(|topic| topic.id)));
        let count = partitions as usize;
        match made {
            Ok(topic) if !self.disk.is_off() => {
                self.model.topics.insert(name, TopicModel::new(Some(topic.id), Existence::Yes, count, is_compacted));
            }
            _ => {
                self.model.topics.insert(name, TopicModel::new(None, Existence::PerhapsMade, count, is_compacted));
            }
        }
    }

    fn take_note_of_deletion(&mut self, name: &str, is_sure: bool) {
        if is_sure {
            self.model.topics.remove(name);
            self.forget_offsets_of(name);
        } else if let Some(topic) = self.model.topics.get_mut(name) {
            topic.existence = Existence::PerhapsDeleted;
        }
    }

    /// The offsets of a deleted topic are gone, too.
    pub(crate) fn forget_offsets_of(&mut self, name: &str) {
        self.model.committed.retain(|(_, topic, _), _| topic != name);
    }

    /// Gives a topic one more partition.
    pub(crate) fn grow_topic(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        let Some(name) = self.some_topic() else { return };
        let count = self.model.topics.get(&name).map_or(0, |topic| topic.partitions.len());
        if count >= 5 {
            return;
        }
        let grown = at_once(broker.create_partitions(&name, count as i32 + 1, None, Actor::Client, false));
        self.event(format!("grow {name} to {}: {grown:?}", count + 1));
        let off = self.disk.is_off();
        if let Some(topic) = self.model.topics.get_mut(&name) {
            topic.partitions_max = count + 1;
            if grown.is_ok() && !off {
                topic.partitions.push(Default::default());
            } else {
                // Whether it is there is not known before the next start; until then nobody uses the topic.
                topic.existence = Existence::PerhapsMade;
            }
        }
    }

    /// Deletes the records below some offset that is shown.
    pub(crate) fn delete_records(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        let Some((topic, index, partition)) = self.some_partition(&broker) else { return };
        let (start, end) = (partition.log_start(), partition.visible_end());
        let to = start + self.random.below((end - start).max(0) as u64 + 1) as i64;
        let deleted = at_once(broker.delete_records(&partition, to));
        self.event(format!("delete the records of {topic}-{index} below {to}: {deleted:?}"));
        let off = self.disk.is_off();
        let Some(model) = self.model.topics.get_mut(&topic).and_then(|topic| topic.partitions.get_mut(index)) else {
            return;
        };
        model.start_max = model.start_max.max(to);
        match deleted {
            Ok(start) if !off => model.start_min = model.start_min.max(start),
            Ok(_) => {}
            Err(_) => model.disk_failed = true,
        }
    }

    /// Retention has run: where logs start now is where they may start.
    pub(crate) fn take_note_of_retention(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        for (name, topic) in &mut self.model.topics {
            for (index, model) in topic.partitions.iter_mut().enumerate() {
                if let Some(partition) = broker.partition(name, index as i32) {
                    model.start_max = model.start_max.max(partition.log_start());
                }
            }
        }
    }
}

impl Shared {
    /// Deletes a topic.
    pub(crate) fn delete_topic(&self, driver: &Driver) {
        let (broker, name) = {
            let mut world = self.world.lock();
            let (Some(broker), Some(name)) = (world.broker.clone(), world.some_topic()) else { return };
            (broker, name)
        };
        let mut deletion = pin!(broker.delete_topic(&name, Actor::Client));
        let mut deleted = poll_once(deletion.as_mut());
        if deleted.is_none() {
            driver.groups(Driver::sync_all);
            deleted = poll_once(deletion.as_mut());
        }
        let mut world = self.world.lock();
        world.event(format!("delete {name}: {deleted:?}"));
        let is_sure = matches!(deleted, Some(Ok(()))) && !world.disk.is_off();
        world.take_note_of_deletion(&name, is_sure);
    }
}
