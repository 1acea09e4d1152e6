//! What can be wrong with a batch, and with what a producer sent.

use crate::Compression;

/// Bytes that are not a record batch of version 2, or not one this crate can read. Positions count from the
/// first byte of the batch, or of its decompressed records where the text says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header or than the header's length field promises.
    #[error("the batch is cut off: {found} bytes are here, {needed} are needed")]
    TooShort {
        /// Bytes that are there.
        found: usize,
        /// Bytes that the batch takes.
        needed: usize,
    },
    /// The length field cannot be the length of a batch.
    #[error("batch length {0} at position 8 is no length of a batch (at least 49)")]
    Length(i32),
    /// Another format version than 2.
    #[error("magic {0} at position 16; only record batches of magic 2 are supported")]
    Magic(i8),
    /// The checksum does not fit the bytes.
    #[error("CRC-32C at position 17 is {stored:#010x}, but that of the bytes from position 21 on is {computed:#010x}")]
    Crc {
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A compression code that does not exist.
    #[error(
        "attributes {0:#06x} at position 21 name a compression that does not exist (0 to 4 are none, gzip, snappy, lz4, zstd)"
    )]
    CompressionCode(i16),
    /// The compressed bytes cannot be decompressed.
    #[error("the records cannot be decompressed as {codec}: {reason}")]
    Decompress {
        /// What the header says they are.
        codec: Compression,
        /// What the decoder says.
        reason: String,
    },
    /// The records would take more memory than the caller allows.
    #[error("the decompressed records are larger than the {bytes_max} bytes that are allowed")]
    TooLargeDecompressed {
        /// The caller's bound.
        bytes_max: usize,
    },
    /// A field of a record is not what it must be.
    #[error("record {record} is malformed at position {position} of the batch's records: {what}")]
    Record {
        /// Which record of the batch, from 0.
        record: usize,
        /// Byte position in the decompressed records.
        position: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The record of a control batch is not what it must be.
    #[error("the control record is malformed: {0}")]
    Control(&'static str),
    /// Bytes follow the last record.
    #[error("{0} bytes follow the last record of the batch")]
    TrailingBytes(usize),
}

/// Why what a Produce request carried for a partition cannot be appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProducedError {
    /// Larger than the topic allows.
    #[error("the record batch is {len} bytes long; the topic's max.message.bytes allows {bytes_max}")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// Message sets of Kafka before 0.11, or something newer than this.
    #[error("the record batch has magic {0}; only magic 2 is supported, that is clients of Kafka 0.11 or later")]
    UnsupportedMagic(i8),
    /// The bytes were damaged on the way or never were a batch.
    #[error("the record batch is corrupt: {0}")]
    Corrupt(BatchError),
    /// A sound batch that breaks a rule for producers.
    #[error("invalid record: {reason}")]
    InvalidRecord {
        /// Which rule, and what to do.
        reason: String,
    },
}
