//! CreateTopics.
//!
//! Versions 2 to 7; v4 takes −1 for the default number of partitions and replicas (KIP-464; here every version does), v5
//! tells what was made, configurations too (KIP-525), and has flexible fields, v7 tells the topic's id. Topics are made
//! one by one, and a topic that cannot be made says why. The timeout is ignored: nothing is waited for.

use std::collections::HashMap;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use millpond_broker::NewTopicRequest;
use millpond_metadata::TopicImage;
use millpond_metadata::config::{ConfigEntry, describe_topic};

use super::Api;
use crate::call::{Call, text};
use crate::error_code::ErrorCode;
use crate::limits::TOPICS_CREATED_MAX;
use crate::shape::Field::{Structs, Text, Values};
use crate::shape::{BYTE, INT, SHORT};

pub(crate) static API: Api = Api {
    key: 19,
    name: "CreateTopics",
    versions: (2, 7),
    flexible_from: 5,
    fields: &[Structs(&[Text, INT, SHORT, Structs(&[INT, Values(&INT)]), Structs(&[Text, Text])]), INT, BYTE],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut times = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.to_string()).or_insert(0) += 1;
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let result = CreatableTopicResult::default().with_name(topic.name.clone());
        let wrong = if times[topic.name.as_str()] > 1 {
            Some(format!("the topic '{}' is named more than once", &*topic.name))
        } else {
            let message = || format!("a request may make {TOPICS_CREATED_MAX} topics; make the others with another");
            (topics.len() >= TOPICS_CREATED_MAX).then(message)
        };
        if let Some(message) = wrong {
            topics.push(refused(&call, result, ErrorCode::InvalidRequest, message));
            continue;
        }
        let created = call.broker().create_topic(wanted(topic), request.validate_only).await;
        topics.push(match created {
            Ok(topic) => made(&call, result.with_error_message(None), &topic),
            Err(error) => refused(&call, result, ErrorCode::from(&error), error.to_string()),
        });
    }
    CreateTopicsResponse::default().with_topics(topics)
}

fn wanted(topic: CreatableTopic) -> NewTopicRequest {
    let assignments = topic
        .assignments
        .into_iter()
        .map(|assignment| (assignment.partition_index, assignment.broker_ids.into_iter().map(|id| id.0).collect()));
    let configs =
        topic.configs.into_iter().map(|config| (config.name.to_string(), config.value.map(|v| v.to_string())));
    NewTopicRequest {
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs.collect(),
        ..NewTopicRequest::new(topic.name.to_string())
    }
}

fn refused(call: &Call, result: CreatableTopicResult, error: ErrorCode, message: String) -> CreatableTopicResult {
    result.with_error_code(call.code(error)).with_error_message(Some(text(message)))
}

fn made(call: &Call, result: CreatableTopicResult, topic: &TopicImage) -> CreatableTopicResult {
    let result = match call.version {
        7.. => result.with_topic_id(topic.id.as_uuid()),
        _ => result,
    };
    if call.version < 5 {
        return result;
    }
    let configs = describe_topic(topic, &call.broker().image(), call.broker().settings()).into_iter().map(config);
    result.with_num_partitions(topic.partition_count).with_replication_factor(1).with_configs(Some(configs.collect()))
}

fn config(entry: ConfigEntry) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(entry.name.into())
        .with_value(entry.value.map(text))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.sensitive)
}
