//! Aggregates per window and group.
//!
//! State is kept per window *and origin* (input partition), and merged in the order of the origins when the window
//! closes. So what a window gives depends on what each partition holds and on nothing else: not on how the
//! partitions' records were interleaved, nor on how the steps were cut. That also fixes the order in which
//! floating-point numbers are added.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, TimestampMillisecondArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Schema, TimestampMillisecondType};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::HashMap;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use millpond_types::TimestampMs;

use super::chunk::{Chunk, Origin, RowKinds, batch_of, column_bytes};
use super::failure::{QueryFailure, evaluate_or_bisect};
use super::group_state::{AggregateSet, Arguments, GroupState};
use super::pipeline::Effects;
use crate::plan;

pub(crate) const OPERATOR: &str = "the window aggregation";

/// A window: end before start, so that windows sort as they leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WindowBounds {
    pub(crate) end: TimestampMs,
    pub(crate) start: TimestampMs,
}

/// The operator: its plan and its open windows.
pub(crate) struct WindowAggregate {
    /// Its number in the plan, under which its state is stored.
    pub(crate) operator: u16,
    plan: plan::WindowAggregate,
    pub(crate) set: AggregateSet,
    /// None for an aggregate without groups: then every window has one.
    converter: Option<RowConverter>,
    pub(crate) windows: BTreeMap<WindowBounds, BTreeMap<Origin, GroupState>>,
    /// Windows that end up to 1 ms after this are closed.
    pub(crate) closed_to: TimestampMs,
    /// What the state store holds of windows that are closed.
    pub(crate) stored_but_closed: Vec<(WindowBounds, Origin)>,
    /// What all windows take, bytes.
    bytes: usize,
    scratch: Vec<usize>,
}

/// A chunk with all its expressions evaluated.
struct Evaluated {
    chunk: Chunk,
    keys: Option<Rows>,
    arguments: Vec<Arguments>,
    /// What groups and arguments take in memory.
    bytes: usize,
}

/// Which rows of a chunk go into one window.
struct Selection {
    window: WindowBounds,
    rows: Vec<u32>,
}

