//! `_millpond_answers`: what became of every statement.

use bytes::Bytes;
use millpond_broker::{Broker, ClientContext, NewRecord};
use millpond_types::{TimestampMs, TopicName};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::sql::StatementError;

/// What became of a statement.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was done.
    Done { message: String },
    /// Its rows, as JSON objects; `truncated` says that there were more than an answer holds.
    Rows { rows: Vec<Box<RawValue>>, truncated: bool, notes: Vec<String> },
    /// It was wrong, and nothing happened.
    Refused(StatementError),
    /// It was right, and failed.
    Failed(StatementError),
}

/// A statement's outcome, and whose it is.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) statement: String,
    pub(crate) outcome: Outcome,
    pub(crate) client: ClientContext,
    /// The statement record's key and headers, so that a client finds its own.
    pub(crate) key: Option<Bytes>,
    pub(crate) headers: Vec<(String, Option<Bytes>)>,
}

#[derive(Serialize)]
struct Written<'a> {
    statement: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<WrittenError<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<&'a [Box<RawValue>]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
    client_id: &'a str,
    principal: &'a str,
    time: TimestampMs,
}

#[derive(Serialize)]
struct WrittenError<'a> {
    message: &'a str,
    line: Option<u32>,
    column: Option<u32>,
    hint: Option<&'a str>,
}

impl Answer {
    fn encode(&self, now_ms: TimestampMs) -> Vec<u8> {
        let mut written = Written {
            statement: &self.statement,
            status: "ok",
            message: None,
            error: None,
            rows: None,
            truncated: false,
            notes: &[],
            client_id: &self.client.client_id,
            principal: &self.client.principal,
            time: now_ms,
        };
        match &self.outcome {
            Outcome::Done { message } => written.message = Some(message),
            Outcome::Rows { rows, truncated, notes } => {
                (written.rows, written.truncated, written.notes) = (Some(rows.as_slice()), *truncated, notes);
            }
            Outcome::Refused(error) | Outcome::Failed(error) => {
                written.status = if matches!(self.outcome, Outcome::Refused(_)) { "refused" } else { "failed" };
                written.error = Some(WrittenError {
                    message: &error.message,
                    line: error.line,
                    column: error.column,
                    hint: error.hint.as_deref(),
                });
            }
        }
        serde_json::to_vec(&written).expect("an answer is made of text, numbers and JSON")
    }
}

/// Writes answers.
#[derive(Clone)]
pub(crate) struct Answers {
    pub(crate) broker: std::sync::Arc<Broker>,
    pub(crate) topic: TopicName,
}

impl Answers {
    /// Writes the answers in order. That one cannot be written is told in the log: the statement's fate is settled.
    pub(crate) async fn write(&self, answers: Vec<Answer>) {
        let now_ms = self.broker.now_ms();
        let records = answers
            .iter()
            .map(|answer| NewRecord {
                key: answer.key.clone(),
                value: Some(Bytes::from(answer.encode(now_ms))),
                headers: answer.headers.clone(),
            })
            .collect();
        if let Err(error) = self.broker.append_records(&self.topic, 0, records).await {
            tracing::error!(%error, "an answer to a statement could not be written");
        }
    }
}
