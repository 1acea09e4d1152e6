//! Input with transactions in it: what was aborted is never seen, what is open is waited for, and a replay sees the same.

use std::time::Duration;

use millpond_records::{BatchBuilder, BatchOptions, TransactionMarker, TransactionResult};

use super::support::{Node, copy, event, open, plan};

const PATIENCE: Duration = Duration::from_secs(60);

/// Appends events of a transaction, or of no producer.
fn append(node: &Node, producer: Option<(i64, i32)>, ids: &[i64]) {
    let options = BatchOptions {
        producer: producer.map(|(id, sequence)| (id, 0, sequence)),
        transactional: producer.is_some(),
        ..BatchOptions::default()
    };
    let mut batch = BatchBuilder::new(options);
    for id in ids {
        batch.push(1000 + id, None, Some(event(*id, "a", 1.0, id * 1000).as_bytes()), &[]);
    }
    let partition = node.broker.partition("events", 0).unwrap();
    let appended = partition.append_owned(batch.build()).unwrap();
    partition.durable_blocking(appended.last_offset + 1, PATIENCE).unwrap();
}

fn end(node: &Node, producer_id: i64, result: TransactionResult) {
    let partition = node.broker.partition("events", 0).unwrap();
    let marker = TransactionMarker { producer_id, producer_epoch: 0, result, coordinator_epoch: 0 };
    let appended = partition.append_marker(&marker).unwrap();
    partition.durable_blocking(appended.last_offset + 1, PATIENCE).unwrap();
}

/// The ids of 5 and 6 are those of an open transaction, with 7 behind it.
fn fill(node: &Node) {
    node.create("events", 1);
    append(node, None, &[1]);
    append(node, Some((1, 0)), &[100, 101]);
    append(node, Some((2, 0)), &[2]);
    append(node, Some((1, 2)), &[102]);
    append(node, None, &[3]);
    end(node, 2, TransactionResult::Commit);
    end(node, 1, TransactionResult::Abort);
    append(node, Some((1, 3)), &[4]);
    end(node, 1, TransactionResult::Commit);
    append(node, Some((3, 0)), &[5, 6]);
    append(node, None, &[7]);
}

fn ids(node: &Node, name: &str) -> Vec<i64> {
    let id = |value: String| serde_json::from_str::<serde_json::Value>(&value).unwrap()["id"].as_i64().unwrap();
    node.values(name).into_iter().map(id).collect()
}

#[test]
fn a_query_waits_for_open_transactions_and_never_sees_aborted_records() {
    for (result, expected) in
        [(TransactionResult::Commit, &[1, 2, 3, 4, 5, 6, 7, 8][..]), (TransactionResult::Abort, &[1, 2, 3, 4, 7, 8])]
    {
        let dir = tempfile::tempdir().unwrap();
        let node = open(dir.path(), |_| {});
        fill(&node);
        node.launch(1, "copies", plan("copies", 1, &[], "SELECT id FROM events"));
        let status = node.wait_rows_in("copies", 4);
        assert_eq!((status.partitions[0].end, status.lag_records), (10, 0), "what is open is no lag");
        append(&node, None, &[8]);
        // Nothing else can be read, however long one waits: the rows are counted again below.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(node.status("copies").rows_in, 4);
        end(&node, 3, result);
        node.wait_rows_in("copies", expected.len() as u64);
        assert_eq!(ids(&node, "copies"), expected);
        node.stop();
    }
}

#[test]
fn steps_that_are_taken_again_leave_out_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir.path().join("first"), |options| options.step_rows_max = 1);
    fill(&node);
    let windows = "SELECT window_start, COUNT(*) AS n, SUM(id) AS id FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), \
        INTERVAL '2' SECOND)) GROUP BY window_start, window_end";
    node.launch(1, "sums", plan("sums", 1, &[], windows));
    node.wait_rows_in("sums", 4);
    // No checkpoint was taken, so all steps are taken again, and each is checked against what it gave.
    copy(&dir.path().join("first"), &dir.path().join("crashed"));
    let finish = |node: Node| {
        end(&node, 3, TransactionResult::Abort);
        append(&node, None, &[10]);
        node.wait_rows_in("sums", 6);
        let sums = ids(&node, "sums");
        node.stop();
        sums
    };
    let expected = finish(node);
    assert_eq!(expected, [1, 2 + 3, 4, 7], "5 and 6 were aborted, and the window of 10 is open");
    let crashed = open(&dir.path().join("crashed"), |options| options.step_rows_max = 1);
    crashed.launch(1, "sums", plan("sums", 1, &[], windows));
    assert_eq!(crashed.wait_rows_in("sums", 4).error, None);
    assert_eq!(finish(crashed), expected);
}
