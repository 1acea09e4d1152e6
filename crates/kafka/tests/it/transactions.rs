//! What consumers are told of transactions. Clients cannot begin any yet, so the node's own API writes them here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{FetchRequest, ListOffsetsRequest};
use millpond_broker::Partition;
use millpond_records::{BatchOptions, TransactionMarker, TransactionResult, batches};

use crate::client::{Client, Node, batch_of, topic_name, versions_of};
use crate::records::{fetch, id_of};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long it is watched that nothing comes.
const A_WHILE: Duration = Duration::from_millis(300);
const READ_COMMITTED: i8 = 1;

/// Appends a batch of a transaction, or one of no producer.
fn append(partition: &Arc<Partition>, producer: Option<(i64, i32)>, values: &[&str]) -> i64 {
    let options = BatchOptions {
        producer: producer.map(|(id, sequence)| (id, 0, sequence)),
        transactional: producer.is_some(),
        ..BatchOptions::default()
    };
    let appended = partition.append_owned(batch_of(options, values).to_vec()).unwrap();
    partition.durable_blocking(appended.last_offset + 1, PATIENCE).unwrap();
    appended.base_offset
}

fn end(partition: &Arc<Partition>, producer_id: i64, result: TransactionResult) -> i64 {
    let marker = TransactionMarker { producer_id, producer_epoch: 0, result, coordinator_epoch: 0 };
    let appended = partition.append_marker(&marker).unwrap();
    partition.durable_blocking(appended.last_offset + 1, PATIENCE).unwrap();
    appended.base_offset
}

/// Three producers: 1 aborts, 2 commits, 3 goes on; and records of nobody in between. Offsets are those of the batches.
fn history(partition: &Arc<Partition>) {
    append(partition, None, &["a"]); // 0
    append(partition, Some((1, 0)), &["aborted", "aborted"]); // 1
    append(partition, Some((2, 0)), &["b"]); // 3
    assert_eq!(end(partition, 1, TransactionResult::Abort), 4);
    assert_eq!(end(partition, 2, TransactionResult::Commit), 5);
    append(partition, None, &["c"]); // 6
    append(partition, Some((3, 0)), &["open"]); // 7
    append(partition, None, &["d"]); // 8
    append(partition, Some((1, 2)), &["aborted"]); // 9
    assert_eq!(end(partition, 1, TransactionResult::Abort), 10);
}

fn topic(node: &Node, client: &mut Client) -> Arc<Partition> {
    client.create_topic("t", 1);
    node.broker.partition("t", 0).unwrap()
}

fn fetched(client: &mut Client, version: i16, request: &FetchRequest) -> PartitionData {
    client.call(version, request).responses.remove(0).partitions.remove(0)
}

fn base_offsets(partition: &PartitionData) -> Vec<i64> {
    batches(partition.records.as_ref().unwrap()).map(|batch| batch.unwrap().header.base_offset).collect()
}

/// Producer and first offset of each aborted transaction, or null.
fn aborted(partition: &PartitionData) -> Option<Vec<(i64, i64)>> {
    let aborted = partition.aborted_transactions.as_ref()?;
    let mut aborted: Vec<_> = aborted.iter().map(|aborted| (aborted.producer_id.0, aborted.first_offset)).collect();
    aborted.sort_unstable();
    Some(aborted)
}

#[test]
fn consumers_of_committed_records_get_what_is_decided_and_learn_what_was_aborted() {
    let node = Node::start();
    let mut client = node.client();
    let partition = topic(&node, &mut client);
    history(&partition);
    let id = id_of(&node, "t");
    for version in versions_of(1) {
        let all = fetched(&mut client, version, &fetch(version, "t", id, 0));
        assert_eq!((all.high_watermark, all.last_stable_offset), (11, 7), "v{version}");
        assert_eq!(base_offsets(&all), [0, 1, 3, 4, 5, 6, 7, 8, 9, 10], "v{version}");
        assert_eq!(aborted(&all), None, "v{version}");

        for (offset, batches, aborted_in_it) in [
            (0, &[0, 1, 3, 4, 5, 6][..], &[(1, 1)][..]),
            (2, &[1, 3, 4, 5, 6], &[(1, 1)]),
            (5, &[5, 6], &[]),
            (7, &[], &[]),
            (9, &[], &[]),
        ] {
            let request = fetch(version, "t", id, offset).with_isolation_level(READ_COMMITTED);
            let committed = fetched(&mut client, version, &request);
            assert_eq!(committed.error_code, 0);
            assert_eq!((committed.high_watermark, committed.last_stable_offset), (11, 7), "v{version} from {offset}");
            assert_eq!(base_offsets(&committed), batches, "v{version} from {offset}");
            assert_eq!(aborted(&committed).unwrap(), aborted_in_it, "v{version} from {offset}");
        }
        let request = fetch(version, "t", id, 12).with_isolation_level(READ_COMMITTED);
        let beyond = fetched(&mut client, version, &request);
        assert_eq!((beyond.error_code, beyond.last_stable_offset), (1, 7), "v{version}");
    }
    end(&partition, 3, TransactionResult::Commit);
    let request = fetch(12, "t", id, 6).with_isolation_level(READ_COMMITTED);
    let committed = fetched(&mut client, 12, &request);
    assert_eq!((committed.last_stable_offset, base_offsets(&committed)), (12, vec![6, 7, 8, 9, 10, 11]));
    assert_eq!(aborted(&committed).unwrap(), [(1, 9)]);
}

