//! DeleteRecords: forget the records below an offset (KIP-107).
//!
//! Versions 0 to 2; v2 brings flexible fields. Offset −1 stands for the high watermark. The timeout is ignored: when it
//! is answered, the new start is written down.

use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use millpond_metadata::Actor;

use super::Api;
use crate::call::Call;
use crate::error_code::ErrorCode;
use crate::shape::Field::{Structs, Text};
use crate::shape::{INT, LONG};

pub(crate) static API: Api = Api {
    key: 21,
    name: "DeleteRecords",
    versions: (0, 2),
    flexible_from: 2,
    fields: &[Structs(&[Text, Structs(&[INT, LONG])]), INT],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
            partitions.push(match delete(&call, &topic.name, partition).await {
                Ok(low_watermark) => result.with_low_watermark(low_watermark),
                Err(error) => result.with_low_watermark(-1).with_error_code(call.code(error)),
            });
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete(call: &Call, topic: &str, asked: &DeleteRecordsPartition) -> Result<i64, ErrorCode> {
    let found = call.broker().partition(topic, asked.partition_index);
    let partition = found.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let deleted = call.broker().delete_records_as(&partition, asked.offset, Actor::Client).await;
    deleted.map_err(|error| ErrorCode::from(&error))
}