impl WindowAggregate {
    /// Of a plan, over rows of `input`.
    pub(crate) fn new(operator: u16, plan: plan::WindowAggregate, input: &Schema) -> Result<WindowAggregate> {
        let types = plan.groups.iter().map(|group| group.data_type(input)).collect::<Result<Vec<_>>>()?;
        let fields: Vec<SortField> = types.into_iter().map(SortField::new).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        for time in [plan.window_start, plan.window_end] {
            let found = input.field(time).data_type();
            if !matches!(found, DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)) {
                return Err(DataFusionError::Plan(format!("a window's bound is {found}, not TIMESTAMP(3)")));
            }
        }
        let set = AggregateSet::new(&plan.aggregates, input)?;
        Ok(WindowAggregate {
            operator,
            plan,
            set,
            converter,
            windows: BTreeMap::new(),
            closed_to: TimestampMs::MIN,
            stored_but_closed: Vec::new(),
            bytes: 0,
            scratch: Vec::new(),
        })
    }

    /// What its windows take in memory, bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many windows are open.
    pub(crate) fn open_windows(&self) -> usize {
        self.windows.len()
    }

    /// Takes rows in. A query fails whose windows hold more than `bytes_max` then.
    pub(crate) fn push(&mut self, chunk: Chunk, bytes_max: usize, effects: &mut Effects) -> Result<(), QueryFailure> {
        let (mut good, mut bytes, mut too_large) = (Vec::with_capacity(1), 0, false);
        let mut evaluate = |chunk: &Chunk| {
            // Of rows that failed together, parts can succeed that together are too much: none is begun then.
            if bytes > bytes_max {
                too_large = true;
                return Err(DataFusionError::ResourcesExhausted(String::new()));
            }
            let evaluated = self.evaluate(chunk)?;
            bytes += evaluated.bytes;
            Ok(evaluated)
        };
        evaluate_or_bisect(chunk, &mut evaluate, &mut good, &mut effects.failures);
        if too_large {
            return Err(QueryFailure::Memory(format!(
                "the arguments of its aggregates take more than query_memory_bytes_max = {bytes_max} bytes at a time"
            )));
        }
        effects.argument_bytes += bytes;
        for evaluated in good {
            effects.rows_late += self.add(&evaluated, bytes_max)?;
        }
        Ok(())
    }

    fn evaluate(&self, chunk: &Chunk) -> Result<Evaluated> {
        let rows = chunk.len();
        let column = |expression: &Arc<dyn PhysicalExpr>| expression.evaluate(&chunk.batch)?.into_array(rows);
        let groups = self.plan.groups.iter().map(column).collect::<Result<Vec<_>>>()?;
        let keys = self.converter.as_ref().map(|converter| converter.convert_columns(&groups)).transpose()?;
        let arguments = self.plan.aggregates.iter().map(|aggregate| {
            let expressions = aggregate.function.all_expressions();
            let values =
                expressions.args.iter().chain(&expressions.order_by_exprs).map(column).collect::<Result<_>>()?;
            let filter = match &aggregate.filter {
                None => None,
                Some(filter) => {
                    let mask = column(filter)?;
                    let mask =
                        if mask.data_type() == &DataType::Boolean { mask } else { cast(&mask, &DataType::Boolean)? };
                    Some(mask.as_boolean().clone())
                }
            };
            Ok(Arguments { values, filter })
        });
        let arguments: Vec<Arguments> = arguments.collect::<Result<_>>()?;
        let columns = groups.iter().chain(arguments.iter().flat_map(|argument| &argument.values));
        let bytes = columns.map(|column| column_bytes(column)).sum();
        Ok(Evaluated { chunk: chunk.clone(), keys, arguments, bytes })
    }

    /// Adds evaluated rows to their windows. Gives how many were late.
    fn add(&mut self, evaluated: &Evaluated, bytes_max: usize) -> Result<u64, QueryFailure> {
        let failed = QueryFailure::operator(OPERATOR);
        let (selections, late) = self.select(&evaluated.chunk).map_err(&failed)?;
        for selection in &selections {
            self.add_to_window(evaluated, selection).map_err(&failed)?;
            // At once: a row can go into a thousand windows, and an accumulator take 16 KB in each.
            if self.bytes > bytes_max {
                return Err(windows_too_large(self.open_windows(), self.bytes, bytes_max));
            }
        }
        Ok(late)
    }

    fn add_to_window(&mut self, evaluated: &Evaluated, selection: &Selection) -> Result<()> {
        let (chunk, rows) = (&evaluated.chunk, &selection.rows);
        let state = match self.windows.entry(selection.window).or_default().entry(chunk.origin) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(GroupState::new(&self.set)?),
        };
        self.scratch.clear();
        match &evaluated.keys {
            None => {
                state.keys.intern(&[]);
                self.scratch.resize(rows.len(), 0);
            }
            Some(keys) => {
                self.scratch.extend(rows.iter().map(|row| state.keys.intern(keys.row(*row as usize).data()).0));
            }
        }
        let arguments = select_arguments(&evaluated.arguments, rows, chunk.len())?;
        let timestamp_max = rows.iter().map(|row| chunk.timestamp(*row as usize)).max().unwrap_or(TimestampMs::MIN);
        state.update(&self.scratch, &arguments, timestamp_max)?;
        let bytes = state.size();
        self.bytes = self.bytes + bytes - std::mem::replace(&mut state.bytes, bytes);
        Ok(())
    }

    /// Sorts rows by window, in their order, and leaves out those that are late.
    fn select(&self, chunk: &Chunk) -> Result<(Vec<Selection>, u64)> {
        let bound = |column: usize| chunk.batch.column(column).as_primitive::<TimestampMillisecondType>();
        let (starts, ends) = (bound(self.plan.window_start), bound(self.plan.window_end));
        if starts.null_count() + ends.null_count() > 0 {
            return Err(DataFusionError::Execution("a row has no window".to_owned()));
        }
        let mut selections: Vec<Selection> = Vec::new();
        let mut places: HashMap<WindowBounds, usize> = HashMap::new();
        let mut last: Option<(WindowBounds, usize)> = None;
        let mut late = 0;
        for row in 0..chunk.len() {
            let window = WindowBounds { end: ends.value(row), start: starts.value(row) };
            let passed = chunk.watermarks.as_ref().map_or(self.closed_to, |marks| marks.value(row).max(self.closed_to));
            if passed >= window.end.saturating_sub(1) {
                late += 1;
                continue;
            }
            let place = match last {
                Some((known, place)) if known == window => place,
                _ => *places.entry(window).or_insert_with(|| {
                    selections.push(Selection { window, rows: Vec::new() });
                    selections.len() - 1
                }),
            };
            last = Some((window, place));
            selections[place].rows.push(row as u32);
        }
        Ok((selections, late))
    }

    /// Closes the windows that `watermark` has passed, and gives their rows, in the order (end, start, key).
    pub(crate) fn close(&mut self, watermark: TimestampMs) -> Result<Vec<Chunk>, QueryFailure> {
        let mut closed = Vec::new();
        while let Some(entry) =
            self.windows.first_entry().filter(|entry| entry.key().end.saturating_sub(1) <= watermark)
        {
            let (window, inputs) = entry.remove_entry();
            for (origin, state) in &inputs {
                self.bytes -= state.bytes;
                if state.stored {
                    self.stored_but_closed.push((window, *origin));
                }
            }
            closed.push(self.emit(window, inputs).map_err(QueryFailure::operator(OPERATOR))?);
        }
        self.closed_to = self.closed_to.max(watermark);
        Ok(closed)
    }

    fn emit(&self, window: WindowBounds, inputs: BTreeMap<Origin, GroupState>) -> Result<Chunk> {
        let mut inputs = inputs.into_values();
        let mut merged = inputs.next().expect("a window is made for a row");
        if let Some(second) = inputs.next() {
            // Into an empty one, so that the first is treated as the others are.
            let mut all = GroupState::new(&self.set)?;
            all.merge(merged)?;
            all.merge(second)?;
            inputs.try_for_each(|input| all.merge(input))?;
            merged = all;
        }
        let rows = merged.keys.len();
        let order = merged.keys.sorted();
        let time = |value: TimestampMs| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(vec![value; rows])) };
        let mut columns = vec![time(window.start), time(window.end)];
        if let Some(converter) = &self.converter {
            let parser = converter.parser();
            columns.extend(
                converter.convert_rows(order.iter().map(|group| parser.parse(merged.keys.key(*group as usize))))?,
            );
        }
        let timestamps = Int64Array::from(vec![merged.timestamp_max; rows]);
        let order = UInt32Array::from(order);
        for values in merged.evaluate()? {
            columns.push(take(&values, &order, None)?);
        }
        for (column, field) in columns.iter_mut().zip(self.plan.schema.fields()) {
            if column.data_type() != field.data_type() {
                *column = cast(column, field.data_type())?;
            }
        }
        Ok(Chunk {
            batch: batch_of(self.plan.schema.clone(), columns, rows)?,
            origin: Origin::Windows { operator: self.operator },
            kinds: RowKinds::AllInsert,
            offsets: None,
            timestamps,
            watermarks: None,
        })
    }

    /// Puts back what was stored.
    pub(crate) fn restore(&mut self, window: WindowBounds, origin: Origin, state: GroupState) {
        self.bytes += state.bytes;
        self.windows.entry(window).or_default().insert(origin, state);
    }

    /// Counts again what a window's share takes, after it was folded.
    pub(crate) fn recount(&mut self, before: usize, after: usize) {
        self.bytes = self.bytes + after - before;
    }
}

