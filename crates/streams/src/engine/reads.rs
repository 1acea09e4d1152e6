//! Statements that tell something: SELECT, SHOW, DESCRIBE, EXPLAIN.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::StreamExt;
use millpond_formats::JsonEncoder;
use serde_json::value::RawValue;

use super::prepare::ReadStatement;
use super::{ColumnInfo, Engine, ExecuteOptions, RowStream, SelectNotes, StatementResult, StreamKind};
use crate::admin::Outcome;
use crate::plan::{ColumnOrigin, SourceColumn};
use crate::select::Selection;
use crate::sql::definition::StreamDefinition;
use crate::sql::error::{SqlResult, StatementError};
use crate::sql::types::sql_name;

/// A column as it is shown.
pub(crate) fn column_info(column: &SourceColumn) -> ColumnInfo {
    ColumnInfo { name: column.name.clone(), data_type: sql_name(&column.data_type) }
}

impl Engine {
    /// The rows of a statement that tells something.
    pub(super) fn read(&self, read: ReadStatement, options: &ExecuteOptions) -> SqlResult<StatementResult> {
        let batch = match read {
            ReadStatement::Select(select) => {
                let schema = select.schema().clone();
                let selection = Selection { follow: options.follow, row_limit: options.row_limit };
                let (rows, notes) = self.selects.start(*select, selection)?;
                return Ok(StatementResult::Rows { schema, rows, notes });
            }
            ReadStatement::ShowStreams => self.shown(),
            ReadStatement::Describe(definition) => described(&definition),
            ReadStatement::Explain(lines) => {
                table(vec![("plan", Arc::new(StringArray::from_iter_values(lines)) as ArrayRef)])
            }
        };
        let rows: RowStream = futures::stream::iter([Ok(batch.clone())]).boxed();
        Ok(StatementResult::Rows { schema: batch.schema(), rows, notes: Arc::new(SelectNotes::default()) })
    }

    fn shown(&self) -> RecordBatch {
        let streams = self.streams();
        let text = |of: &dyn Fn(&super::StreamInfo) -> Option<String>| -> ArrayRef {
            Arc::new(streams.iter().map(of).collect::<StringArray>())
        };
        let number = |of: &dyn Fn(&crate::run::QueryStatus) -> u64| -> ArrayRef {
            let of = |stream: &super::StreamInfo| stream.status.as_ref().map(|status| of(status) as i64);
            Arc::new(streams.iter().map(of).collect::<Int64Array>())
        };
        let state = |stream: &super::StreamInfo| {
            stream.status.as_ref().and_then(|status| match serde_json::to_value(status.state) {
                Ok(serde_json::Value::String(state)) => Some(state),
                _ => None,
            })
        };
        let kind = |stream: &super::StreamInfo| match stream.kind {
            StreamKind::Declared => Some("declared".to_owned()),
            StreamKind::Materialized => Some("materialized".to_owned()),
        };
        let watermarks = streams.iter().map(|stream| stream.status.as_ref().and_then(|status| status.watermark_ms));
        table(vec![
            ("name", text(&|stream| Some(stream.name.clone()))),
            ("kind", text(&kind)),
            ("topic", text(&|stream| Some(stream.topic.to_string()))),
            ("state", text(&state)),
            ("watermark", Arc::new(watermarks.collect::<TimestampMillisecondArray>())),
            ("lag_records", number(&|status| status.lag_records)),
            ("rows_in", number(&|status| status.rows_in)),
            ("rows_out", number(&|status| status.rows_out)),
            ("rows_filtered", number(&|status| status.rows_filtered)),
            ("rows_late", number(&|status| status.rows_late)),
            ("rows_failed", number(&|status| status.rows_failed)),
            ("state_bytes", number(&|status| status.state_bytes)),
            ("error", text(&|stream| stream.status.as_ref().and_then(|status| status.error.clone()))),
        ])
    }

    /// The outcome of a statement that tells something, as bounded JSON.
    pub(crate) async fn read_for_answer(&self, read: ReadStatement) -> Outcome {
        // One row more than is shown tells whether there are more.
        let row_limit = Some(self.options.answer_rows_max + 1);
        let options = ExecuteOptions { row_limit, ..ExecuteOptions::default() };
        match self.read(read, &options) {
            Ok(StatementResult::Rows { schema, rows, notes }) => {
                self.metrics.done();
                self.rows_for_answer(schema, rows, &notes).await
            }
            Ok(StatementResult::Done { message }) => Outcome::Done { message },
            Err(error) => {
                self.metrics.refused(&error);
                Outcome::Failed(error)
            }
        }
    }

    async fn rows_for_answer(&self, schema: SchemaRef, mut rows: RowStream, notes: &SelectNotes) -> Outcome {
        let mut encoder = match JsonEncoder::new(&schema) {
            Ok(encoder) => encoder,
            Err(error) => {
                return Outcome::Failed(StatementError::invalid(format!(
                    "the result cannot be written as JSON: {error}"
                )));
            }
        };
        let mut written: Vec<Box<RawValue>> = Vec::new();
        let (mut bytes, mut truncated) = (0, false);
        'rows: while let Some(batch) = rows.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Outcome::Failed(error),
            };
            for row in 0..batch.num_rows() {
                let mut text = Vec::new();
                encoder.encode(&batch, row, &mut text);
                bytes += text.len();
                if written.len() >= self.options.answer_rows_max || bytes > self.options.answer_bytes_max {
                    truncated = true;
                    break 'rows;
                }
                match String::from_utf8(text)
                    .map_err(|error| error.to_string())
                    .and_then(|text| RawValue::from_string(text).map_err(|error| error.to_string()))
                {
                    Ok(row) => written.push(row),
                    Err(error) => {
                        return Outcome::Failed(StatementError::execution(format!(
                            "a row cannot be written as JSON: {error}"
                        )));
                    }
                }
            }
        }
        Outcome::Rows { rows: written, truncated, notes: notes.lines() }
    }
}

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, values)| Field::new(*name, values.data_type().clone(), true)).collect();
    let values = columns.into_iter().map(|(_, values)| values).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), values).expect("the columns are of one length")
}

fn described(definition: &StreamDefinition) -> RecordBatch {
    let comes_from = |place: usize, column: &SourceColumn| {
        let mut text = match &column.origin {
            ColumnOrigin::Value { field } if *field == column.name => "value".to_owned(),
            ColumnOrigin::Value { field } => format!("value, field `{field}`"),
            ColumnOrigin::Key => "key".to_owned(),
            ColumnOrigin::Partition => "partition".to_owned(),
            ColumnOrigin::Offset => "offset".to_owned(),
            ColumnOrigin::Timestamp => "timestamp".to_owned(),
            ColumnOrigin::Headers => "headers".to_owned(),
        };
        if let Some(watermark) = &definition.watermark
            && watermark.time_column == place
        {
            text.push_str(&format!("; event time, watermark {}", watermark.text));
        }
        text
    };
    let names = definition.columns.iter().map(|column| column.name.clone());
    let types = definition.columns.iter().map(|column| sql_name(&column.data_type));
    let origins = definition.columns.iter().enumerate().map(|(place, column)| comes_from(place, column));
    table(vec![
        ("column", Arc::new(StringArray::from_iter_values(names))),
        ("type", Arc::new(StringArray::from_iter_values(types))),
        ("comes_from", Arc::new(StringArray::from_iter_values(origins))),
    ])
}
