use std::sync::Arc;
use std::time::Duration;

use millpond_broker::{Broker, FetchError, NewTopicRequest, Partition, TrimError, Waiter};

use crate::support::{NOW_MS, PATIENCE, batch, create, open, produce, values};

async fn owned(broker: &Broker) -> Arc<Partition> {
    let owner = Some("s".to_owned());
    broker.create_topic(NewTopicRequest { owner, ..NewTopicRequest::new("out") }, false).await.unwrap();
    broker.partition("out", 0).unwrap()
}

/// Appends three records and waits until they are durable.
fn step(partition: &Arc<Partition>) -> i64 {
    let appended = partition.append_owned(batch(NOW_MS, &["a", "b", "c"])).unwrap();
    partition.durable_blocking(appended.last_offset + 1, PATIENCE).unwrap();
    appended.last_offset + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_its_results_when_it_says_so_and_after_a_restart_again() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let partition = owned(&broker).await;
    let first = step(&partition);
    assert_eq!((partition.visible_end(), values(&partition).len()), (0, 0));
    partition.reveal(first);
    let second = step(&partition);
    assert_eq!(values(&partition).len(), 3, "the second step is not revealed");
    assert_eq!(partition.read_held(0, 1 << 20, true).unwrap().next_offset, second);

    broker.shutdown().await.unwrap();
    drop((broker, partition));
    let broker = open(dir.path());
    let partition = broker.partition("out", 0).unwrap();
    assert_eq!((partition.visible_end(), partition.end()), (0, second));
    // A consumer that comes back to where it was is not sent to the log's start.
    assert!(partition.read(first, 1 << 20, true).unwrap().is_empty());
    assert_eq!(partition.epoch_end(broker.leader_epoch()), Some((broker.leader_epoch(), second)));
    partition.truncate_to(first).unwrap();
    partition.reveal(first);
    assert_eq!((values(&partition).len() as i64, partition.end()), (first, first));
}

#[tokio::test]
async fn records_that_were_shown_are_never_cut() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let partition = owned(&broker).await;
    let end = step(&partition);
    partition.reveal(end);
    assert!(matches!(partition.truncate_to(0), Err(TrimError::Shown { .. })));
    create(&broker, "free", 1).await;
    produce(&broker, "free", &["a"]).await.unwrap();
    assert!(matches!(broker.partition("free", 0).unwrap().truncate_to(1), Err(TrimError::Shown { .. })));
}

#[tokio::test]
async fn what_replaces_a_cut_step_is_shown_as_soon_as_it_is_revealed_and_durable() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let partition = owned(&broker).await;
    for _ in 0..50 {
        let shown = partition.visible_end();
        partition.append_owned(batch(NOW_MS, &["wrong"; 5])).unwrap();
        partition.truncate_to(shown).unwrap();
        let end = partition.append_owned(batch(NOW_MS, &["right"])).unwrap().last_offset + 1;
        assert_eq!(end, shown + 1);
        partition.durable(end).await.unwrap();
        partition.reveal(end);
        assert_eq!(partition.visible_end(), end);
    }
    assert_eq!(values(&partition), ["right"; 50]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_waits_is_woken_for_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "a", 1).await;
    create(&broker, "b", 1).await;
    let partitions = [broker.partition("a", 0).unwrap(), broker.partition("b", 0).unwrap()];
    let consumer = tokio::spawn(async move {
        let waiter = Waiter::new();
        let mut seen = 0;
        while seen < 400 {
            for partition in &partitions {
                partition.watch(&waiter);
            }
            let now = partitions[0].visible_end() + partitions[1].visible_end();
            if now > seen {
                seen = now;
            } else {
                waiter.notified().await;
            }
        }
    });
    for _ in 0..200 {
        produce(&broker, "a", &["x"]).await.unwrap();
        produce(&broker, "b", &["x"]).await.unwrap();
    }
    tokio::time::timeout(PATIENCE, consumer).await.expect("no wake-up was lost").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_waits_is_woken_by_a_reveal_and_by_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let partition = owned(&broker).await;
    let waiter = Waiter::new();
    partition.watch(&waiter);
    let end = step(&partition);
    assert!(!waiter.wait(Duration::ZERO));
    partition.reveal(end);
    assert!(waiter.wait(PATIENCE));
}

#[tokio::test]
async fn giving_a_topic_to_a_stream_holds_it_and_setting_it_free_shows_everything() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    produce(&broker, "t", &["a"]).await.unwrap();
    let partition = broker.partition("t", 0).unwrap();
    broker.set_topic_owner("t", Some("s".to_owned())).await.unwrap();
    step(&partition);
    assert_eq!(values(&partition), ["a"]);
    assert!(produce(&broker, "t", &["b"]).await.is_err());
    broker.set_topic_owner("t", None).await.unwrap();
    produce(&broker, "t", &["d"]).await.unwrap();
    assert_eq!(values(&partition), ["a", "a", "b", "c", "d"]);
}

#[tokio::test]
async fn offsets_that_are_not_in_the_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    produce(&broker, "t", &["a", "b"]).await.unwrap();
    let partition = broker.partition("t", 0).unwrap();
    assert!(partition.read(2, 100, true).unwrap().is_empty());
    for offset in [-1, 3] {
        let error = partition.read(offset, 100, true).unwrap_err();
        assert!(matches!(error, FetchError::OutOfRange { log_start: 0, log_end: 2, .. }), "{error}");
    }
    assert_eq!(partition.offset_for_timestamp(0).unwrap().map(|(offset, _)| offset), Some(0));
    assert!(partition.max_timestamp().unwrap().is_some());
}
