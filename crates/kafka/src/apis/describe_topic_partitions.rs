//! DescribeTopicPartitions: topics in pages (KIP-966).
//!
//! Version 0. Topics come in the order of their names, partitions in that of their indexes; where the limit cuts them
//! off, the answer says where to go on. There is one replica, so the eligible leaders are empty lists.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::Api;
use crate::call::{Call, topic_name};
use crate::error_code::ErrorCode;
use crate::node::NODE_ID;
use crate::operations;
use crate::shape::Field::{OptionalStruct, Structs, Text};
use crate::shape::INT;

pub(crate) static API: Api = Api {
    key: 75,
    name: "DescribeTopicPartitions",
    versions: (0, 0),
    flexible_from: 0,
    fields: &[Structs(&[Text]), INT, OptionalStruct(&[Text, INT])],
    serve: |call, frame| call.serve(frame, handle),
};

/// How many partitions one answer holds at most (Kafka: `max.request.partition.size.limit`).
const PARTITIONS_MAX: i32 = 2000;

async fn handle(call: Call, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let image = call.broker().image();
    let all = request.topics.is_empty();
    let asked: BTreeSet<String> = match all {
        true => image.topics().map(|topic| topic.name.to_string()).collect(),
        false => request.topics.iter().map(|topic| topic.name.to_string()).collect(),
    };
    let start = request.cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index.max(0)));
    let mut left = match request.response_partition_limit {
        1..PARTITIONS_MAX => request.response_partition_limit,
        _ => PARTITIONS_MAX,
    };
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in asked {
        let first = match &start {
            Some((from, _)) if name < *from => continue,
            Some((from, partition)) if name == *from => *partition,
            _ => 0,
        };
        let Some(topic) = image.topic(&name) else {
            response.topics.push(unknown(&call, &name));
            continue;
        };
        if left == 0 {
            let cursor = Cursor::default().with_topic_name(topic_name(&name)).with_partition_index(first);
            return response.with_next_cursor(Some(cursor));
        }
        let end = first.saturating_add(left).min(topic.partition_count).max(first);
        left -= end - first;
        let described = DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(topic_name(&name)))
            .with_topic_id(topic.id.as_uuid())
            .with_is_internal(topic.internal)
            .with_topic_authorized_operations(operations::on_topic(true))
            .with_partitions((first..end).map(|index| partition(&call, index)).collect());
        response.topics.push(described);
        if end < topic.partition_count {
            let cursor = Cursor::default().with_topic_name(topic_name(&name)).with_partition_index(end);
            return response.with_next_cursor(Some(cursor));
        }
    }
    response.with_next_cursor(None)
}

fn unknown(call: &Call, name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match millpond_types::TopicName::new(name) {
        Ok(_) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopic,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(call.code(error))
        .with_name(Some(topic_name(name)))
        .with_topic_authorized_operations(i32::MIN)
}

fn partition(call: &Call, index: i32) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(index)
        .with_leader_id(NODE_ID.into())
        .with_leader_epoch(call.broker().leader_epoch())
        .with_replica_nodes(vec![NODE_ID.into()])
        .with_isr_nodes(vec![NODE_ID.into()])
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}
