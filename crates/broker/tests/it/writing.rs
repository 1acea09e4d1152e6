use std::collections::BTreeSet;
use std::sync::Arc;

use millpond_broker::{Acks, NewRecord, NewTopicRequest, ProduceError};
use millpond_log::AppendError;
use millpond_records::BatchOptions;

use crate::support::{NOW_MS, batch, create, open, open_with, produce, produce_bytes, produced, values};

#[tokio::test(flavor = "multi_thread")]
async fn what_many_producers_were_told_is_there_is_there_in_some_order() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    let partition = broker.partition("t", 0).unwrap();
    let producers: Vec<_> = (0..32)
        .map(|producer| {
            let (broker, partition) = (broker.clone(), partition.clone());
            tokio::spawn(async move {
                let mut told = Vec::new();
                for number in 0..20 {
                    let value = format!("{producer}-{number}");
                    let batch = batch(broker.now_ms(), &[&value]);
                    let appended = produce_bytes(&broker, &partition, Acks::All, batch).await.unwrap();
                    assert!(partition.visible_end() > appended.last_offset, "acknowledged, so visible");
                    told.push((appended.base_offset, value));
                }
                told
            })
        })
        .collect();
    let mut told = Vec::new();
    for producer in producers {
        told.extend(producer.await.unwrap());
    }
    told.sort();
    let told: Vec<String> = told.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values(&partition), told);
}

#[tokio::test]
async fn a_batch_that_comes_twice_is_answered_with_its_first_offset_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = |sequence| BatchOptions { producer: Some((7, 0, sequence)), ..BatchOptions::default() };
    let send = |sequence| produced(options(sequence), NOW_MS, &["a", "b"]);
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    let partition = broker.partition("t", 0).unwrap();
    for (sequence, offset) in [(0, 0), (2, 2), (0, 0), (2, 2)] {
        let appended = produce_bytes(&broker, &partition, Acks::All, send(sequence)).await.unwrap();
        assert_eq!(appended.base_offset, offset);
    }
    let gap = produce_bytes(&broker, &partition, Acks::All, send(6)).await.unwrap_err();
    assert!(matches!(gap, ProduceError::Log(AppendError::OutOfOrderSequence { .. })), "{gap}");

    broker.shutdown().await.unwrap();
    drop((broker, partition));
    let broker = open(dir.path());
    let partition = broker.partition("t", 0).unwrap();
    let again = produce_bytes(&broker, &partition, Acks::All, send(2)).await.unwrap();
    assert!(again.duplicate);
    assert_eq!((again.base_offset, partition.end()), (2, 4));
}

#[tokio::test]
async fn batches_that_are_wrong_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let small = vec![("max.message.bytes".to_owned(), Some("200".to_owned()))];
    broker.create_topic(NewTopicRequest { configs: small, ..NewTopicRequest::new("t") }, false).await.unwrap();
    let partition = broker.partition("t", 0).unwrap();
    let good = batch(broker.now_ms(), &["a"]);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let cases: [(&str, Vec<u8>); 4] = [
        ("corrupt", damaged),
        ("max.message.bytes", batch(broker.now_ms(), &["x".repeat(300).as_str()])),
        ("ahead", batch(broker.now_ms() + 3_700_000, &["a"])),
        ("exactly one batch", [good.clone(), good.clone()].concat()),
    ];
    for (expected, bytes) in cases {
        let error = produce_bytes(&broker, &partition, Acks::All, bytes).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert_eq!(partition.end(), 0);
}

#[tokio::test]
async fn only_the_stream_that_owns_a_topic_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let owner = Some("delays".to_owned());
    broker.create_topic(NewTopicRequest { owner, ..NewTopicRequest::new("t") }, false).await.unwrap();
    let error = produce(&broker, "t", &["a"]).await.unwrap_err();
    assert!(matches!(&error, ProduceError::OwnedByStream { stream, .. } if stream == "delays"), "{error}");
    let partition = broker.partition("t", 0).unwrap();
    partition.append_owned(batch(NOW_MS, &["a"])).unwrap();
    assert_eq!(partition.end(), 1);
}

