//! Produce: append records.
//!
//! Versions 3 to 13; 0 to 2 are advertised because librdkafka takes their absence for a broker without Produce
//! (KAFKA-18659), and answered with UNSUPPORTED_VERSION. v8 brings messages with errors (KIP-467), v9 flexible
//! fields, v13 names topics by id (KIP-516).
//!
//! Each partition's batch is checked, stamped and appended as it came. `acks=-1` is answered when it is on the disk,
//! 1 when it is appended, 0 never: then an error closes the connection, as in Kafka. Requests of one connection are
//! appended in their order and wait for the disk together; only the first of them is told when it moves, and wakes the
//! connection for all.
//!
//! There are no transactions: a transactional id and transactional batches are refused.

mod request;
mod response;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use futures::future::join_all;
use millpond_broker::{Acks, Appended, Begun, BoxFuture, Gated, Partition, ProduceError};
use millpond_types::{Offset, TopicId};
use tokio::time::{Instant, timeout_at};

use self::request::{Request, TOPIC_IDS_FROM, TRANSACTIONAL_FROM};
pub(crate) use self::response::Response;
use super::Api;
use crate::call::{Answer, Call, Frame, Serving};
use crate::error_code::ErrorCode;

pub(crate) static API: Api =
    Api { key: 0, name: "Produce", versions: (0, 13), flexible_from: request::FLEXIBLE_FROM, fields: &[], serve };

/// The bit of a batch's attributes, which end at byte 23, that says it is part of a transaction.
const TRANSACTIONAL_BIT: u8 = 1 << 4;
const ATTRIBUTES_LOW_BYTE: usize = 22;

fn serve(call: Call, frame: Frame) -> Serving {
    let request = match request::decode(frame.bytes, frame.body, frame.shared, call.version) {
        Ok(request) => request,
        Err(malformed) => return Serving::Answered(Err(malformed.into())),
    };
    match refusal(&request, call.version) {
        Some((error, message)) => {
            let expects_answer = request.acks != 0;
            Serving::Answered(Ok(answer(refused(request, &call, error, message), expects_answer)))
        }
        None => produced(request, call),
    }
}

fn answer(response: Response, expects_answer: bool) -> Answer {
    let failed = |topic: &response::Topic| topic.partitions.iter().any(|p| p.error != ErrorCode::None);
    match expects_answer {
        true => Answer::Produce(response),
        false if response.topics.iter().any(failed) => Answer::Close,
        false => Answer::Nothing,
    }
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

/// Appends every partition's batch, in the order of the request. What is left to wait for is in the result.
fn produced(request: Request, call: Call) -> Serving {
    let acks = match request.acks {
        0 => Acks::None,
        1 => Acks::Leader,
        _ => Acks::All,
    };
    let mut response = Response { topics: Vec::with_capacity(request.topics.len()) };
    let (mut unsynced, mut gated) = (Vec::new(), Vec::new());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for produced in topic.partitions {
            let (place, index) = ((response.topics.len(), partitions.len()), produced.index);
            let begun = find(&call, &topic.name, topic.id, index)
                .map_err(|error| refuse(&call, index, error, None))
                .and_then(|partition| begin(&call, partition, produced));
            partitions.push(match begun {
                Ok((partition, Begun::Appended(appended))) => {
                    if acks == Acks::All {
                        unsynced.push(Unsynced { place, partition, end: appended.last_offset + 1 });
                    }
                    taken(index, appended)
                }
                // Replaced by the gate's answer.
                Ok((_, Begun::Gated(batch))) => {
                    gated.push((place, index, batch));
                    response::Partition::refused(index, ErrorCode::None, None)
                }
                Err(refused) => refused,
            });
        }
        response.topics.push(response::Topic { name: topic.name, id: topic.id, partitions });
    }
    if unsynced.is_empty() && gated.is_empty() {
        return Serving::Answered(Ok(answer(response, acks != Acks::None)));
    }
    let timeout_ms = request.timeout_ms;
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    // The last is taken first.
    unsynced.reverse();
    let mut waiting =
        Waiting { call, response, unsynced, durable: None, deadline: Instant::now() + timeout, timeout_ms };
    if gated.is_empty() {
        return Serving::Appended(waiting);
    }
    Serving::Later(Box::pin(async move {
        let passed = join_all(gated.into_iter().map(|(place, index, gated)| {
            let call = waiting.call.clone();
            async move { (place, pass(&call, index, gated, acks, timeout_ms).await) }
        }));
        for ((topic, partition), passed) in passed.await {
            waiting.response.topics[topic].partitions[partition] = passed;
        }
        std::future::poll_fn(|context| waiting.poll(context)).await;
        Ok(answer(waiting.response, acks != Acks::None))
    }))
}

