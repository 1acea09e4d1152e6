//! The APIs that only look.

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeLogDirsRequest, DescribeTopicPartitionsRequest, FindCoordinatorRequest,
    ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
};
use uuid::Uuid;

use crate::client::{Client, Node, batch, text, topic_name, versions_of};
use crate::records::{id_of, produce};

fn asked(names: &[&str]) -> Option<Vec<MetadataRequestTopic>> {
    Some(names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name)))).collect())
}

#[test]
fn metadata_shows_node_and_topics_in_every_version() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("b", 3);
    client.create_topic("a", 1);
    for version in versions_of(3) {
        let all = if version == 0 { asked(&[]) } else { None };
        let response = client.call(version, &MetadataRequest::default().with_topics(all));
        let broker = &response.brokers[0];
        assert_eq!((broker.node_id.0, &*broker.host, broker.port), (1, "127.0.0.1", i32::from(node.addr.port())));
        if version >= 1 {
            assert_eq!(response.controller_id.0, 1);
        }
        if version >= 2 {
            assert_eq!(response.cluster_id.as_deref(), Some(&*node.broker.cluster_id()));
        }
        let names: Vec<_> = response.topics.iter().map(|topic| topic.name.as_ref().unwrap().to_string()).collect();
        assert_eq!(names, ["a", "b"], "v{version}");
        let topic = &response.topics[1];
        assert_eq!(topic.partitions.len(), 3);
        assert_eq!((topic.partitions[2].partition_index, topic.partitions[2].leader_id.0), (2, 1));
        assert_eq!(topic.partitions[2].isr_nodes, topic.partitions[2].replica_nodes);
        assert_eq!(topic.topic_id, if version >= 10 { id_of(&node, "b") } else { Uuid::nil() });
        if version >= 1 {
            let none = client.call(version, &MetadataRequest::default().with_topics(asked(&[])));
            assert!(none.topics.is_empty(), "an empty list is no topics from v1 on");
        }
    }
}

#[test]
fn topics_are_made_on_first_use_unless_the_client_or_the_setting_says_no() {
    let node = Node::start();
    let mut client = node.client();
    for version in versions_of(3) {
        let name = format!("new-{version}");
        if version >= 4 {
            let request = MetadataRequest::default().with_topics(asked(&[&name])).with_allow_auto_topic_creation(false);
            assert_eq!(client.call(version, &request).topics[0].error_code, 3);
        }
        let response = client.call(version, &MetadataRequest::default().with_topics(asked(&[&name, "not/a/name"])));
        assert_eq!((response.topics[0].error_code, response.topics[0].partitions.len()), (0, 1), "v{version}");
        assert_eq!(response.topics[1].error_code, 17);
    }
    let strict = Node::with(&[("auto.create.topics.enable", "false")]);
    let response = strict.client().call(9, &MetadataRequest::default().with_topics(asked(&["new"])));
    assert_eq!(response.topics[0].error_code, 3);
}

#[test]
fn metadata_finds_topics_by_id_from_version_12() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 2);
    let by_id = |id| {
        let topic = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    for version in 12..=13 {
        let response = client.call(version, &by_id(id_of(&node, "t")));
        assert_eq!(response.topics[0].name.as_ref().unwrap().as_str(), "t");
        let unknown = client.call(version, &by_id(Uuid::from_u128(7)));
        assert_eq!((unknown.topics[0].error_code, &unknown.topics[0].name), (100, &None));
    }
    for version in 10..=11 {
        let response = client.call(version, &by_id(id_of(&node, "t")));
        assert_eq!(response.topics[0].error_code, 42, "ids are in these versions, but not to be asked by");
    }
}

#[test]
fn operations_are_told_to_those_who_ask() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    for version in 8..=13 {
        let quiet = client.call(version, &MetadataRequest::default().with_topics(asked(&["t"])));
        assert_eq!(quiet.topics[0].topic_authorized_operations, i32::MIN);
        let mut request =
            MetadataRequest::default().with_topics(asked(&["t"])).with_include_topic_authorized_operations(true);
        if version <= 10 {
            request = request.with_include_cluster_authorized_operations(true);
        }
        let response = client.call(version, &request);
        assert!(response.topics[0].topic_authorized_operations > 0);
        if version <= 10 {
            assert!(response.cluster_authorized_operations > 0);
        }
    }
}

