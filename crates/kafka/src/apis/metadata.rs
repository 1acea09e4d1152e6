//! Metadata: which nodes, topics and partitions there are.
//!
//! Versions 0 to 13. v0 takes an empty list of topics for all, later versions null; v1 brings the controller, v4 says
//! whether topics may be made on first use (before it they may), v7 leader epochs, v8 authorized operations (KIP-430;
//! the cluster's only up to v10), v9 flexible fields, v10 topic ids, v12 lookups by id (KIP-516), v13 an error for the
//! whole answer.
//!
//! There is one node, which leads all partitions. Its address is what `--advertise` says, or the one that the client
//! reached it at.

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use millpond_metadata::TopicImage;
use millpond_types::TopicId;

use super::Api;
use crate::call::{Call, once, text, topic_name};
use crate::error_code::ErrorCode;
use crate::node::NODE_ID;
use crate::operations;
use crate::shape::Field::{Since, Structs, Text, Until};
use crate::shape::{BYTE, UUID};

pub(crate) static API: Api = Api {
    key: 3,
    name: "Metadata",
    versions: (0, 13),
    flexible_from: 9,
    fields: &[Structs(&[Since(10, &UUID), Text]), Since(4, &BYTE), Since(8, &Until(10, &BYTE)), Since(8, &BYTE)],
    serve: |call, frame| call.serve(frame, handle),
};

/// The first version that finds topics by their ids.
const LOOKUP_BY_ID_FROM: i16 = 12;

async fn handle(call: Call, request: MetadataRequest) -> MetadataResponse {
    let version = call.version;
    let operations = operations::on_topic(request.include_topic_authorized_operations);
    let may_create = version < 4 || request.allow_auto_topic_creation;
    let topics = match request.topics {
        Some(topics) if version > 0 || !topics.is_empty() => {
            let mut found = Vec::with_capacity(topics.len());
            for topic in once(topics, |topic| (topic.topic_id, topic.name.clone())) {
                found.push(one(&call, topic, may_create, operations).await);
            }
            found
        }
        _ => call.broker().image().topics().map(|topic| describe(&call, topic, operations)).collect(),
    };
    let broker = MetadataResponseBroker::default()
        .with_node_id(NODE_ID.into())
        .with_host(text(&*call.endpoint.host))
        .with_port(call.endpoint.port.into());
    let response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(call.broker().cluster_id())))
        .with_controller_id(NODE_ID.into())
        .with_topics(topics);
    match version {
        8..=10 => {
            let asked = request.include_cluster_authorized_operations;
            response.with_cluster_authorized_operations(operations::on_cluster(asked))
        }
        _ => response,
    }
}

/// The topic that a request asks for, by name or by id; made on the way if it may be.
async fn one(call: &Call, asked: MetadataRequestTopic, may_create: bool, operations: i32) -> MetadataResponseTopic {
    let by_id = call.version >= LOOKUP_BY_ID_FROM && !asked.topic_id.is_nil();
    let unknown = MetadataResponseTopic::default().with_topic_authorized_operations(i32::MIN);
    if by_id {
        let id = TopicId::from_uuid(asked.topic_id);
        return match call.broker().topic_by_id(id) {
            Some(topic) => describe(call, &topic, operations),
            None => unknown
                .with_error_code(call.code(ErrorCode::UnknownTopicId))
                .with_topic_id(asked.topic_id)
                .with_name(None),
        };
    }
    let Some(name) = asked.name else {
        // In the answer the name may be null only where topics are found by id.
        let name = (call.version < LOOKUP_BY_ID_FROM).then(TopicName::default);
        return unknown.with_error_code(call.code(ErrorCode::InvalidRequest)).with_name(name);
    };
    if let Some(topic) = call.broker().topic(&name) {
        return describe(call, &topic, operations);
    }
    let error = match may_create && call.broker().settings().auto_create_topics {
        true => match call.broker().auto_create_topic(&name).await {
            Ok(topic) => return describe(call, &topic, operations),
            Err(error) => ErrorCode::of_lookup(&error),
        },
        false if millpond_types::TopicName::new(&name).is_err() => ErrorCode::InvalidTopic,
        false => ErrorCode::UnknownTopicOrPartition,
    };
    unknown.with_error_code(call.code(error)).with_name(Some(name))
}

fn describe(call: &Call, topic: &TopicImage, operations: i32) -> MetadataResponseTopic {
    let leader_epoch = call.broker().leader_epoch();
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE_ID.into())
            .with_leader_epoch(leader_epoch)
            .with_replica_nodes(vec![NODE_ID.into()])
            .with_isr_nodes(vec![NODE_ID.into()])
    };
    let described = MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_is_internal(topic.internal)
        .with_partitions((0..topic.partition_count).map(partition).collect());
    let described = match call.version {
        10.. => described.with_topic_id(topic.id.as_uuid()),
        _ => described,
    };
    match call.version {
        8.. => described.with_topic_authorized_operations(operations),
        _ => described,
    }
}
