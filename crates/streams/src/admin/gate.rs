//! The gate before `_millpond_sql`: every record is a statement, planned before it becomes part of the topic.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use millpond_broker::{Admitted, BoxFuture, Gate, GatedBatch, Refusal};
use millpond_records::batches;

use super::{Answer, Outcome};
use crate::engine::{Engine, Prepared};
use crate::sql::StatementError;

/// How many statements one batch may hold; all are planned before it is answered.
const STATEMENTS_PER_BATCH_MAX: usize = 100;
/// How many bytes a compressed batch of statements may have unpacked.
const DECOMPRESSED_BYTES_MAX: usize = 16 << 20;

/// A record of a batch.
#[derive(Clone)]
struct Incoming {
    key: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
    /// The statement, or why it is none.
    statement: Result<String, StatementError>,
}

/// The gate of this engine. It holds the engine weakly: the broker outlives it.
pub(crate) fn gate(engine: &Arc<Engine>) -> Gate {
    let engine = Arc::downgrade(engine);
    Arc::new(move |batch| Box::pin(decide(engine.clone(), batch)) as BoxFuture<'static, _>)
}

async fn decide(engine: Weak<Engine>, batch: GatedBatch) -> Result<Admitted, Refusal> {
    let refuse = |message: &str| Refusal { message: message.to_owned(), record_errors: Vec::new() };
    let Some(engine) = engine.upgrade() else {
        return Err(refuse("the streams are stopping"));
    };
    let records = unpack(&batch).map_err(|message| refuse(&message))?;
    if records.len() > STATEMENTS_PER_BATCH_MAX {
        return Err(refuse(&format!(
            "the batch holds {} statements; at most {STATEMENTS_PER_BATCH_MAX} are taken at once",
            records.len()
        )));
    }
    let turn = engine.take_turn().await;
    // Later statements of the batch may build on earlier ones.
    let mut catalog = engine.catalog();
    let mut prepared = Vec::with_capacity(records.len());
    let mut errors: Vec<(usize, StatementError)> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let outcome = match &record.statement {
            Ok(statement) => engine.prepare(catalog.clone(), statement.clone(), false).await,
            Err(error) => Err(error.clone()),
        };
        match outcome {
            Ok(one) => {
                catalog = one.would_leave(&catalog);
                prepared.push(one);
            }
            Err(error) => errors.push((index, error)),
        }
    }
    if !errors.is_empty() {
        let refusal = Refusal {
            message: match (records.len(), errors.as_slice()) {
                (1, [(_, error)]) => error.to_string(),
                (_, [(index, error), ..]) => format!("statement {} of the batch: {error}", index + 1),
                (_, []) => unreachable!("there is an error"),
            },
            record_errors: errors.iter().map(|(index, error)| (*index, error.to_string())).collect(),
        };
        engine.answers().write(refused(&records, errors, &batch)).await;
        return Err(refusal);
    }
    let on_appended = move |appended: Result<i64, String>| {
        Box::pin(async move {
            let _turn = turn;
            finish(&engine, appended, records, prepared, batch).await;
        }) as BoxFuture<'static, ()>
    };
    Ok(Admitted { on_appended: Box::new(on_appended) })
}

/// Applies what was admitted, and answers.
async fn finish(
    engine: &Arc<Engine>,
    appended: Result<i64, String>,
    records: Vec<Incoming>,
    prepared: Vec<Prepared>,
    batch: GatedBatch,
) {
    for (index, (record, prepared)) in records.into_iter().zip(prepared).enumerate() {
        let statement = record.statement.unwrap_or_default();
        let mut answer = Answer {
            statement: statement.clone(),
            outcome: Outcome::Done { message: String::new() },
            client: batch.client.clone(),
            key: record.key,
            headers: record.headers,
        };
        match (&appended, prepared) {
            (Err(reason), _) => {
                answer.outcome =
                    Outcome::Failed(StatementError::execution(format!("the statement was not stored: {reason}")));
                engine.answers().write(vec![answer]).await;
            }
            (Ok(base), Prepared::Change(change)) => {
                answer.outcome = match engine.apply(base + index as i64, &statement, *change).await {
                    Ok(message) => Outcome::Done { message },
                    Err(error) => Outcome::Failed(error),
                };
                engine.answers().write(vec![answer]).await;
            }
            (Ok(_), Prepared::Read(read)) => {
                // A SELECT may take long; the client's answer says only that it was understood.
                let engine = engine.clone();
                tokio::spawn(async move {
                    answer.outcome = engine.read_for_answer(*read).await;
                    engine.answers().write(vec![answer]).await;
                });
            }
        }
    }
}

fn refused(records: &[Incoming], errors: Vec<(usize, StatementError)>, batch: &GatedBatch) -> Vec<Answer> {
    let mut errors = errors.into_iter().peekable();
    let mut answers = Vec::with_capacity(records.len());
    for (index, record) in records.iter().enumerate() {
        let own = errors.next_if(|(at, _)| *at == index).map(|(_, error)| error);
        let error = own.unwrap_or_else(|| {
            StatementError::conflict("not done, because another statement of the same batch was refused")
        });
        answers.push(Answer {
            statement: record.statement.clone().unwrap_or_default(),
            outcome: Outcome::Refused(error),
            client: batch.client.clone(),
            key: record.key.clone(),
            headers: record.headers.clone(),
        });
    }
    answers
}

fn unpack(batch: &GatedBatch) -> Result<Vec<Incoming>, String> {
    let mut incoming = Vec::new();
    for batch in batches(&batch.records) {
        let batch = batch.map_err(|error| error.to_string())?;
        let mut records = batch.records(DECOMPRESSED_BYTES_MAX).map_err(|error| error.to_string())?;
        records
            .for_each(|record| {
                let copied = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
                let headers = record
                    .headers()
                    .map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), value.map(copied)))
                    .collect();
                incoming.push(Incoming { key: record.key.map(copied), headers, statement: text_of(record.value) });
            })
            .map_err(|error| error.to_string())?;
    }
    Ok(incoming)
}

fn text_of(value: Option<&[u8]>) -> Result<String, StatementError> {
    let Some(value) = value else {
        return Err(StatementError::syntax("the record has no value; a statement is the record's value, as text"));
    };
    match std::str::from_utf8(value) {
        Ok(text) if text.trim().is_empty() => Err(StatementError::syntax("the statement is empty")),
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(StatementError::syntax(format!(
            "the statement is not UTF-8 text: byte {} is not part of any character",
            error.valid_up_to() + 1
        ))),
    }
}
