//! Topics of which the newest record of each key stays.

use std::sync::Arc;
use std::time::Instant;

use millpond_broker::{Acks, Broker, Clock, NewTopicRequest, Partition, ProduceError};
use millpond_records::{BatchBuilder, BatchOptions, batches};

use crate::support::{NOW_MS, PATIENCE, open_with, produce_bytes};

/// Segments of a few batches, and compaction all the time. What is in memory is read from there, compacted or not.
const EAGER: [(&str, &str); 5] = [
    ("millpond.partition.tail.bytes.max", "0"),
    ("log.index.interval.bytes", "0"),
    ("log.index.size.max.bytes", "48"),
    ("log.cleaner.backoff.ms", "5"),
    ("log.cleaner.min.cleanable.ratio", "0"),
];

async fn create(broker: &Broker, topic: &str, configs: &[(&str, &str)]) -> Arc<Partition> {
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
    broker.create_topic(NewTopicRequest { configs, ..NewTopicRequest::new(topic) }, false).await.unwrap();
    broker.partition(topic, 0).unwrap()
}

fn keyed(records: &[(Option<&str>, Option<&str>)]) -> Vec<u8> {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    for (key, value) in records {
        batch.push(NOW_MS, key.map(str::as_bytes), value.map(str::as_bytes), &[]);
    }
    batch.build()
}

async fn put(broker: &Broker, partition: &Arc<Partition>, key: &str, value: &str) {
    produce_bytes(broker, partition, Acks::All, keyed(&[(Some(key), Some(value))])).await.unwrap();
}

/// Offset, key and value of everything that is shown.
fn records(partition: &Partition) -> Vec<(i64, String, String)> {
    let mut found = Vec::new();
    let mut next = partition.log_start();
    while next < partition.visible_end() {
        let fetched = partition.read(next, 1 << 20, true).unwrap();
        assert!(fetched.next_offset > next, "nothing at {next}");
        for batch in fetched.chunks.iter().flat_map(|chunk| batches(chunk)) {
            let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
            let mut records = batch.unwrap().records(1 << 20).unwrap();
            records.for_each(|record| found.push((record.offset, text(record.key), text(record.value)))).unwrap();
        }
        next = fetched.next_offset;
    }
    found
}

/// Waits until `reached`, as the thread works by itself.
async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn the_newest_record_of_each_key_stays_through_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with(dir.path(), &EAGER, Clock::standing_at(NOW_MS));
    let partition = create(&broker, "t", &[("cleanup.policy", "compact")]).await;
    for n in 0..200 {
        put(&broker, &partition, &format!("key {}", n % 4), &n.to_string()).await;
    }
    // The active segment of a few batches is not touched.
    until("compacted", || records(&partition).len() < 20).await;
    let check = |partition: &Partition| {
        let found = records(partition);
        assert!(
            found
                .iter()
                .all(|(offset, key, value)| { *value == offset.to_string() && *key == format!("key {}", offset % 4) })
        );
        let newest: Vec<i64> = found.iter().map(|(offset, ..)| *offset).filter(|offset| *offset >= 196).collect();
        assert_eq!(newest, [196, 197, 198, 199]);
    };
    check(&partition);
    drop((partition, broker));
    let broker = open_with(dir.path(), &EAGER, Clock::standing_at(NOW_MS));
    check(&broker.partition("t", 0).unwrap());
    broker.shutdown().await.unwrap();
    drop(broker);
    let broker = open_with(dir.path(), &EAGER, Clock::standing_at(NOW_MS));
    let partition = broker.partition("t", 0).unwrap();
    check(&partition);
    put(&broker, &partition, "key 0", "200").await;
    assert_eq!(records(&partition).last().unwrap(), &(200, "key 0".to_owned(), "200".to_owned()));
}

#[tokio::test]
async fn a_record_without_a_key_is_refused_by_name_and_the_batch_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with(dir.path(), &[], Clock::standing_at(NOW_MS));
    let partition = create(&broker, "t", &[("cleanup.policy", "compact,delete")]).await;
    let batch = keyed(&[(Some("a"), Some("1")), (None, Some("2")), (Some(""), None), (None, None)]);
    let error = produce_bytes(&broker, &partition, Acks::All, batch).await.unwrap_err();
    let ProduceError::Refused { message, record_errors } = &error else { panic!("{error}") };
    assert!(message.contains("'t' is compacted") && message.contains("2 of 4"), "{message}");
    assert_eq!(record_errors.iter().map(|(record, _)| *record).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(partition.end(), 0);
    // A key may be empty, and of a topic that is not compacted any more it may be missing.
    produce_bytes(&broker, &partition, Acks::All, keyed(&[(Some(""), Some("1"))])).await.unwrap();
    let change = millpond_broker::ConfigWish::Replace(Vec::new());
    broker.alter_topic_configs("t", change, millpond_metadata::Actor::Client, false).await.unwrap();
    produce_bytes(&broker, &partition, Acks::All, keyed(&[(None, Some("1"))])).await.unwrap();
    // What claims to hold records and does not is no record of a compacted topic.
    let change = vec![("cleanup.policy".to_owned(), Some("compact".to_owned()))];
    let change = millpond_broker::ConfigWish::Replace(change);
    broker.alter_topic_configs("t", change, millpond_metadata::Actor::Client, false).await.unwrap();
    let mut garbage = keyed(&[(Some("a"), Some("1"))]);
    garbage[61] = 0x7e;
    let crc = millpond_records::crc32c(&garbage[21..]);
    garbage[17..21].copy_from_slice(&crc.to_be_bytes());
    let error = produce_bytes(&broker, &partition, Acks::All, garbage).await.unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

#[tokio::test]
async fn what_a_stream_would_read_again_and_what_was_not_shown_stays() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with(dir.path(), &EAGER, Clock::standing_at(NOW_MS));
    let partition = create(&broker, "t", &[("cleanup.policy", "delete")]).await;
    for n in 0..100 {
        put(&broker, &partition, "a", &n.to_string()).await;
    }
    partition.pin("stream", 50);
    let change = vec![("cleanup.policy".to_owned(), Some("compact".to_owned()))];
    let change = millpond_broker::ConfigWish::Replace(change);
    broker.alter_topic_configs("t", change, millpond_metadata::Actor::Client, false).await.unwrap();
    until("compacted below the pin", || records(&partition).len() < 70).await;
    let found = records(&partition);
    assert_eq!(found.iter().filter(|(offset, ..)| *offset >= 50).count(), 50);
    partition.unpin("stream");
    until("compacted above, too", || records(&partition).len() < 10).await;
}

#[tokio::test]
async fn a_topic_can_be_deleted_while_it_is_compacted_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with(dir.path(), &EAGER, Clock::standing_at(NOW_MS));
    for round in 0..30 {
        let partition = create(&broker, "t", &[("cleanup.policy", "compact")]).await;
        for n in 0..30 {
            put(&broker, &partition, "a", &format!("{round} {n}")).await;
        }
        assert_eq!(records(&partition).last().unwrap().2, format!("{round} 29"));
        broker.delete_topic("t", millpond_metadata::Actor::Client).await.unwrap();
    }
    broker.shutdown().await.unwrap();
}
