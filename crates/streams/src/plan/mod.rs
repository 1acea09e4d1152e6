//! What a registered query does, as the planner says it and the runtime runs it.
//!
//! This is the boundary between the two halves of the crate. The planner (`sql`) turns a statement into a
//! [`StreamPlan`]; the runtime (`run`) executes it in steps and knows no SQL. Everything here is immutable once made.
//!
//! Expressions come from an analyzed and optimized logical plan, so that types are already coerced. They are
//! evaluated against the schema of the operator's input, and none of them reads a clock.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use millpond_types::TopicName;

/// A query that runs for ever: what it reads, what it computes, where the results go.
#[derive(Debug, Clone)]
pub struct StreamPlan {
    /// What is read; [`Operator::Source`] refers to these by place. A topic read twice stands here twice.
    pub sources: Vec<SourcePlan>,
    /// The last operator; its output's columns are the columns of the result.
    pub root: Operator,
    /// How results become records.
    pub sink: SinkPlan,
}

/// One topic as the query reads it.
#[derive(Debug, Clone)]
pub struct SourcePlan {
    /// The stream's name in the statement, for messages.
    pub stream: String,
    /// The topic that holds its records.
    pub topic: TopicName,
    /// How the records' values are encoded.
    pub format: Format,
    /// The columns that the query needs, no others, in the order of [`SourcePlan::schema`].
    pub columns: Vec<SourceColumn>,
    /// The columns' names and types.
    pub schema: SchemaRef,
    /// How event time passes; without one, windows over this source cannot close and are refused by the planner.
    pub watermark: Option<WatermarkPlan>,
}

/// How a record's value is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a record.
    Json,
}

/// One column of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceColumn {
    /// Its name in the query.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Where its values come from.
    pub origin: ColumnOrigin,
}

/// Where the values of a source's column come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnOrigin {
    /// A field of the record's value.
    Value {
        /// The field's name in the value.
        field: String,
    },
    /// The record's key; as text (invalid UTF-8 is a decoding failure) or as bytes, by the column's type.
    Key,
    /// The partition's index, Int32.
    Partition,
    /// The record's offset, Int64.
    Offset,
    /// The record's timestamp, Timestamp(ms).
    Timestamp,
    /// The record's headers, Map<Utf8, Binary>.
    Headers,
}

/// The declared watermark of a source.
#[derive(Debug, Clone)]
pub struct WatermarkPlan {
    /// The event time column's place in the source's schema, of type Timestamp(ms). A row where it is NULL fails.
    pub time_column: usize,
    /// What the watermark is when this row has been seen, over the source's schema, Timestamp(ms): `ts - INTERVAL …`.
    /// The partition's watermark is the greatest value so far.
    pub expression: Arc<dyn PhysicalExpr>,
}

/// One step of the computation. A tree: every operator owns its inputs.
#[derive(Debug, Clone)]
pub enum Operator {
    /// The rows of `sources[index]`.
    Source {
        /// Which source.
        index: usize,
    },
    /// A filter, then a projection, both without state.
    Calc(Calc),
    /// Puts each row into its windows: adds the columns `window_start`, `window_end`, `window_time`; no state.
    WindowAssign(WindowAssign),
    /// Aggregates per window and group; a window's rows leave when the watermark has passed its end.
    WindowAggregate(WindowAggregate),
    /// The rows of all inputs, whose schemas are equal in types (UNION ALL).
    Union {
        /// What is put together, in the order of the statement.
        inputs: Vec<Operator>,
        /// The common schema.
        schema: SchemaRef,
    },
}

/// A filter and a projection.
#[derive(Debug, Clone)]
pub struct Calc {
    /// Whose rows.
    pub input: Box<Operator>,
    /// Rows for which this is not true are dropped, and counted as filtered.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// One expression a column of [`Calc::schema`], over the input's schema.
    pub projection: Vec<Arc<dyn PhysicalExpr>>,
    /// The output's schema.
    pub schema: SchemaRef,
}

/// Event times beyond this (in the year 584,543 or so) are refused, so that no window's bound can overflow.
pub(crate) const EVENT_TIME_MS_MAX: i64 = i64::MAX / 500;

/// The windows of a window table function, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub enum Window {
    /// `[k·size, (k+1)·size)`, aligned to 1970-01-01T00:00:00.
    Tumble {
        /// The length of a window.
        size_ms: i64,
    },
    /// A window of `size` begins every `slide`; size is a multiple of slide.
    Hop {
        /// The length of a window.
        size_ms: i64,
        /// From one window's start to the next.
        slide_ms: i64,
    },
}

/// Rows with the windows they fall into; a row stands in the output once per window, in the order of the windows' starts.
#[derive(Debug, Clone)]
pub struct WindowAssign {
    /// Whose rows.
    pub input: Box<Operator>,
    /// Which windows.
    pub window: Window,
    /// The event time column's place in the input's schema, Timestamp(ms).
    pub time_column: usize,
    /// The input's columns, then window_start, window_end, window_time (= end − 1 ms), each Timestamp(ms).
    pub schema: SchemaRef,
}

/// An aggregation per window and group.
///
/// Output columns: window_start, window_end (Timestamp(ms)), the groups, the aggregates. Closed windows leave in
/// the order (window_end, window_start, group key as sorted by its row encoding).
#[derive(Debug, Clone)]
pub struct WindowAggregate {
    /// Whose rows; they carry their window.
    pub input: Box<Operator>,
    /// window_start's place in the input's schema.
    pub window_start: usize,
    /// window_end's place in the input's schema.
    pub window_end: usize,
    /// The grouping expressions besides the window's columns, over the input's schema; may be empty.
    pub groups: Vec<Arc<dyn PhysicalExpr>>,
    /// What is computed per window and group.
    pub aggregates: Vec<AggregatePlan>,
    /// The output's schema.
    pub schema: SchemaRef,
}

/// One aggregate function call.
#[derive(Debug, Clone)]
pub struct AggregatePlan {
    /// The function, its arguments and its ORDER BY.
    pub function: Arc<AggregateFunctionExpr>,
    /// FILTER (WHERE …), over the input's schema.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// How result rows become records.
#[derive(Debug, Clone)]
pub struct SinkPlan {
    /// The topic, owned by the stream.
    pub topic: TopicName,
    /// How many partitions the topic gets.
    pub partition_count: i32,
    /// The places of the columns that form the record's key (JSON object in this order); empty: no key, and all rows
    /// go to partition 0 where there is one partition, else to the partition of their source's partition modulo count.
    pub key_columns: Vec<usize>,
    /// Where reading starts when the query has never run.
    pub start: StartPosition,
}

/// Where a new query starts to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// At the topics' first records.
    Earliest,
    /// After the topics' last records at the time of the registration.
    Latest,
}

impl Operator {
    /// The columns that come out; `sources` are the plan's.
    pub fn schema<'a>(&'a self, sources: &'a [SourcePlan]) -> &'a SchemaRef {
        match self {
            Operator::Source { index } => &sources[*index].schema,
            Operator::Calc(calc) => &calc.schema,
            Operator::WindowAssign(assign) => &assign.schema,
            Operator::WindowAggregate(aggregate) => &aggregate.schema,
            Operator::Union { schema, .. } => schema,
        }
    }
}
