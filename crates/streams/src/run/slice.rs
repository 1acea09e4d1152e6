//! The records of a slice of one input partition, unpacked: those that a consumer of committed records would see.
//!
//! Nothing at or above the last stable offset is read, and below it is decided for ever which records were aborted. So the
//! same slice always has the same records.

use std::ops::Range;

use millpond_broker::{AbortedTransactions, Partition};
use millpond_records::{BatchError, batches, verify_crc};
use millpond_types::{Offset, TimestampMs};

use super::failure::QueryFailure;

/// What one compressed batch may unpack to, bytes. A larger one goes to the errors topic as a whole.
pub(crate) const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;
/// Read from the log at once, bytes.
const READ_BYTES_MAX: usize = 1 << 20;

/// Where a slice ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SliceEnd {
    /// With the batch with which it holds so many rows or so many bytes of batches, or at the last stable offset.
    AtMost { rows: usize, bytes: usize },
    /// At this offset: the slice was taken before.
    Exactly(Offset),
}

/// Where adding batches ends: before this offset, or with the batch that makes it so many records.
#[derive(Clone, Copy)]
struct Stop {
    to: Offset,
    rows: usize,
}

/// Records of one partition, in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// The offset of its first record, or of the first that there could be.
    pub(crate) from: Offset,
    /// The offset after its last.
    pub(crate) to: Offset,
    records: Vec<Record>,
    bytes: Vec<u8>,
    headers: Vec<Header>,
    /// Batches that could not be unpacked.
    pub(crate) broken: Vec<BrokenBatch>,
}

#[derive(Debug)]
struct Record {
    offset: Offset,
    timestamp: TimestampMs,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

#[derive(Debug)]
struct Header {
    key: Range<usize>,
    value: Option<Range<usize>>,
}

/// A batch whose records cannot be read.
#[derive(Debug)]
pub(crate) struct BrokenBatch {
    /// The offset of its first record that is not read.
    pub(crate) offset: Offset,
    /// How many records it says it holds from there on.
    pub(crate) records: u64,
    /// Why.
    pub(crate) reason: String,
}

impl Slice {
    /// Reads from `from` on. Headers are kept only if `with_headers`.
    pub(crate) fn read(
        partition: &Partition,
        from: Offset,
        end: SliceEnd,
        with_headers: bool,
    ) -> Result<Slice, QueryFailure> {
        let mut slice = Slice { from, to: from, ..Slice::default() };
        let mut batch_bytes = 0;
        loop {
            let (bytes_max, stop) = match end {
                SliceEnd::AtMost { rows, bytes } => {
                    if slice.to > from && (slice.records.len() >= rows || batch_bytes >= bytes) {
                        break;
                    }
                    (bytes.saturating_sub(batch_bytes).clamp(1, READ_BYTES_MAX), Stop { to: Offset::MAX, rows })
                }
                SliceEnd::Exactly(to) if slice.to >= to => break,
                SliceEnd::Exactly(to) => (READ_BYTES_MAX, Stop { to, rows: usize::MAX }),
            };
            let (fetched, aborted) = partition
                .read_committed(slice.to, bytes_max, true)
                .map_err(|error| QueryFailure::fetch(partition.topic(), error))?;
            if fetched.len == 0 {
                break;
            }
            batch_bytes += fetched.len;
            let before = slice.to;
            for chunk in &fetched.chunks {
                slice.add(chunk, &aborted, stop, with_headers)?;
            }
            if slice.to == before {
                break;
            }
        }
        match end {
            SliceEnd::Exactly(to) if slice.to != to => Err(QueryFailure::Steps(format!(
                "records {} to {} of {} are needed again, but only those below {} are there",
                from,
                to - 1,
                partition.name(),
                slice.to
            ))),
            _ => Ok(slice),
        }
    }

