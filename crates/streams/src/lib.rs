//! What does the SQL mean, and how does it run?
//!
//! Owns the statements, the catalog of streams, the planner, and the runtime of registered queries. It knows no
//! sockets: statements come from the records of `_millpond_sql` (through the broker's gate) or from a caller of
//! [`Engine::execute`]; results go to topics. The broker is its only way to the log.
//!
//! Start reading at [`Engine`]; then [`plan`], the boundary between the planner (`sql`) and the runtime ([`run`]).
//! `select` reads what is there now, `catalog` remembers what was registered, `admin` speaks through topics.

mod admin;
mod catalog;
mod engine;
pub mod plan;
pub mod run;
mod select;
mod sql;

pub use admin::{ANSWERS_TOPIC, CATALOG_TOPIC, STATEMENTS_TOPIC, STREAMS_TOPIC};
pub use engine::{
    ColumnInfo, Engine, EngineError, EngineOptions, ExecuteOptions, StatementResult, StreamInfo, StreamKind,
    plan_streams,
};
pub use select::{RowStream, SelectNotes};
pub use sql::{ErrorKind, StatementError};
