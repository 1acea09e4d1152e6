//! ListOffsets: offsets by time, and the first and the last.
//!
//! Versions 1 to 10. v2 brings isolation levels, v4 leader epochs, v6 flexible fields, v7 the record with the highest
//! timestamp (−3, KIP-734), v8 the first offset on the local disk (−4, KIP-405), v9 the last in object storage (−5),
//! v10 a timeout, which is ignored.
//!
//! Who reads committed records finds nothing at or above the last stable offset, which is the last one there; others end at
//! the high watermark. Nothing is in object storage: −4 is the first offset, −5 answers −1. Other negative timestamps, and
//! those newer than the version, are answered with UNSUPPORTED_VERSION, as in Kafka.

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use millpond_broker::FetchError;

use super::Api;
use super::fetch::check_leader_epoch;
use crate::call::Call;
use crate::error_code::ErrorCode;
use crate::shape::Field::{Since, Structs, Text};
use crate::shape::{BYTE, INT, LONG};

pub(crate) static API: Api = Api {
    key: 2,
    name: "ListOffsets",
    versions: (1, 10),
    flexible_from: 6,
    fields: &[INT, Since(2, &BYTE), Structs(&[Text, Structs(&[INT, Since(4, &INT), LONG])]), Since(10, &INT)],
    serve: |call, frame| call.serve(frame, handle),
};

/// The isolation level of a client that reads committed records.
const READ_COMMITTED: i8 = 1;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// An offset with the timestamp and the leader epoch that go with it; −1 where there is none.
struct Listed {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

async fn handle(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let read_committed = request.isolation_level == READ_COMMITTED;
    let topics = request.topics.into_iter().map(|topic| {
        let answer = |partition| answer(&call, &topic.name, partition, read_committed);
        let partitions = topic.partitions.iter().map(answer).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn answer(
    call: &Call,
    topic: &str,
    asked: &ListOffsetsPartition,
    read_committed: bool,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
    match list(call, topic, asked, read_committed) {
        Ok(listed) => response
            .with_offset(listed.offset)
            .with_timestamp(listed.timestamp)
            .with_leader_epoch(if call.version >= 4 { listed.leader_epoch } else { -1 }),
        Err(error) => response.with_offset(-1).with_timestamp(-1).with_error_code(call.code(error)),
    }
}

fn list(call: &Call, topic: &str, asked: &ListOffsetsPartition, read_committed: bool) -> Result<Listed, ErrorCode> {
    let index = asked.partition_index;
    let partition = call.broker().partition(topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    check_leader_epoch(asked.current_leader_epoch, &partition)?;
    let version = call.version;
    // The epoch is told where it is known to be right; a client without one checks nothing.
    let record = |found: Result<Option<(i64, i64)>, FetchError>| match found {
        Ok(Some((offset, timestamp))) => Ok(Listed { offset, timestamp, leader_epoch: -1 }),
        Ok(None) => Ok(Listed { offset: -1, timestamp: -1, leader_epoch: -1 }),
        Err(error) => Err(ErrorCode::from(&error)),
    };
    match asked.timestamp {
        LATEST => {
            let offset = if read_committed { partition.last_stable_offset() } else { partition.visible_end() };
            Ok(Listed { offset, timestamp: -1, leader_epoch: partition.leader_epoch() })
        }
        EARLIEST => Ok(Listed { offset: partition.log_start(), timestamp: -1, leader_epoch: -1 }),
        MAX_TIMESTAMP if version >= 7 && read_committed => record(partition.committed_max_timestamp()),
        MAX_TIMESTAMP if version >= 7 => record(partition.max_timestamp()),
        EARLIEST_LOCAL if version >= 8 => Ok(Listed { offset: partition.log_start(), timestamp: -1, leader_epoch: -1 }),
        LATEST_TIERED if version >= 9 => Ok(Listed { offset: -1, timestamp: -1, leader_epoch: -1 }),
        ..0 => Err(ErrorCode::UnsupportedVersion),
        timestamp if read_committed => record(partition.committed_offset_for_timestamp(timestamp)),
        timestamp => record(partition.offset_for_timestamp(timestamp)),
    }
}
