//! The APIs that change topics, configurations and records.

use kafka_protocol::messages::alter_configs_request::{self, AlterConfigsResource};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::{
    AlterConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, TransactionalId,
};
use millpond_broker::{Admitted, BoxFuture, NewTopicRequest, Refusal};
use uuid::Uuid;

use crate::client::{Client, Node, batch, text, topic_name, versions_of};
use crate::records::{fetch, id_of, produce};

fn wanted(name: &str) -> CreatableTopic {
    CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(-1).with_replication_factor(-1)
}

fn config(name: &str, value: &str) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
}

#[test]
fn topics_are_made_in_every_version() {
    let node = Node::with(&[("num.partitions", "4")]);
    let mut client = node.client();
    for version in versions_of(19) {
        let name = format!("t{version}");
        let with_config = wanted(&name).with_configs(vec![config("retention.ms", "123456")]);
        let topics = vec![with_config, wanted("not a name"), wanted("twice"), wanted("twice")];
        let probe = CreateTopicsRequest::default().with_topics(topics.clone()).with_validate_only(true);
        assert_eq!(client.call(version, &probe).topics[0].error_code, 0);
        assert!(node.broker.topic(&name).is_none(), "only validated");
        let response = client.call(version, &CreateTopicsRequest::default().with_topics(topics));
        let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 17, 42, 42], "v{version}");
        assert_eq!(response.topics[0].error_message, None);
        assert!(response.topics[1].error_message.as_ref().unwrap().contains("not a name"));
        let made = &response.topics[0];
        if version >= 5 {
            assert_eq!((made.num_partitions, made.replication_factor), (4, 1));
            let configs = made.configs.as_ref().unwrap();
            let retention = configs.iter().find(|config| config.name.as_str() == "retention.ms").unwrap();
            assert_eq!((retention.value.as_deref(), retention.config_source), (Some("123456"), 1));
            assert!(configs.len() > 30);
        }
        if version >= 7 {
            assert_eq!(made.topic_id, id_of(&node, &name));
        }
        let again = client.call(version, &CreateTopicsRequest::default().with_topics(vec![wanted(&name)]));
        assert_eq!(again.topics[0].error_code, 36);
    }
}

#[test]
fn topics_that_cannot_be_say_why() {
    let node = Node::start();
    let mut client = node.client();
    let assigned = |nodes: Vec<i32>| {
        let broker_ids = nodes.into_iter().map(Into::into).collect();
        vec![CreatableReplicaAssignment::default().with_partition_index(0).with_broker_ids(broker_ids)]
    };
    for (topic, code) in [
        (wanted("t").with_num_partitions(0), 37),
        (wanted("t").with_replication_factor(3), 38),
        (wanted("t").with_assignments(assigned(vec![9])), 39),
        (wanted("t").with_configs(vec![config("no.such.config", "1")]), 40),
        (wanted("t").with_configs(vec![config("retention.ms", "soon")]), 40),
        (wanted("t").with_configs(vec![config("remote.storage.enable", "true")]), 40),
    ] {
        let response = client.call(7, &CreateTopicsRequest::default().with_topics(vec![topic.clone()]));
        assert_eq!(response.topics[0].error_code, code, "{topic:?}");
        assert!(response.topics[0].error_message.is_some());
    }
    let by_hand = wanted("assigned").with_assignments(assigned(vec![1]));
    let response = client.call(7, &CreateTopicsRequest::default().with_topics(vec![by_hand]));
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let node = Node::start();
    let mut client = node.client();
    for version in versions_of(20) {
        client.create_topic("t", 1);
        let request = match version {
            6 => {
                let named = DeleteTopicState::default().with_name(Some(topic_name("nobody")));
                let by_id = DeleteTopicState::default().with_name(None).with_topic_id(id_of(&node, "t"));
                let unknown = DeleteTopicState::default().with_name(None).with_topic_id(Uuid::from_u128(3));
                DeleteTopicsRequest::default().with_topics(vec![named, by_id, unknown])
            }
            _ => DeleteTopicsRequest::default().with_topic_names(vec![topic_name("nobody"), topic_name("t")]),
        };
        let response = client.call(version, &request);
        let codes: Vec<_> = response.responses.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes[..2], [3, 0], "v{version}");
        assert_eq!(response.responses[1].name.as_ref().unwrap().as_str(), "t");
        if version >= 6 {
            assert_eq!(codes[2], 100);
        }
        assert!(node.broker.topic("t").is_none());
    }
    let strict = Node::with(&[("delete.topic.enable", "false")]);
    let mut client = strict.client();
    client.create_topic("t", 1);
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")]);
    assert_eq!(client.call(5, &request).responses[0].error_code, 73);
}

