//! A data folder that is made out of logs from elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use millpond_broker::{Broker, BrokerOptions, DataFolder, NewDataFolder, OpenError};
use millpond_log::{LogBudget, LogOptions, PartitionLog};
use millpond_metadata::{MetadataRecord, RecordedTopic};
use millpond_types::{TopicId, TopicName, TopicPartition};

use crate::support::{NOW_MS, batch, open, produce, values};

const CLUSTER: &str = "TWlsbHBvbmRSZWZlcmVuYQ";

fn id() -> TopicId {
    "AAAAAAAAAAAAAAAAAAAABQ".parse().unwrap()
}

fn topic() -> MetadataRecord {
    MetadataRecord::TopicCreated(RecordedTopic {
        id: id(),
        name: TopicName::new("pond").unwrap(),
        partition_count: 1,
        configs: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
        owner: None,
        internal: false,
    })
}

/// Begins a folder with a log of two records.
fn begun(path: &Path) -> NewDataFolder {
    let mut folder = NewDataFolder::begin(path, CLUSTER, "an import of /kafka was not finished").unwrap();
    let partition = TopicPartition::new(TopicName::new("pond").unwrap(), 0);
    let dir = folder.partition_dir(&partition);
    let log = PartitionLog::create(&dir, id(), LogOptions::default(), LogBudget::new(0)).unwrap();
    log.append(bytes::BytesMut::from(&batch(NOW_MS, &["a", "b"])[..]), 6, NOW_MS).unwrap();
    folder.add(partition, 0, log.close(NOW_MS).unwrap());
    folder
}

fn refused(path: &Path) -> String {
    Broker::open(BrokerOptions::new(path)).unwrap_err().to_string()
}

#[tokio::test]
async fn a_finished_folder_is_that_of_a_node_that_was_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    begun(&path)
        .finish(&[topic(), MetadataRecord::ProducerIdsAllocated { next_producer_id: 3000 }], 7, NOW_MS)
        .unwrap();
    let folder = DataFolder::read(&path).unwrap();
    assert_eq!((folder.is_closed(), folder.findings()), (true, vec![]));
    for (partition, dir) in folder.partitions() {
        let claims = folder.claims(partition);
        let watch = millpond_log::inspect::Watch { claims: &|| claims.clone(), pause: &|| {}, progress: &|_| {} };
        assert_eq!(millpond_log::inspect::verify(dir, &watch).unwrap().unwrap().findings, []);
    }
    for round in 0..2 {
        let broker = open(&path);
        assert_eq!((broker.cluster_id().as_str(), broker.topic("pond").unwrap().id), (CLUSTER, id()));
        let pond = broker.partition("pond", 0).unwrap();
        assert_eq!(values(&pond)[..2], ["a", "b"]);
        assert_eq!(produce(&broker, "pond", &["c"]).await.unwrap(), 2 + round);
        broker.shutdown().await.unwrap();
    }
    // What is in use is not made anew.
    let error = NewDataFolder::begin(&path, CLUSTER, "an import").unwrap_err();
    assert!(matches!(error, OpenError::Occupied { .. }), "{error}");
    assert!(error.to_string().contains("holds the data of a node"), "{error}");
}

#[test]
fn no_node_starts_on_half_of_it_and_the_next_attempt_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(begun(dir.path()));
    for _ in 0..2 {
        let said = refused(dir.path());
        assert!(said.contains("an import of /kafka was not finished. Do that again, or delete the folder"), "{said}");
    }
    assert!(dir.path().join("pond-0").is_dir());
    let again = NewDataFolder::begin(dir.path(), CLUSTER, "an import of /kafka was not finished").unwrap();
    assert!(!dir.path().join("pond-0").exists());
    // Nobody else makes it at the same time.
    assert!(matches!(NewDataFolder::begin(dir.path(), CLUSTER, ""), Err(OpenError::InUse { .. })));
    drop(again);
    begun(dir.path()).finish(&[topic()], 7, NOW_MS).unwrap();
    let broker = open(dir.path());
    assert_eq!(values(&broker.partition("pond", 0).unwrap()), ["a", "b"]);
}

#[test]
fn what_others_have_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [("thesis.tex", ""), ("meta.properties", "version=1\ncluster.id=c\nnode.id=1\n")] {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
        let error = NewDataFolder::begin(&folder, CLUSTER, "an import").unwrap_err();
        assert!(
            matches!(error, OpenError::Occupied { .. }) && error.to_string().contains("Choose an empty"),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing was written");
    }
}