#[test]
fn the_advertised_address_is_what_clients_are_told() {
    let node = Node::advertising(&[], Some("pond.example:0"));
    let mut client = node.client();
    let response = client.call(9, &MetadataRequest::default().with_topics(None));
    assert_eq!((&*response.brokers[0].host, response.brokers[0].port), ("pond.example", node.addr.port().into()));
    let cluster = client.call(0, &DescribeClusterRequest::default());
    assert_eq!(&*cluster.brokers[0].host, "pond.example");
    let found = client.call(3, &FindCoordinatorRequest::default().with_key(text("g")));
    assert_eq!(&*found.host, "pond.example");
}

fn list(client: &mut Client, version: i16, timestamp: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let response = client.call(version, &request);
    let answer = &response.topics[0].partitions[0];
    (answer.error_code, answer.offset, answer.timestamp)
}

#[test]
fn list_offsets_knows_times_and_ends_in_every_version() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    for version in versions_of(2) {
        assert_eq!(list(&mut client, version, 0), (0, -1, -1), "nothing there");
    }
    // Timestamps 1000, 1001, 1002; 1000, 1001.
    client.call(12, &produce(12, "t", Uuid::nil(), 0, -1, batch(&["a", "b", "c"])));
    client.call(12, &produce(12, "t", Uuid::nil(), 0, -1, batch(&["d", "e"])));
    const UNSUPPORTED: (i16, i64, i64) = (35, -1, -1);
    for version in versions_of(2) {
        assert_eq!(list(&mut client, version, -1), (0, 5, -1), "latest, v{version}");
        assert_eq!(list(&mut client, version, -2), (0, 0, -1), "earliest");
        assert_eq!(list(&mut client, version, 1001), (0, 1, 1001), "by time");
        assert_eq!(list(&mut client, version, 0), (0, 0, 1000), "before all");
        assert_eq!(list(&mut client, version, 9999), (0, -1, -1), "after all");
        let since = |first, answer| if version >= first { answer } else { UNSUPPORTED };
        assert_eq!(list(&mut client, version, -3), since(7, (0, 2, 1002)), "highest timestamp");
        assert_eq!(list(&mut client, version, -4), since(8, (0, 0, -1)), "earliest local");
        assert_eq!(list(&mut client, version, -5), since(9, (0, -1, -1)), "latest tiered");
        assert_eq!(list(&mut client, version, -99), UNSUPPORTED);
    }
}

#[test]
fn list_offsets_names_what_is_not_there() {
    let node = Node::start();
    assert_eq!(list(&mut node.client(), 5, -1), (3, -1, -1));
}

#[test]
fn epochs_end_where_the_log_ends() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    client.call(12, &produce(12, "t", Uuid::nil(), 0, -1, batch(&["a", "b"])));
    let current = node.broker.leader_epoch();
    for version in versions_of(23) {
        let mut ask = |believed, epoch| {
            let partition =
                OffsetForLeaderPartition::default().with_current_leader_epoch(believed).with_leader_epoch(epoch);
            let topic = OffsetForLeaderTopic::default().with_topic(topic_name("t")).with_partitions(vec![partition]);
            let mut request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            if version >= 3 {
                request = request.with_replica_id((-1).into());
            }
            let response = client.call(version, &request);
            let answer = &response.topics[0].partitions[0];
            (answer.error_code, answer.leader_epoch, answer.end_offset)
        };
        assert_eq!(ask(-1, current), (0, current, 2), "v{version}");
        assert_eq!(ask(current, current), (0, current, 2));
        assert_eq!(ask(current + 1, current).0, 75);
    }
}

