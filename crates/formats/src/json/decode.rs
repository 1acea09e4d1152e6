//! Records to columns.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Fields, Schema, SchemaRef};

use super::cursor::{Cursor, Kind};
use super::object::ObjectBuilder;
use super::trouble::{Trouble, shown};
use crate::column::{Column, UnsupportedColumn};

/// Reads JSON objects into columns. The rules stand at [`crate::json`].
///
/// Keep one for a stream of records: it remembers how records look, and reuses its memory.
#[derive(Debug)]
pub struct JsonDecoder {
    schema: SchemaRef,
    object: ObjectBuilder,
}

/// What came out of a run of records.
#[derive(Debug)]
pub struct Decoded {
    /// The rows of the records that could be read, in their order.
    pub batch: RecordBatch,
    /// For each row of the batch, the place of its record in the input.
    pub rows: Vec<u32>,
    /// The others, in their order.
    pub failures: Vec<Failure>,
}

/// A record that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The place of the record in the input.
    pub row: u32,
    /// The column whose value is wrong, with the path within it; none when the whole record is.
    pub column: Option<String>,
    /// What is wrong, in a sentence without a full stop.
    pub reason: String,
}

impl JsonDecoder {
    /// For these columns, which is also their order in the batches.
    ///
    /// # Errors
    /// When a column's type has no JSON form, or two have the same name.
    pub fn new(columns: Vec<Column>) -> Result<JsonDecoder, UnsupportedColumn> {
        let fields: Fields =
            columns.into_iter().map(|column| Field::new(column.name, column.data_type, column.nullable)).collect();
        let object = ObjectBuilder::new(&fields, 0)?;
        Ok(JsonDecoder { schema: Arc::new(Schema::new(fields)), object })
    }

    /// The schema of all batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes records' values; `None` is a record without a value.
    ///
    /// # Panics
    /// With more than 2^32 records: a batch is far smaller.
    pub fn decode<'a>(&mut self, values: impl IntoIterator<Item = Option<&'a [u8]>>) -> Decoded {
        let mut rows = Vec::new();
        let mut failures = Vec::new();
        for (place, value) in values.into_iter().enumerate() {
            let place = u32::try_from(place).expect("a batch has fewer than 2^32 records");
            match self.push(value, rows.len()) {
                Ok(()) => rows.push(place),
                Err(trouble) => {
                    self.object.truncate(rows.len());
                    failures.push(failure(place, trouble));
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), self.object.finish(), &options)
            .expect("every column has the schema's type and one value a row");
        Decoded { batch, rows, failures }
    }

    fn push(&mut self, value: Option<&[u8]>, row: usize) -> Result<(), Trouble> {
        let Some(value) = value else {
            return Err(Trouble::value("the record has no value".to_owned()));
        };
        let mut cursor = Cursor::new(value)?;
        if cursor.kind()? != Kind::Object {
            return Err(match cursor.text() {
                Ok(found) => Trouble::value(format!("expected a JSON object, found {}", shown(found))),
                Err(malformed) => malformed.into(),
            });
        }
        self.object.push(&mut cursor, row)?;
        Ok(cursor.end()?)
    }
}

#[cold]
fn failure(row: u32, trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Malformed(malformed) => Failure { row, column: None, reason: malformed.to_string() },
        Trouble::Value(trouble) => {
            Failure { row, column: (!trouble.path.is_empty()).then_some(trouble.path), reason: trouble.reason }
        }
    }
}
