//! Produce and Fetch.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest, FetchResponse, ProduceRequest, TransactionalId};
use millpond_broker::{Admitted, GatedBatch, NewTopicRequest, Refusal};
use millpond_records::BatchOptions;
use uuid::Uuid;

use crate::admin::producer_id;
use crate::client::{Client, Node, batch, batch_of, text, topic_name, values, versions_of};

/// A Produce request for one partition, with the topic named as the version wants it.
pub(crate) fn produce(version: i16, topic: &str, id: Uuid, index: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(index).with_records(Some(records));
    let topic_data = TopicProduceData::default().with_partition_data(vec![data]);
    let topic_data = match version {
        13.. => topic_data.with_topic_id(id),
        _ => topic_data.with_name(topic_name(topic)),
    };
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic_data])
}

/// A Fetch request for partition 0 that does not wait.
pub(crate) fn fetch(version: i16, topic: &str, id: Uuid, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let wanted = FetchTopic::default().with_partitions(vec![partition]);
    let wanted = match version {
        13.. => wanted.with_topic_id(id),
        _ => wanted.with_topic(topic_name(topic)),
    };
    let request = FetchRequest::default().with_max_bytes(50 << 20).with_min_bytes(1).with_topics(vec![wanted]);
    let request = if version >= 7 { request.with_session_epoch(-1) } else { request };
    if version <= 14 { request.with_replica_id((-1).into()) } else { request }
}

pub(crate) fn id_of(node: &Node, topic: &str) -> Uuid {
    node.broker.topic(topic).unwrap().id.as_uuid()
}

fn only_answer(client: &mut Client, version: i16, request: &ProduceRequest) -> PartitionProduceResponse {
    let response = client.call(version, request);
    response.responses.into_iter().next().unwrap().partition_responses.into_iter().next().unwrap()
}

fn fetched(response: &FetchResponse) -> Vec<(i64, String)> {
    values(response.responses[0].partitions[0].records.as_ref().unwrap())
}

#[test]
fn what_is_produced_is_fetched_in_every_version() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    let id = id_of(&node, "t");
    let mut expected = Vec::new();
    for version in 3..=*versions_of(0).end() {
        for acks in [1, -1] {
            let value = format!("v{version} acks {acks}");
            let answer = only_answer(&mut client, version, &produce(version, "t", id, 0, acks, batch(&[&value])));
            assert_eq!(answer.error_code, 0, "{answer:?}");
            assert_eq!(answer.base_offset, expected.len() as i64);
            assert_eq!(answer.log_append_time_ms, -1);
            expected.push((answer.base_offset, value));
        }
    }
    // What was answered for acks=1 may not be on the disk, and so not be shown yet; the last one was acks=-1.
    for version in versions_of(1) {
        let response = client.call(version, &fetch(version, "t", id, 0));
        assert_eq!(response.error_code, 0);
        assert_eq!(fetched(&response), expected, "v{version}");
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.high_watermark, expected.len() as i64);
        assert_eq!(partition.last_stable_offset, expected.len() as i64);
        assert_eq!(partition.preferred_read_replica.0, -1);
    }
}

#[test]
fn versions_before_3_are_advertised_and_refused() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    assert_eq!(versions_of(0), 0..=13);
    for version in 0..3i16 {
        // The generic codec does not know these versions: acks, timeout, one topic, one partition, no records.
        let mut body = vec![0, 0, 0, version as u8, 0, 0, 0, 77, 0xff, 0xff, 0, 1, 0, 0, 0, 9];
        body.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut frame = (body.len() as i32).to_be_bytes().to_vec();
        frame.extend(&body);
        std::io::Write::write_all(&mut client.stream, &frame).unwrap();
        let answer = client.receive_bytes().unwrap();
        let mut expected = vec![0, 0, 0, 77, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 35];
        expected.extend([0xff; 8]);
        expected.extend(if version >= 2 { vec![0xff; 8] } else { vec![] });
        expected.extend(if version >= 1 { vec![0; 4] } else { vec![] });
        assert_eq!(answer, expected, "v{version}");
    }
}

