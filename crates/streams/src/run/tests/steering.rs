//! Queries that are paused, removed, broken and mended; inputs that change under them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::support::{event, open, plan};
use crate::run::{CrashPoint, CrashPoints, QueryState, STEPS_TOPIC};

const COPY: &str = "SELECT id FROM events";
const COUNTS: &str = "SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), \
    INTERVAL '10' SECOND)) GROUP BY window_start, window_end";

fn ids(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|id| event(id, "a", 1.0, id * 1000)).collect()
}

#[test]
fn a_panic_in_a_step_ends_that_query_alone_and_shows_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let appended = Arc::new(AtomicUsize::new(0));
    let hook = {
        let appended = appended.clone();
        move |point: CrashPoint| {
            assert!(
                point != CrashPoint::OutputSynced || appended.fetch_add(1, Ordering::SeqCst) != 0,
                "a UDF of death"
            );
            false
        }
    };
    let node = open(dir.path(), |options| options.crash_points = CrashPoints::with_hook(Arc::new(hook)));
    node.create("events", 1);
    node.launch(1, "first", plan("first", 1, &[], COPY));
    node.produce("events", 0, &ids(0..10));
    let error = node.wait_failed("first");
    assert!(error.contains("a UDF of death"), "{error}");
    assert_eq!(node.values("first"), [""; 0]);
    // Another goes on, and the failed one can be tried again.
    node.launch(2, "second", plan("second", 1, &[], COPY));
    node.wait_rows_in("second", 10);
    node.runner.resume("first").unwrap();
    node.wait_rows_in("first", 10);
    assert_eq!(node.values("first"), node.values("second"));
    assert_eq!(node.values("first").len(), 10);
    node.stop();
}

#[test]
fn a_paused_query_waits_also_over_a_restart_and_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 1);
    node.launch(1, "counts", plan("counts", 1, &[], COUNTS));
    node.produce("events", 0, &ids(0..5));
    node.wait_rows_in("counts", 5);
    node.runner.pause("counts").unwrap();
    node.wait("counts", "a pause", |status| status.state == QueryState::Paused);
    node.produce("events", 0, &ids(5..15));
    node.stop();

    let node = open(dir.path(), |_| {});
    node.launch_paused(1, "counts", plan("counts", 1, &[], COUNTS), true);
    let status = node.wait("counts", "a pause", |status| status.state == QueryState::Paused);
    assert_eq!((status.rows_in, status.lag_records), (5, 10));
    node.runner.resume("counts").unwrap();
    node.wait_rows_in("counts", 15);
    assert_eq!(node.values("counts"), [r#"{"window_start":"1970-01-01T00:00:00.000","n":10}"#]);
    node.stop();
}

#[test]
fn a_removed_query_leaves_no_state_and_its_name_can_be_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |options| options.checkpoint_interval_ms = 1);
    node.create("events", 1);
    node.launch(1, "counts", plan("counts", 1, &[], COUNTS));
    node.produce("events", 0, &ids(0..15));
    node.wait_rows_in("counts", 15);
    node.runtime.block_on(node.runner.remove("counts")).unwrap();
    assert!(node.runner.status("counts").is_none());
    assert!(node.runtime.block_on(node.runner.remove("counts")).is_err());
    assert_eq!(node.broker.partition("events", 0).unwrap().lowest_pin(), None);
    node.delete("counts");
    node.launch(2, "counts", plan("counts", 1, &[], COUNTS));
    node.wait_rows_in("counts", 15);
    assert_eq!(node.values("counts"), [r#"{"window_start":"1970-01-01T00:00:00.000","n":10}"#]);
    node.stop();
    let store = millpond_state::StateStore::open(&dir.path().join("node/state"), &Default::default()).unwrap();
    assert_eq!(store.queries().unwrap(), [2]);
}

#[test]
fn what_a_crash_in_a_drop_left_is_forgotten_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |options| options.checkpoint_interval_ms = 1);
    node.create("events", 1);
    node.launch(1, "counts", plan("counts", 1, &[], COUNTS));
    node.launch(2, "others", plan("others", 1, &[], COUNTS));
    node.produce("events", 0, &ids(0..15));
    node.wait_rows_in("counts", 15);
    node.wait_rows_in("others", 15);
    node.stop();
    let node = open(dir.path(), |_| {});
    node.launch(2, "others", plan("others", 1, &[], COUNTS));
    node.wait_rows_in("others", 15);
    node.runtime.block_on(node.runner.forget_others(&[crate::run::QueryId(2)])).unwrap();
    node.stop();
    let store = millpond_state::StateStore::open(&dir.path().join("node/state"), &Default::default()).unwrap();
    assert_eq!(store.queries().unwrap(), [2]);
}