    /// Adds the batches of `bytes`, up to the one with which enough is there.
    fn add(
        &mut self,
        bytes: &[u8],
        aborted: &AbortedTransactions,
        stop: Stop,
        with_headers: bool,
    ) -> Result<(), QueryFailure> {
        let mut rest = batches(bytes).peekable();
        while let Some(batch) = rest.next() {
            let batch = batch.map_err(|error| QueryFailure::Steps(format!("the log holds a bad batch: {error}")))?;
            // A disk that gives other bytes than it was given must not make results. It costs 0.02 s a GB.
            let whole = verify_crc(batch.bytes);
            let mut next = batch.header.next_offset();
            if whole.is_err()
                && let Some(Ok(following)) = rest.peek()
            {
                // What a bad header says of its last offset would skip good batches.
                next = following.header.base_offset.max(self.to + 1);
            }
            if next <= self.to {
                continue;
            }
            if self.to >= stop.to || (self.to > self.from && self.records.len() >= stop.rows) {
                return Ok(());
            }
            let to = next.min(stop.to);
            if !batch.header.is_control() && !aborted.covers(&batch.header) {
                self.add_records(&batch, whole, to, with_headers);
            }
            self.to = to;
        }
        Ok(())
    }

    fn add_records(
        &mut self,
        batch: &millpond_records::BatchView<'_>,
        whole: Result<(), BatchError>,
        to: Offset,
        with_headers: bool,
    ) {
        let mut next = self.to;
        let records = whole.and_then(|()| batch.records(DECOMPRESSED_BYTES_MAX));
        let outcome = records.and_then(|mut records| {
            records.for_each(|record| {
                if record.offset < next || record.offset >= to {
                    return;
                }
                next = record.offset + 1;
                let first_header = self.headers.len();
                if with_headers {
                    for (key, value) in record.headers() {
                        let header =
                            Header { key: keep(&mut self.bytes, key), value: value.map(|v| keep(&mut self.bytes, v)) };
                        self.headers.push(header);
                    }
                }
                self.records.push(Record {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.map(|key| keep(&mut self.bytes, key)),
                    value: record.value.map(|value| keep(&mut self.bytes, value)),
                    headers: first_header..self.headers.len(),
                });
            })
        });
        if let Err(error) = outcome {
            let records = u64::try_from(to - next).unwrap_or(0);
            self.broken.push(BrokenBatch { offset: next, records, reason: error.to_string() });
        }
    }

    /// How many records it holds.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// What it takes in memory, bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.capacity()
            + self.records.capacity() * size_of::<Record>()
            + self.headers.capacity() * size_of::<Header>()
    }

    /// The offset of a record.
    pub(crate) fn offset(&self, record: usize) -> Offset {
        self.records[record].offset
    }

    /// The timestamp of a record.
    pub(crate) fn timestamp(&self, record: usize) -> TimestampMs {
        self.records[record].timestamp
    }

    /// The key of a record.
    pub(crate) fn key(&self, record: usize) -> Option<&[u8]> {
        self.records[record].key.clone().map(|range| &self.bytes[range])
    }

    /// The value of a record.
    pub(crate) fn value(&self, record: usize) -> Option<&[u8]> {
        self.records[record].value.clone().map(|range| &self.bytes[range])
    }

    /// The values of all records.
    pub(crate) fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.records.iter().map(|record| record.value.clone().map(|range| &self.bytes[range]))
    }

    /// The headers of a record.
    pub(crate) fn headers(&self, record: usize) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.headers[self.records[record].headers.clone()]
            .iter()
            .map(|header| (&self.bytes[header.key.clone()], header.value.clone().map(|range| &self.bytes[range])))
    }

    /// Value and timestamp of the record at `offset`, if it is in here.
    pub(crate) fn record_at(&self, offset: Offset) -> Option<(Option<&[u8]>, TimestampMs)> {
        let record = self.records.binary_search_by_key(&offset, |record| record.offset).ok()?;
        Some((self.value(record), self.timestamp(record)))
    }
}

fn keep(bytes: &mut Vec<u8>, part: &[u8]) -> Range<usize> {
    let start = bytes.len();
    bytes.extend_from_slice(part);
    start..bytes.len()
}
