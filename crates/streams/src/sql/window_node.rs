//! The logical node that puts rows into windows.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, Result as DataFusionResult, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::types::MILLISECONDS;
use crate::plan::Window;

/// What a window table function adds to its rows, in this order.
pub(crate) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// The rows of `input`, once per window they fall into, with [`WINDOW_COLUMNS`] after their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WindowNode {
    pub(crate) input: LogicalPlan,
    pub(crate) window: Window,
    /// The event time, a column of the input.
    pub(crate) time: Expr,
    schema: DFSchemaRef,
}

impl WindowNode {
    pub(crate) fn new(input: LogicalPlan, window: Window, time: Expr) -> DataFusionResult<WindowNode> {
        let mut fields: Vec<(Option<TableReference>, Arc<Field>)> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
        fields.extend(WINDOW_COLUMNS.iter().map(|name| (None, Arc::new(Field::new(*name, MILLISECONDS, false)))));
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(WindowNode { input, window, time, schema: Arc::new(schema) })
    }

    /// The event time column's place in the input.
    pub(crate) fn time_column(&self) -> DataFusionResult<usize> {
        match &self.time {
            Expr::Column(column) => self.input.schema().index_of_column(column),
            other => Err(DataFusionError::Internal(format!("the event time {other} is not a column"))),
        }
    }
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &WindowNode) -> Option<Ordering> {
        self.input.partial_cmp(&other.input).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time.clone()]
    }

    /// What is asked of other columns may be asked before: the watermark is taken where the source is read.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        WINDOW_COLUMNS.iter().map(|name| (*name).to_owned()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.window {
            Window::Tumble { size_ms } => write!(f, "Window: TUMBLE({}, {size_ms} ms)", self.time),
            Window::Hop { size_ms, slide_ms } => {
                write!(f, "Window: HOP({}, {slide_ms} ms, {size_ms} ms)", self.time)
            }
        }
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<WindowNode> {
        match (<[Expr; 1]>::try_from(exprs), <[LogicalPlan; 1]>::try_from(inputs)) {
            (Ok([time]), Ok([input])) => WindowNode::new(input, self.window, time),
            _ => Err(DataFusionError::Internal("a window has one event time and one input".to_owned())),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|place| *place < width).collect();
        needed.extend(self.time_column().ok());
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}
