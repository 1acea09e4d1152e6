//! CreatePartitions: more partitions for topics (KIP-195).
//!
//! Versions 0 to 3; v2 brings flexible fields. The timeout is ignored: nothing is waited for.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use millpond_metadata::Actor;

use super::Api;
use crate::call::{Call, text};
use crate::error_code::ErrorCode;
use crate::shape::Field::{Structs, Text, Values};
use crate::shape::{BYTE, INT};

pub(crate) static API: Api = Api {
    key: 37,
    name: "CreatePartitions",
    versions: (0, 3),
    flexible_from: 2,
    fields: &[Structs(&[Text, INT, Structs(&[Values(&INT)])]), INT, BYTE],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        results.push(create(&call, topic, request.validate_only).await);
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn create(call: &Call, topic: CreatePartitionsTopic, validate_only: bool) -> CreatePartitionsTopicResult {
    let assignments = topic.assignments.map(|assignments| {
        let nodes = assignments.into_iter().map(|one| one.broker_ids.into_iter().map(|id| id.0).collect::<Vec<i32>>());
        nodes.collect::<Vec<_>>()
    });
    let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
    match call.broker().create_partitions(&topic.name, topic.count, assignments, Actor::Client, validate_only).await {
        Ok(_) => result,
        Err(error) => {
            let code = call.code(ErrorCode::from(&error));
            result.with_error_code(code).with_error_message(Some(text(error.to_string())))
        }
    }
}
