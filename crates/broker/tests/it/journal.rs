//! Small writes to many partitions become durable by way of the journal.

use std::path::Path;
use std::sync::Arc;

use millpond_broker::{Acks, Broker, NewTopicRequest, Partition};
use millpond_metadata::Actor;

use crate::support::{NOW_MS, PATIENCE, batch, create, open, open_with, produce, produce_bytes, values};

/// A node whose journal has its first file: that is made when it is first wanted.
async fn open_with_journal(dir: &Path) -> Arc<Broker> {
    let broker = open(dir);
    if broker.partition("warm", 0).is_none() {
        create(&broker, "warm", 1).await;
    }
    let began = std::time::Instant::now();
    while broker.metrics().journal_writes.get() == 0 {
        assert!(began.elapsed() < PATIENCE, "the journal is not used");
        produce(&broker, "warm", &["a"]).await.unwrap();
    }
    broker
}

/// What a power cut may leave of logs that were never synced.
fn lose_logs(dir: &Path, topic: &str, partitions: i32) {
    for index in 0..partitions {
        let log = dir.join(format!("{topic}-{index}/00000000000000000000.log"));
        assert!(std::fs::metadata(&log).unwrap().len() > 0);
        std::fs::write(log, b"").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_comes_back_from_the_journal_alone() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with_journal(dir.path()).await;
    create(&broker, "t", 16).await;
    let syncs = broker.metrics().syncs.get();
    for round in 0..3 {
        for index in 0..16 {
            let partition = broker.partition("t", index).unwrap();
            let batch = batch(NOW_MS, &[&format!("{round}"), &format!("of {index}")]);
            produce_bytes(&broker, &partition, Acks::All, batch).await.unwrap();
        }
    }
    assert_eq!(broker.metrics().syncs.get(), syncs, "no log was synced by itself");
    drop(broker);
    lose_logs(dir.path(), "t", 16);

    for _ in 0..2 {
        let broker = open(dir.path());
        for index in 0..16 {
            let last = format!("of {index}");
            assert_eq!(values(&broker.partition("t", index).unwrap()), ["0", &last, "1", &last, "2", &last]);
        }
        // Once more after a crash, and what was put back is in the logs themselves now.
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_has_cut_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with_journal(dir.path()).await;
    let owner = Some("s".to_owned());
    broker.create_topic(NewTopicRequest { owner, ..NewTopicRequest::new("out") }, false).await.unwrap();
    let partition: Arc<Partition> = broker.partition("out", 0).unwrap();
    let step = |values: &[&str]| {
        let end = partition.append_owned(batch(NOW_MS, values)).unwrap().last_offset + 1;
        partition.durable_blocking(end, PATIENCE).unwrap();
        end
    };
    step(&["wrong", "and", "longer"]);
    partition.truncate_to(0).unwrap();
    partition.reveal(step(&["right"]));
    assert_eq!(values(&partition), ["right"]);
    drop((broker, partition));
    lose_logs(dir.path(), "out", 1);

    let broker = open(dir.path());
    let partition = broker.partition("out", 0).unwrap();
    partition.reveal(partition.end());
    assert_eq!(values(&partition), ["right"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_writes_are_synced_in_their_log() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with_journal(dir.path()).await;
    create(&broker, "t", 1).await;
    let (syncs, bytes) = (broker.metrics().syncs.get(), broker.metrics().journal_bytes.get());
    produce(&broker, "t", &["x".repeat(700_000).as_str()]).await.unwrap();
    assert_eq!((broker.metrics().syncs.get(), broker.metrics().journal_bytes.get()), (syncs + 1, bytes));
    produce(&broker, "t", &["small"]).await.unwrap();
    assert!(broker.metrics().journal_bytes.get() > bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_journal_is_used_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with(dir.path(), &[("millpond.journal.bytes", "2000000")], millpond_broker::Clock::system());
    create(&broker, "t", 4).await;
    let value = "x".repeat(20_000);
    for number in 0..400 {
        let partition = broker.partition("t", number % 4).unwrap();
        produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS, &[&value])).await.unwrap();
    }
    assert!(broker.metrics().journal_bytes.get() > 2_000_000, "files were used more than once");
    drop(broker);
    let names: Vec<String> = millpond_disk::list(dir.path()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.iter().filter(|name| name.starts_with("millpond-journal.")).count() <= 4, "{names:?}");
    let broker = open(dir.path());
    for index in 0..4 {
        assert_eq!(values(&broker.partition("t", index).unwrap()).len(), 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_every_log_is_synced_and_what_an_earlier_one_had_is_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with_journal(dir.path()).await;
    create(&broker, "t", 1).await;
    produce(&broker, "t", &["a"]).await.unwrap();
    drop(broker);
    lose_logs(dir.path(), "t", 1);
    let broker = open_with(dir.path(), &[("millpond.journal.bytes", "0")], millpond_broker::Clock::system());
    assert!(!dir.path().join("millpond-journal.0").exists());
    produce(&broker, "t", &["b"]).await.unwrap();
    assert_eq!(values(&broker.partition("t", 0).unwrap()), ["a", "b"]);
    assert_eq!(broker.metrics().journal_writes.get(), 0);
}

/// A power cut that has kept a log's length and its first batch's header, and not what follows.
fn tear(dir: &Path, log: &str) {
    let path = dir.join(log).join("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[61..].fill(0);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_checkpoints_say_of_a_deleted_topic_is_not_believed_of_one_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with_journal(dir.path()).await;
    create(&broker, "t", 2).await;
    for index in 0..2 {
        let partition = broker.partition("t", index).unwrap();
        produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS, &["old"; 100])).await.unwrap();
    }
    broker.delete_records(&broker.partition("t", 0).unwrap(), 50).await.unwrap();
    broker.shutdown().await.unwrap();
    drop(broker);

    // Both files speak of `t` now: its first partition starts at 50, and both are sound up to 100.
    let broker = open_with_journal(dir.path()).await;
    broker.delete_topic("t", Actor::Client).await.unwrap();
    create(&broker, "t", 2).await;
    for index in 0..2 {
        let partition = broker.partition("t", index).unwrap();
        produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS, &["new", "records"])).await.unwrap();
    }
    drop(broker);
    tear(dir.path(), "t-1");
    let broker = open(dir.path());
    for index in 0..2 {
        assert_eq!(values(&broker.partition("t", index).unwrap()), ["new", "records"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_checkpoints_say_of_what_was_cut_is_not_believed_of_what_came_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with_journal(dir.path()).await;
    let owner = Some("s".to_owned());
    broker.create_topic(NewTopicRequest { owner, ..NewTopicRequest::new("out") }, false).await.unwrap();
    let step = |partition: &Arc<Partition>, values: &[&str]| {
        let end = partition.append_owned(batch(NOW_MS, values)).unwrap().last_offset + 1;
        partition.durable_blocking(end, PATIENCE).unwrap();
        end
    };
    step(&broker.partition("out", 0).unwrap(), &["a", "step", "that", "was", "not", "committed"]);
    broker.shutdown().await.unwrap();
    drop(broker);

    let broker = open_with_journal(dir.path()).await;
    let partition = broker.partition("out", 0).unwrap();
    partition.truncate_to(0).unwrap();
    step(&partition, &["committed"]);
    drop((broker, partition));
    tear(dir.path(), "out-0");
    let broker = open(dir.path());
    let partition = broker.partition("out", 0).unwrap();
    partition.reveal(partition.end());
    assert_eq!(values(&partition), ["committed"]);
    drop((broker, partition));

    // The same where a crash has cut the log, and a crash follows before any checkpoint.
    std::fs::write(dir.path().join("out-0/00000000000000000000.log"), b"").unwrap();
    let points = "0\n1\nout 0 1\n";
    std::fs::write(dir.path().join("recovery-point-offset-checkpoint"), points).unwrap();
    let broker = open_with_journal(dir.path()).await;
    let partition = broker.partition("out", 0).unwrap();
    assert_eq!(partition.end(), 0);
    step(&partition, &["again"]);
    drop((broker, partition));
    tear(dir.path(), "out-0");
    let broker = open(dir.path());
    let partition = broker.partition("out", 0).unwrap();
    partition.reveal(partition.end());
    assert_eq!(values(&partition), ["again"]);
}
