//! The groups of one window as far as they come from one origin: keys and accumulators.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use millpond_types::TimestampMs;

use super::chunk::batch_of;
use super::distinct_count::DistinctCount;
use super::key_table::KeyTable;
use crate::plan::AggregatePlan;

/// The version of the stored form.
const VERSION: u8 = 1;
/// Version and greatest timestamp.
const STORED_HEADER_LEN: usize = 9;

/// How to make the accumulators of a window.
#[derive(Debug)]
pub(crate) struct AggregateSet {
    makers: Vec<Maker>,
    /// The types of each aggregate's state columns; the stored form has them one after the other.
    state_types: Vec<Vec<DataType>>,
}

/// Where an aggregate's accumulators come from.
#[derive(Debug)]
enum Maker {
    /// DataFusion has one for all groups together.
    Grouped(Arc<AggregateFunctionExpr>),
    /// DataFusion has one for a single group only; there is one of these per group.
    Single(Arc<AggregateFunctionExpr>),
    /// COUNT(DISTINCT …) of these types, which DataFusion would count with a hash set per group.
    Distinct(Vec<DataType>),
}

/// The arguments of one aggregate for some rows.
pub(crate) struct Arguments {
    pub(crate) values: Vec<ArrayRef>,
    pub(crate) filter: Option<BooleanArray>,
}

/// One origin's share of a window.
pub(crate) struct GroupState {
    pub(crate) keys: KeyTable,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// The greatest timestamp of a record that went in.
    pub(crate) timestamp_max: TimestampMs,
    /// Changed since the last checkpoint.
    pub(crate) dirty: bool,
    /// Whether the state store holds something of it.
    pub(crate) stored: bool,
    /// What it took in memory at the last look, bytes.
    pub(crate) bytes: usize,
}

impl AggregateSet {
    /// Of these aggregates over rows of `input`. Makes one set of accumulators, to see that it can be done.
    pub(crate) fn new(aggregates: &[AggregatePlan], input: &Schema) -> Result<AggregateSet> {
        let mut set = AggregateSet { makers: Vec::new(), state_types: Vec::new() };
        for plan in aggregates {
            let maker = Maker::new(&plan.function, input)?;
            set.state_types.push(maker.state_types()?);
            set.makers.push(maker);
        }
        set.accumulators()?;
        Ok(set)
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
        self.makers.iter().map(Maker::accumulator).collect()
    }
}

impl Maker {
    fn new(function: &Arc<AggregateFunctionExpr>, input: &Schema) -> Result<Maker> {
        if function.groups_accumulator_supported() {
            return Ok(Maker::Grouped(function.clone()));
        }
        if function.is_distinct() && function.fun().name() == "count" {
            let types =
                function.expressions().iter().map(|argument| argument.data_type(input)).collect::<Result<_>>()?;
            return Ok(Maker::Distinct(types));
        }
        Ok(Maker::Single(function.clone()))
    }

    fn state_types(&self) -> Result<Vec<DataType>> {
        match self {
            Maker::Grouped(function) | Maker::Single(function) => {
                Ok(function.state_fields()?.iter().map(|field| field.data_type().clone()).collect())
            }
            Maker::Distinct(_) => Ok(vec![DistinctCount::state_type()]),
        }
    }

    fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        match self {
            Maker::Grouped(function) => function.create_groups_accumulator(),
            Maker::Single(function) => {
                let function = function.clone();
                Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
            }
            Maker::Distinct(types) => Ok(Box::new(DistinctCount::new(types)?)),
        }
    }
}

impl GroupState {
    /// Without groups.
    pub(crate) fn new(set: &AggregateSet) -> Result<GroupState> {
        Ok(GroupState {
            keys: KeyTable::default(),
            accumulators: set.accumulators()?,
            timestamp_max: TimestampMs::MIN,
            dirty: false,
            stored: false,
            bytes: 0,
        })
    }

    /// Adds rows: the group of each, and each aggregate's arguments.
    pub(crate) fn update(
        &mut self,
        groups: &[usize],
        arguments: &[Arguments],
        timestamp_max: TimestampMs,
    ) -> Result<()> {
        let count = self.keys.len();
        for (accumulator, arguments) in self.accumulators.iter_mut().zip(arguments) {
            accumulator.update_batch(&arguments.values, groups, arguments.filter.as_ref(), count)?;
        }
        self.timestamp_max = self.timestamp_max.max(timestamp_max);
        self.dirty = true;
        Ok(())
    }

    /// Adds all of `other`, after what is here already.
    pub(crate) fn merge(&mut self, mut other: GroupState) -> Result<()> {
        let groups: Vec<usize> = (0..other.keys.len()).map(|group| self.keys.intern(other.keys.key(group)).0).collect();
        let count = self.keys.len();
        for (mine, theirs) in self.accumulators.iter_mut().zip(&mut other.accumulators) {
            mine.merge_batch(&theirs.state(EmitTo::All)?, &groups, count)?;
        }
        self.timestamp_max = self.timestamp_max.max(other.timestamp_max);
        Ok(())
    }

