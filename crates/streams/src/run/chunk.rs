//! Rows on their way through the operators.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt8Array, UInt32Array,
};
use arrow::compute::{FilterBuilder, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use millpond_types::{Offset, PartitionIndex, TimestampMs};

/// What a row says about the result it belongs to; Flink's four kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RowKind {
    /// The row is new (+I).
    Insert = 0,
    /// The row as it was, before an update (−U).
    UpdateBefore = 1,
    /// The row as it is, after an update (+U).
    UpdateAfter = 2,
    /// The row is gone (−D).
    Delete = 3,
}

impl RowKind {
    fn from_code(code: u8) -> RowKind {
        match code {
            0 => RowKind::Insert,
            1 => RowKind::UpdateBefore,
            2 => RowKind::UpdateAfter,
            3 => RowKind::Delete,
            other => panic!("{other} is no kind of row"),
        }
    }
}

/// The kinds of a chunk's rows.
#[derive(Debug, Clone)]
pub(crate) enum RowKinds {
    /// All rows are new: so it is in every query without updates, and costs nothing.
    AllInsert,
    /// One code of a [`RowKind`] a row.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the operators of this version only insert; sinks and chunks know all kinds")
    )]
    Each(UInt8Array),
}

impl RowKinds {
    /// The kind of one row.
    pub(crate) fn kind(&self, row: usize) -> RowKind {
        match self {
            RowKinds::AllInsert => RowKind::Insert,
            RowKinds::Each(codes) => RowKind::from_code(codes.value(row)),
        }
    }
}

/// Where rows come from. The order is the one in which state of several origins is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Origin {
    /// Records of one input partition.
    Partition {
        /// Place of the source in the plan.
        source: u32,
        /// Which partition of its topic.
        partition: PartitionIndex,
    },
    /// Closed windows of an operator below.
    Windows {
        /// The operator's number.
        operator: u16,
    },
}

/// Rows of one origin, in their order there, with what the operators have to know of each besides its columns.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// The columns.
    pub(crate) batch: RecordBatch,
    /// Where all its rows come from.
    pub(crate) origin: Origin,
    /// What the rows say.
    pub(crate) kinds: RowKinds,
    /// The records' offsets; for rows of closed windows there are none.
    pub(crate) offsets: Option<Int64Array>,
    /// The timestamps that records made of the rows will have.
    pub(crate) timestamps: Int64Array,
    /// The origin's watermark before each row; absent where none is declared and for rows of closed windows.
    pub(crate) watermarks: Option<Int64Array>,
}

impl Chunk {
    /// How many rows.
    pub(crate) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record that a row comes from.
    pub(crate) fn offset(&self, row: usize) -> Option<Offset> {
        self.offsets.as_ref().map(|offsets| offsets.value(row))
    }

    /// The timestamp of a row's record.
    pub(crate) fn timestamp(&self, row: usize) -> TimestampMs {
        self.timestamps.value(row)
    }

    /// Only the rows where `mask` is true; not where it is NULL.
    pub(crate) fn filter(&self, mask: &BooleanArray) -> Result<Chunk, ArrowError> {
        let predicate = FilterBuilder::new(mask).optimize().build();
        if predicate.count() == self.len() {
            return Ok(self.clone());
        }
        self.map(predicate.count(), |array| predicate.filter(array))
    }

    /// The rows with these numbers, in this order; a number may repeat.
    pub(crate) fn take(&self, rows: &UInt32Array) -> Result<Chunk, ArrowError> {
        self.map(rows.len(), |array| take(array, rows, None))
    }

    /// `len` rows from row `from` on, without a copy.
    pub(crate) fn slice(&self, from: usize, len: usize) -> Chunk {
        Chunk {
            batch: self.batch.slice(from, len),
            origin: self.origin,
            kinds: match &self.kinds {
                RowKinds::AllInsert => RowKinds::AllInsert,
                RowKinds::Each(codes) => RowKinds::Each(codes.slice(from, len)),
            },
            offsets: self.offsets.as_ref().map(|offsets| offsets.slice(from, len)),
            timestamps: self.timestamps.slice(from, len),
            watermarks: self.watermarks.as_ref().map(|watermarks| watermarks.slice(from, len)),
        }
    }

