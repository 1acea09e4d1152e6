//! A stream as a query sees it: columns, event time, and the topic behind them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::logical_expr::{Expr, TableSource};
use millpond_types::TopicName;

use super::types::MILLISECONDS;
use crate::plan::{ColumnOrigin, Format, SourceColumn};

/// The columns that every stream has by name, though not by `*`.
pub(crate) const METADATA_COLUMNS: &[&str] = &["key", "partition", "offset", "timestamp", "headers"];

/// What is known of a stream that can be read.
#[derive(Debug, Clone)]
pub(crate) struct StreamDefinition {
    pub(crate) name: String,
    pub(crate) topic: TopicName,
    pub(crate) format: Format,
    pub(crate) columns: Vec<SourceColumn>,
    pub(crate) watermark: Option<WatermarkDefinition>,
    pub(crate) origin: StreamOrigin,
}

/// How a stream's columns are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamOrigin {
    /// CREATE STREAM said them.
    Declared,
    /// They are the columns of a registered query's result.
    Materialized,
    /// They were found in the topic's records.
    Inferred,
}

/// WATERMARK FOR column AS expression.
#[derive(Debug, Clone)]
pub(crate) struct WatermarkDefinition {
    /// The event time column's place among the stream's columns.
    pub(crate) time_column: usize,
    /// Over the stream's columns by their bare names; of type TIMESTAMP(3).
    pub(crate) expression: Expr,
    /// As it was written.
    pub(crate) text: String,
}

/// The type and origin of a metadata column, or nothing if `name` is none.
pub(crate) fn metadata_column(name: &str) -> Option<(ColumnOrigin, DataType)> {
    Some(match name {
        "key" => (ColumnOrigin::Key, DataType::Utf8),
        "partition" => (ColumnOrigin::Partition, DataType::Int32),
        "offset" => (ColumnOrigin::Offset, DataType::Int64),
        "timestamp" => (ColumnOrigin::Timestamp, MILLISECONDS),
        "headers" => (ColumnOrigin::Headers, headers_type()),
        _ => return None,
    })
}

/// MAP<VARCHAR, VARBINARY>.
pub(crate) fn headers_type() -> DataType {
    let entries =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// A stream in a query's plan: its columns, and those metadata columns that the statement mentions.
#[derive(Debug)]
pub(crate) struct StreamSource {
    pub(crate) definition: Arc<StreamDefinition>,
    /// The stream's own columns first.
    pub(crate) columns: Vec<SourceColumn>,
    /// The names of the metadata columns at the end, which `*` leaves out.
    pub(crate) hidden: Vec<String>,
    schema: SchemaRef,
}

impl StreamSource {
    /// The stream with the metadata columns that `mentioned` asks for and no field of its own is called.
    pub(crate) fn new(definition: Arc<StreamDefinition>, mentioned: impl Fn(&str) -> bool) -> StreamSource {
        let mut columns = definition.columns.clone();
        let mut hidden = Vec::new();
        for name in METADATA_COLUMNS {
            let taken = definition.columns.iter().any(|column| column.name == *name);
            if let Some((origin, data_type)) = metadata_column(name)
                && !taken
                && mentioned(name)
            {
                hidden.push((*name).to_owned());
                columns.push(SourceColumn { name: (*name).to_owned(), data_type, origin });
            }
        }
        let schema = schema_of(&columns);
        StreamSource { definition, columns, hidden, schema }
    }
}

/// All columns may be NULL: a record need not have the field.
pub(crate) fn schema_of(columns: &[SourceColumn]) -> SchemaRef {
    let fields: Vec<Field> =
        columns.iter().map(|column| Field::new(&column.name, column.data_type.clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

impl TableSource for StreamSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metadata_column_has_a_type() {
        assert!(METADATA_COLUMNS.iter().all(|name| metadata_column(name).is_some()));
    }
}
