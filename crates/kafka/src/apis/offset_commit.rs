//! OffsetCommit: remember how far the group has read.
//!
//! Versions 2 to 9. v2 to v4 may say how long to keep the offsets, v6 brings leader epochs (KIP-320), v7 static members
//! (KIP-345), v8 flexible fields, v9 member epochs of KIP-848, which classic groups take as generations.
//!
//! Offsets of partitions that do not exist are refused, the others are kept.

use std::collections::VecDeque;

use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use millpond_coordinator as coordinator;

use super::Api;
use crate::call::Call;
use crate::error_code::ErrorCode;
use crate::groups;
use crate::shape::Field::{Since, Structs, Text, Until};
use crate::shape::{INT, LONG};

pub(crate) static API: Api = Api {
    key: 8,
    name: "OffsetCommit",
    versions: (2, 9),
    flexible_from: 8,
    fields: &[
        Text,
        INT,
        Text,
        Since(7, &Text),
        Until(4, &LONG),
        Structs(&[Text, Structs(&[INT, LONG, Since(6, &INT), Text])]),
    ],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut response = OffsetCommitResponse::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let image = call.broker().topic(&topic.name);
        let count = image.map_or(0, |image| image.partition_count);
        let mut answer = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
        let mut known = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let exists = (0..count).contains(&index);
            if exists {
                known.push(coordinator::CommitPartition {
                    partition: index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: groups::optional(partition.committed_metadata),
                });
            }
            let error = if exists { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition };
            let entry = OffsetCommitResponsePartition::default().with_partition_index(index);
            answer.partitions.push(entry.with_error_code(call.code(error)));
        }
        response.topics.push(answer);
        if !known.is_empty() {
            topics.push(coordinator::CommitTopic { topic: topic.name.to_string(), partitions: known });
        }
    }
    let request = coordinator::OffsetCommitRequest {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: groups::optional(request.group_instance_id),
        generation_id: request.generation_id_or_member_epoch,
        retention_time_ms: (request.retention_time_ms >= 0).then_some(request.retention_time_ms),
        reports_unknown_group: call.version >= 9,
        topics,
    };
    let committed = groups::commit(&call, request).await;
    // The coordinator answers for those that exist, in the order in which they were given to it.
    let mut outcomes: VecDeque<_> = committed.topics.into_iter().flat_map(|topic| topic.partitions).collect();
    let entries = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for entry in entries.filter(|entry| entry.error_code == ErrorCode::None.code()) {
        let (partition, error) = outcomes.pop_front().expect("an answer for each partition");
        debug_assert_eq!(partition, entry.partition_index);
        entry.error_code = call.code(ErrorCode::of_group(error));
    }
    response
}
