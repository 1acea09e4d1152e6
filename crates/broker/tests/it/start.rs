use std::path::Path;

use millpond_broker::{Broker, BrokerOptions, Clock, OpenError};
use millpond_metadata::Actor;

use crate::support::{copy, create, open, open_with, produce, values};

fn refused(dir: &Path) -> OpenError {
    Broker::open(BrokerOptions::new(dir)).unwrap_err()
}

fn folders(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = entries
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_clean_stop_keeps_everything_and_begins_no_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let cluster_id = {
        let broker = open(dir.path());
        create(&broker, "t", 3).await;
        produce(&broker, "t", &["a", "b"]).await.unwrap();
        broker.shutdown().await.unwrap();
        broker.shutdown().await.unwrap();
        broker.cluster_id()
    };
    assert!(dir.path().join(".kafka_cleanshutdown").exists());
    let broker = open(dir.path());
    assert!(!dir.path().join(".kafka_cleanshutdown").exists(), "a crash from here on is a crash");
    assert_eq!((broker.cluster_id(), broker.leader_epoch()), (cluster_id, 0));
    assert_eq!(broker.topic("t").unwrap().partition_count, 3);
    let partition = broker.partition("t", 0).unwrap();
    assert_eq!(values(&partition), ["a", "b"]);
    assert_eq!(produce(&broker, "t", &["c"]).await.unwrap(), 2);
}

#[tokio::test]
async fn a_folder_in_use_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(broker);
    open(dir.path());
}

#[test]
fn a_folder_of_a_later_version_or_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = dir.path().join("meta.properties");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("format.version=1", "format.version=9")).unwrap();
    assert!(matches!(refused(dir.path()), OpenError::NewerVersion { .. }));
    let without: String =
        text.lines().filter(|line| !line.starts_with("millpond")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, without).unwrap();
    let error = refused(dir.path());
    assert!(error.to_string().contains("Apache Kafka"), "{error}");
    std::fs::write(&path, text).unwrap();
    open(dir.path());
}

#[test]
fn a_path_that_cannot_be_a_folder_is_refused_with_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let error = refused(&file.join("data"));
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
    assert!(error.to_string().contains("file/data"), "{error}");
}

#[tokio::test]
async fn a_kill_while_a_topic_is_made_or_deleted_leaves_all_of_it_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "kept", 2).await;
    produce(&broker, "kept", &["a"]).await.unwrap();
    create(&broker, "gone", 2).await;
    produce(&broker, "gone", &["b"]).await.unwrap();

    // Killed after the record of the topic, before its second folder was whole and the third was there.
    create(&broker, "half", 3).await;
    let killed = copy(dir.path());
    std::fs::remove_file(killed.path().join("half-1/partition.metadata")).unwrap();
    std::fs::remove_dir_all(killed.path().join("half-2")).unwrap();
    let after = open(killed.path());
    assert_eq!(folders(killed.path()).iter().filter(|name| name.starts_with("half-")).count(), 3);
    assert_eq!(after.topic("half").unwrap().partition_count, 3);
    produce(&after, "half", &["c"]).await.unwrap();
    assert_eq!(values(&after.partition("kept", 0).unwrap()), ["a"]);
    drop(after);

    // Killed after the record of the deletion, before the folders were renamed or removed.
    let before = copy(dir.path());
    broker.delete_topic("gone", Actor::Client).await.unwrap();
    let killed = copy(dir.path());
    std::fs::rename(before.path().join("gone-0"), killed.path().join("gone-0")).unwrap();
    let renamed = "gone-1.00000000000000000000000000000000-delete";
    std::fs::rename(before.path().join("gone-1"), killed.path().join(renamed)).unwrap();
    // And a log that nobody ever spoke of is kept for whoever put it there.
    let other = tempfile::tempdir().unwrap();
    let elsewhere = open(other.path());
    create(&elsewhere, "found", 1).await;
    std::fs::rename(other.path().join("found-0"), killed.path().join("found-0")).unwrap();
    let after = open(killed.path());
    assert!(after.topic("gone").is_none());
    let left = folders(killed.path());
    assert!(!left.iter().any(|name| name.starts_with("gone")), "{left:?}");
    assert!(left.iter().any(|name| name.starts_with("found-0.") && name.ends_with("-stray")), "{left:?}");
}

