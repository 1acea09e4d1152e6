use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millpond_broker::{Acks, ConfigWish, FetchError, NewTopicRequest, ProduceError, TopicError, Waiter};
use millpond_metadata::{Actor, ConfigChange, ConfigOperation, MetadataError};

use crate::support::{PATIENCE, batch, create, open, open_with, produce, produce_bytes, values};

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_can_be_deleted_and_made_again_while_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 4).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (broker, stop) = (broker.clone(), stop.clone());
            tokio::spawn(async move {
                let mut acknowledged = 0;
                while !stop.load(Ordering::SeqCst) {
                    let Some(partition) = broker.partition("t", client % 4) else {
                        tokio::task::yield_now().await;
                        continue;
                    };
                    let batch = batch(broker.now_ms(), &["x"]);
                    match produce_bytes(&broker, &partition, Acks::All, batch).await {
                        Ok(_) => acknowledged += 1,
                        Err(ProduceError::UnknownPartition { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                    match partition.read(partition.log_start(), 1000, true) {
                        Ok(_) | Err(FetchError::UnknownPartition { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                acknowledged
            })
        })
        .collect();
    for _ in 0..20 {
        tokio::task::yield_now().await;
        let id = broker.topic("t").unwrap().id;
        broker.delete_topic_by_id(id, Actor::Client).await.unwrap();
        assert!(broker.partition_by_id(id, 0).is_none());
        create(&broker, "t", 4).await;
        assert_ne!(broker.topic("t").unwrap().id, id);
        let gone = broker.delete_topic_by_id(id, Actor::Client).await.unwrap_err();
        assert!(matches!(gone, TopicError::Metadata(MetadataError::UnknownTopicId(_))), "{gone}");
    }
    produce(&broker, "t", &["last"]).await.unwrap();
    stop.store(true, Ordering::SeqCst);
    let mut acknowledged = 0;
    for client in clients {
        acknowledged += client.await.unwrap();
    }
    assert!(acknowledged > 0);
    assert_eq!(broker.metrics().logs_poisoned.get(), 0);
    broker.shutdown().await.unwrap();
    drop(broker);
    let broker = open(dir.path());
    assert!(values(&broker.partition("t", 0).unwrap()).contains(&"last".to_owned()));
}

#[tokio::test]
async fn whoever_waits_for_a_topic_learns_that_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    let partition = broker.partition("t", 0).unwrap();
    let waiter = Waiter::new();
    partition.watch(&waiter);
    let end = partition.append_owned(batch(broker.now_ms(), &["a"])).unwrap().last_offset + 1;
    partition.durable(end).await.unwrap();
    waiter.notified().await;
    partition.watch(&waiter);
    broker.delete_topic("t", Actor::Client).await.unwrap();
    tokio::time::timeout(PATIENCE, waiter.notified()).await.expect("woken by the deletion");
    assert!(matches!(partition.read(0, 100, true), Err(FetchError::UnknownPartition { .. })));
    assert!(partition.durable(end + 1).await.is_err());
    partition.watch(&waiter);
    tokio::time::timeout(PATIENCE, waiter.notified()).await.expect("who comes later does not sleep");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_make_the_same_topic_one_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let makers: Vec<_> = (0..16)
        .map(|_| {
            let broker = broker.clone();
            tokio::spawn(async move { broker.auto_create_topic("t").await.unwrap().id })
        })
        .collect();
    for maker in makers {
        assert_eq!(maker.await.unwrap(), broker.topic("t").unwrap().id);
    }
    let error = broker.create_topic(NewTopicRequest::new("t"), false).await.unwrap_err();
    assert!(matches!(error, TopicError::Metadata(MetadataError::TopicExists(_))), "{error}");
}

#[tokio::test]
async fn topics_are_made_only_as_the_settings_allow() {
    let dir = tempfile::tempdir().unwrap();
    let off = [("auto.create.topics.enable", "false"), ("delete.topic.enable", "false"), ("num.partitions", "3")];
    let broker = open_with(dir.path(), &off, millpond_broker::Clock::system());
    assert!(matches!(broker.auto_create_topic("t").await, Err(TopicError::AutoCreateDisabled(_))));
    let only_validated = broker.create_topic(NewTopicRequest::new("t"), true).await.unwrap();
    assert_eq!((only_validated.partition_count, broker.topic("t")), (3, None));
    create(&broker, "t", -1).await;
    let error = broker.delete_topic("t", Actor::Client).await.unwrap_err();
    assert!(matches!(error, TopicError::Metadata(MetadataError::TopicDeletionDisabled)), "{error}");
    for name in ["__millpond_metadata", "__millpond_catalog", "__consumer_offsets"] {
        let reserved = broker.create_topic(NewTopicRequest::new(name), false).await.unwrap_err();
        assert!(matches!(reserved, TopicError::Reserved(_)), "{reserved}");
    }
}

#[tokio::test]
async fn a_topic_grows_without_losing_anything() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    produce(&broker, "t", &["a"]).await.unwrap();
    broker.create_partitions("t", 3, None, Actor::Client, true).await.unwrap();
    assert!(broker.partition("t", 1).is_none());
    broker.create_partitions("t", 3, None, Actor::Client, false).await.unwrap();
    let third = broker.partition("t", 2).unwrap();
    produce_bytes(&broker, &third, Acks::All, batch(broker.now_ms(), &["b"])).await.unwrap();
    drop((broker, third));
    let broker = open(dir.path());
    assert_eq!(values(&broker.partition("t", 0).unwrap()), ["a"]);
    assert_eq!(values(&broker.partition("t", 2).unwrap()), ["b"]);
    assert!(broker.partition("t", 3).is_none());
    assert!(broker.partition("t", -1).is_none());
}

#[tokio::test]
async fn a_changed_configuration_holds_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    let limit = |value: &str| {
        ConfigWish::Change(vec![ConfigChange {
            name: "max.message.bytes".to_owned(),
            operation: ConfigOperation::Set,
            value: Some(value.to_owned()),
        }])
    };
    broker.alter_topic_configs("t", limit("100"), Actor::Client, true).await.unwrap();
    produce(&broker, "t", &["x".repeat(200).as_str()]).await.unwrap();
    broker.alter_topic_configs("t", limit("100"), Actor::Client, false).await.unwrap();
    for _ in 0..2 {
        let error = produce(&broker, "t", &["x".repeat(200).as_str()]).await.unwrap_err();
        assert!(matches!(error, ProduceError::TooLarge { bytes_max: 100, .. }), "{error}");
        let described = broker.describe_topic_configs("t").unwrap();
        let entry = described.iter().find(|entry| entry.name == "max.message.bytes").unwrap();
        assert_eq!(entry.value.as_deref(), Some("100"));
        assert!(broker.alter_topic_configs("t", limit("minus one"), Actor::Client, false).await.is_err());
    }
    drop(broker);
    let broker = open(dir.path());
    assert!(produce(&broker, "t", &["x".repeat(200).as_str()]).await.is_err());
    broker.alter_topic_configs("t", ConfigWish::Replace(Vec::new()), Actor::Client, false).await.unwrap();
    produce(&broker, "t", &["x".repeat(200).as_str()]).await.unwrap();
    assert!(!broker.describe_broker_configs(&BTreeMap::new()).is_empty());
}

#[tokio::test]
async fn the_nodes_own_topics_are_changed_by_the_node_alone() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let internal = NewTopicRequest { internal: true, ..NewTopicRequest::new("internal") };
    broker.create_topic(internal, false).await.unwrap();
    create(&broker, "gated", 1).await;
    create(&broker, "free", 1).await;
    let refuse_all = |_| -> millpond_broker::BoxFuture<'static, _> {
        Box::pin(async { Err(millpond_broker::Refusal { message: "no".to_owned(), record_errors: Vec::new() }) })
    };
    broker.set_gate("gated".parse().unwrap(), std::sync::Arc::new(refuse_all));
    let keep_nothing = || ConfigWish::Replace(vec![("retention.ms".to_owned(), Some("1".to_owned()))]);
    for topic in ["internal", "gated"] {
        let partition = broker.partition(topic, 0).unwrap();
        let id = broker.topic(topic).unwrap().id;
        let own = MetadataError::InternalTopic(topic.to_owned());
        for refused in [
            broker.delete_topic(topic, Actor::Client).await,
            broker.delete_topic_by_id(id, Actor::Client).await,
            broker.create_partitions(topic, 2, None, Actor::Client, false).await,
            broker.alter_topic_configs(topic, keep_nothing(), Actor::Client, false).await,
            broker.alter_topic_configs(topic, keep_nothing(), Actor::Client, true).await,
        ] {
            assert!(matches!(&refused, Err(TopicError::Metadata(error)) if *error == own), "{topic}: {refused:?}");
        }
        let trimmed = broker.delete_records_as(&partition, 0, Actor::Client).await.unwrap_err();
        assert!(trimmed.to_string().contains(&format!("'{topic}' is the node's own")), "{trimmed}");

        broker.delete_records_as(&partition, 0, Actor::Node).await.unwrap();
        broker.delete_records(&partition, -1).await.unwrap();
        broker.alter_topic_configs(topic, keep_nothing(), Actor::Node, false).await.unwrap();
        broker.create_partitions(topic, 2, None, Actor::Node, false).await.unwrap();
        broker.delete_topic(topic, Actor::Node).await.unwrap();
    }
    assert_eq!(broker.refuse_clients_changes("free"), Ok(()));
    let unknown = broker.delete_topic("gated", Actor::Client).await.unwrap_err();
    assert!(matches!(unknown, TopicError::Metadata(MetadataError::UnknownTopic(_))), "{unknown}");
}
