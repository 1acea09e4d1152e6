//! OffsetForLeaderEpoch: where an epoch ended, so that a consumer notices that records were lost (KIP-320).
//!
//! Versions 2 to 4; v3 adds the replica id, which is ignored, v4 flexible fields.

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::Api;
use super::fetch::check_leader_epoch;
use crate::call::Call;
use crate::error_code::ErrorCode;
use crate::shape::Field::{Since, Structs, Text};
use crate::shape::INT;

pub(crate) static API: Api = Api {
    key: 23,
    name: "OffsetForLeaderEpoch",
    versions: (2, 4),
    flexible_from: 4,
    fields: &[Since(3, &INT), Structs(&[Text, Structs(&[INT, INT, INT])])],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| answer(&call, &topic.topic, partition)).collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn answer(call: &Call, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let response = EpochEndOffset::default().with_partition(asked.partition).with_leader_epoch(-1).with_end_offset(-1);
    match epoch_end(call, topic, asked) {
        Ok(Some((epoch, end_offset))) => response.with_leader_epoch(epoch).with_end_offset(end_offset),
        Ok(None) => response,
        Err(error) => response.with_error_code(call.code(error)),
    }
}

fn epoch_end(call: &Call, topic: &str, asked: &OffsetForLeaderPartition) -> Result<Option<(i32, i64)>, ErrorCode> {
    let found = call.broker().partition(topic, asked.partition);
    let partition = found.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    check_leader_epoch(asked.current_leader_epoch, &partition)?;
    Ok(partition.epoch_end(asked.leader_epoch))
}