/// The failure of a query whose windows hold `needed` bytes.
pub(crate) fn windows_too_large(open_windows: usize, needed: usize, limit: usize) -> QueryFailure {
    QueryFailure::Memory(format!(
        "{open_windows} open windows of {OPERATOR} hold {needed} bytes, more than query_memory_bytes_max = {limit}. \
         Shorter windows, fewer groups, or a watermark that comes sooner bound them"
    ))
}

/// The arguments for `rows` of `of` rows; without a copy when the rows lie side by side, as they do when time goes on.
fn select_arguments(arguments: &[Arguments], rows: &[u32], of: usize) -> Result<Vec<Arguments>> {
    let first = rows.first().map_or(0, |row| *row as usize);
    let contiguous = rows.last().is_none_or(|last| *last as usize - first + 1 == rows.len());
    if contiguous && rows.len() == of {
        return Ok(arguments
            .iter()
            .map(|a| Arguments { values: a.values.clone(), filter: a.filter.clone() })
            .collect());
    }
    let indices = UInt32Array::from(if contiguous { Vec::new() } else { rows.to_vec() });
    let select = |array: &dyn Array| -> Result<ArrayRef> {
        if contiguous { Ok(array.slice(first, rows.len())) } else { Ok(take(array, &indices, None)?) }
    };
    let selected = arguments.iter().map(|argument| {
        let values = argument.values.iter().map(|values| select(values.as_ref())).collect::<Result<_>>()?;
        let filter = argument.filter.as_ref().map(|filter| select(filter)).transpose()?;
        Ok(Arguments { values, filter: filter.map(|filter| BooleanArray::from(filter.to_data())) })
    });
    selected.collect()
}
