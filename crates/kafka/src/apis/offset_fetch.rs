//! OffsetFetch: how far have groups read?
//!
//! Versions 1 to 9. v2 brings all topics of a group (null), v5 leader epochs, v6 flexible fields, v7 `require_stable`,
//! v8 several groups (KIP-709), v9 member ids of KIP-848, which are ignored. Without transactions every offset is
//! stable.

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse};
use millpond_coordinator as coordinator;

use super::Api;
use crate::call::{Call, once, text, topic_name};
use crate::error_code::ErrorCode;
use crate::groups;
use crate::shape::Field::{Since, Structs, Text, Until, Values};
use crate::shape::{BYTE, INT};

pub(crate) static API: Api = Api {
    key: 9,
    name: "OffsetFetch",
    versions: (1, 9),
    flexible_from: 6,
    fields: &[
        Until(7, &Text),
        Until(7, &Structs(&[Text, Values(&INT)])),
        Since(8, &Structs(&[Text, Since(9, &Text), Since(9, &INT), Structs(&[Text, Values(&INT)])])),
        Since(7, &BYTE),
    ],
    serve: |call, frame| call.serve(frame, handle),
};

/// The first version that asks for several groups.
const SEVERAL_FROM: i16 = 8;

async fn handle(call: Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let groups = match call.version >= SEVERAL_FROM {
        true => {
            let group = |group: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup| {
                let topics = group.topics.map(|topics| {
                    topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect()
                });
                coordinator::FetchGroup { group_id: group.group_id.to_string(), topics }
            };
            once(request.groups, |group| group.group_id.clone()).into_iter().map(group).collect()
        }
        false => {
            let topics = request.topics.map(|topics| {
                topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect()
            });
            vec![coordinator::FetchGroup { group_id: request.group_id.to_string(), topics }]
        }
    };
    let request = coordinator::OffsetFetchRequest { groups, require_stable: request.require_stable };
    let fetched = groups::offsets(&call, request).await;
    match call.version >= SEVERAL_FROM {
        true => {
            let groups = fetched.groups.into_iter().map(|group| several(&call, group));
            OffsetFetchResponse::default().with_groups(groups.collect())
        }
        false => one(&call, fetched.groups.into_iter().next().expect("one group was asked for")),
    }
}

/// The answer of a version that asks for one group.
fn one(call: &Call, group: coordinator::FetchedGroup) -> OffsetFetchResponse {
    let error = call.code(ErrorCode::of_group(group.error));
    let partition = |partition: coordinator::FetchedPartition| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(partition.offset)
            .with_committed_leader_epoch(if call.version >= 5 { partition.leader_epoch } else { -1 })
            .with_metadata(Some(text(partition.metadata)))
            // Version 1 has no other place for it.
            .with_error_code(error)
    };
    let topic = |topic: coordinator::FetchedTopic| {
        OffsetFetchResponseTopic::default()
            .with_name(topic_name(&topic.topic))
            .with_partitions(topic.partitions.into_iter().map(partition).collect())
    };
    let response = OffsetFetchResponse::default().with_topics(group.topics.into_iter().map(topic).collect());
    if call.version >= 2 { response.with_error_code(error) } else { response }
}

/// One group's answer in a version that asks for several.
fn several(call: &Call, group: coordinator::FetchedGroup) -> OffsetFetchResponseGroup {
    let partition = |partition: coordinator::FetchedPartition| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(partition.offset)
            .with_committed_leader_epoch(partition.leader_epoch)
            .with_metadata(Some(text(partition.metadata)))
    };
    let topic = |topic: coordinator::FetchedTopic| {
        OffsetFetchResponseTopics::default()
            .with_name(topic_name(&topic.topic))
            .with_partitions(topic.partitions.into_iter().map(partition).collect())
    };
    OffsetFetchResponseGroup::default()
        .with_group_id(GroupId(text(group.group_id)))
        .with_error_code(call.code(ErrorCode::of_group(group.error)))
        .with_topics(group.topics.into_iter().map(topic).collect())
}
