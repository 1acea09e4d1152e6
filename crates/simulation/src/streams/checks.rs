//! What must be true of what queries write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millpond_broker::{Broker, Driver, Partition};
use millpond_records::batches;
use millpond_streams::run::QueryState;
use millpond_types::Offset;

use super::calm::calm_results;
use super::clients::partitions_of;
use super::node::NodeStreams;
use super::queries::{self, INPUTS, OUTPUT_PREFIX, Order, Query};
use super::{Row, Shown};
use crate::actions::{READ_BYTES, read_through};
use crate::world::{Shared, World};

/// Turns until a node that nothing disturbs has done all that is to be done, at most.
const TURNS_MAX: usize = 20_000;
/// The most bytes of a batch, decompressed.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What is never the disk's fault.
const NO_EXCUSE: [&str; 5] = ["bug in Millpond", "is missing", "is gone", "damaged", "made again"];

/// The records of a partition from `from` to `end`.
pub(crate) fn read_rows(partition: &Partition, from: Offset, end: Offset) -> Result<Vec<(Offset, Row)>, String> {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut found = Vec::new();
    read_through(from, end, |next| {
        let fetched = partition.read(next, READ_BYTES, true).map_err(|error| error.to_string())?;
        for batch in fetched.chunks.iter().flat_map(|chunk| batches(chunk)) {
            let batch = batch.map_err(|error| error.to_string())?;
            let mut records = batch.records(BATCH_BYTES_MAX).map_err(|error| error.to_string())?;
            while let Some(record) = records.next() {
                let record = record.map_err(|error| error.to_string())?;
                let row = Row { timestamp: record.timestamp, key: text(record.key), value: text(record.value) };
                found.push((record.offset, row));
            }
        }
        Ok(fetched.next_offset)
    })?;
    found.retain(|(offset, _)| *offset >= from && *offset < end);
    match found.iter().zip(from..).find(|((offset, _), expected)| offset != expected) {
        Some((_, expected)) => Err(format!("there is no record {expected}, or it is there twice")),
        None if found.len() as i64 != end - from => Err(format!("{} records from {from} to {end}", found.len())),
        None => Ok(found),
    }
}

impl Shown {
    /// Takes note of what a reader saw; an error if it was shown something else before.
    fn take_note(&mut self, found: Vec<(Offset, Row)>) -> Result<(), String> {
        for (offset, row) in found {
            match self.rows.get(&offset) {
                Some(before) if *before != row => {
                    return Err(format!("{row:?} is at {offset}, and {before:?} was shown there"));
                }
                Some(_) => {}
                None => drop(self.rows.insert(offset, row)),
            }
        }
        Ok(())
    }
}

impl World {
    /// After a start: queries must recover again, and what they wrote is to be read again.
    pub(crate) fn streams_started(&mut self) {
        let Some(streams) = &mut self.streams else { return };
        streams.may_fail = false;
        streams.recovered.clear();
        streams.looked_at.clear();
    }

    /// Looks at a query that has had a turn.
    pub(crate) fn check_query(&mut self, node: &NodeStreams, name: &str) {
        let Some(status) = node.runner.status(name) else { return };
        let error = status.error.as_deref().unwrap_or_default();
        self.event(format!(
            "turn of {name}: {:?} after step {}, {} rows in, {} out, {} late, {} failed {error}",
            status.state, status.steps, status.rows_in, status.rows_out, status.rows_late, status.rows_failed
        ));
        if self.disk.is_off() {
            return;
        }
        let Some(streams) = &mut self.streams else { return };
        if status.state == QueryState::Failed {
            if !streams.may_fail || NO_EXCUSE.iter().any(|what| error.contains(what)) {
                self.violated(format!("{name} failed: {error}"));
            }
            return;
        }
        self.summary.turns += 1;
        if status.rows_missed > 0 {
            self.violated(format!("{name} missed {} rows", status.rows_missed));
        } else if streams.recovered.insert(name.to_owned()) {
            self.look_at(name);
        }
    }