#[test]
fn topics_and_partitions_that_do_not_exist_are_named() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    let id = id_of(&node, "t");
    for version in [3, 8, 12, 13] {
        let unknown = if version >= 13 { 100 } else { 3 };
        let nobody = produce(version, "nobody", Uuid::from_u128(9), 0, -1, batch(&["x"]));
        assert_eq!(only_answer(&mut client, version, &nobody).error_code, unknown);
        let beyond = produce(version, "t", id, 7, -1, batch(&["x"]));
        assert_eq!(only_answer(&mut client, version, &beyond).error_code, 3);
    }
    for version in [4, 11, 12, 13, 18] {
        let unknown = if version >= 13 { 100 } else { 3 };
        let response = client.call(version, &fetch(version, "nobody", Uuid::from_u128(9), 0));
        assert_eq!(response.responses[0].partitions[0].error_code, unknown);
        let mut beyond = fetch(version, "t", id, 0);
        beyond.topics[0].partitions[0].partition = 7;
        assert_eq!(client.call(version, &beyond).responses[0].partitions[0].error_code, 3);
    }
}

#[test]
fn bad_batches_are_refused_with_a_reason() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    let mut corrupt = batch(&["x"]).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let mut old = batch(&["x"]).to_vec();
    old[16] = 1;
    let two = [batch(&["x"]), batch(&["y"])].concat();
    let transactional = batch_of(BatchOptions { transactional: true, ..BatchOptions::default() }, &["x"]);
    let huge = "x".repeat(2 << 20);
    for (records, code, reason) in [
        (corrupt.into(), 2, "CRC"),
        (old.into(), 43, "magic 1"),
        (two.into(), 87, "exactly one batch"),
        (Bytes::new(), 87, "no record batch"),
        (transactional, 48, "transactions"),
        (batch(&[&huge]), 10, "max.message.bytes"),
    ] {
        let answer = only_answer(&mut client, 12, &produce(12, "t", Uuid::nil(), 0, -1, records));
        assert_eq!(answer.error_code, code, "{answer:?}");
        assert_eq!(answer.base_offset, -1);
        let message = answer.error_message.unwrap();
        assert!(message.contains(reason), "{message}");
    }
    let answer = only_answer(&mut client, 12, &produce(12, "t", Uuid::nil(), 0, 2, batch(&["x"])));
    assert_eq!(answer.error_code, 21);
    let transaction = produce(12, "t", Uuid::nil(), 0, -1, batch(&["x"]));
    let transaction = transaction.with_transactional_id(Some(TransactionalId(text("tx"))));
    assert_eq!(only_answer(&mut client, 12, &transaction).error_code, 53);
    let response = client.call(12, &fetch(12, "t", Uuid::nil(), 0));
    assert_eq!(response.responses[0].partitions[0].high_watermark, 0, "none of them is in the log");
}

#[test]
fn acks_0_is_not_answered_and_an_error_closes_the_connection() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    client.send(9, &produce(9, "t", Uuid::nil(), 0, 0, batch(&["quiet"])));
    let answer = only_answer(&mut client, 9, &produce(9, "t", Uuid::nil(), 0, -1, batch(&["loud"])));
    assert_eq!(answer.base_offset, 1, "the first answer is the second request's");
    client.send(9, &produce(9, "nobody", Uuid::nil(), 0, 0, batch(&["quiet"])));
    assert_eq!(client.receive_bytes(), None);
}

