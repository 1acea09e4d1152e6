//! A data folder as tools see it, beside a node that runs and after it.

use millpond_broker::{Acks, DataFolder, DataFolderError, Owner};
use millpond_log::inspect::FindingKind;
use millpond_metadata::Actor;
use millpond_types::{TopicName, TopicPartition};

use crate::support::{NOW_MS, batch, create, open, produce_bytes};

fn partition(topic: &str, number: i32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), number)
}

/// A folder whose node was stopped, with two topics.
async fn stopped() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "pond", 2).await;
    create(&broker, "brook", 1).await;
    let pond = broker.partition("pond", 0).unwrap();
    produce_bytes(&broker, &pond, Acks::All, batch(NOW_MS, &["a", "b"])).await.unwrap();
    broker.shutdown().await.unwrap();
    dir
}

#[tokio::test]
async fn a_folder_is_read_while_its_node_runs_and_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "pond", 2).await;
    let pond = broker.partition("pond", 0).unwrap();
    produce_bytes(&broker, &pond, Acks::All, batch(NOW_MS, &["a", "b"])).await.unwrap();
    let folder = DataFolder::read(dir.path()).unwrap();
    assert_eq!((folder.owner(), folder.is_closed(), folder.findings()), (&Owner::Millpond, false, vec![]));
    let claims = folder.claims(&partition("pond", 0));
    assert_eq!((claims.topic_id, claims.log_start), (Some(broker.topic("pond").unwrap().id), Some(0)));
    broker.shutdown().await.unwrap();

    let folder = DataFolder::read(dir.path()).unwrap();
    assert_eq!((folder.is_closed(), folder.findings()), (true, vec![]));
    assert_eq!(folder.claims(&partition("pond", 0)).recovery_point, Some(2));
    let names: Vec<String> = folder.partitions().iter().map(|(partition, _)| partition.to_string()).collect();
    assert_eq!(names, ["__millpond_metadata-0", "pond-0", "pond-1"]);
    let journal = folder.others().iter().find(|other| other.name == "millpond-journal.0").unwrap();
    assert!(journal.bytes > 0);
}

#[tokio::test]
async fn what_does_not_fit_between_its_files_is_told() {
    let dir = stopped().await;
    let found = |change: &dyn Fn(), undo: &dyn Fn()| {
        change();
        let findings = DataFolder::read(dir.path()).unwrap().findings();
        undo();
        assert_eq!(DataFolder::read(dir.path()).unwrap().findings(), [], "undone");
        findings
    };
    let at = |name: &str| dir.path().join(name);
    let rename = |from: &str, to: &str| std::fs::rename(at(from), at(to)).unwrap();

    let lost = found(&|| rename("pond-1", "away"), &|| rename("away", "pond-1"));
    assert_eq!(
        lost.iter().map(|finding| finding.kind).collect::<Vec<_>>(),
        [FindingKind::Metadata, FindingKind::Checkpoint]
    );
    let strange = found(&|| rename("brook-0", "lake-0"), &|| rename("lake-0", "brook-0"));
    assert!(strange.iter().any(|finding| finding.file == at("lake-0") && finding.remedy.contains("-stray")));

    // The version of a checkpoint, and something within the first record of the metadata.
    for (name, position) in
        [("recovery-point-offset-checkpoint", 0), ("__millpond_metadata-0/00000000000000000000.log", 90)]
    {
        let sound = std::fs::read(at(name)).unwrap();
        let damaged = found(
            &|| {
                let mut bytes = sound.clone();
                bytes[position] ^= 0x40;
                std::fs::write(at(name), bytes).unwrap();
            },
            &|| std::fs::write(at(name), &sound).unwrap(),
        );
        assert_eq!(damaged.len(), 1, "{damaged:#?}");
        assert_eq!(damaged[0].file, at(name));
    }
    // A folder in which a log was being made when the node ended.
    let unmade =
        found(&|| std::fs::create_dir(at("meadow-0")).unwrap(), &|| std::fs::remove_dir(at("meadow-0")).unwrap());
    assert_eq!(unmade, []);
}

#[tokio::test]
async fn the_folder_of_a_deleted_topic_is_no_finding() {
    let dir = stopped().await;
    let kept = tempfile::tempdir().unwrap();
    for name in ["00000000000000000000.log", "partition.metadata"] {
        std::fs::copy(dir.path().join("brook-0").join(name), kept.path().join(name)).unwrap();
    }
    let broker = open(dir.path());
    broker.delete_topic("brook", Actor::Client).await.unwrap();
    broker.shutdown().await.unwrap();
    // As if the node had been killed before it came to the folder. The next start removes it.
    std::fs::rename(kept.path(), dir.path().join("brook-0")).unwrap();
    std::fs::remove_file(dir.path().join(".kafka_cleanshutdown")).unwrap();
    assert_eq!(DataFolder::read(dir.path()).unwrap().findings(), []);
}

#[test]
fn folders_of_others_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let read = || DataFolder::read(dir.path());
    assert!(matches!(read(), Err(DataFolderError::NotOne { .. })));
    assert!(matches!(DataFolder::read(&dir.path().join("nowhere")), Err(DataFolderError::Unreadable { .. })));
    std::fs::write(dir.path().join("meta.properties"), "version=1\ncluster.id=c\nnode.id=1\n").unwrap();
    std::fs::create_dir(dir.path().join("pond-0")).unwrap();
    // Kafka makes its checkpoints empty, and writes to them later.
    std::fs::write(dir.path().join("recovery-point-offset-checkpoint"), "").unwrap();
    let folder = read().unwrap();
    assert_eq!((folder.owner(), folder.findings()), (&Owner::Kafka, vec![]));
    assert!(folder.claims(&partition("pond", 0)).is_kafkas);
}
