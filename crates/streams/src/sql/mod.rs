//! From a statement's text to what it asks for.
//!
//! [`parser`] reads our statements, with sqlparser for the queries in them; [`planner`] makes an analyzed logical plan
//! of a query; from that, [`stream_plan`] makes what the runtime executes for ever, and `select` what ends. Everything
//! here is synchronous and knows no broker: what streams there are is asked through [`names::Streams`].

mod bounds;
mod case;
mod context;
pub(crate) mod definition;
pub(crate) mod dialect;
pub(crate) mod error;
pub(crate) mod expression;
mod functions;
pub(crate) mod lineage;
pub(crate) mod names;
pub(crate) mod parser;
pub(crate) mod planner;
pub(crate) mod refuse;
pub(crate) mod session;
pub(crate) mod statement;
pub(crate) mod stream_plan;
mod struct_fields;
pub(crate) mod translate;
pub(crate) mod types;
mod walk;
mod window_function;
pub(crate) mod window_node;

pub use error::{ErrorKind, StatementError};