    /// The value of each aggregate, one per group in the order of their numbers.
    pub(crate) fn evaluate(&mut self) -> Result<Vec<ArrayRef>> {
        self.accumulators.iter_mut().map(|accumulator| accumulator.evaluate(EmitTo::All)).collect()
    }

    /// What it takes in memory now, bytes.
    pub(crate) fn size(&self) -> usize {
        self.keys.size() + self.accumulators.iter().map(|accumulator| accumulator.size()).sum::<usize>()
    }

    /// Takes the accumulators' state out and builds new ones from it, just as a restart would: what follows is the same
    /// with and without one. Gives the state columns, one list per aggregate.
    pub(crate) fn fold(&mut self, set: &AggregateSet) -> Result<Vec<Vec<ArrayRef>>> {
        let groups: Vec<usize> = (0..self.keys.len()).collect();
        let mut fresh = set.accumulators()?;
        let mut states = Vec::with_capacity(fresh.len());
        for (new, old) in fresh.iter_mut().zip(&mut self.accumulators) {
            let state = old.state(EmitTo::All)?;
            new.merge_batch(&state, &groups, groups.len())?;
            states.push(state);
        }
        self.accumulators = fresh;
        self.dirty = false;
        Ok(states)
    }

    /// The stored form of what [`GroupState::fold`] gave:
    ///
    /// ```text
    /// version (1 byte) | greatest timestamp (8 bytes, little-endian) | Arrow IPC stream of one batch
    /// ```
    ///
    /// The batch has a row per group: the key, then the state columns of each aggregate.
    pub(crate) fn encode(&self, states: &[Vec<ArrayRef>]) -> Result<Vec<u8>> {
        let keys: BinaryArray = (0..self.keys.len()).map(|group| Some(self.keys.key(group))).collect();
        let mut fields = vec![Field::new("key", DataType::Binary, false)];
        let mut columns: Vec<ArrayRef> = vec![Arc::new(keys)];
        for (aggregate, state) in states.iter().enumerate() {
            for (place, column) in state.iter().enumerate() {
                fields.push(Field::new(format!("{aggregate}.{place}"), column.data_type().clone(), true));
                columns.push(column.clone());
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let batch = batch_of(schema.clone(), columns, self.keys.len())?;
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.timestamp_max.to_le_bytes());
        let mut writer = StreamWriter::try_new(out, &schema)?;
        writer.write(&batch)?;
        Ok(writer.into_inner()?)
    }

    /// What was stored; an error says why it is none of this query's.
    pub(crate) fn decode(set: &AggregateSet, bytes: &[u8]) -> Result<GroupState, String> {
        let (header, ipc) = bytes.split_at_checked(STORED_HEADER_LEN).ok_or("it is too short")?;
        if header[0] != VERSION {
            return Err(format!("it has version {}, this Millpond reads version {VERSION}", header[0]));
        }
        let timestamp = header[1..].try_into().expect("eight bytes follow the version");
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut batches = StreamReader::try_new(Cursor::new(ipc), None).map_err(|error| text(&error))?;
        let batch = batches.next().ok_or("it holds no batch")?.map_err(|error| text(&error))?;
        let (found, expected) = (batch.num_columns(), 1 + set.state_types.iter().map(Vec::len).sum::<usize>());
        if found != expected {
            return Err(format!("it has {found} columns, the query's plan has {expected}"));
        }
        let mut state = GroupState::new(set).map_err(|error| text(&error))?;
        let keys = batch.column(0).as_binary_opt::<i32>().ok_or("its keys are no bytes")?;
        let groups: Vec<usize> = keys.iter().flatten().map(|key| state.keys.intern(key).0).collect();
        if groups.len() != batch.num_rows() || state.keys.len() != groups.len() {
            return Err("a key is missing or stands twice".to_owned());
        }
        let mut columns = batch.columns()[1..].iter();
        for (accumulator, types) in state.accumulators.iter_mut().zip(&set.state_types) {
            let columns: Vec<ArrayRef> = columns.by_ref().take(types.len()).cloned().collect();
            for (column, expected) in columns.iter().zip(types) {
                if !column.data_type().equals_datatype(expected) {
                    return Err(format!("a column is {}, the query's plan has {expected}", column.data_type()));
                }
            }
            accumulator.merge_batch(&columns, &groups, groups.len()).map_err(|error| text(&error))?;
        }
        state.timestamp_max = TimestampMs::from_le_bytes(timestamp);
        state.stored = true;
        state.bytes = state.size();
        Ok(state)
    }
}
