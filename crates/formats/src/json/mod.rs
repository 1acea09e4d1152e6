//! JSON: one object a record.
//!
//! # Reading
//!
//! A column takes the field of its name; other fields are checked for being JSON and skipped. A field that is missing
//! is NULL, as `null` is. Of a field that stands twice in an object the last counts. What each type takes:
//!
//! | type | JSON |
//! |---|---|
//! | BOOLEAN | `true`, `false` |
//! | TINYINT … BIGINT, unsigned too | a number without a fraction in the type's range; `1.0` and `1e3` are such numbers, `"1"` is none |
//! | FLOAT, DOUBLE | a number that is finite in the type |
//! | DECIMAL(p, s) | a number; digits beyond the scale are rounded half away from zero, as a CAST does |
//! | VARCHAR | a string; any other value as its JSON text, so a column whose records disagree can still be read |
//! | VARBINARY | a string in base64 |
//! | TIMESTAMP(p), TIMESTAMP_LTZ(p) | `"2026-01-01T00:00:10.000"` or with a blank for the T, an offset or `Z` at the end means UTC is computed; years beyond four digits or before 0 with a sign, `"+10000-01-01"`, `"-0001-12-31"`; or an integer: milliseconds since 1970 |
//! | DATE | `"2026-01-01"`, other years as above |
//! | TIME(p) | `"10:30:00.000"` |
//! | ARRAY | an array |
//! | STRUCT | an object, by the same rules as the record |
//! | MAP | an object; a key that stands twice is a failure |
//!
//! Fractions of seconds beyond a type's precision are cut. Everything else is a [`Failure`] that names the column (nested
//! fields as `order.lines[2].price`), what was expected and what was found, shortened.
//!
//! # Writing
//!
//! [`JsonEncoder`] writes the columns in their order, without spaces; NULL as `null`; timestamps as
//! `2026-01-01T00:00:10.000` (six or nine digits where three would lose something, and `Z` when the type has a zone);
//! floats in the shortest form that reads back equal, NaN and infinities as `null`; decimals as plain numbers; bytes as base64.
//!
//! # Cost
//!
//! Nanoseconds a row for Nexmark-like bids (236 bytes, 7 columns), one core of a 2-core Xeon virtual machine (2026-11), default
//! x86-64 target, while the machine was busy with other builds; `examples/decode_speed.rs` measures the first line:
//!
//! | | all 7 columns | 2 columns |
//! |---|---|---|
//! | this decoder | 250 | 176 |
//! | arrow-json 59.3 | 409 | 306 |
//! | simd-json 0.19, its tape alone / with values taken out, no columns built | 211 / 357 | 195 / 226 |
//! | `JsonEncoder` | 142 | |
//!
//! A walk by hand wins since it needs neither a copy of the record nor a tape: a value goes from its bytes to its
//! column at once, and a field is found by comparing its name with the one that stood there in the last record.

mod builder;
mod bytes;
mod cursor;
mod decode;
mod encode;
mod infer;
mod number;
mod object;
mod scan;
mod trouble;

pub use cursor::JSON_DEPTH_MAX;
pub use decode::{Decoded, Failure, JsonDecoder};
pub use encode::JsonEncoder;
pub use infer::{INFERENCE_DEPTH_MAX, INFERENCE_FIELDS_MAX, INFERENCE_RECORDS_MAX, Inference};
