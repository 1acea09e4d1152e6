//! What clients do with streams: make input topics, register queries, send rows, read results, pause and resume.

use std::sync::Arc;

use bytes::BytesMut;
use millpond_broker::{Broker, Driver, NewTopicRequest};
use millpond_records::{BatchBuilder, BatchOptions, Compression};
use millpond_streams::run::QueryState;

use super::node::NodeStreams;
use super::queries::{self, INPUTS};
use crate::node::{NOW_MS, at_once};
use crate::world::{Shared, World};

const NAMES: [&str; 4] = ["ann", "bob", "cyd", "dan"];

/// The topic of an input: nothing of it goes.
pub(crate) fn input_topic(name: &str, partitions: i32) -> NewTopicRequest {
    let configs = vec![("retention.ms".to_owned(), Some("-1".to_owned()))];
    NewTopicRequest { partitions, configs, ..NewTopicRequest::new(name) }
}

impl World {
    /// Makes the topics that are missing.
    pub(crate) fn make_inputs(&mut self) {
        let Some(broker) = self.broker.clone().filter(|_| self.streams.is_some()) else { return };
        for (name, partitions) in INPUTS {
            if broker.topic(name).is_none() {
                let made = at_once(broker.create_topic(input_topic(name, partitions), false));
                self.event(format!("create {name} with {partitions}: {:?}", made.map(|topic| topic.id)));
            }
        }
    }

    /// A client sends rows to an input.
    pub(crate) fn send_rows(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        if self.streams.as_ref().is_none_or(|streams| streams.is_over) {
            return;
        }
        let place = self.random.index(INPUTS.len());
        let Some((topic, partitions)) = INPUTS.get(place) else { return };
        let index = self.random.below(*partitions as u64) as i32;
        let Some(partition) = broker.partition(topic, index) else { return };
        let compression = if self.random.below(6) == 0 { Compression::Lz4 } else { Compression::None };
        let mut batch = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
        let count = 1 + self.random.below(8);
        for _ in 0..count {
            let value = self.row();
            let key = NAMES.get(self.random.index(NAMES.len())).copied().unwrap_or_default();
            batch.push(broker.now_ms(), Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        }
        let begun = broker.begin_produce(&partition, BytesMut::from(&batch.build()[..]));
        self.event(format!("{count} rows to {topic}-{index}: {begun:?}"));
    }

    /// A row as JSON. Event time goes on from row to row, not without steps back; some rows are late, some cannot be computed,
    /// some are no rows.
    fn row(&mut self) -> String {
        let Some(streams) = &mut self.streams else { return String::new() };
        streams.next_row += 1;
        let id = streams.next_row;
        let late_ms = match self.random.below(20) {
            0 => 30_000,
            1..4 => 3_000,
            _ => 0,
        };
        let ts = NOW_MS + id * 900 - late_ms + self.random.below(1_500) as i64;
        let name = NAMES.get(self.random.index(NAMES.len())).copied().unwrap_or_default();
        let amount = self.random.below(20);
        // As long as it takes to go past the journal, now and then.
        let padding = if self.random.below(30) == 0 { "x".repeat(self.random.index(6_000)) } else { String::new() };
        match self.random.below(30) {
            0 => format!("no row {id}"),
            _ => format!(r#"{{"id":{id},"name":"{name}{padding}","amount":{amount},"ts":{ts}}}"#),
        }
    }
}

impl Shared {
    /// Something happens with streams. Gives by how much time goes on, ms.
    pub(crate) fn act_on_streams(&self, streams: &Arc<NodeStreams>, driver: &Driver) -> i64 {
        let choice = self.world.lock().random.below(100);
        match choice {
            0..40 => self.world.lock().send_rows(),
            40..78 => {
                let turns = self.world.lock().random.below(3);
                (0..=turns).for_each(|_| self.query_turn(streams));
            }
            78..84 => self.register(streams),
            84..88 => self.world.lock().look_at_results(),
            88..91 => self.steer(streams),
            91..94 => {
                // The node's threads are quick, as a rule.
                driver.sync_all();
            }
            _ => return self.world.lock().random.below(4_000) as i64,
        }
        0
    }

    /// A client registers the next query.
    fn register(&self, streams: &NodeStreams) {
        let place = {
            let mut world = self.world.lock();
            let Some(known) = &mut world.streams else { return };
            // What it reads must run first.
            let names = known.registered.iter().filter_map(|place| queries::all().get(*place));
            if names.into_iter().any(|query| streams.runner.status(&query.name).is_none()) {
                return;
            }
            let Some(place) = known.wanted.pop() else { return };
            known.registered.push(place);
            place
        };
        let launched = streams.launch(place);
        let mut world = self.world.lock();
        world.event(format!("register {}: {launched:?}", queries::all().get(place).map_or("", |query| &query.name)));
        let excused = world.disk.is_off() || world.streams.as_ref().is_some_and(|streams| streams.may_fail);
        if let Err(error) = launched
            && !excused
        {
            world.violated(format!("a query cannot be registered: {error}"));
        }
    }

    /// Somebody pauses a query, or lets it go on.
    fn steer(&self, streams: &NodeStreams) {
        let mut world = self.world.lock();
        let registered = world.streams.as_ref().map(|streams| streams.registered.clone()).unwrap_or_default();
        let place = registered.get(world.random.index(registered.len())).copied();
        let Some(query) = place.and_then(|place| queries::all().get(place)) else { return };
        let Some(status) = streams.runner.status(&query.name) else { return };
        let paused = status.state == QueryState::Running && world.random.coin();
        let steered = if paused { streams.runner.pause(&query.name) } else { streams.runner.resume(&query.name) };
        world.event(format!("{} {}: {steered:?}", if paused { "pause" } else { "resume" }, query.name));
    }
}

/// All partitions of a topic.
pub(crate) fn partitions_of(broker: &Broker, topic: &str) -> Vec<Arc<millpond_broker::Partition>> {
    let count = broker.topic(topic).map_or(0, |topic| topic.partition_count);
    (0..count).filter_map(|index| broker.partition(topic, index)).collect()
}
