//! A node that nothing happens to: what it gives is what every node must give.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use millpond_broker::{Broker, BrokerOptions, Clock, Partition};
use millpond_disk::SimulatedDisk;
use millpond_records::{BatchBuilder, BatchOptions};
use millpond_streams::run::{CrashPoints, Runner, SyncHook};

use super::checks::read_rows;
use super::clients::{input_topic, partitions_of};
use super::node::{NodeStreams, options};
use super::queries::{self, INPUTS};
use super::{Row, Setup};
use crate::node::at_once;

/// Rows of one batch.
const BATCH_ROWS: usize = 100;

/// What the queries `registered` make of `input`, by topic and partition.
pub(crate) fn calm_results(
    input: &BTreeMap<(String, i32), Vec<Row>>,
    registered: &[usize],
    now_ms: i64,
) -> Result<BTreeMap<(String, i32), Vec<Row>>, String> {
    let disk = SimulatedDisk::new(0);
    let clock = Clock::standing_at(now_ms);
    let opened = Broker::open_driven(BrokerOptions { clock, ..BrokerOptions::new(disk.root().join("data")) });
    let (broker, driver) = opened.map_err(|error| error.to_string())?;
    let driver = Arc::new(driver);
    for (topic, partitions) in INPUTS {
        at_once(broker.create_topic(input_topic(topic, partitions), false)).map_err(|error| error.to_string())?;
    }
    for ((topic, index), rows) in input {
        let partition = broker.partition(topic, *index).ok_or("an input is not there")?;
        for rows in rows.chunks(BATCH_ROWS) {
            let mut batch = BatchBuilder::new(BatchOptions::default());
            for row in rows {
                let key = row.key.as_deref().map(str::as_bytes);
                batch.push(row.timestamp, key, row.value.as_deref().map(str::as_bytes), &[]);
            }
            let bytes = BytesMut::from(&batch.build()[..]);
            broker.begin_produce(&partition, bytes).map_err(|error| error.to_string())?;
        }
    }
    driver.sync_all();
    let syncs = driver.clone();
    let sync: SyncHook = Arc::new(move |_: &Partition| syncs.sync_all());
    let options = options(&Setup::calm(), &disk, CrashPoints::default());
    let (runner, turns) = Runner::open_driven(broker.clone(), options, sync);
    let streams = NodeStreams::new(runner, turns);
    streams.launch_all(registered)?;
    while {
        driver.sync_all();
        streams.turns.wake();
        streams.turns.turn(0).is_some()
    } {}
    let mut found = BTreeMap::new();
    for query in registered.iter().filter_map(|place| queries::all().get(*place)) {
        for topic in query.outputs() {
            for partition in partitions_of(&broker, &topic) {
                let rows = read_rows(&partition, 0, partition.visible_end())?;
                found.insert((topic.clone(), partition.index()), rows.into_iter().map(|(_, row)| row).collect());
            }
        }
        if let Some(error) = streams.runner.status(&query.name).and_then(|status| status.error) {
            return Err(format!("{}: {error}", query.name));
        }
    }
    Ok(found)
}
