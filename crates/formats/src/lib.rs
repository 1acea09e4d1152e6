//! How do bytes become Arrow columns and back?
//!
//! Owns the encodings of records' values and keys: today JSON, later Avro, Protobuf and others, each in a folder of
//! its own. It knows neither topics nor queries: callers bring bytes and a list of columns, and get a batch of the
//! rows that could be read and a reason for each that could not.
//!
//! - [`JsonDecoder`]: records to columns, only those that are asked for ([`json`] tells the rules and the figures).
//! - [`Inference`]: which columns do records have that nobody declared?
//! - [`JsonEncoder`]: rows to records, the same text for the same row always.
//!
//! Start reading in [`json`]; `json/cursor.rs` is the grammar, everything else is built on it.

mod calendar;
mod column;
pub mod json;

pub use column::{Column, UnsupportedColumn, sql_type_name};
pub use json::{Decoded, Failure, Inference, JsonDecoder, JsonEncoder};
