//! What does a query remember?
//!
//! Owns the durable state of all queries of a node: one RocksDB, opened when the first query with state needs it. It
//! knows neither SQL nor Arrow: a query's operators bring keys and values as bytes. Nobody else knows RocksDB, and here
//! only `database` does: in a simulation a simpler store lies in its place, with the promises that are named there.
//!
//! ```text
//! key    query id (8 bytes, big-endian) | operator (2 bytes, big-endian) | the operator's own key
//! value  CRC-32 of what follows (4 bytes, little-endian) | the operator's own value
//! ```
//!
//! Operator 0 is the query itself ([`StateStore`] keeps the step there), operators of the plan count from 1.
//!
//! **A checkpoint is one synced write batch** ([`StateBatch`]): the keys that changed since the last one, and the number
//! of the step they stand at, all or nothing. So it is incremental by nature, and what is found after a crash is
//! always the state after some one step. RocksDB's own checkpoints (hard links to its files) would be a copy of
//! the whole store at one moment, for all queries at once, while each query has its own steps.
//!
//! Start with [`StateStore::open`] and [`QueryState::commit`].

mod database;
mod error;
mod key;
mod query_state;
mod store;

pub use error::StateError;
pub use query_state::{QueryState, Scan, StateBatch};
pub use store::{StateOptions, StateStore};

/// The operator that stands for the query itself.
pub const QUERY_OPERATOR: u16 = 0;
