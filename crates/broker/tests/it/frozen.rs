use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millpond_broker::{Acks, Broker, BrokerOptions, Clock, FreezeError, Frozen, NewTopicRequest};
use millpond_disk::SimulatedDisk;

use crate::support::{NOW_MS, batch, create, open, open_with, produce, produce_bytes, values};

const DAY_MS: i64 = 86_400_000;

/// What a backup would restore.
fn restored(frozen: &Frozen) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in frozen.files() {
        let bytes = std::fs::read(frozen.dir().join(&file.path)).unwrap();
        let wanted = usize::try_from(file.bytes).unwrap().min(bytes.len());
        assert!(wanted as u64 >= file.bytes_settled, "{file:?}");
        let path = dir.path().join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &bytes[..wanted]).unwrap();
    }
    dir
}

fn freeze(broker: &Broker) -> Result<Frozen, FreezeError> {
    broker.freeze(|_| Ok(()))
}

#[tokio::test]
async fn what_is_frozen_stays_whatever_becomes_of_the_logs() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::standing_at(NOW_MS);
    let broker = open_with(dir.path(), &[], clock.clone());
    let configs = [("segment.bytes", "1048576"), ("retention.ms", "86400000"), ("file.delete.delay.ms", "0")];
    let configs = configs.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).to_vec();
    broker.create_topic(NewTopicRequest { configs, ..NewTopicRequest::new("t") }, false).await.unwrap();
    create(&broker, "other", 1).await;
    let partition = broker.partition("t", 0).unwrap();
    for number in 0..8 {
        let value = format!("{number}{}", "x".repeat(400_000));
        produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS, &[&value])).await.unwrap();
    }
    broker.delete_records(&partition, 3).await.unwrap();
    produce(&broker, "other", &["before"]).await.unwrap();
    let before = values(&partition);
    let frozen = freeze(&broker).unwrap();

    assert!(matches!(freeze(&broker), Err(FreezeError::Busy)));
    produce(&broker, "t", &["after"]).await.unwrap();
    produce(&broker, "other", &["after"]).await.unwrap();
    clock.advance(2 * DAY_MS);
    assert!(broker.enforce_retention().await > 0);
    broker.delete_topic("other", millpond_metadata::Actor::Client).await.unwrap();
    create(&broker, "new", 1).await;
    assert!(frozen.is_sound());

    let copy = restored(&frozen);
    let again = open_with(copy.path(), &[], Clock::standing_at(NOW_MS));
    assert_eq!(values(&again.partition("t", 0).unwrap()), before);
    assert_eq!(again.partition("t", 0).unwrap().log_start(), 3);
    assert_eq!(values(&again.partition("other", 0).unwrap()), ["before"]);
    assert!(again.topic("new").is_none());
    // Consumers that have read further find out (KIP-320).
    assert_eq!(again.leader_epoch(), broker.leader_epoch() + 1);
    produce(&again, "t", &["goes on"]).await.unwrap();
    assert_eq!(values(&again.partition("t", 0).unwrap()).last().unwrap(), "goes on");

    let folder = frozen.dir().to_owned();
    assert!(folder.starts_with(dir.path()) && folder.exists());
    drop(frozen);
    assert!(!folder.exists());
    drop(freeze(&broker).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_partitions_are_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    // Many, so that the moment is a long one.
    create(&broker, "first", 40).await;
    create(&broker, "second", 40).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (broker, stop) = (broker.clone(), stop.clone());
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    let index = (writer + 3 * number) % 40;
                    // What is in the second topic was acknowledged in the first before.
                    for (topic, index) in [("first", 39 - index), ("second", index)] {
                        let partition = broker.partition(topic, index).unwrap();
                        let batch = batch(NOW_MS, &[&format!("{writer} {number}")]);
                        produce_bytes(&broker, &partition, Acks::All, batch).await.unwrap();
                    }
                }
            })
        })
        .collect();
    let mut copies = Vec::new();
    for _ in 0..8 {
        let freezing = broker.clone();
        let frozen = tokio::task::spawn_blocking(move || freeze(&freezing)).await.unwrap().unwrap();
        copies.push(tokio::task::spawn_blocking(move || restored(&frozen)).await.unwrap());
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    let mut seen = 0;
    for copy in copies {
        let again = open(copy.path());
        let all = |topic: &str| -> Vec<String> {
            (0..40).flat_map(|index| values(&again.partition(topic, index).unwrap())).collect()
        };
        let (causes, caused) = (all("first"), all("second"));
        let missing = caused.iter().find(|value| !causes.contains(value));
        assert_eq!(missing, None, "it is there, and what was written before it is not");
        assert!(causes.len() - caused.len() <= 3, "{} and {}", causes.len(), caused.len());
        assert!(caused.len() >= seen, "the backup before had more");
        seen = caused.len();
    }
    assert!(seen > 0);
}

#[tokio::test]
async fn what_a_crash_has_left_goes_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    produce(&broker, "t", &["kept"]).await.unwrap();
    let frozen = freeze(&broker).unwrap();
    let folder = frozen.dir().to_owned();
    // As a kill does.
    std::mem::forget(frozen);
    drop(broker);
    let broker = open(dir.path());
    assert!(!folder.exists());
    assert_eq!(values(&broker.partition("t", 0).unwrap()), ["kept"]);
    drop(freeze(&broker).unwrap());
}

#[tokio::test]
async fn what_cannot_be_frozen_says_why_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let error = broker.freeze(|_| Err("no room for it".to_owned())).unwrap_err();
    assert_eq!(error.to_string(), "the state of the queries cannot be copied: no room for it");
    assert_eq!(left_over(dir.path()), 0);
    let frozen =
        broker.freeze(|folder| std::fs::write(folder.join("state"), b"123").map_err(|e| e.to_string())).unwrap();
    let state = frozen.files().iter().find(|file| file.path == "state").unwrap();
    assert_eq!((state.bytes, state.bytes_settled, left_over(dir.path())), (3, 3, 1));
    drop(frozen);
    broker.shutdown().await.unwrap();
    assert!(matches!(freeze(&broker), Err(FreezeError::Stopping)));
    assert_eq!(left_over(dir.path()), 0);
}

#[test]
fn a_full_disk_is_said_to_be_one_and_nothing_is_left() {
    let mut refused = 0;
    for room in 0..40 {
        let disk = SimulatedDisk::new(room);
        let dir = disk.root().join("data");
        let (broker, driver) = Broker::open_driven(BrokerOptions::new(&dir)).unwrap();
        driver.sync_all();
        // Less or more than what is not a link: the checkpoints.
        disk.set_capacity_bytes(Some(disk.used_bytes() + room));
        match freeze(&broker) {
            Ok(frozen) => drop(frozen),
            Err(error) => {
                assert!(matches!(error, FreezeError::Disk(_)), "{error}");
                assert!(error.to_string().contains("space"), "{error}");
                refused += 1;
            }
        }
        let left = millpond_disk::list(&dir).unwrap();
        assert!(left.iter().all(|entry| !entry.name.starts_with(".frozen")), "{left:?}");
        disk.set_capacity_bytes(None);
        drop(freeze(&broker).unwrap());
    }
    assert!(refused > 0);
}

fn left_over(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".frozen")).count()
}
