//! DescribeLogDirs: what partitions take on the disk (KIP-113).
//!
//! Versions 1 to 4; v2 brings flexible fields, v3 an error for the whole answer, v4 the volume's size (KIP-827). There is
//! one folder, no replica lags, and none is on its way to another folder.

use std::collections::{BTreeMap, HashMap, HashSet};

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::Api;
use crate::call::{Call, text, topic_name};
use crate::error_code::ErrorCode;
use crate::shape::Field::{Structs, Text, Values};
use crate::shape::INT;

pub(crate) static API: Api = Api {
    key: 35,
    name: "DescribeLogDirs",
    versions: (1, 4),
    flexible_from: 2,
    fields: &[Structs(&[Text, Values(&INT)])],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted: Option<HashMap<String, HashSet<i32>>> = request.topics.map(|topics| {
        topics.into_iter().map(|topic| (topic.topic.to_string(), topic.partitions.into_iter().collect())).collect()
    });
    let is_wanted = |topic: &str, index: i32| match &wanted {
        Some(wanted) => wanted.get(topic).is_some_and(|partitions| partitions.contains(&index)),
        None => true,
    };
    let described = match call.broker().describe_log_dirs() {
        Ok(described) => described,
        Err(error) => {
            tracing::error!(%error, "the data folder cannot be described");
            return failed(&call);
        }
    };
    let mut topics = BTreeMap::<_, Vec<_>>::new();
    for (topic, index, size_bytes) in described.partitions {
        if is_wanted(&topic, index) {
            let entry =
                DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(bytes(size_bytes));
            topics.entry(topic).or_default().push(entry);
        }
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        DescribeLogDirsTopic::default().with_name(topic_name(&topic)).with_partitions(partitions)
    });
    let folder = DescribeLogDirsResult::default().with_log_dir(text(described.path)).with_topics(topics.collect());
    let folder = match call.version {
        4.. => folder.with_total_bytes(bytes(described.total_bytes)).with_usable_bytes(bytes(described.usable_bytes)),
        _ => folder,
    };
    DescribeLogDirsResponse::default().with_results(vec![folder])
}

/// A size for the wire.
fn bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Before v3 there is no place for an error but a folder's own.
fn failed(call: &Call) -> DescribeLogDirsResponse {
    let error = call.code(ErrorCode::KafkaStorage);
    match call.version {
        3.. => DescribeLogDirsResponse::default().with_error_code(error),
        _ => DescribeLogDirsResponse::default()
            .with_results(vec![DescribeLogDirsResult::default().with_error_code(error)]),
    }
}