#[test]
fn pipelined_produce_requests_are_appended_in_order() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    // More than may be in flight at once, in one write; every tenth is large.
    let mut sent = Vec::new();
    let mut bytes = Vec::new();
    for id in 0..1500 {
        let value = format!("{id}{}", if id % 10 == 0 { "x".repeat(20_000) } else { String::new() });
        let request = produce(9, "t", Uuid::nil(), 0, if id % 2 == 0 { -1 } else { 1 }, batch(&[&value]));
        bytes.extend_from_slice(&crate::client::frame(id, 9, &request));
        sent.push(value);
    }
    let mut writer = client.stream.try_clone().unwrap();
    let thread = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes).unwrap());
    for id in 0..1500 {
        let response = client.receive::<ProduceRequest>(9, id);
        assert_eq!(response.responses[0].partition_responses[0].base_offset, i64::from(id));
    }
    thread.join().unwrap();
    let (mut offset, mut found) = (0, Vec::new());
    while found.len() < sent.len() {
        let mut request = fetch(12, "t", Uuid::nil(), offset);
        request.max_wait_ms = 10_000;
        let response = client.call(12, &request);
        found.extend(fetched(&response).into_iter().map(|(_, value)| value));
        offset = found.len() as i64;
    }
    assert_eq!(found, sent);
}

#[test]
fn an_idempotent_producer_that_repeats_itself_gets_the_first_offset() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    let given = client.call(4, &producer_id(None));
    let options = |sequence| BatchOptions {
        producer: Some((given.producer_id.0, given.producer_epoch, sequence)),
        ..BatchOptions::default()
    };
    let mut send = |sequence, values: &[&str]| {
        let request = produce(12, "t", Uuid::nil(), 0, -1, batch_of(options(sequence), values));
        let answer = only_answer(&mut client, 12, &request);
        (answer.error_code, answer.base_offset)
    };
    assert_eq!(send(0, &["a", "b"]), (0, 0));
    assert_eq!(send(2, &["c"]), (0, 2));
    assert_eq!(send(0, &["a", "b"]), (0, 0), "a duplicate");
    assert_eq!(send(2, &["c"]), (0, 2), "a duplicate");
    assert_eq!(send(9, &["gap"]), (45, -1), "OUT_OF_ORDER_SEQUENCE_NUMBER");
    assert_eq!(send(3, &["d"]), (0, 3));
}

#[test]
fn a_fetch_from_the_middle_of_a_batch_gets_the_whole_batch() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    only_answer(&mut client, 12, &produce(12, "t", Uuid::nil(), 0, -1, batch(&["a", "b", "c"])));
    only_answer(&mut client, 12, &produce(12, "t", Uuid::nil(), 0, -1, batch(&["d"])));
    let response = client.call(12, &fetch(12, "t", Uuid::nil(), 1));
    let found: Vec<_> = fetched(&response).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(found, [0, 1, 2, 3]);
    // A batch larger than every limit comes whole, and alone.
    let mut small = fetch(12, "t", Uuid::nil(), 0).with_max_bytes(1);
    small.topics[0].partitions[0].partition_max_bytes = 1;
    let found: Vec<_> = fetched(&client.call(12, &small)).into_iter().map(|(_, value)| value).collect();
    assert_eq!(found, ["a", "b", "c"]);
}

#[test]
fn an_answer_stays_within_the_bytes_that_the_server_allows() {
    let node = Node::with(&[("fetch.max.bytes", "10000")]);
    let mut client = node.client();
    client.create_topic("t", 1);
    let value = "x".repeat(3_000);
    for _ in 0..10 {
        only_answer(&mut client, 12, &produce(12, "t", Uuid::nil(), 0, -1, batch(&[&value])));
    }
    let response = client.call(12, &fetch(12, "t", Uuid::nil(), 0));
    assert_eq!(fetched(&response).len(), 3, "of 3 KB each into 10 KB");
}

#[test]
fn offsets_that_are_not_there_are_out_of_range() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    for offset in [-1, 1, i64::MAX] {
        let response = client.call(12, &fetch(12, "t", Uuid::nil(), offset));
        assert_eq!(response.responses[0].partitions[0].error_code, 1, "{offset}");
    }
    assert_eq!(client.call(12, &fetch(12, "t", Uuid::nil(), 0)).responses[0].partitions[0].error_code, 0);
}

#[test]
fn leader_epochs_that_do_not_fit_are_refused() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    let current = node.broker.leader_epoch();
    for (epoch, code) in [(current, 0), (current + 1, 75)] {
        let mut request = fetch(12, "t", Uuid::nil(), 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(client.call(12, &request).responses[0].partitions[0].error_code, code, "{epoch}");
    }
}

