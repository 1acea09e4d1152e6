//! From result rows to batches of records.

use arrow::datatypes::Schema;
use millpond_formats::JsonEncoder;
use millpond_records::{BatchBuilder, BatchOptions, HEADER_LEN};
use millpond_types::TimestampMs;

use super::chunk::{Chunk, Origin, RowKind};
use super::failure::RowFailure;
use super::partitioner::partition_for;
use super::pipeline::Effects;
use crate::plan::SinkPlan;

/// A batch is closed before it grows beyond this many bytes, when the topic allows it.
const BATCH_BYTES_MAX: usize = 1_000_000;

/// Makes records of rows. The same rows give the same records, whatever the steps were.
pub(crate) struct Sink {
    plan: SinkPlan,
    value: JsonEncoder,
    key: Option<JsonEncoder>,
    batch_bytes_max: usize,
    value_bytes: Vec<u8>,
    key_bytes: Vec<u8>,
}

/// What a step writes to one partition.
#[derive(Default)]
pub(crate) struct PartitionOutput {
    full: Vec<Vec<u8>>,
    open: Option<BatchBuilder>,
    /// How many records there are in all batches.
    pub(crate) records: u64,
    /// Bytes of the full batches.
    bytes: usize,
}

impl Sink {
    /// For rows of `schema`; an error says what cannot be written. `batch_bytes_max` is the topic's limit.
    pub(crate) fn new(plan: SinkPlan, schema: &Schema, batch_bytes_max: usize) -> Result<Sink, String> {
        let key = match plan.key_columns.is_empty() {
            true => None,
            false => Some(JsonEncoder::of_columns(schema, &plan.key_columns).map_err(|error| error.to_string())?),
        };
        let value = JsonEncoder::new(schema).map_err(|error| error.to_string())?;
        let batch_bytes_max = batch_bytes_max.min(BATCH_BYTES_MAX);
        Ok(Sink { plan, value, key, batch_bytes_max, value_bytes: Vec::new(), key_bytes: Vec::new() })
    }

    /// Adds the rows of `chunk` to the output of their partitions.
    ///
    /// New and updated rows are records. Of an update the row before it needs no record, since the one after has the
    /// same key; a row that is gone is a tombstone of its key. Without a key neither can be said, and the
    /// planner lets only queries through that never say it.
    pub(crate) fn write(&mut self, chunk: &Chunk, outputs: &mut [PartitionOutput], effects: &mut Effects) {
        let count = self.plan.partition_count;
        let unkeyed = match chunk.origin {
            Origin::Partition { partition, .. } => partition.rem_euclid(count.max(1)),
            Origin::Windows { .. } => 0,
        };
        for row in 0..chunk.len() {
            self.key_bytes.clear();
            let key = match &mut self.key {
                None => None,
                Some(encoder) => {
                    encoder.encode(&chunk.batch, row, &mut self.key_bytes);
                    Some(self.key_bytes.as_slice())
                }
            };
            let value = match chunk.kinds.kind(row) {
                RowKind::UpdateBefore if key.is_some() => continue,
                RowKind::Delete if key.is_some() => None,
                RowKind::UpdateBefore | RowKind::Delete => panic!("a query without a key took a result back"),
                RowKind::Insert | RowKind::UpdateAfter => {
                    self.value_bytes.clear();
                    self.value.encode(&chunk.batch, row, &mut self.value_bytes);
                    Some(self.value_bytes.as_slice())
                }
            };
            let size = BatchBuilder::record_size_max(key, value, &[]);
            if HEADER_LEN + size > self.batch_bytes_max {
                effects.failures.push(RowFailure {
                    origin: chunk.origin,
                    offset: chunk.offset(row),
                    column: None,
                    reason: format!(
                        "its result would be a record of {size} bytes, more than the {} that fit a batch of the topic",
                        self.batch_bytes_max - HEADER_LEN
                    ),
                    row: None,
                });
                continue;
            }
            let partition = key.map_or(unkeyed, |key| partition_for(key, count));
            outputs[partition as usize].push(chunk.timestamp(row), key, value, size, self.batch_bytes_max);
        }
    }
}

