//! What a topic's configuration makes of batches.

use std::sync::Arc;

use millpond_broker::{Acks, Broker, Clock, ConfigWish, NewTopicRequest, Partition, ProduceError};
use millpond_metadata::Actor;
use millpond_records::{BatchBuilder, BatchOptions, Compression, TimestampType, batches};

use crate::support::{NOW_MS, batch, open_with, produce_bytes, produced};

const HOUR_MS: i64 = 3_600_000;

async fn topic(broker: &Broker, configs: &[(&str, &str)]) -> Arc<Partition> {
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
    broker.create_topic(NewTopicRequest { configs, ..NewTopicRequest::new("t") }, false).await.unwrap();
    broker.partition("t", 0).unwrap()
}

/// Compression, timestamp type and the records' timestamps of the batch at `offset`.
fn stored(partition: &Partition, offset: i64) -> (Compression, TimestampType, Vec<i64>) {
    let fetched = partition.read(offset, 1, true).unwrap();
    let batch = batches(&fetched.chunks[0]).next().unwrap().unwrap();
    millpond_records::verify_crc(batch.bytes).unwrap();
    let mut timestamps = Vec::new();
    batch.records(1 << 20).unwrap().for_each(|record| timestamps.push(record.timestamp)).unwrap();
    (batch.header.compression().unwrap(), batch.header.timestamp_type(), timestamps)
}

#[tokio::test]
async fn the_brokers_time_replaces_the_producers_and_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::standing_at(NOW_MS);
    let broker = open_with(dir.path(), &[], clock.clone());
    let partition = topic(&broker, &[("message.timestamp.type", "LogAppendTime")]).await;
    // Whatever the producer's clock says, far in the future too.
    let appended =
        produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS + 100 * HOUR_MS, &["a", "b"])).await.unwrap();
    assert_eq!(appended.log_append_time_ms, NOW_MS);
    assert_eq!(stored(&partition, 0), (Compression::None, TimestampType::LogAppendTime, vec![NOW_MS, NOW_MS]));
    clock.advance(5);
    broker.alter_topic_configs("t", ConfigWish::Replace(Vec::new()), Actor::Client, false).await.unwrap();
    let appended = produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS - 7, &["c"])).await.unwrap();
    assert_eq!(appended.log_append_time_ms, -1);
    assert_eq!(stored(&partition, 2), (Compression::None, TimestampType::CreateTime, vec![NOW_MS - 7]));
}

#[tokio::test]
async fn records_outside_the_limits_are_refused_by_place_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with(dir.path(), &[], Clock::standing_at(NOW_MS));
    let limits = [("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "2000")];
    let partition = topic(&broker, &limits).await;
    let mut mixed = BatchBuilder::new(BatchOptions { compression: Compression::Zstd, ..BatchOptions::default() });
    for timestamp in [NOW_MS, NOW_MS - 1_001, -1, NOW_MS + 2_000, NOW_MS + 2_001] {
        mixed.push(timestamp, None, Some(b"x"), &[]);
    }
    let error = produce_bytes(&broker, &partition, Acks::All, mixed.build()).await.unwrap_err();
    let ProduceError::InvalidTimestamp { records, .. } = &error else { panic!("{error}") };
    assert_eq!(*records, [(1, NOW_MS - 1_001), (4, NOW_MS + 2_001)]);
    let text = error.to_string();
    assert!(
        text.contains("1000 ms behind (message.timestamp.before.max.ms)") && text.contains("so are 1 other"),
        "{text}"
    );
    produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS - 1_000, &["old enough"])).await.unwrap();
    produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS + 2_000, &["new enough"])).await.unwrap();
    assert_eq!(partition.end(), 2);
    // Without limits of its own a topic takes whatever is old, and an hour ahead.
    broker.alter_topic_configs("t", ConfigWish::Replace(Vec::new()), Actor::Client, false).await.unwrap();
    produce_bytes(&broker, &partition, Acks::All, batch(0, &["ancient"])).await.unwrap();
    let error = produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS + HOUR_MS + 1, &["x"])).await.unwrap_err();
    assert!(error.to_string().contains("3600000 ms ahead of (message.timestamp.after.max.ms)"), "{error}");
}

