//! From a statement's text to what it asks for.

pub(crate) mod dialect;
pub(crate) mod error;
pub(crate) mod parser;
pub(crate) mod statement;
pub(crate) mod types;

pub use error::{ErrorKind, StatementError};