    /// Readers read what all queries have written.
    pub(crate) fn look_at_results(&mut self) {
        let Some(streams) = &self.streams else { return };
        for place in streams.registered.clone() {
            if let Some(query) = queries::all().get(place) {
                self.look_at(&query.name);
            }
        }
    }

    fn look_at(&mut self, name: &str) {
        let (Some(broker), Some(query)) = (self.broker.clone(), queries::all().iter().find(|query| query.name == name))
        else {
            return;
        };
        for topic in query.outputs() {
            for partition in partitions_of(&broker, &topic) {
                if let Err(violation) = self.look_at_partition(name, &topic, &partition)
                    && !self.disk.is_off()
                {
                    self.violated(format!("{topic}-{}: {violation}", partition.index()));
                }
            }
        }
    }

    fn look_at_partition(&mut self, name: &str, topic: &str, partition: &Partition) -> Result<(), String> {
        let Some(streams) = &mut self.streams else { return Ok(()) };
        let place = (topic.to_owned(), partition.index());
        let (log_start, end) = (partition.log_start(), partition.visible_end());
        let shown = streams.shown.entry(place.clone()).or_default();
        let recovered = streams.recovered.contains(name);
        if recovered && end < shown.end {
            return Err(format!("{} records were shown, and {end} are after the recovery", shown.end));
        }
        // Once in each life of the node everything, then what is new.
        let again = !recovered || streams.looked_at.insert(place);
        let from = if again { log_start } else { shown.end.max(log_start) };
        let found = read_rows(partition, from, end)?;
        if self.disk.is_off() {
            return Ok(());
        }
        shown.take_note(found)?;
        shown.end = shown.end.max(end);
        Ok(())
    }
}

impl Shared {
    /// Nothing disturbs any more: every query comes to the end of its input, and then all must be there.
    pub(crate) fn finish_streams(&self, node: &Arc<NodeStreams>, driver: &Driver) {
        let registered = match &mut self.world.lock().streams {
            Some(streams) => {
                streams.is_over = true;
                streams.registered.clone()
            }
            None => return,
        };
        for query in registered.iter().filter_map(|place| queries::all().get(*place)) {
            if let Err(error) = node.runner.resume(&query.name) {
                self.world.lock().violated(format!("{} cannot go on: {error}", query.name));
            }
        }
        for turn in 0.. {
            driver.sync_all();
            node.turns.wake();
            if node.turns.waiting() == 0 {
                break;
            }
            self.query_turn(node);
            if turn == TURNS_MAX {
                self.world.lock().violated("the queries find no end");
            }
            if self.world.lock().violation.is_some() {
                return;
            }
        }
        let mut world = self.world.lock();
        world.look_at_results();
        for query in registered.iter().filter_map(|place| queries::all().get(*place)) {
            match node.runner.status(&query.name) {
                Some(status) if status.state == QueryState::Running && status.lag_records == 0 => {}
                status => world.violated(format!("{} does not come to the end of its input: {status:?}", query.name)),
            }
        }
        world.compare_with_calm(&registered);
    }
}

impl World {
    /// Compares all that was shown with what a calm node gives that reads the same input.
    fn compare_with_calm(&mut self, registered: &[usize]) {
        let Some(broker) = self.broker.clone().filter(|_| self.violation.is_none()) else { return };
        let calm = match input_of(&broker).and_then(|input| calm_results(&input, registered, broker.now_ms())) {
            Ok(calm) => calm,
            Err(error) => return self.violated(format!("the calm run: {error}")),
        };
        let Some(streams) = &self.streams else { return };
        let has_idle = streams.setup.has_idle_partitions();
        let mut wrong = None;
        let none = Shown::default();
        for query in registered.iter().filter_map(|place| queries::all().get(*place)) {
            let [results, errors] = query.outputs();
            let rule = if reads_what_was_deleted(&broker, query) { Rule::SomeRows } else { rule(query, has_idle) };
            for (topic, rule) in [(results, rule), (errors, rule_of_errors(query))] {
                let partitions = broker.topic(&topic).map_or(0, |topic| topic.partition_count);
                let expected = calm.keys().filter(|(other, _)| *other == topic).count() as i32;
                for index in 0..partitions.max(expected) {
                    let place = (topic.clone(), index);
                    let shown = streams.shown.get(&place).unwrap_or(&none);
                    let expected = calm.get(&place).map(Vec::as_slice).unwrap_or_default();
                    if let Err(violation) = rule.compare(shown, expected) {
                        wrong.get_or_insert(format!("{topic}-{index}, against a calm run: {violation}"));
                    }
                }
            }
        }
        self.summary.results += streams.shown.values().map(|shown| shown.rows.len() as u64).sum::<u64>();
        if let Some(wrong) = wrong {
            self.violated(wrong);
        }
    }
}