#[tokio::test]
async fn batches_are_compressed_as_the_topic_wants_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with(dir.path(), &[("compression.type", "zstd")], Clock::standing_at(NOW_MS));
    let partition = topic(&broker, &[]).await;
    let types = [
        ("gzip", Compression::Gzip),
        ("uncompressed", Compression::None),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
    ];
    let value = "many of these ".repeat(50);
    for sent in Compression::ALL {
        let options = BatchOptions { compression: sent, ..BatchOptions::default() };
        let appended =
            produce_bytes(&broker, &partition, Acks::All, produced(options, NOW_MS, &[&value, &value])).await.unwrap();
        assert_eq!(
            stored(&partition, appended.base_offset).0,
            Compression::Zstd,
            "the broker's default, sent as {sent}"
        );
    }
    for (name, expected) in types {
        let change = ConfigWish::Replace(vec![("compression.type".to_owned(), Some(name.to_owned()))]);
        broker.alter_topic_configs("t", change, Actor::Client, false).await.unwrap();
        for sent in Compression::ALL {
            let options = BatchOptions { compression: sent, ..BatchOptions::default() };
            let appended =
                produce_bytes(&broker, &partition, Acks::All, produced(options, NOW_MS, &[&value])).await.unwrap();
            assert_eq!(stored(&partition, appended.base_offset).0, expected, "{name}, sent as {sent}");
        }
    }
    let change = vec![("compression.type".to_owned(), Some("uncompressed".to_owned()))];
    let change =
        ConfigWish::Replace([change, vec![("max.message.bytes".to_owned(), Some("1000".to_owned()))]].concat());
    broker.alter_topic_configs("t", change, Actor::Client, false).await.unwrap();
    let options = BatchOptions { compression: Compression::Zstd, ..BatchOptions::default() };
    let error =
        produce_bytes(&broker, &partition, Acks::All, produced(options, NOW_MS, &[&value, &value])).await.unwrap_err();
    assert!(matches!(error, ProduceError::TooLarge { bytes_max: 1_000, .. }), "what counts is what is stored: {error}");
}

#[tokio::test]
async fn an_idempotent_producers_batch_is_recognised_after_it_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with(dir.path(), &[], Clock::standing_at(NOW_MS));
    let partition = topic(&broker, &[("compression.type", "lz4"), ("message.timestamp.type", "LogAppendTime")]).await;
    let options = BatchOptions { producer: Some((7, 0, 0)), ..BatchOptions::default() };
    for is_again in [false, true] {
        let appended =
            produce_bytes(&broker, &partition, Acks::All, produced(options, NOW_MS, &["a", "b"])).await.unwrap();
        assert_eq!((appended.base_offset, appended.last_offset, appended.duplicate), (0, 1, is_again));
    }
    assert_eq!(partition.end(), 2);
}

#[tokio::test]
async fn without_sync_before_ack_logs_are_flushed_as_the_topic_says() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = [("millpond.sync.before.ack", "false"), ("millpond.journal.bytes", "0")];
    let broker = open_with(dir.path(), &pairs, Clock::system());
    let partition = topic(&broker, &[("flush.messages", "3")]).await;
    let synced = || partition.recovery_point();
    for value in ["a", "b"] {
        produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS, &[value])).await.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(synced(), 0);
    produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS, &["c"])).await.unwrap();
    let begun = std::time::Instant::now();
    while synced() < 3 {
        assert!(begun.elapsed() < crate::support::PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let change = ConfigWish::Replace(vec![("flush.ms".to_owned(), Some("10".to_owned()))]);
    broker.alter_topic_configs("t", change, Actor::Client, false).await.unwrap();
    produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS, &["d"])).await.unwrap();
    while synced() < 4 {
        assert!(begun.elapsed() < crate::support::PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
