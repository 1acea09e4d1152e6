//! How registered queries run.
//!
//! A query runs in **steps**. A step takes a slice of every input partition, decodes it, pushes it through the
//! operators, appends the results to output partitions that are held (nobody sees what is above their visible end),
//! syncs them, appends a step record to [`STEPS_TOPIC`], syncs that, and reveals. The step record is the commit:
//! what lies above the last one is cut off when the query starts again, and a step that is recorded is never
//! computed into the topic a second time.
//!
//! - `runner` owns the queries and their threads (`ready`: who is next; `running`: a query between its turns). Without threads
//!   `driver` gives the turns; `waits` is all the difference.
//! - `query` takes steps; `inputs` knows its positions, watermarks and idle partitions; `step_record` and `step_log` write
//!   steps down.
//! - `slice` and `source` read and decode; `pipeline` pushes `chunk`s through `calc`, `window_assign` and
//!   `window_aggregate` (`group_state`, `key_table`, `distinct_count`); `sink` and `errors_topic` make records.
//! - `checkpoint` saves windows; `recovery` brings a query back: the last checkpoint, then the recorded steps since, again.
//!
//! Start reading in `query.rs`, at `Query::step`.
//!
//! What may be deleted under a query: input records that it has not read yet are pinned against retention and against
//! DeleteRecords while the node runs. Are they gone all the same (a topic cut while the query was not launched), it goes on
//! behind them, counts them as missed and says so in its status. An input topic that was deleted, or deleted and made
//! again, ends the query as FAILED: its positions mean nothing in another topic.

mod calc;
mod checkpoint;
pub(crate) mod chunk;
mod crash;
mod distinct_count;
mod driver;
mod errors_topic;
pub(crate) mod failure;
mod freeze;
mod group_state;
mod inputs;
mod key_table;
mod metrics;
mod options;
mod partitioner;
mod pipeline;
mod query;
mod ready;
mod recovery;
mod runner;
mod running;
mod sink;
pub(crate) mod slice;
pub(crate) mod source;
mod status;
mod step_log;
mod step_record;
mod waits;
mod window_aggregate;
mod window_assign;

#[cfg(test)]
mod tests;

pub use crash::{CrashHook, CrashPoint, CrashPoints};
pub use driver::RunnerDriver;
pub use options::{QueryId, QuerySpec, RunError, RunnerOptions};
pub use runner::Runner;
pub use status::{PartitionStatus, QueryState, QueryStatus};
pub use step_log::StepLogLimits;
pub use waits::SyncHook;

/// The internal topic that holds the step records of all queries, in one partition.
pub const STEPS_TOPIC: &str = "__millpond_steps";
