use millpond_broker::{Acks, Broker, Clock, NewTopicRequest, TrimError};

use crate::support::{NOW_MS, batch, open, open_with, produce_bytes, values};

const DAY_MS: i64 = 86_400_000;

/// Eight batches, two a segment, and a topic that keeps them for a day.
async fn filled(broker: &Broker, clock: &Clock) {
    let configs = [("segment.bytes", "1048576"), ("retention.ms", "86400000"), ("file.delete.delay.ms", "0")];
    let configs = configs.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).to_vec();
    broker.create_topic(NewTopicRequest { configs, ..NewTopicRequest::new("t") }, false).await.unwrap();
    let partition = broker.partition("t", 0).unwrap();
    for number in 0..8 {
        let value = format!("{number}{}", "x".repeat(400_000));
        produce_bytes(broker, &partition, Acks::All, batch(clock.now_ms(), &[&value])).await.unwrap();
    }
}

#[tokio::test]
async fn old_records_go_but_none_that_somebody_has_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::standing_at(NOW_MS);
    let broker = open_with(dir.path(), &[], clock.clone());
    filled(&broker, &clock).await;
    let partition = broker.partition("t", 0).unwrap();
    let size = partition.size_bytes();
    assert_eq!(broker.enforce_retention().await, 0, "nothing is old");
    partition.pin("stream", 5);
    clock.advance(2 * DAY_MS);
    assert!(broker.enforce_retention().await > 0);
    assert_eq!(partition.log_start(), 4, "the segment of record 5 stays");
    assert!(values(&partition)[1].starts_with('5'));
    assert!(partition.size_bytes() < size);
    partition.unpin("stream");
    broker.enforce_retention().await;
    assert_eq!((partition.log_start(), partition.end()), (8, 8));
    assert!(values(&partition).is_empty());
}

#[tokio::test]
async fn deleted_records_stay_deleted_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::standing_at(NOW_MS);
    let broker = open_with(dir.path(), &[], clock.clone());
    filled(&broker, &clock).await;
    let partition = broker.partition("t", 0).unwrap();
    assert_eq!(broker.delete_records(&partition, 3).await.unwrap(), 3);
    for (to, expected) in [(9, "not in the log"), (-2, "not in the log")] {
        let error = broker.delete_records(&partition, to).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    partition.pin("stream", 5);
    assert!(matches!(broker.delete_records(&partition, 6).await, Err(TrimError::Pinned { offset: 5, .. })));
    drop((broker, partition));
    let broker = open(dir.path());
    let partition = broker.partition("t", 0).unwrap();
    assert_eq!((partition.log_start(), partition.end()), (3, 8));
    assert_eq!(broker.delete_records(&partition, -1).await.unwrap(), 8);
}

#[tokio::test]
async fn a_held_partition_loses_nothing_that_was_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::standing_at(NOW_MS);
    let broker = open_with(dir.path(), &[], clock.clone());
    filled(&broker, &clock).await;
    broker.set_topic_owner("t", Some("s".to_owned())).await.unwrap();
    broker.shutdown().await.unwrap();
    drop(broker);
    clock.advance(2 * DAY_MS);
    let broker = open_with(dir.path(), &[], clock);
    assert_eq!(broker.enforce_retention().await, 0);
    let partition = broker.partition("t", 0).unwrap();
    partition.reveal(partition.end());
    assert_eq!(values(&partition).len(), 8);
}