    /// The same rows with other columns.
    pub(crate) fn with_columns(self, schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<Chunk, ArrowError> {
        let rows = self.len();
        Ok(Chunk { batch: batch_of(schema, columns, rows)?, ..self })
    }

    fn map(
        &self,
        rows: usize,
        apply: impl Fn(&dyn Array) -> Result<ArrayRef, ArrowError>,
    ) -> Result<Chunk, ArrowError> {
        let columns = self.batch.columns().iter().map(|column| apply(column)).collect::<Result<Vec<_>, _>>()?;
        let numbers =
            |array: &Int64Array| -> Result<Int64Array, ArrowError> { Ok(Int64Array::from(apply(array)?.to_data())) };
        Ok(Chunk {
            batch: batch_of(self.batch.schema(), columns, rows)?,
            origin: self.origin,
            kinds: match &self.kinds {
                RowKinds::AllInsert => RowKinds::AllInsert,
                RowKinds::Each(codes) => RowKinds::Each(UInt8Array::from(apply(codes)?.to_data())),
            },
            offsets: self.offsets.as_ref().map(numbers).transpose()?,
            timestamps: numbers(&self.timestamps)?,
            watermarks: self.watermarks.as_ref().map(numbers).transpose()?,
        })
    }
}

/// What a column's rows take in memory, about, in bytes; not what lies before and behind them in the same buffers.
pub(crate) fn column_bytes(column: &ArrayRef) -> usize {
    let viewed = match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
        _ => 0,
    };
    viewed + column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
}

/// A batch that knows its number of rows even when it has no columns.
pub(crate) fn batch_of(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new().with_row_count(Some(rows)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn chunk() -> Chunk {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        Chunk {
            batch: batch_of(schema, vec![Arc::new(Int64Array::from(vec![10, 11, 12, 13]))], 4).unwrap(),
            origin: Origin::Partition { source: 0, partition: 0 },
            kinds: RowKinds::Each(UInt8Array::from(vec![0, 1, 2, 3])),
            offsets: Some(Int64Array::from(vec![100, 101, 102, 103])),
            timestamps: Int64Array::from(vec![1, 2, 3, 4]),
            watermarks: Some(Int64Array::from(vec![5, 6, 7, 8])),
        }
    }

    fn check(chunk: &Chunk, expected: &[i64]) {
        let numbers = Int64Array::from(chunk.batch.column(0).to_data());
        assert_eq!(numbers.values(), &expected.iter().map(|row| row + 10).collect::<Vec<_>>()[..]);
        for (row, expected) in expected.iter().enumerate() {
            assert_eq!(chunk.offset(row), Some(expected + 100));
            assert_eq!(chunk.timestamp(row), expected + 1);
            assert_eq!(chunk.watermarks.as_ref().unwrap().value(row), expected + 5);
            assert_eq!(chunk.kinds.kind(row) as i64, *expected);
        }
    }

    #[test]
    fn what_is_known_of_a_row_stays_with_it() {
        let mask = BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]);
        check(&chunk().filter(&mask).unwrap(), &[0, 3]);
        check(&chunk().filter(&BooleanArray::from(vec![true; 4])).unwrap(), &[0, 1, 2, 3]);
        check(&chunk().take(&UInt32Array::from(vec![2, 2, 1])).unwrap(), &[2, 2, 1]);
        check(&chunk().slice(1, 2), &[1, 2]);
    }

    #[test]
    fn a_chunk_without_columns_keeps_its_rows() {
        let bare = chunk().with_columns(Arc::new(Schema::empty()), Vec::new()).unwrap();
        assert_eq!(bare.len(), 4);
        let mask = BooleanArray::from(vec![true, false, false, true]);
        assert_eq!(bare.filter(&mask).unwrap().len(), 2);
    }
}
