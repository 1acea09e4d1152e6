//! Produce: append records.
//!
//! Versions 3 to 13; 0 to 2 are advertised because librdkafka takes their absence for a broker without Produce
//! (KAFKA-18659), and answered with UNSUPPORTED_VERSION. v8 brings messages with errors (KIP-467), v9 flexible
//! fields, v13 names topics by id (KIP-516).
//!
//! Each partition's batch is checked, stamped and appended as it came. `acks=-1` is answered when it is on the disk,
//! 1 when it is appended, 0 never: then an error closes the connection, as in Kafka. Requests of one connection are
//! appended in their order and wait for the disk together.
//!
//! There are no transactions: a transactional id and transactional batches are refused.

mod request;
mod response;

use std::sync::Arc;

use bytes::BytesMut;
use futures::future::join_all;
use millpond_broker::{Acks, Partition, ProduceError, ProducePartition};
use millpond_types::TopicId;

use self::request::{Request, TOPIC_IDS_FROM, TRANSACTIONAL_FROM};
pub(crate) use self::response::Response;
use super::Api;
use crate::call::{Answer, Call, Frame, Unanswerable};
use crate::error_code::ErrorCode;

pub(crate) static API: Api = Api {
    key: 0,
    name: "Produce",
    versions: (0, 13),
    flexible_from: request::FLEXIBLE_FROM,
    fields: &[],
    serve: |call, frame| Box::pin(serve(call, frame)),
};

/// The bit of a batch's attributes, which end at byte 23, that says it is part of a transaction.
const TRANSACTIONAL_BIT: u8 = 1 << 4;
const ATTRIBUTES_LOW_BYTE: usize = 22;

async fn serve(call: Call, frame: Frame) -> Result<Answer, Unanswerable> {
    let request = request::decode(frame.bytes, frame.body, frame.shared, call.version)?;
    let expects_answer = request.acks != 0;
    let response = match refusal(&request, call.version) {
        Some((error, message)) => refused(request, &call, error, message),
        None => produced(request, &call).await,
    };
    let failed = response.topics.iter().flat_map(|topic| &topic.partitions).any(|p| p.error != ErrorCode::None);
    Ok(match (expects_answer, failed) {
        (true, _) => Answer::Produce(response),
        (false, true) => Answer::Close,
        (false, false) => Answer::Nothing,
    })
}

/// Why none of a request can be done.
fn refusal(request: &Request, version: i16) -> Option<(ErrorCode, String)> {
    if version < TRANSACTIONAL_FROM {
        let message = "Produce before version 3 carries message sets of Kafka before 0.11";
        return Some((ErrorCode::UnsupportedVersion, message.to_owned()));
    }
    if !(-1..=1).contains(&request.acks) {
        let message = format!("acks must be -1, 0 or 1, not {}", request.acks);
        return Some((ErrorCode::InvalidRequiredAcks, message));
    }
    let id = request.transactional_id.as_ref()?;
    Some((
        ErrorCode::TransactionalIdAuthorizationFailed,
        format!("transactional id '{id}': transactions are not supported"),
    ))
}

/// Refuses every partition for one reason.
fn refused(request: Request, call: &Call, error: ErrorCode, message: String) -> Response {
    let refuse = |partition: request::Partition| {
        call.code(error);
        response::Partition::refused(partition.index, error, Some(message.clone()))
    };
    let topics = request.topics.into_iter().map(|topic| response::Topic {
        name: topic.name,
        id: topic.id,
        partitions: topic.partitions.into_iter().map(refuse).collect(),
    });
    Response { topics: topics.collect() }
}

async fn produced(request: Request, call: &Call) -> Response {
    let acks = match request.acks {
        0 => Acks::None,
        1 => Acks::Leader,
        _ => Acks::All,
    };
    let mut counts = Vec::with_capacity(request.topics.len());
    let mut appends = Vec::with_capacity(1);
    for topic in request.topics {
        counts.push((topic.name, topic.id, topic.partitions.len()));
        let (name, id, _) = counts.last().expect("it was just pushed");
        for partition in topic.partitions {
            let found = find(call, name, *id, partition.index);
            appends.push(append(call, found, partition, acks, request.timeout_ms));
        }
    }
    // Each appends when it is first polled, in the order of the request; then all wait for the disk together.
    let answers = match appends.len() {
        1 => vec![appends.remove(0).await],
        _ => join_all(appends).await,
    };
    let mut answers = answers.into_iter();
    let topics = counts.into_iter().map(|(name, id, count)| response::Topic {
        name,
        id,
        partitions: answers.by_ref().take(count).collect(),
    });
    Response { topics: topics.collect() }
}

/// The partition that a request names, by its topic's name or id.
fn find(call: &Call, name: &str, id: uuid::Uuid, index: i32) -> Result<Arc<Partition>, ErrorCode> {
    let broker = call.broker();
    if call.version < TOPIC_IDS_FROM {
        return broker.partition(name, index).ok_or(ErrorCode::UnknownTopicOrPartition);
    }
    let id = TopicId::from_uuid(id);
    match broker.partition_by_id(id, index) {
        Some(partition) => Ok(partition),
        None if broker.topic_by_id(id).is_some() => Err(ErrorCode::UnknownTopicOrPartition),
        None => Err(ErrorCode::UnknownTopicId),
    }
}

/// Appends one partition's batch.
async fn append(
    call: &Call,
    found: Result<Arc<Partition>, ErrorCode>,
    produced: request::Partition,
    acks: Acks,
    timeout_ms: i32,
) -> response::Partition {
    let index = produced.index;
    let refuse = |error, message| {
        call.code(error);
        response::Partition::refused(index, error, message)
    };
    let partition = match found {
        Ok(partition) => partition,
        Err(error) => return refuse(error, None),
    };
    let batch = match produced.records {
        Some(batch) if !batch.is_empty() => batch,
        _ => return refuse(ErrorCode::InvalidRecord, Some("no record batch was sent".to_owned())),
    };
    if is_transactional(&batch) {
        return refuse(ErrorCode::InvalidTxnState, Some("transactions are not supported".to_owned()));
    }
    let client = (*call.client).clone();
    match call
        .broker()
        .produce(ProducePartition { partition, batch, acks, client, timeout_ms: timeout_ms.into() })
        .await
    {
        Ok(appended) => response::Partition {
            index,
            error: ErrorCode::None,
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time_ms,
            log_start_offset: appended.log_start_offset,
            record_errors: Vec::new(),
            message: None,
        },
        Err(error) => {
            let mut answer = refuse(ErrorCode::from(&error), Some(error.to_string()));
            if let ProduceError::Refused { record_errors, .. } = error {
                answer.record_errors =
                    record_errors.into_iter().map(|(record, message)| (record as i32, message)).collect();
            }
            answer
        }
    }
}

fn is_transactional(batch: &BytesMut) -> bool {
    batch.get(ATTRIBUTES_LOW_BYTE).is_some_and(|attributes| attributes & TRANSACTIONAL_BIT != 0)
}
