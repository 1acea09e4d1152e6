//! A runner that is driven does what one with threads does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use futures::FutureExt;
use millpond_broker::{Broker, BrokerOptions, Clock, Driver, NewTopicRequest, Partition};
use millpond_disk::{Crash, Permit, SimulatedDisk};
use millpond_records::{BatchBuilder, BatchOptions};

use super::support::{Records, event, open, plan, read_all};
use crate::run::{QueryId, QuerySpec, QueryState, Runner, RunnerDriver, RunnerOptions, SyncHook};

const PARTITIONS: i32 = 2;
const PER_NAME: &str = "SELECT name, window_start, COUNT(*) AS n, SUM(price) AS total FROM TABLE(TUMBLE(TABLE events, \
    DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY name, window_start, window_end";

struct Driven {
    broker: Arc<Broker>,
    driver: Arc<Driver>,
    runner: Arc<Runner>,
    turns: RunnerDriver,
    clock: Clock,
}

fn now<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("nothing waits without a runtime")
}

impl Driven {
    fn start(disk: &SimulatedDisk) -> Driven {
        let clock = Clock::standing_at(1_000);
        let options = BrokerOptions { clock: clock.clone(), ..BrokerOptions::new(disk.root().join("node")) };
        let (broker, driver) = Broker::open_driven(options).unwrap();
        let driver = Arc::new(driver);
        let syncs = driver.clone();
        let sync: SyncHook = Arc::new(move |_: &Partition| syncs.sync_all());
        let mut options = RunnerOptions::new(disk.root().join("node/state"));
        options.idle_timeout_ms = 3_600_000;
        options.step_rows_max = 3;
        let (runner, turns) = Runner::open_driven(broker.clone(), options, sync);
        Driven { broker, driver, runner, turns, clock }
    }

    fn launch(&self) {
        let plan = plan("counts", 1, &[], PER_NAME);
        let spec = QuerySpec { name: "counts".to_owned(), id: QueryId(1), plan, paused: false };
        now(self.runner.launch(spec)).unwrap();
    }

    fn produce(&self, partition: i32, values: &[String]) {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        let partition = self.broker.partition("events", partition).unwrap();
        for (offset, value) in (partition.end()..).zip(values) {
            batch.push(1000 + offset, Some(b"a key"), Some(value.as_bytes()), &[]);
        }
        self.broker.begin_produce(&partition, BytesMut::from(&batch.build()[..])).unwrap();
        self.driver.sync_all();
    }

    fn run(&self) {
        self.turns.wake();
        while self.turns.turn(0).is_some() {}
        let status = self.runner.status("counts").unwrap();
        assert_eq!((status.state, status.error), (QueryState::Running, None));
    }
}

fn values(partition: i32, range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|n| event(n, ["ann", "bob"][(n % 2) as usize], n as f64 / 7.0, n * 700 + i64::from(partition))).collect()
}

fn with_threads() -> Vec<Records> {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", PARTITIONS);
    node.launch(1, "counts", plan("counts", 1, &[], PER_NAME));
    for partition in 0..PARTITIONS {
        node.produce("events", partition, &values(partition, 0..50));
        node.produce("events", partition, &values(partition, 50..100));
    }
    node.wait_rows_in("counts", 200);
    let records = node.records("counts");
    node.stop();
    records
}

#[test]
fn what_a_query_has_not_read_is_kept_before_its_first_turn_too() {
    let disk = SimulatedDisk::new(6);
    let node = Driven::start(&disk);
    now(node.broker.create_topic(NewTopicRequest { partitions: PARTITIONS, ..NewTopicRequest::new("events") }, false))
        .unwrap();
    node.launch();
    node.produce(0, &values(0, 0..50));
    assert_eq!(node.turns.waiting(), 1, "it has had no turn");
    let pinned = |node: &Driven| node.broker.partition("events", 0).unwrap().lowest_pin().map(|(_, offset)| offset);
    assert_eq!(pinned(&node), Some(0));
    node.run();
    node.clock.advance(5_000);
    node.turns.wake();
    node.run();
    assert_eq!(pinned(&node), Some(50), "read, and in the checkpoint");
    disk.go_off();
    drop(node);
    disk.restart(Crash::Kill);
    let node = Driven::start(&disk);
    assert_eq!(pinned(&node), None);
    node.launch();
    assert_eq!(pinned(&node), Some(50), "before the recovery");
}

#[test]
fn a_status_can_be_asked_for_while_the_last_checkpoints_are_taken() {
    let disk = SimulatedDisk::new(7);
    let node = Driven::start(&disk);
    now(node.broker.create_topic(NewTopicRequest { partitions: PARTITIONS, ..NewTopicRequest::new("events") }, false))
        .unwrap();
    node.launch();
    node.produce(0, &values(0, 0..50));
    node.run();
    let (runner, asked) = (node.runner.clone(), Arc::new(AtomicBool::new(false)));
    let notes = asked.clone();
    disk.watch(move |_, _| {
        // It would wait for ever, were the queries locked.
        drop(runner.status("counts"));
        notes.store(true, Ordering::SeqCst);
        Permit::Do
    });
    now(node.runner.shutdown());
    disk.unwatch();
    assert!(asked.load(Ordering::SeqCst));
}

#[test]
fn turns_that_a_caller_gives_yield_the_same_bytes_after_a_power_cut_too() {
    let disk = SimulatedDisk::new(5);
    let node = Driven::start(&disk);
    now(node.broker.create_topic(NewTopicRequest { partitions: PARTITIONS, ..NewTopicRequest::new("events") }, false))
        .unwrap();
    node.launch();
    (0..PARTITIONS).for_each(|partition| node.produce(partition, &values(partition, 0..50)));
    assert_eq!(node.turns.waiting(), 1, "launched, and not begun");
    node.run();
    assert_eq!(node.turns.waiting(), 0);
    // The checkpoint comes with the time.
    node.clock.advance(5_000);
    node.turns.wake();
    assert_eq!(node.turns.waiting(), 1);
    node.run();
    node.produce(0, &values(0, 50..70));
    node.run();
    disk.go_off();
    drop(node);
    disk.restart(Crash::PowerCut);
    let node = Driven::start(&disk);
    node.launch();
    node.produce(0, &values(0, 70..100));
    node.produce(1, &values(1, 50..100));
    node.run();
    assert_eq!(read_all(&node.broker, "counts"), with_threads());
    now(node.runner.shutdown());
    now(node.broker.shutdown()).unwrap();
}