#[test]
fn topics_get_more_partitions() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    let mut count = 1;
    for version in versions_of(37) {
        let mut ask = |count, validate_only| {
            let topic =
                CreatePartitionsTopic::default().with_name(topic_name("t")).with_count(count).with_assignments(None);
            let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_validate_only(validate_only);
            client.call(version, &request).results[0].error_code
        };
        assert_eq!(ask(count, false), 37, "as many as there are");
        assert_eq!(ask(count + 1, true), 0);
        assert_eq!(node.broker.topic("t").unwrap().partition_count, count);
        assert_eq!(ask(count + 1, false), 0);
        count += 1;
        assert_eq!(node.broker.topic("t").unwrap().partition_count, count);
    }
}

fn describe(
    client: &mut Client,
    version: i16,
    resource_type: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(resource_type)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let request = if version >= 3 { request.with_include_documentation(true) } else { request };
    client.call(version, &request).results.remove(0)
}

/// The value and the source of one of a topic's configurations.
fn topic_config(client: &mut Client, name: &str) -> (Option<String>, i8) {
    let found = describe(client, 4, 2, "t", Some(&[name]));
    assert_eq!(found.configs.len(), 1);
    (found.configs[0].value.as_ref().map(|value| value.to_string()), found.configs[0].config_source)
}

#[test]
fn configurations_are_described_in_every_version() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    for version in versions_of(32) {
        for (resource_type, name, least) in [(2, "t", 30), (4, "1", 30), (4, "", 0)] {
            let found = describe(&mut client, version, resource_type, name, None);
            assert_eq!((found.error_code, &found.error_message), (0, &None));
            assert!(found.configs.len() >= least);
        }
        let found = describe(&mut client, version, 2, "t", Some(&["segment.bytes", "no.such.config"]));
        assert_eq!(found.configs.len(), 1);
        let segment_bytes = &found.configs[0];
        assert_eq!(segment_bytes.value.as_deref(), Some("1073741824"));
        assert_eq!(segment_bytes.config_source, 5);
        assert_eq!(&*segment_bytes.synonyms[0].name, "log.segment.bytes");
        if version >= 3 {
            assert_eq!(segment_bytes.config_type, 3, "an int");
            assert!(segment_bytes.documentation.as_ref().unwrap().len() > 20);
        }
        for (resource_type, name, code) in [(2, "nobody", 3), (4, "9", 42), (99, "x", 42)] {
            assert_eq!(describe(&mut client, version, resource_type, name, None).error_code, code);
        }
        for resource_type in [8, 16, 32] {
            let found = describe(&mut client, version, resource_type, "1", None);
            assert_eq!((found.error_code, found.configs.len()), (0, 0));
        }
    }
    let listeners = describe(&mut client, 4, 4, "1", Some(&["listeners"]));
    assert_eq!(listeners.configs[0].value.as_deref(), Some(&*format!("PLAINTEXT://{}", node.addr)));
}