#[test]
fn new_partitions_of_an_input_are_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 1);
    node.launch(1, "copies", plan("copies", 1, &[], COPY));
    node.produce("events", 0, &ids(0..3));
    node.wait_rows_in("copies", 3);
    let grown = node.broker.create_partitions("events", 2, None, millpond_metadata::Actor::Node, false);
    node.runtime.block_on(grown).unwrap();
    node.produce("events", 1, &ids(3..6));
    // Nobody says that a partition came; the query looks every few seconds, or when it has another reason.
    let status = node.wait_rows_in("copies", 6);
    assert_eq!(status.partitions.len(), 2);
    node.stop();
    let node = open(dir.path(), |_| {});
    node.launch(1, "copies", plan("copies", 1, &[], COPY));
    node.wait("copies", "its place", |status| status.partitions.len() == 2 && status.rows_in == 6);
    assert_eq!(node.values("copies").len(), 6);
    node.stop();
}

#[test]
fn an_input_topic_that_was_made_again_ends_the_query_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 1);
    node.launch(1, "copies", plan("copies", 1, &[], COPY));
    node.produce("events", 0, &ids(0..3));
    node.wait_rows_in("copies", 3);
    node.delete("events");
    assert!(node.wait_failed("copies").contains("was deleted"));
    node.create("events", 1);
    node.runner.resume("copies").unwrap();
    assert!(node.wait_failed("copies").contains("made again"));
    assert_eq!(node.values("copies").len(), 3, "what was shown stays");
    node.stop();
}

#[test]
fn a_query_whose_state_was_deleted_says_so_and_keeps_its_results() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |options| options.checkpoint_interval_ms = 1);
    node.create("events", 1);
    node.launch(1, "counts", plan("counts", 1, &[], COUNTS));
    node.produce("events", 0, &ids(0..25));
    node.wait_rows_in("counts", 25);
    // As long as all its steps are there, it could be computed from them again. Usually only the last is.
    let steps = node.broker.partition(STEPS_TOPIC, 0).unwrap();
    node.runtime.block_on(node.broker.delete_records(&steps, steps.visible_end() - 1)).unwrap();
    node.stop();
    std::fs::remove_dir_all(dir.path().join("node/state")).unwrap();
    let node = open(dir.path(), |_| {});
    node.launch(1, "counts", plan("counts", 1, &[], COUNTS));
    assert!(node.wait_failed("counts").contains("its state is gone"));
    node.stop();
}

#[test]
fn a_query_that_never_ran_begins_where_it_was_registered() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 1);
    node.launch(1, "copies", plan("copies", 1, &[], COPY));
    node.launch_paused(2, "sleeper", plan("sleeper", 1, &[], COPY), true);
    node.wait("sleeper", "a pause", |status| status.state == QueryState::Paused);
    for round in 0..50 {
        node.produce("events", 0, &ids(round..round + 1));
        node.wait_rows_in("copies", round as u64 + 1);
    }
    let steps = node.broker.partition(STEPS_TOPIC, 0).unwrap();
    assert!(steps.end() >= 52, "a birth each, and a step a record");
    node.stop();
    let node = open(dir.path(), |_| {});
    node.launch(2, "sleeper", plan("sleeper", 1, &[], COPY));
    node.launch(1, "copies", plan("copies", 1, &[], COPY));
    node.wait_rows_in("sleeper", 50);
    assert_eq!(node.values("sleeper"), node.values("copies"));
    node.stop();
}
