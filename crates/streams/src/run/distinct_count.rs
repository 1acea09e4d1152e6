//! COUNT(DISTINCT …) of values that DataFusion has no grouped accumulator for, strings above all.
//!
//! DataFusion's own way out, one hash set a group, was measured at 8.5 KB a group; here all groups share one table, and a
//! value costs its bytes and some 20 more.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use arrow::row::{RowConverter, SortField};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::key_table::KeyTable;

/// Bytes of the group's number in front of each value in the table.
const GROUP_LEN: usize = 4;

/// Counts the distinct values of each group.
pub(crate) struct DistinctCount {
    converter: RowConverter,
    /// Group number, then the value's row encoding.
    seen: KeyTable,
    counts: Vec<i64>,
    scratch: Vec<u8>,
}

impl DistinctCount {
    /// Of values of these types, all of which must be there for a row to count.
    pub(crate) fn new(types: &[DataType]) -> Result<DistinctCount> {
        let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
        let converter = RowConverter::new(fields)?;
        Ok(DistinctCount { converter, seen: KeyTable::default(), counts: Vec::new(), scratch: Vec::new() })
    }

    /// The type of its state: per group the values' row encodings.
    pub(crate) fn state_type() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::Binary, false)))
    }

    fn see(&mut self, group: usize, value: &[u8]) {
        self.scratch.clear();
        self.scratch.extend_from_slice(&(group as u32).to_be_bytes());
        self.scratch.extend_from_slice(value);
        let (_, new) = self.seen.intern(&self.scratch);
        self.counts[group] += i64::from(new);
    }

    fn only_all(emit_to: EmitTo) -> Result<()> {
        match emit_to {
            EmitTo::All => Ok(()),
            EmitTo::First(_) => Err(DataFusionError::Internal("windows are emitted whole".to_owned())),
        }
    }
}

impl GroupsAccumulator for DistinctCount {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.counts.resize(groups, 0);
        let rows = self.converter.convert_columns(values)?;
        for (row, group) in group_indices.iter().enumerate() {
            let wanted = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if wanted && values.iter().all(|column| column.is_valid(row)) {
                self.see(*group, rows.row(row).data());
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        DistinctCount::only_all(emit_to)?;
        self.seen = KeyTable::default();
        Ok(Arc::new(Int64Array::from(std::mem::take(&mut self.counts))))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        DistinctCount::only_all(emit_to)?;
        let seen = std::mem::take(&mut self.seen);
        let counts = std::mem::take(&mut self.counts);
        // In the order of group and value, so that the same state has the same bytes.
        let values: BinaryArray =
            seen.sorted().iter().map(|entry| Some(&seen.key(*entry as usize)[GROUP_LEN..])).collect();
        let lengths = counts.iter().map(|count| *count as usize);
        let field = Arc::new(Field::new("item", DataType::Binary, false));
        let lists = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), Arc::new(values), None)?;
        Ok(vec![Arc::new(lists)])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], groups: usize) -> Result<()> {
        self.counts.resize(groups, 0);
        let [lists] = values else {
            return Err(DataFusionError::Internal("the state of a distinct count is one column".to_owned()));
        };
        let lists = lists.as_list_opt::<i32>().ok_or_else(|| {
            DataFusionError::Internal(format!("the state of a distinct count is {}", lists.data_type()))
        })?;
        for (row, group) in group_indices.iter().enumerate() {
            let list = lists.value(row);
            for value in list.as_binary::<i32>().iter().flatten() {
                self.see(*group, value);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, _values: &[ArrayRef], _filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        Err(DataFusionError::NotImplemented("a distinct count of single rows".to_owned()))
    }

    fn size(&self) -> usize {
        self.seen.size() + self.counts.capacity() * size_of::<i64>() + self.converter.size()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    fn strings(values: &[Option<&str>]) -> Vec<ArrayRef> {
        vec![Arc::new(StringArray::from(values.to_vec()))]
    }

    fn counts(count: &mut DistinctCount) -> Vec<i64> {
        count.evaluate(EmitTo::All).unwrap().as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
    }

    #[test]
    fn values_count_once_a_group_and_null_not_at_all() {
        let mut count = DistinctCount::new(&[DataType::Utf8]).unwrap();
        let values = strings(&[Some("a"), Some("b"), Some("a"), None, Some("a"), Some("c")]);
        let wanted = BooleanArray::from(vec![Some(true), Some(true), Some(true), Some(true), Some(true), None]);
        count.update_batch(&values, &[0, 0, 0, 0, 2, 0], Some(&wanted), 3).unwrap();
        assert_eq!(counts(&mut count), [2, 0, 1]);
    }

    #[test]
    fn state_goes_round_and_is_merged_without_counting_twice() {
        let mut first = DistinctCount::new(&[DataType::Utf8]).unwrap();
        first.update_batch(&strings(&[Some("a"), Some("b"), Some("b")]), &[0, 0, 1], None, 2).unwrap();
        let state = first.state(EmitTo::All).unwrap();
        let mut second = DistinctCount::new(&[DataType::Utf8]).unwrap();
        second.update_batch(&strings(&[Some("b"), Some("z")]), &[0, 0], None, 1).unwrap();
        second.merge_batch(&state, &[0, 1], 2).unwrap();
        assert_eq!(counts(&mut second), [3, 1]);
    }
}
