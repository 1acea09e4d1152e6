//! What is written down of a step, and is enough to take it again.
//!
//! ```text
//! version (1 byte) | fields | CRC-32C of all before it (4 bytes, big-endian)
//! ```
//!
//! Numbers in the fields are LEB128 varints, signed ones zigzag. A record holds absolute positions of *all* partitions,
//! so the last record of a query without state is all that it needs. Records of a newer version are refused, not guessed.

use millpond_records::crc32c;
use millpond_types::{Offset, PartitionIndex, TimestampMs, TopicId};

use super::QueryId;

/// The version that is written.
const VERSION: u8 = 1;
const CHECKSUM_LEN: usize = 4;
/// No list in a record is longer: a bound for what a damaged length can make us allocate.
const LIST_LEN_MAX: u64 = 1_000_000;

const FLAG_CHECKPOINT: u64 = 1;
const FLAG_ERRORS: u64 = 2;

/// One step of one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepRecord {
    /// Whose step.
    pub(crate) query: QueryId,
    /// Its number: 0 is the query's birth, then each is one more.
    pub(crate) step: u64,
    /// The node's clock when the step began, ms since 1970. Operators that need a clock read it here.
    pub(crate) clock_ms: TimestampMs,
    /// A checkpoint follows this step. Folding state for a checkpoint can change the last bits of some aggregates
    /// (variance, approximate percentiles), so it is part of what happened.
    pub(crate) checkpoint: bool,
    /// The slices, per source of the plan.
    pub(crate) sources: Vec<SourceStep>,
    /// Per output partition, the offset after the last result.
    pub(crate) output_ends: Vec<Offset>,
    /// The same of the errors topic, once there is one.
    pub(crate) errors_end: Option<Offset>,
    /// Totals after the step.
    pub(crate) counters: Counters,
}

/// What a step did with one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceStep {
    /// The topic, by id: a topic that was made again under the same name is another one.
    pub(crate) topic: TopicId,
    /// One per partition, by index.
    pub(crate) partitions: Vec<PartitionStep>,
}

/// What a step did with one input partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionStep {
    /// First offset of the slice.
    pub(crate) from: Offset,
    /// The offset after its last; equal to `from` for an empty slice.
    pub(crate) to: Offset,
    /// The partition's watermark after the slice.
    pub(crate) watermark: Option<TimestampMs>,
    /// Whether it is idle after the step.
    pub(crate) idle: bool,
}

/// Totals since the query was registered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
    pub(crate) rows_filtered: u64,
    pub(crate) rows_late: u64,
    pub(crate) rows_failed: u64,
    pub(crate) rows_missed: u64,
}

/// Why a record of the step log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StepRecordError {
    /// Written by a newer Millpond.
    #[error("a step record of version {0}; this version reads up to {VERSION}: start a newer version")]
    NewerVersion(u8),
    /// Not what was written.
    #[error("a damaged step record: {0}")]
    Damaged(&'static str),
}

