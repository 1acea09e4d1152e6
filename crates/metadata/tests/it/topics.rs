//! Topics come, grow and go.

use std::collections::BTreeMap;

use millpond_metadata::*;
use millpond_types::TopicId;

use crate::harness::*;

fn message(result: Result<usize, MetadataError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_topic_gets_what_was_asked_or_the_default() {
    let mut node = Node::with(&[("num.partitions", "3")]);
    node.create("a", |_| ()).unwrap();
    node.create("b", |topic| (topic.partitions, topic.replication_factor) = (7, 1)).unwrap();
    node.create("c", |topic| topic.assignments = BTreeMap::from([(0, vec![1]), (1, vec![1])])).unwrap();
    let counts: Vec<i32> = node.image.topics().map(|topic| topic.partition_count).collect();
    assert_eq!((counts, node.image.partition_count()), (vec![3, 7, 2], 12));
}

#[test]
fn a_topic_that_cannot_be_is_refused_with_the_reason() {
    let mut node = Node::new();
    node.create("a", |_| ()).unwrap();
    assert_eq!(node.create("a", |_| ()), Err(MetadataError::TopicExists("a".to_owned())));
    assert!(matches!(node.create("a b", |_| ()), Err(MetadataError::InvalidTopic(_))));
    for partitions in [0, -2, i32::MIN] {
        let refused = node.create("b", |topic| topic.partitions = partitions);
        assert!(matches!(refused, Err(MetadataError::InvalidPartitions(_))), "{refused:?}");
    }
    for replicas in [0, 2, -2] {
        let refused = node.create("b", |topic| topic.replication_factor = replicas);
        assert_eq!(refused, Err(MetadataError::InvalidReplicationFactor(replicas)));
    }
    for wrong in [BTreeMap::from([(1, vec![1])]), BTreeMap::from([(0, vec![2])]), BTreeMap::from([(0, vec![1, 1])])] {
        let refused = node.create("b", |topic| topic.assignments = wrong);
        assert!(matches!(refused, Err(MetadataError::InvalidReplicaAssignment(_))), "{refused:?}");
    }
    let both = node.create("b", |topic| (topic.partitions, topic.assignments) = (1, BTreeMap::from([(0, vec![1])])));
    assert!(matches!(both, Err(MetadataError::InvalidRequest(_))));
    let null = node.create("b", |topic| topic.configs = vec![("retention.ms".to_owned(), None)]);
    assert!(matches!(null, Err(MetadataError::InvalidConfig { .. })));
    assert_eq!(node.image.topics().len(), 1);
}

#[test]
fn names_that_differ_in_dots_and_underscores_alone_collide() {
    let mut node = Node::new();
    node.create("a.b_c", |_| ()).unwrap();
    let text = message(node.create("a_b.c", |_| ()));
    assert!(text.contains("a_b.c") && text.contains("a.b_c"), "{text}");
    node.create("axb_c", |_| ()).unwrap();
    node.create("a-b-c", |_| ()).unwrap();
}

#[test]
fn a_wrong_config_is_named_with_what_was_meant() {
    let mut node = Node::new();
    let text = message(node.create("a", |topic| topic.configs = configs(&[("retention_ms", "1")])));
    assert!(text.contains("'retention_ms'") && text.contains("did you mean 'retention.ms'?"), "{text}");
    let text = message(node.create("a", |topic| topic.configs = configs(&[("retention.ms", "soon")])));
    assert!(text.contains("retention.ms") && text.contains("'soon' is not a 64-bit integer"), "{text}");
    let text = message(node.create("a", |topic| topic.configs = configs(&[("segment.bytes", "1000")])));
    assert!(text.contains("at least 1048576"), "{text}");
    let lags = [("min.compaction.lag.ms", "11"), ("max.compaction.lag.ms", "10")];
    let text = message(node.create("a", |topic| topic.configs = configs(&lags)));
    assert!(text.contains("11 is more than max.compaction.lag.ms = 10"), "{text}");
}

#[test]
fn what_tools_set_to_the_default_is_accepted() {
    let mut node = Node::new();
    // Connect, Streams and Debezium do this.
    let wishes = [
        ("cleanup.policy", "delete"),
        ("min.insync.replicas", "1"),
        ("compression.type", "producer"),
        ("retention.ms", "9223372036854775807"),
        ("retention.bytes", "-1"),
        ("unclean.leader.election.enable", "true"),
        ("message.timestamp.type", "CreateTime"),
        ("min.cleanable.dirty.ratio", "0.50"),
    ];
    node.create("a", |topic| topic.configs = configs(&wishes)).unwrap();
    assert_eq!(node.overrides("a").len(), wishes.len());
}

#[test]
fn the_nodes_own_topics_cannot_be_touched() {
    let mut node = Node::new();
    node.create("__consumer_offsets", |topic| {
        topic.internal = true;
        topic.configs = configs(&[("cleanup.policy", "compact"), ("segment.bytes", "104857600")]);
    })
    .unwrap();
    assert!(node.config("__consumer_offsets").cleanup_policy.compact);
    let name = "__consumer_offsets";
    let internal = Err(MetadataError::InternalTopic(name.to_owned()));
    assert_eq!(delete_topic(&node.image, name, Actor::Client, true), internal);
    assert_eq!(create_partitions(&node.image, name, 9, None, Actor::Client, &node.defaults()), internal);
    assert_eq!(delete_topic(&node.image, name, Actor::Node, false).map(|records| records.len()), Ok(1));
}

#[test]
fn a_streams_topic_cannot_be_taken_from_it() {
    let mut node = Node::new();
    node.create("out", |topic| topic.owner = Some("delays".to_owned())).unwrap();
    let text = delete_topic(&node.image, "out", Actor::Client, true).unwrap_err().to_string();
    assert!(text.contains("'out'") && text.contains("'delays'"), "{text}");
    let free = set_topic_owner(&node.image, "out", None);
    assert_eq!(node.apply(free), Ok(1));
    let again = set_topic_owner(&node.image, "out", None);
    assert_eq!(node.apply(again), Ok(0));
    let deleted = delete_topic(&node.image, "out", Actor::Client, true);
    assert_eq!(node.apply(deleted), Ok(1));
    assert_eq!(node.image.topics().len(), 0);
}

#[test]
fn topics_are_not_deleted_where_that_is_switched_off() {
    let mut node = Node::new();
    node.create("a", |_| ()).unwrap();
    let refused = delete_topic(&node.image, "a", Actor::Client, false);
    assert_eq!(refused, Err(MetadataError::TopicDeletionDisabled));
    let unknown = delete_topic(&node.image, "b", Actor::Client, true);
    assert_eq!(unknown, Err(MetadataError::UnknownTopic("b".to_owned())));
}

#[test]
fn partitions_only_become_more() {
    let mut node = Node::new();
    node.create("a", |topic| topic.partitions = 3).unwrap();
    let grow = |node: &Node, count, assignments: Option<&[Vec<i32>]>| {
        create_partitions(&node.image, "a", count, assignments, Actor::Client, &node.defaults())
    };
    let text = grow(&node, 3, None).unwrap_err().to_string();
    assert!(text.contains("already has 3"), "{text}");
    let text = grow(&node, 2, None).unwrap_err().to_string();
    assert!(text.contains("cannot shrink to 2"), "{text}");
    for wrong in [&[vec![1]][..], &[vec![1], vec![2]]] {
        assert!(matches!(grow(&node, 5, Some(wrong)), Err(MetadataError::InvalidReplicaAssignment(_))));
    }
    let planned = grow(&node, 5, Some(&[vec![1], vec![1]]));
    node.apply(planned).unwrap();
    assert_eq!(node.image.topic("a").unwrap().partition_count, 5);
}

#[test]
fn the_node_holds_so_many_partitions_and_no_more() {
    let mut node = Node::with(&[("millpond.partitions.max", "10")]);
    node.create("a", |topic| topic.partitions = 8).unwrap();
    let text = message(node.create("b", |topic| topic.partitions = 3));
    assert!(text.contains("11") && text.contains("more than 10 (millpond.partitions.max"), "{text}");
    let grown = create_partitions(&node.image, "a", i32::MAX, None, Actor::Node, &node.defaults());
    assert!(matches!(grown, Err(MetadataError::TooManyPartitions { .. })));
    node.create("b", |topic| topic.partitions = 2).unwrap();
}

#[test]
fn producer_ids_are_given_out_once() {
    let mut node = Node::new();
    let (first, records) = allocate_producer_ids(&node.image, 1000);
    node.apply(Ok(records)).unwrap();
    let (second, _) = allocate_producer_ids(&node.image, 1000);
    assert_eq!((first, second), (0..1000, 1000..2000));
}

#[test]
fn an_id_finds_its_topic_only() {
    let mut node = Node::new();
    node.create("a", |_| ()).unwrap();
    let id = node.image.topic("a").unwrap().id;
    assert_eq!(node.image.topic_by_id(id).map(|topic| topic.name.as_str()), Some("a"));
    assert_eq!(node.image.topic_by_id(TopicId::ZERO), None);
}
