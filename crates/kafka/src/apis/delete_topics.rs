//! DeleteTopics.
//!
//! Versions 1 to 6; v4 brings flexible fields, v5 messages with errors, v6 topics by id (KIP-516). The timeout is
//! ignored: when it is answered, the topic is gone.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use millpond_metadata::Actor;
use millpond_types::TopicId;

use super::Api;
use crate::call::{Call, text, topic_name};
use crate::error_code::ErrorCode;
use crate::shape::Field::{Since, Structs, Text, Until, Values};
use crate::shape::{INT, UUID};

pub(crate) static API: Api = Api {
    key: 20,
    name: "DeleteTopics",
    versions: (1, 6),
    flexible_from: 4,
    fields: &[Since(6, &Structs(&[Text, UUID])), Until(5, &Values(&Text)), INT],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let asked: Vec<DeleteTopicState> = match call.version >= 6 {
        true => request.topics,
        false => {
            let named = |name| DeleteTopicState::default().with_name(Some(name));
            request.topic_names.into_iter().map(named).collect()
        }
    };
    let mut responses = Vec::with_capacity(asked.len());
    for topic in asked {
        responses.push(delete(&call, topic).await);
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

async fn delete(call: &Call, asked: DeleteTopicState) -> DeletableTopicResult {
    let mut result = DeletableTopicResult::default().with_name(asked.name.clone());
    let deleted = match asked.name {
        Some(name) => {
            let id = call.broker().topic(&name).filter(|_| call.version >= 6).map(|topic| topic.id.as_uuid());
            result = result.with_topic_id(id.unwrap_or_default());
            call.broker().delete_topic(&name, Actor::Client).await
        }
        None => {
            let id = TopicId::from_uuid(asked.topic_id);
            let name = call.broker().topic_by_id(id).map(|topic| topic_name(&topic.name));
            result = result.with_topic_id(asked.topic_id).with_name(name);
            call.broker().delete_topic_by_id(id, Actor::Client).await
        }
    };
    match deleted {
        Ok(()) => result,
        Err(error) => {
            let result = result.with_error_code(call.code(ErrorCode::from(&error)));
            if call.version >= 5 { result.with_error_message(Some(text(error.to_string()))) } else { result }
        }
    }
}