impl StepRecord {
    /// The record's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 16 * self.sources.iter().map(|s| s.partitions.len()).sum::<usize>());
        out.push(VERSION);
        put(&mut out, self.query.0);
        put(&mut out, self.step);
        put_signed(&mut out, self.clock_ms);
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        put(&mut out, flag(self.checkpoint, FLAG_CHECKPOINT) | flag(self.errors_end.is_some(), FLAG_ERRORS));
        put(&mut out, self.sources.len() as u64);
        for source in &self.sources {
            out.extend_from_slice(source.topic.as_uuid().as_bytes());
            put(&mut out, source.partitions.len() as u64);
            for partition in &source.partitions {
                put_signed(&mut out, partition.from);
                put_signed(&mut out, partition.to.wrapping_sub(partition.from));
                put(&mut out, flag(partition.idle, 1) | flag(partition.watermark.is_some(), 2));
                if let Some(watermark) = partition.watermark {
                    put_signed(&mut out, watermark);
                }
            }
        }
        put(&mut out, self.output_ends.len() as u64);
        for end in &self.output_ends {
            put_signed(&mut out, *end);
        }
        if let Some(end) = self.errors_end {
            put_signed(&mut out, end);
        }
        let Counters { rows_in, rows_out, rows_filtered, rows_late, rows_failed, rows_missed } = self.counters;
        for total in [rows_in, rows_out, rows_filtered, rows_late, rows_failed, rows_missed] {
            put(&mut out, total);
        }
        let checksum = crc32c(&out);
        out.extend_from_slice(&checksum.to_be_bytes());
        out
    }

    /// Reads a record's bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<StepRecord, StepRecordError> {
        use StepRecordError::Damaged;
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(Damaged("it is too short"))?;
        // The version before the checksum: a newer one may be summed in another way.
        let (version, fields) = body.split_first().ok_or(Damaged("it is empty"))?;
        if *version > VERSION {
            return Err(StepRecordError::NewerVersion(*version));
        }
        if crc32c(body) != u32::from_be_bytes(*checksum) {
            return Err(Damaged("its checksum is wrong"));
        }
        if *version != VERSION {
            return Err(Damaged("its version is 0"));
        }
        let mut reader = Reader { rest: fields };
        let query = QueryId(reader.number()?);
        let step = reader.number()?;
        let clock_ms = reader.signed()?;
        let flags = reader.number()?;
        let mut sources = Vec::new();
        for _ in 0..reader.list_len()? {
            let topic = reader.topic_id()?;
            let mut partitions = Vec::new();
            for _ in 0..reader.list_len()? {
                let from = reader.signed()?;
                let to = from.wrapping_add(reader.signed()?);
                let bits = reader.number()?;
                let watermark = if bits & 2 == 0 { None } else { Some(reader.signed()?) };
                if from < 0 || to < from {
                    return Err(Damaged("a slice ends before it begins"));
                }
                partitions.push(PartitionStep { from, to, watermark, idle: bits & 1 != 0 });
            }
            sources.push(SourceStep { topic, partitions });
        }
        let mut output_ends = Vec::new();
        for _ in 0..reader.list_len()? {
            output_ends.push(reader.signed()?);
        }
        let errors_end = if flags & FLAG_ERRORS == 0 { None } else { Some(reader.signed()?) };
        let counters = Counters {
            rows_in: reader.number()?,
            rows_out: reader.number()?,
            rows_filtered: reader.number()?,
            rows_late: reader.number()?,
            rows_failed: reader.number()?,
            rows_missed: reader.number()?,
        };
        if !reader.rest.is_empty() {
            return Err(Damaged("bytes follow its last field"));
        }
        let checkpoint = flags & FLAG_CHECKPOINT != 0;
        Ok(StepRecord { query, step, clock_ms, checkpoint, sources, output_ends, errors_end, counters })
    }

    /// What it did with a partition of a source, if it knew it.
    pub(crate) fn partition(&self, source: usize, partition: PartitionIndex) -> Option<&PartitionStep> {
        self.sources.get(source)?.partitions.get(usize::try_from(partition).ok()?)
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn number(&mut self) -> Result<u64, StepRecordError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(StepRecordError::Damaged("it is cut off"))?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(StepRecordError::Damaged("a number is too long"))
    }

    fn signed(&mut self) -> Result<i64, StepRecordError> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn list_len(&mut self) -> Result<u64, StepRecordError> {
        self.number().and_then(|len| {
            if len > LIST_LEN_MAX { Err(StepRecordError::Damaged("a list is too long")) } else { Ok(len) }
        })
    }

    fn topic_id(&mut self) -> Result<TopicId, StepRecordError> {
        let (id, rest) = self.rest.split_first_chunk::<16>().ok_or(StepRecordError::Damaged("it is cut off"))?;
        self.rest = rest;
        Ok(TopicId::from_uuid(uuid::Uuid::from_bytes(*id)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> StepRecord {
        let topic = TopicId::from_uuid(uuid::Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10));
        let partitions = vec![
            PartitionStep { from: 5, to: 900, watermark: Some(-1), idle: false },
            PartitionStep { from: 7, to: 7, watermark: None, idle: true },
        ];
        StepRecord {
            query: QueryId(300),
            step: 12,
            clock_ms: 1_700_000_000_000,
            checkpoint: true,
            sources: vec![SourceStep { topic, partitions }, SourceStep { topic: TopicId::ZERO, partitions: vec![] }],
            output_ends: vec![0, 128, 1 << 40],
            errors_end: Some(3),
            counters: Counters {
                rows_in: 895,
                rows_out: 1,
                rows_filtered: 2,
                rows_late: 3,
                rows_failed: 4,
                rows_missed: 5,
            },
        }
    }

    /// Bytes of version 1, written down when it was made: a change of the code must go on reading them.
    const VERSION_1: &str = "01ac020c80a0abfef96203020102030405060708090a0b0c0d0e0f10020afe0d02010e00010000000000000000000000000000\
                             0000000300800280808080804006ff060102030405a34696f2";

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        assert_eq!(StepRecord::decode(&example().encode()), Ok(example()));
        let plain = StepRecord { checkpoint: false, errors_end: None, sources: vec![], ..example() };
        assert_eq!(StepRecord::decode(&plain.encode()), Ok(plain));
    }

    #[test]
    fn records_of_version_1_are_read_for_ever() {
        let bytes = example().encode();
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, VERSION_1);
        assert_eq!(StepRecord::decode(&hex(VERSION_1)), Ok(example()));
    }

    #[test]
    fn a_newer_version_is_named_and_not_guessed() {
        let mut bytes = example().encode();
        bytes[0] = 2;
        assert_eq!(StepRecord::decode(&bytes), Err(StepRecordError::NewerVersion(2)));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = example().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(StepRecord::decode(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(StepRecord::decode(&bytes[..len]).is_err(), "cut to {len}");
        }
    }

    proptest! {
        #[test]
        fn garbage_with_a_right_checksum_is_an_error_or_a_record_never_a_panic(body: Vec<u8>) {
            let mut bytes = vec![VERSION];
            bytes.extend_from_slice(&body);
            let checksum = crc32c(&bytes);
            bytes.extend_from_slice(&checksum.to_be_bytes());
            if let Ok(record) = StepRecord::decode(&bytes) {
                prop_assert_eq!(StepRecord::decode(&record.encode()), Ok(record));
            }
        }
    }
}
