//! What is written down of every change, one JSON object a record.

use std::collections::BTreeMap;

use millpond_types::Offset;
use serde::{Deserialize, Serialize};

use crate::plan::{ColumnOrigin, SourceColumn};
use crate::sql::parser::parse_type;
use crate::sql::types::sql_name;

/// The version of the records that this program writes, and the newest that it reads.
const VERSION: u32 = 1;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CatalogRecord {
    version: u32,
    /// The offset of the statement in `_millpond_sql`.
    pub(crate) offset: Offset,
    pub(crate) event: Event,
    /// The stream's name.
    pub(crate) name: String,
    /// The statement.
    pub(crate) statement: String,
    /// The columns of topics that nobody had declared, as they were when the statement was planned.
    #[serde(default, skip_serializing_if = "Frozen::is_empty")]
    pub(crate) frozen: Frozen,
}

/// What happened to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    Created,
    Dropped,
    Paused,
    Resumed,
    /// It changed nothing, and is not to be applied again.
    Passed,
}

/// Columns by topic; for a materialized stream its own columns stand under its own name.
pub(crate) type Frozen = BTreeMap<String, Vec<FrozenColumn>>;

/// A column as it was found in records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FrozenColumn {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
}

/// Why a record of the catalog cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRecord {
    #[error("it is of version {0}, written by a newer Millpond; this one reads up to version {VERSION}")]
    NewerVersion(u32),
    #[error("it is not a record of the catalog: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl CatalogRecord {
    pub(crate) fn new(offset: Offset, event: Event, name: &str, statement: &str, frozen: Frozen) -> CatalogRecord {
        let (name, statement) = (name.to_owned(), statement.to_owned());
        CatalogRecord { version: VERSION, offset, event, name, statement, frozen }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a catalog record is made of text and numbers")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<CatalogRecord, BadRecord> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version > VERSION {
            return Err(BadRecord::NewerVersion(version));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// Columns as they are written down.
pub(crate) fn freeze(columns: &[SourceColumn]) -> Vec<FrozenColumn> {
    let frozen =
        |column: &SourceColumn| FrozenColumn { name: column.name.clone(), data_type: sql_name(&column.data_type) };
    columns.iter().map(frozen).collect()
}

/// Columns as they were written down; a type that is not known any more is told.
pub(crate) fn thaw(columns: &[FrozenColumn]) -> Result<Vec<SourceColumn>, String> {
    columns
        .iter()
        .map(|column| {
            let data_type = parse_type(&column.data_type).map_err(|error| error.to_string())?;
            let origin = ColumnOrigin::Value { field: column.name.clone() };
            Ok(SourceColumn { name: column.name.clone(), data_type, origin })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn columns_come_back_as_they_were_frozen() {
        let nested =
            Fields::from(vec![Field::new("c d", DataType::Utf8, true), Field::new("e", DataType::Int64, true)]);
        let types = [
            DataType::Int64,
            DataType::Utf8,
            DataType::Float64,
            DataType::Boolean,
            DataType::Timestamp(TimeUnit::Millisecond, None),
            DataType::Decimal128(20, 3),
            DataType::List(Arc::new(Field::new("item", DataType::Struct(nested.clone()), true))),
            DataType::Struct(nested),
        ];
        let columns: Vec<SourceColumn> = types
            .into_iter()
            .enumerate()
            .map(|(place, data_type)| SourceColumn {
                name: format!("c{place}"),
                data_type,
                origin: ColumnOrigin::Value { field: format!("c{place}") },
            })
            .collect();
        assert_eq!(thaw(&freeze(&columns)).unwrap(), columns);
    }

    #[test]
    fn a_newer_record_is_named_as_such() {
        let error = CatalogRecord::decode(br#"{"version": 9, "what": "ever"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it is of version 9, written by a newer Millpond; this one reads up to version 1"
        );
    }
}