#[test]
fn configurations_are_changed_one_by_one() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    for version in versions_of(44) {
        let mut alter = |resource_type, resource: &str, name: &str, operation, value: Option<&str>, validate_only| {
            let change = incremental::AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(operation)
                .with_value(value.map(text));
            let resource = incremental::AlterConfigsResource::default()
                .with_resource_type(resource_type)
                .with_resource_name(text(resource))
                .with_configs(vec![change]);
            let request = IncrementalAlterConfigsRequest::default()
                .with_resources(vec![resource])
                .with_validate_only(validate_only);
            let answer = client.call(version, &request).responses.remove(0);
            assert_eq!(answer.error_code != 0, answer.error_message.is_some());
            answer.error_code
        };
        assert_eq!(alter(2, "t", "retention.ms", 0, Some("777"), true), 0);
        assert_eq!(alter(2, "t", "retention.bytes", 0, Some("888"), false), 0);
        assert_eq!(alter(2, "t", "retention.bytes", 9, Some("888"), false), 42);
        assert_eq!(alter(2, "t", "retention.ms", 0, Some("x"), false), 40);
        assert_eq!(alter(2, "nobody", "retention.ms", 0, Some("1"), false), 3);
        assert_eq!(alter(32, "g", "consumer.session.timeout.ms", 0, Some("1"), false), 42);
        assert_eq!(alter(4, "1", "log.retention.ms", 0, Some("999"), false), 0);
        let client = &mut node.client();
        assert_eq!(topic_config(client, "retention.ms"), (Some("999".to_owned()), 2), "from the broker");
        assert_eq!(topic_config(client, "retention.bytes"), (Some("888".to_owned()), 1));
        assert_eq!(alter(4, "", "log.segment.bytes", 0, Some("2000000"), false), 0);
        let defaults = describe(client, 4, 4, "", None);
        let set: Vec<_> =
            defaults.configs.iter().map(|config| (config.name.to_string(), config.config_source)).collect();
        assert_eq!(set, [("log.segment.bytes".to_owned(), 3)], "for all nodes, only what is set for them");
        assert_eq!(alter(2, "t", "retention.bytes", 1, None, false), 0);
        assert_eq!(topic_config(client, "retention.bytes"), (Some("-1".to_owned()), 5));
        assert_eq!(alter(4, "1", "log.retention.ms", 1, None, false), 0);
    }
}

#[test]
fn configurations_are_replaced_all_at_once() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    for version in versions_of(33) {
        let mut replace = |name: &str, value: &str| {
            let config =
                alter_configs_request::AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
            let resource = AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("t"))
                .with_configs(vec![config]);
            client.call(version, &AlterConfigsRequest::default().with_resources(vec![resource])).responses[0].error_code
        };
        assert_eq!(replace("retention.ms", "5000"), 0);
        assert_eq!(replace("retention.bytes", "6000"), 0);
        assert_eq!(replace("no.such.config", "1"), 40);
        let client = &mut node.client();
        assert_eq!(topic_config(client, "retention.ms").1, 5, "what is not named goes back");
        assert_eq!(topic_config(client, "retention.bytes"), (Some("6000".to_owned()), 1));
    }
}

/// A request for a producer's id.
pub(crate) fn producer_id(transactional: Option<&str>) -> InitProducerIdRequest {
    InitProducerIdRequest::default().with_transactional_id(transactional.map(|id| TransactionalId(text(id))))
}

#[test]
fn producers_get_ids_in_every_version() {
    let node = Node::start();
    let mut client = node.client();
    let mut last = -1;
    for version in versions_of(22) {
        let given = client.call(version, &producer_id(None));
        assert_eq!((given.error_code, given.producer_epoch), (0, 0));
        assert!(given.producer_id.0 > last, "ids are given once");
        last = given.producer_id.0;
        let refused = client.call(version, &producer_id(Some("tx")));
        assert_eq!((refused.error_code, refused.producer_id.0), (53, -1));
    }
}

