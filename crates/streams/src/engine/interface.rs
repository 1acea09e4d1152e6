//! What callers of the engine give and get.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use millpond_broker::ClientContext;
use millpond_types::TopicName;
use serde::Serialize;

use crate::run::QueryStatus;
use crate::sql::StatementError;

/// How the engine works. The defaults suit a node that shares a machine with its clients.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Where queries keep their state.
    pub state_dir: PathBuf,
    /// How many threads run registered queries.
    pub threads: usize,
    /// How many bytes one registered query may hold in memory.
    pub query_memory_bytes_max: usize,
    /// How many bytes one SELECT may hold in memory.
    pub select_memory_bytes_max: usize,
    /// How many SELECTs may run at the same time; more are refused.
    pub selects_max: usize,
    /// How many statements are planned at the same time; more wait.
    pub plannings_max: usize,
    /// How long planning one statement may take, in milliseconds.
    pub planning_ms_max: u64,
    /// How many rows an answer in `_millpond_answers` holds at most.
    pub answer_rows_max: usize,
    /// How many bytes of rows an answer in `_millpond_answers` holds at most.
    pub answer_bytes_max: usize,
    /// How many records of a topic that nobody declared are looked at to find its columns.
    pub inference_records_max: usize,
    /// How often the status of streams that change is written to `_millpond_streams`, in milliseconds.
    pub status_interval_ms: u64,
}

impl EngineOptions {
    /// The defaults, with state below `state_dir`.
    pub fn new(state_dir: PathBuf) -> EngineOptions {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        EngineOptions {
            state_dir,
            threads: cores,
            query_memory_bytes_max: 256 << 20,
            select_memory_bytes_max: 256 << 20,
            selects_max: 16,
            plannings_max: 2,
            planning_ms_max: 10_000,
            answer_rows_max: 1_000,
            answer_bytes_max: 1 << 20,
            inference_records_max: 1_000,
            status_interval_ms: 2_000,
        }
    }
}

/// How one statement is executed.
#[derive(Debug, Clone, Default)]
pub struct ExecuteOptions {
    /// Whether a SELECT goes on with new rows after those that are there now.
    pub follow: bool,
    /// How many rows a SELECT gives at most.
    pub row_limit: Option<usize>,
    /// Who asks.
    pub client: ClientContext,
}

/// The rows of a result. Dropping it ends the query.
pub type RowStream = BoxStream<'static, Result<RecordBatch, StatementError>>;

/// What a statement gave.
pub enum StatementResult {
    /// Rows: of a SELECT, SHOW, DESCRIBE or EXPLAIN.
    Rows {
        /// Their columns.
        schema: SchemaRef,
        /// The rows.
        rows: RowStream,
        /// What is to be said beside them; complete when the rows have ended.
        notes: Arc<SelectNotes>,
    },
    /// It was done.
    Done {
        /// What was done, one sentence.
        message: String,
    },
}

impl std::fmt::Debug for StatementResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StatementResult::Rows { schema, .. } => f.debug_struct("Rows").field("schema", schema).finish(),
            StatementResult::Done { message } => f.debug_struct("Done").field("message", message).finish(),
        }
    }
}

/// What happened while a SELECT read, besides its rows. It grows while the rows are read.
#[derive(Debug, Default)]
pub struct SelectNotes {
    undecodable: AtomicU64,
}

impl SelectNotes {
    /// Counts records that could not be decoded.
    pub(crate) fn add_undecodable(&self, records: u64) {
        self.undecodable.fetch_add(records, Ordering::Relaxed);
    }

    /// How many records were left out because they could not be decoded.
    pub fn undecodable(&self) -> u64 {
        self.undecodable.load(Ordering::Relaxed)
    }

    /// The notes as sentences.
    pub fn lines(&self) -> Vec<String> {
        match self.undecodable() {
            0 => Vec::new(),
            1 => vec!["1 record could not be decoded and was left out".to_owned()],
            many => vec![format!("{many} records could not be decoded and were left out")],
        }
    }
}

/// How a stream came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// By CREATE STREAM over a topic.
    Declared,
    /// By CREATE MATERIALIZED STREAM; it has a query that runs.
    Materialized,
}

/// A column of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type as SQL writes it.
    #[serde(rename = "type")]
    pub data_type: String,
}

/// A stream and how it does.
#[derive(Debug, Clone, Serialize)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// How it came to be.
    pub kind: StreamKind,
    /// The topic that holds its records.
    pub topic: TopicName,
    /// Its columns.
    pub columns: Vec<ColumnInfo>,
    /// The statement that made it.
    pub query: String,
    /// How its query does; none for a declared stream.
    pub status: Option<QueryStatus>,
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An admin topic could not be made.
    #[error("the topic '{topic}' cannot be created: {reason}")]
    Topic {
        /// Which.
        topic: String,
        /// What the broker said.
        reason: String,
    },
    /// The catalog could not be read.
    #[error("the streams' catalog cannot be read: {0}")]
    Catalog(String),
    /// The runtime of the queries did not start.
    #[error("the runtime of the queries does not start: {0}")]
    Runtime(String),
}
