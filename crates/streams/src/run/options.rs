//! What a runner and a query are started with, and what can go wrong then.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::crash::CrashPoints;
use super::step_log::StepLogLimits;
use crate::plan::StreamPlan;

/// Bounds and intervals of all queries of a node.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// Threads that run queries. A step that takes minutes occupies one of them for as long, so with fewer such
    /// queries than threads the others go on; at least 2.
    pub threads: usize,
    /// A step takes no further batch once it holds this many rows, over all its input partitions.
    pub step_rows_max: usize,
    /// A step takes no further batch once it holds this many bytes, over all its input partitions.
    pub step_bytes_max: usize,
    /// At least so long from one checkpoint of a query's state to the next, in ms. Also the bound of what a restart
    /// computes again.
    pub checkpoint_interval_ms: i64,
    /// A partition without a record for so long does not hold the watermark any more, in ms of the node's clock.
    pub idle_timeout_ms: i64,
    /// What one query's windows, the records of a step and its results may take in memory together, in bytes; and as
    /// much again may be what its expressions make of rows until these are results. A query that needs more fails.
    pub query_memory_bytes_max: usize,
    /// The folder of the state store; made when the first query with state is launched.
    pub state_dir: PathBuf,
    /// When the log of the steps is made shorter.
    pub step_log: StepLogLimits,
    /// For tests of recovery alone.
    pub crash_points: CrashPoints,
}

impl RunnerOptions {
    /// The defaults, with the state below `state_dir`.
    pub fn new(state_dir: PathBuf) -> RunnerOptions {
        RunnerOptions {
            threads: std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2)),
            step_rows_max: 16_384,
            step_bytes_max: 8 << 20,
            checkpoint_interval_ms: 5_000,
            idle_timeout_ms: 5_000,
            query_memory_bytes_max: 256 << 20,
            state_dir,
            step_log: StepLogLimits::default(),
            crash_points: CrashPoints::default(),
        }
    }
}

/// A query's number: the offset of its statement in `_millpond_sql`, so it is unique for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueryId(pub u64);

impl std::fmt::Display for QueryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A query to run.
#[derive(Debug, Clone)]
pub struct QuerySpec {
    /// The stream's name; the owner of its output topic.
    pub name: String,
    /// Its number.
    pub id: QueryId,
    /// What it computes.
    pub plan: StreamPlan,
    /// Whether it waits for [`Runner::resume`](super::Runner::resume) after its recovery.
    pub paused: bool,
}

/// Why a query could not be launched or steered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RunError {
    /// The name is taken.
    #[error("a stream `{0}` runs already")]
    Exists(String),
    /// There is no such query.
    #[error("no stream `{0}` is running")]
    Unknown(String),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
    /// A topic that the query reads or writes cannot be used.
    #[error("topic `{topic}`: {reason}")]
    Topic {
        /// The topic's name.
        topic: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The plan asks for something that the operators cannot do.
    #[error("the query cannot run: {0}")]
    Plan(String),
    /// The state store cannot be used.
    #[error("the query's state: {0}")]
    State(String),
    /// The threads could not be started, or the step log not be read or written.
    #[error("{0}")]
    Internal(String),
}
