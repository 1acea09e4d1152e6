//! Configurations change, and the first place that has a value decides.

use millpond_metadata::*;

use crate::harness::*;

fn node_with_topic() -> Node {
    let mut node = Node::new();
    node.create("a", |_| ()).unwrap();
    node
}

#[test]
fn overrides_are_set_and_taken_away() {
    let mut node = node_with_topic();
    assert_eq!(node.alter("a", &[set("retention.ms", " 5 "), set("segment.ms", "7")]), Ok(1));
    assert_eq!(node.overrides("a"), [("retention.ms", "5"), ("segment.ms", "7")]);
    assert_eq!((node.config("a").retention_ms, node.config("a").segment_ms), (5, 7));
    let delete = |name| change(name, ConfigOperation::Delete, None);
    assert_eq!(node.alter("a", &[delete("retention.ms"), delete("segment.bytes")]), Ok(1));
    assert_eq!(node.overrides("a"), [("segment.ms", "7")]);
    assert_eq!(node.alter("a", &[delete("retention.ms"), set("segment.ms", "7")]), Ok(0), "nothing changes");
}

#[test]
fn one_wrong_change_refuses_all() {
    let mut node = node_with_topic();
    assert!(node.alter("a", &[set("retention.ms", "5"), set("segment.ms", "0")]).is_err());
    let twice = node.alter("a", &[set("retention.ms", "5"), set("retention.ms", "6")]);
    assert!(matches!(twice, Err(MetadataError::InvalidRequest(_))));
    let null = node.alter("a", &[change("retention.ms", ConfigOperation::Set, None)]);
    assert!(matches!(null, Err(MetadataError::InvalidConfig { .. })));
    assert!(matches!(node.alter("b", &[]), Err(MetadataError::UnknownTopic(_))));
    assert_eq!(node.overrides("a"), []);
}

#[test]
fn items_are_added_to_lists_and_taken_out() {
    let mut node = Node::new();
    node.create("a", |topic| topic.internal = true).unwrap();
    let policy = |operation, value| change("cleanup.policy", operation, Some(value));
    node.alter("a", &[policy(ConfigOperation::Append, "compact")]).unwrap();
    assert_eq!(node.overrides("a"), [("cleanup.policy", "delete,compact")]);
    node.alter("a", &[policy(ConfigOperation::Append, "compact, delete")]).unwrap();
    assert_eq!(node.overrides("a"), [("cleanup.policy", "delete,compact")]);
    node.alter("a", &[policy(ConfigOperation::Subtract, "delete")]).unwrap();
    assert_eq!(node.overrides("a"), [("cleanup.policy", "compact")]);
    node.alter("a", &[policy(ConfigOperation::Subtract, "compact")]).unwrap();
    assert_eq!(node.overrides("a"), [("cleanup.policy", "")]);
    let wrong = node.alter("a", &[change("retention.ms", ConfigOperation::Append, Some("1"))]);
    assert!(wrong.unwrap_err().to_string().contains("only of a list"));
}

#[test]
fn old_segments_can_be_deleted_compacted_both_or_neither() {
    let mut node = node_with_topic();
    for (policy, delete, compact) in
        [("", false, false), ("compact", false, true), ("compact,delete", true, true), ("delete", true, false)]
    {
        node.alter("a", &[set("cleanup.policy", policy)]).unwrap();
        let found = node.config("a").cleanup_policy;
        assert_eq!((found.delete, found.compact), (delete, compact), "'{policy}'");
    }
}

#[test]
fn what_compaction_must_wait_for_cannot_be_longer_than_what_it_may_wait() {
    let mut node = node_with_topic();
    node.alter("a", &[set("max.compaction.lag.ms", "1000")]).unwrap();
    let refused = node.alter("a", &[set("min.compaction.lag.ms", "1001")]);
    assert!(refused.unwrap_err().to_string().contains("1001 is more than max.compaction.lag.ms = 1000"));
    let planned = replace_topic_configs(&node.image, "a", &configs(&[("min.compaction.lag.ms", "1001")]));
    assert_eq!(node.apply(planned), Ok(1), "alone it is fine");
    node.alter("a", &[set("min.cleanable.dirty.ratio", "0.1"), set("delete.retention.ms", "5")]).unwrap();
    let config = node.config("a");
    assert_eq!((config.min_compaction_lag_ms, config.max_compaction_lag_ms), (1001, i64::MAX));
    assert_eq!((config.min_cleanable_dirty_ratio, config.delete_retention_ms), (0.1, 5));
}

