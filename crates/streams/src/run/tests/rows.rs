//! What becomes of single rows: decoded, filtered, computed, failed.

use super::support::{event, open, plan};

#[test]
fn rows_that_fail_go_to_the_errors_topic_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 1);
    node.launch(1, "shares", plan("shares", 1, &[], "SELECT id, 100 / id AS share FROM events WHERE id < 50"));
    let mut rows: Vec<String> = (1..=60).map(|id| event(id, "a", 1.0, id * 1000)).collect();
    rows[9] = event(0, "a", 1.0, 1_000);
    rows[19] = r#"{"id":"ten","ts":1000}"#.to_owned();
    rows[29] = r#"{"id":7}"#.to_owned();
    rows[39] = "garbage".to_owned();
    node.produce("events", 0, &rows);
    let status = node.wait_rows_in("shares", 60);
    assert_eq!((status.rows_out, status.rows_failed, status.rows_filtered), (45, 4, 11));
    assert_eq!(node.values("shares")[0], r#"{"id":1,"share":100}"#);
    let errors: Vec<serde_json::Value> =
        node.values("shares.errors").iter().map(|value| serde_json::from_str(value).unwrap()).collect();
    let places: Vec<(i64, &str)> =
        errors.iter().map(|error| (error["offset"].as_i64().unwrap(), error["reason"].as_str().unwrap())).collect();
    assert_eq!(places.iter().map(|place| place.0).collect::<Vec<_>>(), [9, 19, 29, 39]);
    assert!(places[0].1.to_lowercase().contains("divide by zero"), "{places:?}");
    assert_eq!(errors[1]["column"], "id");
    assert_eq!((errors[2]["column"].as_str(), places[2].1), (Some("ts"), "the event time is NULL"));
    assert_eq!(errors[3]["value"], "garbage");
    assert!(errors.iter().all(|error| error["topic"] == "events" && error["partition"] == 0));
    assert_eq!(node.broker.topic("shares.errors").unwrap().owner.as_deref(), Some("shares"));
    node.stop();
}

#[test]
fn rows_without_a_key_follow_their_partition_and_keep_their_timestamps() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 3);
    node.launch(1, "copies", plan("copies", 3, &[], r#"SELECT id, "partition", "offset", key FROM events"#));
    for partition in 0..3 {
        node.produce("events", partition, &[event(10, "a", 1.0, 1), event(11, "a", 1.0, 2)]);
    }
    node.wait_rows_in("copies", 6);
    let value = |id: i64, partition: i32, offset: i64| {
        Some(format!(r#"{{"id":{id},"partition":{partition},"offset":{offset},"key":"a key"}}"#))
    };
    for (partition, records) in (0..).zip(node.records("copies")) {
        let expected = [(1000, None, value(10, partition, 0)), (1001, None, value(11, partition, 1))];
        assert_eq!(records, expected);
    }
    node.stop();
}

#[test]
fn a_topic_of_somebody_else_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 1);
    node.create("mine", 1);
    let plan = plan("mine", 1, &[], "SELECT id FROM events");
    let spec = crate::run::QuerySpec { name: "mine".into(), id: crate::run::QueryId(1), plan, paused: false };
    let error = node.runtime.block_on(node.runner.launch(spec)).unwrap_err();
    assert!(error.to_string().contains("not a stream's"), "{error}");
    node.stop();
}

#[test]
fn what_the_disk_has_changed_makes_no_result() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 1);
    node.produce("events", 0, &[event(1, "first", 1.0, 1_000), event(2, "second", 1.0, 1_000)]);
    node.produce("events", 0, &[event(3, "third", 1.0, 1_000)]);
    node.stop();
    let path = dir.path().join("node/events-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|window| window == b"second").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let node = open(dir.path(), |_| {});
    node.launch(1, "names", plan("names", 1, &[], "SELECT name FROM events"));
    let status = node.wait_rows_in("names", 3);
    assert_eq!(node.values("names"), [r#"{"name":"third"}"#]);
    assert_eq!(status.rows_failed, 1); // The batch, as a whole.
    let error = &node.values("names.errors")[0];
    assert!(error.contains("CRC") && error.contains(r#""offset":0"#), "{error}");
    node.stop();
}
