//! The lines of an answer; what they mean stands with the console's `sql` module.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::SqlError;

/// A line of an answer.
#[derive(Debug)]
pub(crate) enum Reply {
    Columns(Vec<Column>),
    /// A row as its JSON object.
    Row(Box<RawValue>),
    Done(Done),
    Error(StatementError),
}

/// A column of the rows that follow.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) data_type: String,
}

/// The end of a statement.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Done {
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

/// What is wrong with a statement.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct StatementError {
    pub(crate) message: String,
    pub(crate) line: Option<u32>,
    pub(crate) column: Option<u32>,
    pub(crate) hint: Option<String>,
}

impl Reply {
    /// Reads one line.
    pub(crate) fn parse(line: &str) -> Result<Reply, SqlError> {
        #[derive(Deserialize)]
        struct Line {
            columns: Option<Vec<Column>>,
            row: Option<Box<RawValue>>,
            done: Option<Done>,
            error: Option<StatementError>,
        }
        let unknown =
            || SqlError::BrokenOff("a line of the answer has a form that this version does not know".to_owned());
        let line: Line = serde_json::from_str(line).map_err(|_| unknown())?;
        match line {
            Line { row: Some(row), .. } => Ok(Reply::Row(row)),
            Line { columns: Some(columns), .. } => Ok(Reply::Columns(columns)),
            Line { done: Some(done), .. } => Ok(Reply::Done(done)),
            Line { error: Some(error), .. } => Ok(Reply::Error(error)),
            _ => Err(unknown()),
        }
    }
}