/// How what was shown is compared with what a calm run gives.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Byte for byte, in the same order.
    Same,
    /// The same rows, each once, in any order.
    SameRows,
    /// The same rows, each once at most.
    SomeRows,
    /// What is late depends on the steps: no window has two results.
    EachWindowOnce,
}

/// Whether retention has deleted some of what another query wrote, perhaps before this one was registered. (What it had still to
/// read is pinned: see [`World::check_query`].)
fn reads_what_was_deleted(broker: &Broker, query: &Query) -> bool {
    let of_streams = query.plan.sources.iter().filter(|source| source.topic.starts_with(OUTPUT_PREFIX));
    of_streams.flat_map(|source| partitions_of(broker, &source.topic)).any(|partition| partition.log_start() > 0)
}

fn rule(query: &Query, has_idle: bool) -> Rule {
    match query.order {
        Order::Fixed if query.waits_for_partitions && has_idle => Rule::EachWindowOnce,
        Order::Fixed => Rule::Same,
        Order::OfSteps => Rule::SameRows,
    }
}

fn rule_of_errors(query: &Query) -> Rule {
    if query.order == Order::Fixed && !query.waits_for_partitions { Rule::Same } else { Rule::SameRows }
}

impl Rule {
    fn compare(self, shown: &Shown, expected: &[Row]) -> Result<(), String> {
        if let Rule::EachWindowOnce = self {
            let mut windows = BTreeSet::new();
            let window =
                |row: &Row| row.value.as_deref().and_then(|value| Some(value.split_once(",\"n\":")?.0.to_owned()));
            return match shown.rows.values().find(|row| !windows.insert(window(row))) {
                Some(row) => Err(format!("there are two results of one window: {row:?}")),
                None => Ok(()),
            };
        }
        if shown.end != expected.len() as i64 && !matches!(self, Rule::SomeRows) {
            let last: Vec<&Row> = shown.rows.values().rev().take(3).collect();
            return Err(format!("{} results instead of {}; the last: {last:?}", shown.end, expected.len()));
        }
        // What retention took before anybody read it is in no list.
        if let Rule::Same = self {
            let differs = |(offset, row): &(&Offset, &Row)| expected.get(**offset as usize) != Some(*row);
            return match shown.rows.iter().find(differs) {
                Some((offset, row)) => Err(format!("{row:?} at {offset}, not {:?}", expected.get(*offset as usize))),
                None => Ok(()),
            };
        }
        let mut left: BTreeMap<&Row, usize> = BTreeMap::new();
        expected.iter().for_each(|row| *left.entry(row).or_default() += 1);
        for (offset, row) in &shown.rows {
            match left.get_mut(row) {
                Some(count) if *count > 0 => *count -= 1,
                _ => return Err(format!("{row:?} at {offset} is not to be there, or not so often")),
            }
        }
        Ok(())
    }
}

/// All rows of the inputs, by topic and partition.
fn input_of(broker: &Arc<Broker>) -> Result<BTreeMap<(String, i32), Vec<Row>>, String> {
    let mut found = BTreeMap::new();
    for (topic, _) in INPUTS {
        for partition in partitions_of(broker, topic) {
            let rows = read_rows(&partition, 0, partition.visible_end())?;
            found.insert((topic.to_owned(), partition.index()), rows.into_iter().map(|(_, row)| row).collect());
        }
    }
    Ok(found)
}
