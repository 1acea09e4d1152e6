//! Plans of small clusters whose folders are empty.

use super::super::kafka::Record;
use super::*;

const NODE: i32 = 3;

/// A Kafka folder with these partitions' folders.
fn log_dir(partitions: &[&str]) -> (tempfile::TempDir, LogDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("meta.properties"), format!("version=1\ncluster.id=c\nnode.id={NODE}\n")).unwrap();
    std::fs::write(dir.path().join(".kafka_cleanshutdown"), "").unwrap();
    for name in partitions {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("00000000000000000000.log"), b"12345").unwrap();
    }
    let opened = LogDir::open(dir.path()).unwrap();
    (dir, opened)
}

fn config(resource_type: i8, resource: &str, name: &str, value: &str) -> Record {
    let (resource, name, value) = (resource.to_owned(), name.to_owned(), Some(value.to_owned()));
    Record::Config { resource_type, resource, name, value }
}

/// The topics have one partition each; their ids are 1, 2, …
fn cluster(topics: &[&str], more: Vec<Record>) -> Cluster {
    let mut cluster = Cluster::default();
    for (topic_id, name) in (1..).zip(topics) {
        cluster.apply(Record::Topic { name: (*name).to_owned(), id: topic_id }).unwrap();
        let replicas = vec![NODE];
        cluster.apply(Record::Partition { topic_id, partition: 0, replicas, leader_epoch: topic_id as i32 }).unwrap();
    }
    more.into_iter().for_each(|record| cluster.apply(record).unwrap());
    cluster
}

/// What stands against a topic whose folder is there.
fn problem(topic: &str, more: Vec<Record>) -> String {
    let (_dir, opened) = log_dir(&[&format!("{topic}-0")]);
    let mut problems = plan(&[opened], &cluster(&[topic], more), &[]).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problem = problems.remove(0);
    assert!(problem.contains(&format!("--without {topic}")), "{problem}");
    problem
}

#[test]
fn topics_come_with_ids_configurations_and_the_newest_epoch() {
    let (_dir, opened) = log_dir(&["pond-0", "__consumer_offsets-0", "__transaction_state-0", "gone-0"]);
    let more = vec![
        config(2, "pond", "retention.ms", "-1"),
        config(2, "pond", "min.insync.replicas", "2"),
        config(2, "pond", "confluent.tier.enable", "true"),
        config(2, "__transaction_state", "segment.bytes", "1"),
        config(4, "", "log.retention.ms", "5000000"),
        config(4, "3", "log.segment.bytes", "2000000"),
        config(4, "4", "log.segment.bytes", "3000000"),
        config(4, "", "ssl.keystore.password", "secret"),
        Record::ProducerIds { next_producer_id: 2000 },
        Record::ScramUser { name: "al".to_owned(), mechanism: 1 },
    ];
    let cluster = cluster(&["pond", "__consumer_offsets", "__transaction_state"], more);
    let plan = plan(&[opened], &cluster, &[]).unwrap();
    let pond = plan.image.topic("pond").unwrap();
    assert_eq!(pond.id.as_uuid().as_u128(), 1);
    assert_eq!(pond.configs, BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]));
    assert!(plan.image.topic("__consumer_offsets").unwrap().internal && !pond.internal);
    assert_eq!((plan.image.topics().len(), plan.partitions.len(), plan.leader_epoch), (2, 2, 2));
    assert_eq!(plan.image.next_producer_id(), 2000);
    assert_eq!(plan.image.broker_configs().node["log.segment.bytes"], "2000000");
    assert_eq!(plan.image.broker_configs().default["log.retention.ms"], "5000000");
    let mut image = Image::new("");
    plan.changes.iter().for_each(|change| image.apply(change));
    assert_eq!(image, plan.image);

    let left_out: Vec<String> = plan.left_out.iter().map(|left| format!("{}: {}", left.what, left.why)).collect();
    let is_told = |beginning: &str| left_out.iter().any(|left| left.starts_with(beginning));
    for beginning in [
        "min.insync.replicas of topic pond: '2' is refused because a single node has one replica",
        "confluent.tier.enable of topic pond: Millpond has no such",
        "ssl.keystore.password of all brokers: there is no such broker config",
        "log.segment.bytes of broker 4: it is of another broker than 3",
        "topic __transaction_state: 5 bytes: ",
        "1 SCRAM credentials of users: ",
    ] {
        assert!(is_told(beginning), "{beginning}: {left_out:#?}");
    }
    assert_eq!(left_out.len(), 6, "{left_out:#?}");
    assert!(!left_out.concat().contains("secret"));
    let skipped: Vec<&str> = plan.skipped.iter().map(|skipped| skipped.why).collect();
    assert_eq!(skipped, ["Kafka's metadata know no such partition"]);
}