#[test]
fn replacing_takes_away_what_is_not_named() {
    let mut node = node_with_topic();
    node.alter("a", &[set("retention.ms", "5"), set("segment.ms", "7")]).unwrap();
    let planned = replace_topic_configs(&node.image, "a", &configs(&[("segment.ms", "8")]));
    assert_eq!(node.apply(planned), Ok(1));
    assert_eq!(node.overrides("a"), [("segment.ms", "8")]);
    let planned = replace_topic_configs(&node.image, "a", &[("segment.ms".to_owned(), None)]);
    node.apply(planned).unwrap();
    assert_eq!(node.overrides("a"), []);
}

#[test]
fn the_topic_goes_before_the_node_the_cluster_and_the_settings() {
    let mut node = Node::with(&[("log.retention.ms", "4")]);
    node.create("a", |_| ()).unwrap();
    assert_eq!(node.config("a").retention_ms, 4);
    node.alter_broker(BrokerScope::Default, &[set("log.retention.ms", "3")]).unwrap();
    assert_eq!(node.config("a").retention_ms, 3);
    node.alter_broker(BrokerScope::Node, &[set("log.retention.ms", "2")]).unwrap();
    assert_eq!(node.config("a").retention_ms, 2);
    node.alter("a", &[set("retention.ms", "1")]).unwrap();
    assert_eq!(node.config("a").retention_ms, 1);
}

#[test]
fn hours_and_minutes_count_where_milliseconds_are_not_given() {
    let retention_ms = |settings: &[(&str, &str)]| {
        let mut node = Node::with(settings);
        node.create("a", |_| ()).unwrap();
        node.config("a").retention_ms
    };
    assert_eq!(retention_ms(&[]), 7 * 24 * 3_600_000);
    assert_eq!(retention_ms(&[("log.retention.hours", "2")]), 7_200_000);
    assert_eq!(retention_ms(&[("log.retention.hours", "2"), ("log.retention.minutes", "5")]), 300_000);
    assert_eq!(retention_ms(&[("log.retention.minutes", "5"), ("log.retention.ms", "6")]), 6);
    assert_eq!(retention_ms(&[("log.retention.hours", "-1")]), -1);
}

#[test]
fn of_the_broker_only_what_can_change_while_running_is_changed() {
    let mut node = Node::new();
    let text = node.alter_broker(BrokerScope::Node, &[set("num.partitions", "3")]).unwrap_err().to_string();
    assert!(text.contains("num.partitions") && text.contains("while the node runs"), "{text}");
    let text = node.alter_broker(BrokerScope::Node, &[set("log.retention.mss", "3")]).unwrap_err().to_string();
    assert!(text.contains("did you mean 'log.retention.ms'?"), "{text}");
    let text = node.alter_broker(BrokerScope::Default, &[set("min.insync.replicas", "2")]).unwrap_err().to_string();
    assert!(text.contains("'2' is refused because a single node has one replica"), "{text}");
    node.alter_broker(BrokerScope::Default, &[set("message.max.bytes", "2000000")]).unwrap();
    let planned = replace_broker_configs(&node.image, BrokerScope::Default, &[]);
    assert_eq!(node.apply(planned), Ok(1));
    assert!(node.image.broker_configs().default.is_empty());
}

#[test]
fn a_brokers_resource_is_its_id_or_nothing() {
    assert_eq!(BrokerScope::from_resource_name("", 1), Ok(BrokerScope::Default));
    assert_eq!(BrokerScope::from_resource_name("1", 1), Ok(BrokerScope::Node));
    assert!(BrokerScope::from_resource_name("2", 1).is_err());
    assert!(BrokerScope::from_resource_name("one", 1).is_err());
}
