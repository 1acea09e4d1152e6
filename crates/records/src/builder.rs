//! Makes batches.

use millpond_types::{
    LeaderEpoch, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Offset, ProducerEpoch, ProducerId, TimestampMs,
};

use crate::header::{CONTROL_BIT, LOG_APPEND_TIME_BIT, TRANSACTIONAL_BIT};
use crate::{BatchHeader, Compression, HEADER_LEN, LOG_OVERHEAD, MAGIC, TimestampType, crc32c, varint};

/// What a new batch is to be; the default is uncompressed, from base offset 0 and no producer.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// Offset of the first record; 0 where the log will stamp it.
    pub base_offset: Offset,
    /// The leader's epoch; -1 where the log will stamp it.
    pub leader_epoch: LeaderEpoch,
    /// How to compress the records.
    pub compression: Compression,
    /// Producer id, epoch and base sequence of an idempotent producer.
    pub producer: Option<(ProducerId, ProducerEpoch, i32)>,
    /// Whose clock the timestamps come from.
    pub timestamp_type: TimestampType,
    /// Whether the batch ends a transaction.
    pub control: bool,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
}

impl Default for BatchOptions {
    fn default() -> BatchOptions {
        BatchOptions {
            base_offset: 0,
            leader_epoch: -1,
            compression: Compression::None,
            producer: None,
            timestamp_type: TimestampType::CreateTime,
            control: false,
            transactional: false,
        }
    }
}

/// Collects records and makes one batch of them.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the records so far, uncompressed.
    bytes: Vec<u8>,
    count: i32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
}

/// Bytes of a varint of 32 bits, at most.
const VARINT_LEN_MAX: usize = 5;
/// Bytes of a varint of 64 bits, at most.
const VARLONG_LEN_MAX: usize = 10;

impl BatchBuilder {
    /// An empty batch.
    pub fn new(options: BatchOptions) -> BatchBuilder {
        let bytes = vec![0; HEADER_LEN];
        BatchBuilder { options, bytes, count: 0, base_timestamp: -1, max_timestamp: -1 }
    }

    /// Adds a record. `timestamp_ms` of -1 is none.
    ///
    /// # Panics
    /// If a key, a value or a header is longer than 2 GiB, or the batch holds `i32::MAX` records already.
    pub fn push(
        &mut self,
        timestamp_ms: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp);

        let nullable_len = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => {
                let len = i32::try_from(bytes.len()).expect("a field of a record is shorter than 2 GiB");
                varint::len(i64::from(len)) + bytes.len()
            }
            None => 1,
        };
        let headers_len: usize = headers.iter().map(|(k, v)| nullable_len(Some(k.as_bytes())) + nullable_len(*v)).sum();
        let len = 1
            + varint::len(timestamp_delta)
            + varint::len(i64::from(self.count))
            + nullable_len(key)
            + nullable_len(value)
            + varint::len(headers.len() as i64)
            + headers_len;

        let out = &mut self.bytes;
        out.reserve(len + VARINT_LEN_MAX);
        varint::put(out, i64::try_from(len).expect("a record fits memory"));
        out.push(0);
        varint::put(out, timestamp_delta);
        varint::put(out, i64::from(self.count));
        put_nullable(out, key);
        put_nullable(out, value);
        varint::put(out, headers.len() as i64);
        for (key, value) in headers {
            put_nullable(out, Some(key.as_bytes()));
            put_nullable(out, *value);
        }
        self.count = self.count.checked_add(1).expect("a batch holds at most i32::MAX records");
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch's bytes before compression; with [`Compression::None`] exactly its size.
    pub fn size_estimate(&self) -> usize {
        self.bytes.len()
    }

    /// At most how many bytes a record with these adds before compression.
    pub fn record_size_max(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> usize {
        let field = |bytes: Option<&[u8]>| VARINT_LEN_MAX + bytes.map_or(0, <[u8]>::len);
        let headers_len: usize = headers.iter().map(|(k, v)| field(Some(k.as_bytes())) + field(*v)).sum();
        1 + VARLONG_LEN_MAX + 3 * VARINT_LEN_MAX + field(key) + field(value) + headers_len
    }

    /// The batch's bytes, CRC included.
    ///
    /// # Panics
    /// If it holds no record, or more than 2 GiB.
    pub fn build(self) -> Vec<u8> {
        assert!(self.count > 0, "a batch holds at least one record");
        let options = self.options;
        let mut bytes = self.bytes;
        if options.compression != Compression::None {
            let compressed = options.compression.compress(bytes.get(HEADER_LEN..).unwrap_or_default());
            bytes.truncate(HEADER_LEN);
            bytes.extend_from_slice(&compressed);
        }
        let mut attributes = options.compression.code();
        if options.timestamp_type == TimestampType::LogAppendTime {
            attributes |= LOG_APPEND_TIME_BIT;
        }
        if options.transactional {
            attributes |= TRANSACTIONAL_BIT;
        }
        if options.control {
            attributes |= CONTROL_BIT;
        }
        let (producer_id, producer_epoch, base_sequence) =
            options.producer.unwrap_or((NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE));
        let mut header = BatchHeader {
            base_offset: options.base_offset,
            batch_length: i32::try_from(bytes.len() - LOG_OVERHEAD).expect("a batch is smaller than 2 GiB"),
            leader_epoch: options.leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes,
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: self.count,
        };
        let mut front = Vec::with_capacity(HEADER_LEN);
        header.put(&mut front);
        bytes.splice(..HEADER_LEN, front.iter().copied());
        header.crc = crc32c(bytes.get(21..).unwrap_or_default());
        bytes.splice(17..21, header.crc.to_be_bytes());
        bytes
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => out.push(1),
    }
}
