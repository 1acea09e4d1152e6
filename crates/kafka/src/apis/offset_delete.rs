//! OffsetDelete: forget committed offsets of topics that no member reads.
//!
//! Version 0.

use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use millpond_coordinator as coordinator;

use super::Api;
use crate::call::{Call, topic_name};
use crate::error_code::ErrorCode;
use crate::groups;
use crate::shape::Field::{Structs, Text};
use crate::shape::INT;

pub(crate) static API: Api = Api {
    key: 47,
    name: "OffsetDelete",
    versions: (0, 0),
    flexible_from: i16::MAX,
    fields: &[Text, Structs(&[Text, Structs(&[INT])])],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    // Topics that are gone are asked for too: their offsets are what one wants to be rid of.
    let topics = request.topics.iter().map(|topic| {
        (topic.name.to_string(), topic.partitions.iter().map(|partition| partition.partition_index).collect())
    });
    let request = coordinator::OffsetDeleteRequest { group_id: request.group_id.to_string(), topics: topics.collect() };
    let deleted = groups::delete_offsets(&call, request).await;
    let partition = |(index, error): (i32, Option<coordinator::GroupError>)| {
        OffsetDeleteResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(call.code(ErrorCode::of_group(error)))
    };
    let topic = |topic: coordinator::PartitionErrors| {
        OffsetDeleteResponseTopic::default()
            .with_name(topic_name(&topic.topic))
            .with_partitions(topic.partitions.into_iter().map(partition).collect())
    };
    OffsetDeleteResponse::default()
        .with_error_code(call.code(ErrorCode::of_group(deleted.error)))
        .with_topics(deleted.topics.into_iter().map(topic).collect())
}