#[tokio::test]
async fn records_of_the_node_are_split_into_batches_that_fit() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    let large: Vec<String> = (0..10).map(|number| number.to_string().repeat(200_000)).collect();
    let records =
        large.iter().map(|value| NewRecord { value: Some(value.clone().into()), ..NewRecord::default() }).collect();
    assert_eq!(broker.append_records("t", 0, records).await.unwrap(), Some(0));
    assert_eq!(values(&broker.partition("t", 0).unwrap()), large);
    assert_eq!(broker.append_records("t", 0, Vec::new()).await.unwrap(), None);
    let missing = broker.append_records("t", 1, vec![NewRecord::default()]).await.unwrap_err();
    assert!(matches!(missing, ProduceError::UnknownPartition { .. }), "{missing}");
}

#[tokio::test]
async fn a_log_that_could_not_be_written_takes_no_more_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let configs = vec![("segment.bytes".to_owned(), Some((1 << 20).to_string()))];
    broker.create_topic(NewTopicRequest { configs, partitions: 2, ..NewTopicRequest::new("t") }, false).await.unwrap();
    let (sick, sound) = (broker.partition("t", 0).unwrap(), broker.partition("t", 1).unwrap());
    let large = "x".repeat(600_000);
    let send = || batch(NOW_MS, &[&large]);
    produce_bytes(&broker, &sick, Acks::All, send()).await.unwrap();

    // The next segment has nowhere to go.
    std::fs::rename(dir.path().join("t-0"), dir.path().join("elsewhere")).unwrap();
    let mut first = String::new();
    for _ in 0..3 {
        if let Err(error) = produce_bytes(&broker, &sick, Acks::All, send()).await {
            first = error.to_string();
            break;
        }
    }
    assert!(first.contains("t-0"), "the path is named: {first}");
    for acks in [Acks::All, Acks::Leader, Acks::None] {
        let error = produce_bytes(&broker, &sick, acks, batch(NOW_MS, &["small"])).await.unwrap_err();
        assert!(matches!(&error, ProduceError::Poisoned { reason } if reason.contains("t-0")), "{error}");
    }
    assert_eq!(broker.metrics().logs_poisoned.get(), 1);
    let shown = values(&sick).len() as i64;
    assert_eq!(shown, sick.visible_end(), "what was acknowledged can still be read");
    produce_bytes(&broker, &sound, Acks::All, send()).await.unwrap();
    assert!(broker.shutdown().await.is_err(), "a stop that could not close a log says so");
}

#[tokio::test]
async fn producer_ids_are_never_given_out_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let broker = open(dir.path());
        for _ in 0..1500 {
            let (id, epoch) = broker.init_producer_id(None).await.unwrap();
            assert!(seen.insert(id), "{id} was given out before");
            assert_eq!(epoch, 0);
        }
        // Not stopped: dropped.
    }
}

#[tokio::test]
async fn without_sync_before_the_answer_nobody_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with(dir.path(), &[("millpond.sync.before.ack", "false")], millpond_broker::Clock::system());
    create(&broker, "t", 1).await;
    produce(&broker, "t", &["a"]).await.unwrap();
    assert_eq!(values(&broker.partition("t", 0).unwrap()), ["a"]);
    assert_eq!(broker.metrics().syncs.get(), 0);
    broker.shutdown().await.unwrap();
    drop(broker);
    assert_eq!(values(&open(dir.path()).partition("t", 0).unwrap()), ["a"]);
}

#[tokio::test]
async fn a_node_that_stops_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    let partition = broker.partition("t", 0).unwrap();
    broker.shutdown().await.unwrap();
    let late = produce_bytes(&broker, &partition, Acks::All, batch(NOW_MS, &["a"])).await.unwrap_err();
    assert!(matches!(late, ProduceError::Stopping), "{late}");
    assert!(broker.create_topic(NewTopicRequest::new("u"), false).await.is_err());
    assert!(broker.init_producer_id(None).await.is_err());
    let held = Arc::downgrade(&broker);
    drop(broker);
    assert!(held.upgrade().is_none());
}