#[test]
fn what_stands_against_a_topic_is_told_with_a_way_out() {
    let own = problem("_millpond_sql", vec![]);
    assert!(own.contains("names that begin so are Millpond's own"), "{own}");
    let remote = problem("pond", vec![config(2, "pond", "remote.storage.enable", "TRUE")]);
    assert!(remote.contains("in remote storage"), "{remote}");
    let replicas = |replicas| {
        let more = Record::PartitionChange { topic_id: 1, partition: 0, replicas: Some(replicas), new_leader: false };
        problem("pond", vec![more])
    };
    assert!(replicas(vec![4]).contains("on the nodes [4], and these are the folders of node 3"));
    assert!(replicas(vec![3, 4]).contains("kafka-reassign-partitions"));
    let second = |partition| Record::Partition { topic_id: 1, partition, replicas: vec![NODE], leader_epoch: 0 };
    assert!(problem("pond", vec![second(1)]).contains("there is no folder pond-1"));
    assert!(problem("pond", vec![second(2)]).contains("no partition 1 of it, and one 2"));
}

#[test]
fn folders_must_be_those_of_the_topics() {
    let (dir, _) = log_dir(&["pond-0"]);
    std::fs::write(dir.path().join("pond-0/partition.metadata"), "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAACQ\n")
        .unwrap();
    let opened = LogDir::open(dir.path()).unwrap();
    let problems = plan(&[opened], &cluster(&["pond"], vec![]), &[]).unwrap_err().concat();
    assert!(problems.contains("is of a topic with the id AAAAAAAAAAAAAAAAAAAACQ"), "{problems}");

    let (one, other) = (log_dir(&["pond-0"]), log_dir(&["pond-0"]));
    let problems = plan(&[one.1, other.1], &cluster(&["pond"], vec![]), &[]).unwrap_err().concat();
    assert!(problems.contains("are both said to be the partition pond-0"), "{problems}");

    // Two folders of one Kafka are looked at together.
    let (one, other) = (log_dir(&["pond-0"]), log_dir(&["brook-0"]));
    assert_eq!(plan(&[one.1, other.1], &cluster(&["pond", "brook"], vec![]), &[]).unwrap().partitions.len(), 2);
}

#[test]
fn a_topic_is_left_out_on_request_whatever_stands_against_it() {
    let without = [TopicName::new("pond").unwrap()];
    let (_dir, opened) = log_dir(&["brook-0", "pond-0"]);
    let remote = vec![config(2, "pond", "remote.storage.enable", "true")];
    let planned = plan(&[opened], &cluster(&["pond", "brook"], remote), &without).unwrap();
    assert!(planned.image.topic("pond").is_none() && planned.skipped.is_empty());
    assert_eq!(planned.left_out[0].what, "topic pond");
    let (_dir, opened) = log_dir(&["brook-0"]);
    let problems = plan(&[opened], &cluster(&["brook"], vec![]), &without).unwrap_err();
    assert_eq!(problems, ["there is no topic 'pond' to leave out"]);
}

#[test]
fn a_transaction_that_is_open_is_told_before_anything_is_copied() {
    let (dir, _) = log_dir(&["pond-0"]);
    std::fs::write(dir.path().join("recovery-point-offset-checkpoint"), "0\n1\npond 0 9\n").unwrap();
    // One producer, 7, whose transaction began at offset 4.
    let entry = [
        &7i64.to_be_bytes()[..],
        &[0, 0],
        &5i32.to_be_bytes(),
        &8i64.to_be_bytes(),
        &0i32.to_be_bytes(),
        &0i64.to_be_bytes(),
        &(-1i32).to_be_bytes(),
        &4i64.to_be_bytes(),
    ]
    .concat();
    let covered = [&1u32.to_be_bytes()[..], &entry].concat();
    let crc = millpond_records::crc32c(&covered).to_be_bytes();
    let snapshot = [&[0, 1][..], &crc, &covered].concat();
    std::fs::write(dir.path().join("pond-0/00000000000000000009.snapshot"), snapshot).unwrap();
    let opened = LogDir::open(dir.path()).unwrap();
    let problems = plan(&[opened], &cluster(&["pond"], vec![]), &[]).unwrap_err().concat();
    assert!(problems.contains("pond-0 has a transaction of producer 7, from offset 4 on"), "{problems}");
}