#[test]
fn records_are_deleted_below_an_offset() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    let mut end = 0;
    for version in versions_of(21) {
        client.call(12, &produce(12, "t", Uuid::nil(), 0, -1, batch(&["a", "b", "c"])));
        end += 3;
        let mut delete = |topic: &str, offset| {
            let partition = DeleteRecordsPartition::default().with_offset(offset);
            let topic = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
            let response = client.call(version, &DeleteRecordsRequest::default().with_topics(vec![topic]));
            let answer = &response.topics[0].partitions[0];
            (answer.error_code, answer.low_watermark)
        };
        assert_eq!(delete("t", end - 1), (0, end - 1), "v{version}");
        assert_eq!(delete("t", end + 1), (1, -1));
        assert_eq!(delete("t", -1), (0, end), "up to the high watermark");
        assert_eq!(delete("nobody", 0), (3, -1));
        let response = node.client().call(12, &fetch(12, "t", Uuid::nil(), end - 1));
        assert_eq!(response.responses[0].partitions[0].error_code, 1);
    }
}

/// The codes with which a client's wishes for `topic` are answered: to delete it by name and by id, to give it a
/// partition, to change and to replace its configurations, to trim it. What has a message must name the topic in it.
fn wishes_for(client: &mut Client, id: Uuid, topic: &str) -> [i16; 6] {
    let by_name = DeleteTopicState::default().with_name(Some(topic_name(topic)));
    let by_id = DeleteTopicState::default().with_name(None).with_topic_id(id);
    let deleted = client.call(6, &DeleteTopicsRequest::default().with_topics(vec![by_name, by_id])).responses;
    let more = CreatePartitionsTopic::default().with_name(topic_name(topic)).with_count(99).with_assignments(None);
    let grown = client.call(3, &CreatePartitionsRequest::default().with_topics(vec![more])).results.remove(0);
    let change = incremental::AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("1")));
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(vec![change]);
    let changed = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let changed = client.call(1, &changed).responses.remove(0);
    let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(topic));
    let replaced = AlterConfigsRequest::default().with_resources(vec![resource]);
    let replaced = client.call(2, &replaced).responses.remove(0);
    let all = DeleteRecordsPartition::default().with_offset(-1);
    let all = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![all]);
    let trimmed = client.call(2, &DeleteRecordsRequest::default().with_topics(vec![all]));
    for message in [
        &deleted[0].error_message,
        &deleted[1].error_message,
        &grown.error_message,
        &changed.error_message,
        &replaced.error_message,
    ] {
        let message = message.as_deref().unwrap_or_default();
        assert!(message.contains(&format!("'{topic}' is the node's own")), "{message}");
    }
    [
        deleted[0].error_code,
        deleted[1].error_code,
        grown.error_code,
        changed.error_code,
        replaced.error_code,
        trimmed.topics[0].partitions[0].error_code,
    ]
}

#[test]
fn clients_change_nothing_about_the_nodes_own_topics() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("gated", 1);
    client.call(12, &produce(12, "gated", Uuid::nil(), 0, -1, batch(&["a statement"])));
    let admit_all = |_| -> BoxFuture<'static, Result<Admitted, Refusal>> {
        Box::pin(async { Ok(Admitted { on_appended: Box::new(|_| Box::pin(async {})) }) })
    };
    node.broker.set_gate("gated".parse().unwrap(), std::sync::Arc::new(admit_all));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for name in ["__consumer_offsets", "__millpond_catalog", "_millpond_answers"] {
        let internal = NewTopicRequest { internal: true, ..NewTopicRequest::new(name) };
        runtime.block_on(node.broker.create_topic(internal, false)).unwrap();
    }
    for topic in ["gated", "__consumer_offsets", "__millpond_catalog", "_millpond_answers"] {
        let before = node.broker.topic(topic).unwrap();
        assert_eq!(wishes_for(&mut client, id_of(&node, topic), topic), [17; 6], "INVALID_TOPIC_EXCEPTION");
        assert_eq!(node.broker.topic(topic).unwrap(), before);
    }
    assert_eq!(node.broker.partition("gated", 0).unwrap().log_start(), 0, "the statement is still there");
    let response = client.call(12, &produce(12, "gated", Uuid::nil(), 0, -1, batch(&["another"])));
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0, "who may produce, still may");
}