/// A batch that is appended and not known to be durable.
struct Unsynced {
    /// Topic and partition of the response.
    place: (usize, usize),
    partition: Arc<Partition>,
    end: Offset,
}

/// A request whose batches are all appended.
///
/// Holds no registration anywhere before it is polled first, so that of many requests that wait in a row only the one
/// that is polled has to be woken.
pub(crate) struct Waiting {
    call: Call,
    /// What is answered if the disk does not fail.
    response: Response,
    /// The batches that were not seen to be durable yet, the last one first.
    unsynced: Vec<Unsynced>,
    /// The wait for the first of them.
    durable: Option<BoxFuture<'static, Result<(), ProduceError>>>,
    deadline: Instant,
    timeout_ms: i32,
}

impl Waiting {
    /// Ready when all is durable, or the time is up.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(Unsynced { place, partition, end }) = self.unsynced.last() {
            let outcome = match &mut self.durable {
                Some(durable) => ready!(durable.as_mut().poll(context)),
                // Behind the first of those who wait most are durable by now, and need no wait with a timer.
                None => match pin!(partition.durable(*end)).poll(context) {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => {
                        let wait = durable_in_time(partition.clone(), *end, self.deadline, self.timeout_ms);
                        self.durable = Some(Box::pin(wait));
                        continue;
                    }
                },
            };
            if let Err(error) = outcome {
                let slot = &mut self.response.topics[place.0].partitions[place.1];
                *slot = failed(&self.call, slot.index, error);
            }
            self.durable = None;
            self.unsynced.pop();
        }
        Poll::Ready(())
    }

    /// The answer, when all is durable or the time is up.
    pub(crate) fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Answer> {
        ready!(self.poll(context));
        let response = std::mem::replace(&mut self.response, Response { topics: Vec::new() });
        Poll::Ready(answer(response, true))
    }
}

async fn durable_in_time(
    partition: Arc<Partition>,
    end: Offset,
    deadline: Instant,
    timeout_ms: i32,
) -> Result<(), ProduceError> {
    match timeout_at(deadline, partition.durable(end)).await {
        Ok(durable) => durable,
        Err(_elapsed) => Err(ProduceError::TimedOut { timeout_ms: timeout_ms.into() }),
    }
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

/// Appends one partition's batch, unless a gate has to be asked.
fn begin(
    call: &Call,
    partition: Arc<Partition>,
    produced: request::Partition,
) -> Result<(Arc<Partition>, Begun), response::Partition> {
    let refuse = |error, message: &str| refuse(call, produced.index, error, Some(message.to_owned()));
    let batch = match produced.records {
        Some(batch) if !batch.is_empty() => batch,
        _ => return Err(refuse(ErrorCode::InvalidRecord, "no record batch was sent")),
    };
    if is_transactional(&batch) {
        return Err(refuse(ErrorCode::InvalidTxnState, "transactions are not supported"));
    }
    match call.broker().begin_produce(&partition, batch) {
        Ok(begun) => Ok((partition, begun)),
        Err(error) => Err(failed(call, produced.index, error)),
    }
}

/// Waits for a gate's decision and for what follows from it.
async fn pass(call: &Call, index: i32, gated: Gated, acks: Acks, timeout_ms: i32) -> response::Partition {
    match gated.pass(acks, (*call.client).clone(), timeout_ms.into()).await {
        Ok(appended) => taken(index, appended),
        Err(error) => failed(call, index, error),
    }
}

fn taken(index: i32, appended: Appended) -> response::Partition {
    response::Partition {
        index,
        error: ErrorCode::None,
        base_offset: appended.base_offset,
        log_append_time_ms: appended.log_append_time_ms,
        log_start_offset: appended.log_start_offset,
        record_errors: Vec::new(),
        message: None,
    }
}

fn refuse(call: &Call, index: i32, error: ErrorCode, message: Option<String>) -> response::Partition {
    call.code(error);
    response::Partition::refused(index, error, message)
}

fn failed(call: &Call, index: i32, error: ProduceError) -> response::Partition {
    let mut answer = refuse(call, index, ErrorCode::from(&error), Some(error.to_string()));
    let record_errors = match error {
        ProduceError::Refused { record_errors, .. } => record_errors,
        ProduceError::InvalidTimestamp { records, .. } => {
            let message = |timestamp| format!("the timestamp {timestamp} is out of range");
            records.into_iter().map(|(record, timestamp)| (record, message(timestamp))).collect()
        }
        _ => Vec::new(),
    };
    answer.record_errors = record_errors.into_iter().map(|(record, message)| (record as i32, message)).collect();
    answer
}

fn is_transactional(batch: &BytesMut) -> bool {
    batch.get(ATTRIBUTES_LOW_BYTE).is_some_and(|attributes| attributes & TRANSACTIONAL_BIT != 0)
}