#[tokio::test]
async fn a_topic_of_the_same_name_does_not_take_over_the_records_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    produce(&broker, "t", &["old"]).await.unwrap();
    let before = copy(dir.path());
    broker.delete_topic("t", Actor::Client).await.unwrap();
    create(&broker, "t", 1).await;
    let killed = copy(dir.path());
    std::fs::remove_dir_all(killed.path().join("t-0")).unwrap();
    std::fs::rename(before.path().join("t-0"), killed.path().join("t-0")).unwrap();
    let after = open(killed.path());
    assert!(values(&after.partition("t", 0).unwrap()).is_empty());
}

#[tokio::test]
async fn checkpoints_are_written_while_the_node_runs() {
    let dir = tempfile::tempdir().unwrap();
    let every = [("log.flush.offset.checkpoint.interval.ms", "1")];
    let broker = open_with(dir.path(), &every, Clock::system());
    create(&broker, "t", 1).await;
    produce(&broker, "t", &["a", "b"]).await.unwrap();
    let path = dir.path().join("recovery-point-offset-checkpoint");
    let started = std::time::Instant::now();
    while !std::fs::read_to_string(&path).unwrap_or_default().contains("t 0 2") {
        assert!(started.elapsed() < crate::support::PATIENCE, "{:?}", std::fs::read_to_string(&path));
        tokio::task::yield_now().await;
    }
    drop(broker);
    assert_eq!(values(&open(dir.path()).partition("t", 0).unwrap()), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_middle_of_the_metadata_is_refused_and_nothing_is_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    for name in ["a", "b", "c"] {
        create(&broker, name, 1).await;
        produce(&broker, name, &["kept"]).await.unwrap();
    }
    drop(broker);
    let path = dir.path().join("__millpond_metadata-0/00000000000000000000.log");
    let sound = std::fs::read(&path).unwrap();
    // The recovery point does not help: nothing was checkpointed.
    let second =
        millpond_records::batches(&sound).nth(1).unwrap().unwrap().bytes.as_ptr() as usize - sound.as_ptr() as usize;
    for at in [second + 8, second + 16, second + 70] {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x40;
        std::fs::write(&path, &damaged).unwrap();
        let error = Broker::open(BrokerOptions::new(dir.path())).unwrap_err().to_string();
        assert!(error.contains(&format!("at position {second}")) && error.contains("whole batches follow"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
    // Nor is what was verified once believed for ever.
    std::fs::write(&path, &sound).unwrap();
    open(dir.path()).shutdown().await.unwrap();
    let name = sound.windows(3).position(|window| window == b"\"b\"").unwrap() + 1;
    let mut damaged = sound.clone();
    damaged[name] = b'B';
    for bytes in [&damaged[..], &[]] {
        std::fs::write(&path, bytes).unwrap();
        let error = Broker::open(BrokerOptions::new(dir.path())).unwrap_err().to_string();
        assert!(error.contains("__millpond_metadata-0") && error.contains("damaged"), "{error}");
        assert!(dir.path().join("b-0").exists());
    }
    std::fs::write(&path, &sound).unwrap();
    std::fs::write(dir.path().join("recovery-point-offset-checkpoint"), "0\n0\n").unwrap();
    // The last batch may be one that a crash cut off.
    let last = millpond_records::batches(&sound).last().unwrap().unwrap().bytes.len();
    std::fs::write(&path, &sound[..sound.len() - last / 2]).unwrap();
    let broker = open(dir.path());
    assert_eq!(values(&broker.partition("a", 0).unwrap()), ["kept"]);
    drop(broker);
}