#[test]
fn a_long_poll_ends_with_the_records_that_it_waits_for() {
    let node = Node::start();
    let mut waiting = node.client();
    waiting.create_topic("t", 1);
    let request = fetch(12, "t", Uuid::nil(), 0).with_max_wait_ms(30_000);
    let id = waiting.send(12, &request);
    // A request behind the one that waits is answered after it.
    let behind = waiting.send(12, &fetch(12, "t", Uuid::nil(), 0));
    std::thread::sleep(Duration::from_millis(100));
    let mut producer = node.client();
    only_answer(&mut producer, 12, &produce(12, "t", Uuid::nil(), 0, -1, batch(&["news"])));
    let response = waiting.receive::<FetchRequest>(12, id);
    assert_eq!(fetched(&response), [(0, "news".to_owned())]);
    assert_eq!(fetched(&waiting.receive::<FetchRequest>(12, behind)).len(), 1);
}

#[test]
fn a_long_poll_ends_when_its_topic_is_deleted() {
    let node = Node::start();
    let mut waiting = node.client();
    waiting.create_topic("t", 1);
    let id = waiting.send(12, &fetch(12, "t", Uuid::nil(), 0).with_max_wait_ms(50_000));
    std::thread::sleep(Duration::from_millis(100));
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")]);
    assert_eq!(node.client().call(5, &request).responses[0].error_code, 0);
    let response = waiting.receive::<FetchRequest>(12, id);
    assert_eq!(response.responses[0].partitions[0].error_code, 3);
}

#[test]
fn a_long_poll_waits_for_min_bytes_and_no_longer_than_max_wait() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    only_answer(&mut client, 12, &produce(12, "t", Uuid::nil(), 0, -1, batch(&["few"])));
    let request = fetch(12, "t", Uuid::nil(), 0).with_min_bytes(1 << 20).with_max_wait_ms(200);
    let started = Instant::now();
    let response = client.call(12, &request);
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!(fetched(&response).len(), 1, "what there is comes anyway");
}

#[test]
fn a_gates_refusal_arrives_with_its_message_and_records() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("gated", 1);
    let gate = |batch: GatedBatch| -> millpond_broker::BoxFuture<'static, Result<Admitted, Refusal>> {
        let good = values(&batch.records).iter().all(|(_, value)| value == "good");
        Box::pin(async move {
            match good {
                true => Ok(Admitted { on_appended: Box::new(|_| Box::pin(async {})) }),
                false => Err(Refusal {
                    message: "line 1, column 8: unknown column `dep_dely`".to_owned(),
                    record_errors: vec![(1, "unknown column".to_owned())],
                }),
            }
        })
    };
    node.broker.set_gate("gated".parse().unwrap(), std::sync::Arc::new(gate));
    for version in 3..=12 {
        let request = produce(version, "gated", Uuid::nil(), 0, -1, batch(&["good", "bad"]));
        let answer = only_answer(&mut client, version, &request);
        assert_eq!(answer.error_code, 87);
        if version >= 8 {
            assert_eq!(answer.error_message.as_deref(), Some("line 1, column 8: unknown column `dep_dely`"));
            assert_eq!(answer.record_errors[0].batch_index, 1);
            assert_eq!(answer.record_errors[0].batch_index_error_message.as_deref(), Some("unknown column"));
        }
    }
    let request = produce(12, "gated", Uuid::nil(), 0, -1, batch(&["good"]));
    assert_eq!(only_answer(&mut client, 12, &request).base_offset, 0);
}

#[test]
fn a_streams_topic_is_written_by_its_stream_alone() {
    let node = Node::start();
    let mut client = node.client();
    let owned = NewTopicRequest { owner: Some("delays".to_owned()), ..NewTopicRequest::new("delays") };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(node.broker.create_topic(owned, false)).unwrap();
    let answer = only_answer(&mut client, 12, &produce(12, "delays", Uuid::nil(), 0, -1, batch(&["x"])));
    assert_eq!(answer.error_code, 44, "POLICY_VIOLATION");
    assert!(answer.error_message.unwrap().contains("delays"));
}