#[test]
fn large_batches_that_are_sent_from_the_file_end_at_the_last_stable_offset_too() {
    let node = Node::with(&[("millpond.tail.bytes.max", "0")]);
    let mut client = node.client();
    let partition = topic(&node, &mut client);
    let large = "x".repeat(20_000);
    append(&partition, Some((1, 0)), &[&large]);
    append(&partition, None, &[&large]);
    end(&partition, 1, TransactionResult::Abort);
    append(&partition, Some((1, 1)), &[&large]);
    let request = fetch(12, "t", id_of(&node, "t"), 0).with_isolation_level(READ_COMMITTED);
    let committed = fetched(&mut client, 12, &request);
    assert_eq!((base_offsets(&committed), aborted(&committed).unwrap()), (vec![0, 1, 2], vec![(1, 0)]));
}

#[test]
fn a_consumer_of_committed_records_waits_for_the_end_of_the_transaction() {
    let node = Node::start();
    let mut client = node.client();
    let partition = topic(&node, &mut client);
    let id = id_of(&node, "t");
    let request = fetch(12, "t", id, 0).with_isolation_level(READ_COMMITTED).with_max_wait_ms(60_000);
    let began = Instant::now();
    let correlation = client.send(12, &request);
    append(&partition, Some((1, 0)), &["first"]);
    append(&partition, Some((1, 1)), &["second"]);
    client.stream.set_read_timeout(Some(A_WHILE)).unwrap();
    assert!(client.stream.peek(&mut [0]).is_err(), "nothing was decided, and something was answered");
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    end(&partition, 1, TransactionResult::Commit);
    let response = client.receive::<FetchRequest>(12, correlation);
    assert_eq!(base_offsets(&response.responses[0].partitions[0]), [0, 1, 2]);
    assert!(began.elapsed() < Duration::from_secs(30), "it was not woken");
}

/// The offset and the timestamp that are listed.
fn list(client: &mut Client, version: i16, isolation: i8, timestamp: i64) -> (i64, i64) {
    let asked = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let request = if version >= 2 { request.with_isolation_level(isolation) } else { request };
    let response = client.call(version, &request);
    let listed = &response.topics[0].partitions[0];
    assert_eq!(listed.error_code, 0);
    (listed.offset, listed.timestamp)
}

#[test]
fn offsets_of_committed_records_end_at_the_last_stable_one() {
    let node = Node::start();
    let mut client = node.client();
    let partition = topic(&node, &mut client);
    history(&partition);
    for version in versions_of(2) {
        assert_eq!(list(&mut client, version, 0, -1).0, 11, "v{version}");
        assert_eq!(list(&mut client, version, 0, -2).0, 0, "v{version}");
        if version >= 2 {
            assert_eq!(list(&mut client, version, READ_COMMITTED, -1).0, 7, "v{version}");
            assert_eq!(list(&mut client, version, READ_COMMITTED, -2).0, 0, "v{version}");
        }
    }
    // Markers are of now, and all other records of long ago. The last marker lies above the last stable offset.
    std::thread::sleep(Duration::from_millis(5));
    let newest = end(&partition, 1, TransactionResult::Abort);
    let (committed, committed_ms) = list(&mut client, 7, READ_COMMITTED, -3);
    let (shown, shown_ms) = list(&mut client, 7, 0, -3);
    assert!((4..=5).contains(&committed) && shown == newest && shown_ms > committed_ms);
    assert_eq!(list(&mut client, 7, READ_COMMITTED, committed_ms).0, committed);
    assert_eq!(list(&mut client, 7, READ_COMMITTED, shown_ms), (-1, -1));
    assert_eq!(list(&mut client, 7, 0, shown_ms), (newest, shown_ms));
}
