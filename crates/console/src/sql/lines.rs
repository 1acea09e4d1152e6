//! Results as JSON lines.

use std::convert::Infallible;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use millpond_formats::{JsonEncoder, sql_type_name};
use millpond_streams::{Engine, ErrorKind, ExecuteOptions, StatementError, StatementResult};
use serde_json::json;
use tokio::sync::mpsc;

use super::script::Located;

/// Bytes of lines that are handed on together.
const CHUNK_BYTES: usize = 64 << 10;

/// Chunks that wait for the connection; then the query waits.
const CHUNKS_MAX: usize = 4;

type Sender = mpsc::Sender<Bytes>;

/// The connection is gone: nobody reads any more.
struct Gone;

/// The lines of all statements; `first` is the begun first one.
pub(crate) fn body(
    engine: Arc<Engine>,
    statements: Vec<Located>,
    first: StatementResult,
    options: ExecuteOptions,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    tokio::spawn(async move {
        // An error is that nobody reads: then nothing is left to do.
        let _ = write_all(&engine, &statements, first, options, &sender).await;
    });
    futures::stream::unfold(
        receiver,
        |mut receiver| async move { receiver.recv().await.map(|chunk| (Ok(chunk), receiver)) },
    )
}

async fn write_all(
    engine: &Arc<Engine>,
    statements: &[Located],
    first: StatementResult,
    options: ExecuteOptions,
    sender: &Sender,
) -> Result<(), Gone> {
    let mut first = Some(first);
    for statement in statements {
        let result = match first.take() {
            Some(first) => Ok(first),
            None => engine.execute(&statement.text, options.clone()).await,
        };
        let written = match result {
            Ok(result) => write(result, sender).await?,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            return send(sender, json!({ "error": statement.place(error) })).await;
        }
    }
    Ok(())
}

/// One statement's lines.
async fn write(result: StatementResult, sender: &Sender) -> Result<Result<(), StatementError>, Gone> {
    let (schema, mut batches, notes) = match result {
        StatementResult::Done { message } => {
            return send(sender, json!({"done": {"rows": 0, "message": message, "notes": []}})).await.map(Ok);
        }
        StatementResult::Rows { schema, rows, notes } => (schema, rows, notes),
    };
    let mut encoder = match JsonEncoder::new(&schema) {
        Ok(encoder) => encoder,
        Err(unsupported) => return Ok(Err(StatementError::new(ErrorKind::Unsupported, unsupported.to_string()))),
    };
    send(sender, columns(&schema)).await?;
    let mut rows = 0;
    loop {
        // A query that waits for new rows does not notice that its reader is gone; the channel does.
        let batch = tokio::select! {
            batch = batches.next() => batch,
            () = sender.closed() => return Err(Gone),
        };
        match batch {
            None => break,
            Some(Err(error)) => return Ok(Err(error)),
            Some(Ok(batch)) => {
                rows += batch.num_rows();
                send_rows(&mut encoder, &batch, sender).await?;
            }
        }
    }
    send(sender, json!({"done": {"rows": rows, "message": null, "notes": notes.lines()}})).await.map(Ok)
}

fn columns(schema: &Schema) -> serde_json::Value {
    let columns: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| json!({"name": field.name(), "type": sql_type_name(field.data_type())}))
        .collect();
    json!({ "columns": columns })
}

async fn send_rows(encoder: &mut JsonEncoder, batch: &RecordBatch, sender: &Sender) -> Result<(), Gone> {
    let mut chunk = Vec::new();
    for row in 0..batch.num_rows() {
        chunk.extend_from_slice(b"{\"row\":");
        encoder.encode(batch, row, &mut chunk);
        chunk.extend_from_slice(b"}\n");
        if chunk.len() >= CHUNK_BYTES {
            sender.send(Bytes::from(std::mem::take(&mut chunk))).await.map_err(|_| Gone)?;
        }
    }
    if chunk.is_empty() { Ok(()) } else { sender.send(Bytes::from(chunk)).await.map_err(|_| Gone) }
}

async fn send(sender: &Sender, line: serde_json::Value) -> Result<(), Gone> {
    let mut text = line.to_string();
    text.push('\n');
    sender.send(Bytes::from(text)).await.map_err(|_| Gone)
}
