//! Results as an Arrow IPC stream.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use millpond_streams::{ErrorKind, StatementError, StatementResult};

/// Whatever ends an answer before its time.
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// The stream of one statement's rows.
pub(crate) fn body(result: StatementResult) -> Result<impl Stream<Item = Result<Bytes, Broken>>, StatementError> {
    let (schema, rows): (SchemaRef, BoxStream<'static, Result<RecordBatch, StatementError>>) = match result {
        StatementResult::Rows { schema, rows, .. } => (schema, rows),
        StatementResult::Done { message } => {
            let schema = Arc::new(Schema::new(vec![Field::new("message", DataType::Utf8, false)]));
            let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(vec![message]))])
                .expect("one column of one row");
            (schema, futures::stream::iter([Ok(batch)]).boxed())
        }
    };
    let writer = StreamWriter::try_new(Vec::new(), &schema)
        .map_err(|error| StatementError::new(ErrorKind::Unsupported, error.to_string()))?;
    Ok(futures::stream::try_unfold(Some((writer, rows)), |state| async move {
        let Some((mut writer, mut rows)) = state else { return Ok(None) };
        match rows.next().await {
            Some(batch) => {
                writer.write(&batch?)?;
                let chunk = take(&mut writer);
                Ok(Some((chunk, Some((writer, rows)))))
            }
            None => {
                writer.finish()?;
                Ok::<_, Broken>(Some((take(&mut writer), None)))
            }
        }
    }))
}

fn take(writer: &mut StreamWriter<Vec<u8>>) -> Bytes {
    Bytes::from(std::mem::take(writer.get_mut()))
}