#[test]
fn the_coordinator_of_every_group_is_this_node() {
    let node = Node::start();
    let mut client = node.client();
    let port = i32::from(node.addr.port());
    for version in versions_of(10) {
        let ask = |key_type| match version {
            0 => FindCoordinatorRequest::default().with_key(text("g")),
            1..=3 => FindCoordinatorRequest::default().with_key(text("g")).with_key_type(key_type),
            _ => {
                let keys = vec![text("g"), text("h")];
                FindCoordinatorRequest::default().with_coordinator_keys(keys).with_key_type(key_type)
            }
        };
        let found = client.call(version, &ask(0));
        if version < 4 {
            assert_eq!((found.error_code, found.node_id.0, found.port), (0, 1, port));
        } else {
            let keys: Vec<_> = found.coordinators.iter().map(|c| (c.key.to_string(), c.node_id.0, c.port)).collect();
            assert_eq!(keys, [("g".to_owned(), 1, port), ("h".to_owned(), 1, port)]);
        }
        if version >= 1 {
            let transactional = client.call(version, &ask(1));
            let error = transactional.coordinators.first().map_or(transactional.error_code, |c| c.error_code);
            assert_eq!(error, 53, "no transactions");
        }
    }
}

#[test]
fn describe_cluster_shows_the_node_in_every_version() {
    let node = Node::start();
    let mut client = node.client();
    for version in versions_of(60) {
        let response =
            client.call(version, &DescribeClusterRequest::default().with_include_cluster_authorized_operations(true));
        assert_eq!((response.error_code, response.controller_id.0, response.brokers.len()), (0, 1, 1));
        assert_eq!(&*response.cluster_id, &*node.broker.cluster_id());
        assert!(response.cluster_authorized_operations > 0);
        if version >= 1 {
            let controllers = client.call(version, &DescribeClusterRequest::default().with_endpoint_type(2));
            assert_eq!(controllers.error_code, 114);
        }
    }
}

#[test]
fn describe_topic_partitions_goes_on_where_it_was_cut() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("b", 3);
    client.create_topic("a", 2);
    let mut pages = Vec::new();
    let mut request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(2);
    for _ in 0..10 {
        let response = client.call(0, &request);
        for topic in &response.topics {
            let name = topic.name.as_ref().unwrap().to_string();
            pages.push((name, topic.partitions.iter().map(|p| p.partition_index).collect::<Vec<_>>()));
        }
        let Some(next) = response.next_cursor else { break };
        let cursor = Cursor::default().with_topic_name(next.topic_name).with_partition_index(next.partition_index);
        request = request.with_cursor(Some(cursor));
    }
    let page = |name: &str, partitions: &[i32]| (name.to_owned(), partitions.to_vec());
    assert_eq!(pages, [page("a", &[0, 1]), page("b", &[0, 1]), page("b", &[2])]);
    let some = vec![TopicRequest::default().with_name(topic_name("nobody"))];
    let response = client.call(0, &DescribeTopicPartitionsRequest::default().with_topics(some));
    assert_eq!(response.topics[0].error_code, 3);
}

#[test]
fn log_dirs_show_what_partitions_take() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 2);
    client.call(12, &produce(12, "t", Uuid::nil(), 1, -1, batch(&["a"])));
    for version in versions_of(35) {
        let all = client.call(version, &DescribeLogDirsRequest::default().with_topics(None));
        let folder = &all.results[0];
        let sizes: Vec<_> = folder.topics[0].partitions.iter().map(|p| p.partition_size).collect();
        assert_eq!((folder.error_code, sizes[0]), (0, 0));
        assert!(sizes[1] > 60);
        if version >= 4 {
            assert!(folder.usable_bytes > 0 && folder.total_bytes >= folder.usable_bytes);
        }
        let one = DescribableLogDirTopic::default().with_topic(topic_name("t")).with_partitions(vec![1]);
        let some = client.call(version, &DescribeLogDirsRequest::default().with_topics(Some(vec![one])));
        assert_eq!(some.results[0].topics[0].partitions.len(), 1);
    }
}