impl PartitionOutput {
    /// Adds a record of at most `size` bytes.
    pub(crate) fn push(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        size: usize,
        batch_bytes_max: usize,
    ) {
        if self.open.as_ref().is_some_and(|open| open.size_estimate() + size > batch_bytes_max) {
            self.close();
        }
        let open = self.open.get_or_insert_with(|| BatchBuilder::new(BatchOptions::default()));
        open.push(timestamp, key, value, &[]);
        self.records += 1;
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let batch = open.build();
            self.bytes += batch.len();
            self.full.push(batch);
        }
    }

    /// What it takes in memory, bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes + self.open.as_ref().map_or(0, BatchBuilder::size_estimate)
    }

    /// The batches, in order.
    pub(crate) fn into_batches(mut self) -> Vec<Vec<u8>> {
        self.close();
        self.full
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray, UInt8Array};
    use arrow::datatypes::{DataType, Field};
    use millpond_records::batches;

    use super::*;
    use crate::plan::StartPosition;
    use crate::run::chunk::{RowKinds, batch_of};

    fn chunk(rows: &[(i64, &str)], kinds: RowKinds) -> Chunk {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("v", DataType::Utf8, true)]);
        let ids = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
        let values = StringArray::from_iter_values(rows.iter().map(|row| row.1));
        Chunk {
            batch: batch_of(Arc::new(schema), vec![Arc::new(ids), Arc::new(values)], rows.len()).unwrap(),
            origin: Origin::Partition { source: 0, partition: 5 },
            kinds,
            offsets: Some(Int64Array::from_iter_values(0..rows.len() as i64)),
            timestamps: Int64Array::from_iter_values(1000..1000 + rows.len() as i64),
            watermarks: None,
        }
    }

    fn sink(key_columns: &[usize], partition_count: i32, batch_bytes_max: usize, schema: &Schema) -> Sink {
        let plan = SinkPlan {
            topic: "out".parse().unwrap(),
            partition_count,
            key_columns: key_columns.to_vec(),
            start: StartPosition::Earliest,
        };
        Sink::new(plan, schema, batch_bytes_max).unwrap()
    }

    /// Timestamp, key and value.
    type Found = (i64, Option<String>, Option<String>);

    fn records(outputs: Vec<PartitionOutput>) -> Vec<Vec<Found>> {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let all = outputs.into_iter().map(|output| {
            let mut found = Vec::new();
            for bytes in output.into_batches() {
                for batch in batches(&bytes) {
                    let mut records = batch.unwrap().records(1 << 20).unwrap();
                    records.for_each(|r| found.push((r.timestamp, text(r.key), text(r.value)))).unwrap();
                }
            }
            found
        });
        all.collect()
    }

    #[test]
    fn changes_of_a_keyed_result_become_upserts_and_tombstones() {
        let kinds = RowKinds::Each(UInt8Array::from(vec![0, 1, 2, 3]));
        let chunk = chunk(&[(1, "a"), (1, "a"), (1, "b"), (1, "b")], kinds);
        let mut outputs = vec![PartitionOutput::default()];
        let mut effects = Effects::default();
        sink(&[0], 1, 1000, &chunk.batch.schema()).write(&chunk, &mut outputs, &mut effects);
        let key = Some(r#"{"id":1}"#.to_owned());
        let expected = [
            (1000, key.clone(), Some(r#"{"id":1,"v":"a"}"#.to_owned())),
            (1002, key.clone(), Some(r#"{"id":1,"v":"b"}"#.to_owned())),
            (1003, key, None),
        ];
        assert_eq!(records(outputs), [expected]);
        assert_eq!(effects.failures, []);
    }

    #[test]
    fn rows_without_a_key_follow_their_input_partition_and_fill_batch_after_batch() {
        let rows: Vec<(i64, &str)> = (0..100).map(|id| (id, "some text")).collect();
        let chunk = chunk(&rows, RowKinds::AllInsert);
        let mut outputs: Vec<PartitionOutput> = (0..3).map(|_| PartitionOutput::default()).collect();
        sink(&[], 3, 300, &chunk.batch.schema()).write(&chunk, &mut outputs, &mut Effects::default());
        assert_eq!(outputs[2].records, 100, "partition 5 of 3");
        assert!(outputs[2].full.len() > 10);
        assert!(outputs[2].full.iter().all(|batch| batch.len() <= 300));
        let found = records(outputs);
        assert_eq!(found[2].iter().map(|record| record.0).collect::<Vec<_>>(), (1000..1100).collect::<Vec<_>>());
    }

    #[test]
    fn a_row_that_fits_no_batch_fails_alone() {
        let long = "x".repeat(300);
        let chunk = chunk(&[(1, "a"), (2, &long), (3, "c")], RowKinds::AllInsert);
        let mut outputs = vec![PartitionOutput::default()];
        let mut effects = Effects::default();
        sink(&[], 1, 300, &chunk.batch.schema()).write(&chunk, &mut outputs, &mut effects);
        assert_eq!(outputs[0].records, 2);
        assert_eq!(effects.failures.len(), 1);
        assert_eq!(effects.failures[0].offset, Some(1));
    }
}
