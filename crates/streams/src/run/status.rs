//! What a query shows of itself.

use millpond_types::{Offset, PartitionIndex, TimestampMs};
use serde::{Deserialize, Serialize};

/// What a query is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum QueryState {
    /// It takes a step whenever there is something to read.
    Running,
    /// It was told to wait.
    Paused,
    /// It stopped by itself; [`QueryStatus::error`] says why. A restart of the node or RESUME tries again.
    Failed,
    /// It restores its state and computes the recorded steps again.
    Recovering,
}

/// How a query does. Counters are totals since it was registered, and survive restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryStatus {
    /// What it is doing.
    pub state: QueryState,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Something the user should know of although the query goes on: records that were deleted before they were read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub notice: Option<String>,
    /// Records read.
    pub rows_in: u64,
    /// Records written to the output topic.
    pub rows_out: u64,
    /// Rows that a WHERE or HAVING dropped.
    pub rows_filtered: u64,
    /// Rows that came too late for a window, once per window.
    pub rows_late: u64,
    /// Records and rows that went to the errors topic.
    pub rows_failed: u64,
    /// Input records that were deleted before they were read.
    pub rows_missed: u64,
    /// The query's watermark, ms since 1970; windows that end up to 1 ms after it are closed.
    pub watermark_ms: Option<TimestampMs>,
    /// The input partition that the watermark waits for.
    pub watermark_held_by: Option<(String, PartitionIndex)>,
    /// Records that can be read and were not yet.
    pub lag_records: u64,
    /// What its windows take in memory, bytes.
    pub state_bytes: u64,
    /// Windows that are open.
    pub open_windows: u64,
    /// Steps committed.
    pub steps: u64,
    /// Its input partitions.
    pub partitions: Vec<PartitionStatus>,
}

/// How far a query is in one input partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The topic.
    pub topic: String,
    /// Which of its partitions.
    pub partition: PartitionIndex,
    /// The next record to read.
    pub position: Offset,
    /// The offset after the last record that can be read.
    pub end: Offset,
    /// The partition's watermark, ms since 1970.
    pub watermark_ms: Option<TimestampMs>,
    /// Whether it has been without records for so long that it does not hold the query's watermark.
    pub idle: bool,
}

impl QueryStatus {
    /// Of a query that has done nothing yet.
    pub fn new(state: QueryState) -> QueryStatus {
        QueryStatus {
            state,
            error: None,
            notice: None,
            rows_in: 0,
            rows_out: 0,
            rows_filtered: 0,
            rows_late: 0,
            rows_failed: 0,
            rows_missed: 0,
            watermark_ms: None,
            watermark_held_by: None,
            lag_records: 0,
            state_bytes: 0,
            open_windows: 0,
            steps: 0,
            partitions: Vec::new(),
        }
    }
}
