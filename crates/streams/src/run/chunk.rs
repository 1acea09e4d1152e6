//! Rows on their way through the operators.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, OffsetSizeTrait, RecordBatch, RecordBatchOptions, UInt8Array,
    UInt32Array,
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

/// What a column's rows take in memory, about, in bytes: with what is nested in them, and without what lies before and
/// behind them in the same buffers. The same rows take the same, wherever they came from, since it decides how a step's
/// rows are cut.
pub(crate) fn column_bytes(column: &dyn Array) -> usize {
    let views = column.len() * size_of::<u128>();
    let values = match column.data_type() {
        DataType::Utf8View => views + column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => views + column.as_binary_view().total_buffer_bytes_used(),
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            elements_bytes(lists.value_offsets(), lists.values())
        }
        DataType::LargeList(_) => {
            let lists = column.as_list::<i64>();
            elements_bytes(lists.value_offsets(), lists.values())
        }
        DataType::Map(..) => {
            let maps = column.as_map();
            elements_bytes(maps.value_offsets(), maps.entries())
        }
        DataType::FixedSizeList(..) => column_bytes(column.as_fixed_size_list().values()),
        DataType::Struct(_) => column.as_struct().columns().iter().map(|field| column_bytes(field)).sum(),
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            column_bytes(dictionary.keys()) + column_bytes(dictionary.values())
        }
        _ => flat_bytes(column),
    };
    // Whether there is a bitmap when nothing is NULL is an accident.
    let validity = if column.null_count() == 0 { 0 } else { column.len().div_ceil(8) };
    values + validity
}

/// What lists take whose elements lie at `offsets` of `elements`: a slice of a column has all elements of the whole.
fn elements_bytes<O: OffsetSizeTrait>(offsets: &[O], elements: &dyn Array) -> usize {
    let place = |offset: Option<&O>| offset.map_or(0, |offset| offset.as_usize());
    let (from, to) = (place(offsets.first()), place(offsets.last()));
    size_of_val(offsets) + column_bytes(&elements.slice(from, to - from))
}

/// What the values of a column that is not nested take.
fn flat_bytes(column: &dyn Array) -> usize {
    let data = column.to_data();
    let validity = data.nulls().map_or(0, |nulls| nulls.len().div_ceil(8));
    match data.get_slice_memory_size() {
        Ok(bytes) => bytes - validity,
        Err(_) => column.get_array_memory_size(),
    }
}

/// A batch that knows its number of rows even when it has no columns.
pub(crate) fn batch_of(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new().with_row_count(Some(rows)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        DictionaryArray, FixedSizeListArray, ListArray, ListBuilder, MapBuilder, StringArray, StringBuilder,
        StringViewArray, StringViewBuilder, StructArray,
    };
    use arrow::datatypes::{Field, Int32Type, Int64Type, Schema};

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
    fn a_slice_takes_its_part_of_the_column() {
        let strings = StringArray::from_iter_values((0..100).map(|_| "x".repeat(1000)));
        assert_eq!(column_bytes(&strings), 101 * 4 + 100_000);
        assert_eq!(column_bytes(&strings.slice(90, 10)), 11 * 4 + 10_000);
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..100).map(|_| Some(vec![Some(7); 50])));
        assert_eq!(column_bytes(&lists), 101 * 4 + 100 * 50 * 8);
        assert_eq!(column_bytes(&lists.slice(40, 2)), 3 * 4 + 2 * 50 * 8);
        assert_eq!(column_bytes(&lists.slice(40, 0)), 4);
        let field = Arc::new(Field::new("lists", lists.data_type().clone(), true));
        let fixed = FixedSizeListArray::new(field.clone(), 10, Arc::new(lists.clone()), None);
        assert_eq!(column_bytes(&fixed.slice(9, 1)), column_bytes(&lists.slice(90, 10)));
        let structs = StructArray::from(vec![(field, Arc::new(lists.clone()) as ArrayRef)]);
        assert_eq!(column_bytes(&structs.slice(3, 4)), column_bytes(&lists.slice(3, 4)));
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for _ in 0..100 {
            maps.keys().append_value("key");
            maps.values().append_value("a value");
            maps.append(true).unwrap();
        }
        assert_eq!(column_bytes(&maps.finish().slice(5, 2)), 3 * 4 + 2 * (3 * 4) + 2 * 3 + 2 * 7);
        let dictionary: DictionaryArray<Int32Type> = ["a text", "another", "a text"].into_iter().collect();
        assert_eq!(column_bytes(&dictionary.slice(1, 1)), 4 + 3 * 4 + 13);
    }

    #[test]
    fn the_text_behind_nested_views_counts() {
        let long = "x".repeat(1000);
        let views: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..10).map(|_| &long)));
        assert_eq!(column_bytes(&views), 10 * 1016);
        assert_eq!(column_bytes(&views.slice(2, 3)), 3 * 1016);
        let field = Arc::new(Field::new("text", DataType::Utf8View, true));
        let structs = StructArray::from(vec![(field, views.clone())]);
        assert_eq!(column_bytes(&structs.slice(1, 2)), 2 * 1016);
        let mut lists = ListBuilder::new(StringViewBuilder::new());
        for count in [1, 2, 3, 4] {
            (0..count).for_each(|_| lists.values().append_value(&long));
            lists.append(true);
        }
        assert_eq!(column_bytes(&lists.finish().slice(1, 2)), 3 * 4 + 5 * 1016);
    }

    #[test]
    fn what_rows_take_does_not_tell_how_their_column_was_made() {
        let plain = Int64Array::from(vec![1; 100]);
        let with_bitmap = Int64Array::from((0..=100).map(|row| (row < 100).then_some(1)).collect::<Vec<_>>());
        assert_eq!(column_bytes(&with_bitmap), 101 * 8 + 13);
        assert_eq!(column_bytes(&with_bitmap.slice(0, 100)), 800);
        assert_eq!(column_bytes(&plain), 800);
    }

    #[test]
    fn a_chunk_without_columns_keeps_its_rows() {
        let bare = chunk().with_columns(Arc::new(Schema::empty()), Vec::new()).unwrap();
        assert_eq!(bare.len(), 4);
        let mask = BooleanArray::from(vec![true, false, false, true]);
        assert_eq!(bare.filter(&mask).unwrap().len(), 2);
    }
}
