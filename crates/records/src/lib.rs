//! What is in a record batch (v2)? View, build, validate, compress.
//!
//! Owns the bytes of Kafka's record batch format, magic 2: the header, the records inside, varints,
//! the CRC-32C and the four compressions. It does no I/O and knows no offsets but those in the bytes. The broker
//! stores what the producer sent, with base offset and leader epoch stamped in place, unless a topic wants another compression
//! ([`BatchView::recompress`]) or the broker's time ([`stamp_append_time`]). Compaction takes records out of a batch:
//! [`BatchView::retain`].
//!
//! Start with [`BatchHeader`]; read batches with [`batches`] and [`BatchView::records`], make them with
//! [`BatchBuilder`], check what a client sent with [`validate_produced`]. How a transaction ended stands in a
//! [`TransactionMarker`].
//!
//! # The bytes (big-endian)
//!
//! ```text
//!  0        8        12          16    17    21          23               27
//!  | base   | batch  | partition |magic| CRC | attributes| last offset    |
//!  | offset | length | leader    |     | 32C |           | delta          |
//!  |        |        | epoch     |     |     |           |                |
//!  27             35            43         51       53       57      61
//!  | base         | max         | producer | prod.  | base   | record | records, compressed
//!  | timestamp    | timestamp   | id       | epoch  | seq.   | count  | as the attributes say
//!
//!  batch length counts from byte 12 on; the CRC covers byte 21 to the end
//!  attributes: bits 0-2 compression, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//!
//!  record: length, attributes (1 byte), timestamp delta, offset delta, key length, key, value length, value,
//!          header count, (key length, key, value length, value)*       — lengths and deltas are zigzag varints, -1 is null
//! ```
//!
//! # Invariants
//!
//! - No bytes make a decoder panic or allocate more than the bound the caller gave (tests/it/hostile.rs).
//! - What [`BatchBuilder`] builds passes [`validate_produced`], unless it is a control batch, or
//!   transactional without a producer.
//! - Base offset and leader epoch lie outside the CRC, so that [`stamp`] leaves it right.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod builder;
mod compression;
mod control;
mod crc;
mod error;
mod header;
mod produced;
mod record;
mod retain;
mod rewrite;
mod varint;
mod view;

pub use builder::{BatchBuilder, BatchOptions};
pub use compression::Compression;
pub use control::{TransactionMarker, TransactionResult};
pub use crc::Crc32c;
pub use error::{BatchError, ProducedError};
pub use header::{
    BatchHeader, HEADER_LEN, LOG_OVERHEAD, MAGIC, TimestampType, crc32c, increment_sequence, stamp, verify_crc,
};
pub use produced::validate_produced;
pub use record::{Headers, RecordView, Records};
pub use retain::Retained;
pub use rewrite::stamp_append_time;
pub use view::{BatchView, Batches, batches};
