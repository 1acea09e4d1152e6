//! Makes a logical plan that DataFusion can run: streams become tables, window functions become projections, and rows
//! that are too late for their window are left out where windows are aggregated.
//!
//! A row is late for a window when its own partition's watermark had passed the window's end before the row came. So
//! the scans below an aggregation over windows give that watermark as a column, which is handed up to the aggregation
//! and asked there. (What a stream decides by its idle partitions cannot be known here.)

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result as DataFusionResult, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::functions_nested::make_array::make_array;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, SubqueryAlias, cast, lit};

use super::topic_table::{TopicTable, WATERMARK_COLUMN};
use super::window_start::window_start;
use crate::plan::Window;
use crate::sql::lineage::{Role, as_stream, as_window, role_of, roles};
use crate::sql::types::MILLISECONDS;
use crate::sql::window_node::{WINDOW_COLUMNS, WindowNode};

/// Gives the table of a stream as the plan mentions it.
pub(super) type Tables<'a> = &'a dyn Fn(&crate::sql::definition::StreamSource) -> DataFusionResult<TopicTable>;

/// The plan over tables.
pub(super) fn over_tables(plan: LogicalPlan, tables: Tables<'_>) -> DataFusionResult<LogicalPlan> {
    let marked = plan.transform_up_with_subqueries(|node| match &node {
        LogicalPlan::Aggregate(aggregate) => {
            let input = aggregate.input.as_ref();
            let input_roles = roles(input);
            let windowed = aggregate
                .group_expr
                .iter()
                .any(|expr| matches!(role_of(expr, input, &input_roles), Role::WindowStart | Role::WindowEnd));
            let end = input_roles.iter().position(|role| *role == Role::WindowEnd);
            let (true, Some(end)) = (windowed, end) else {
                return Ok(Transformed::no(node));
            };
            let end = Expr::Column(Column::from(input.schema().qualified_field(end)));
            let Some((marked, watermark)) = with_watermark(input, tables)? else {
                return Ok(Transformed::no(node));
            };
            let last = cast(end, DataType::Int64) - lit(1_i64);
            let watermark = Expr::Column(watermark);
            let in_time = watermark.clone().is_null().or(watermark.lt(last));
            let in_time = LogicalPlanBuilder::from(marked).filter(in_time)?.build()?;
            let inputs = vec![in_time];
            let exprs = node.expressions();
            Ok(Transformed::yes(node.with_new_exprs(exprs, inputs)?))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    let replaced = marked.data.transform_up_with_subqueries(|node| match &node {
        LogicalPlan::TableScan(scan) => match as_stream(scan.source.as_ref()) {
            Some(stream) => {
                let source = provider_as_source(Arc::new(tables(stream)?));
                let plan =
                    LogicalPlanBuilder::scan(scan.table_name.clone(), source, scan.projection.clone())?.build()?;
                Ok(Transformed::yes(plan))
            }
            None => Ok(Transformed::no(node)),
        },
        LogicalPlan::Extension(_) => match as_window(&node) {
            Some(window) => Ok(Transformed::yes(projected(window)?)),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    })?;
    // Qualifiers of rebuilt nodes are those of the old ones, but schemas are cached in the nodes above.
    replaced
        .data
        .transform_up_with_subqueries(|node| node.recompute_schema().map(Transformed::yes))
        .map(|done| done.data)
}

/// The plan with the watermark as one more column, or nothing where rows do not come straight from streams.
fn with_watermark(plan: &LogicalPlan, tables: Tables<'_>) -> DataFusionResult<Option<(LogicalPlan, Column)>> {
    Ok(match plan {
        LogicalPlan::TableScan(scan) => match as_stream(scan.source.as_ref()) {
            Some(stream) => {
                let source = provider_as_source(Arc::new(tables(stream)?.with_watermark()));
                let plan = LogicalPlanBuilder::scan(scan.table_name.clone(), source, None)?.build()?;
                let column = Column::new(Some(scan.table_name.clone()), WATERMARK_COLUMN);
                Some((plan, column))
            }
            None => None,
        },
        LogicalPlan::SubqueryAlias(alias) => match with_watermark(&alias.input, tables)? {
            Some((input, column)) => {
                let plan = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
                let column = Column::new(Some(alias.alias.clone()), column.name);
                Some((LogicalPlan::SubqueryAlias(plan), column))
            }
            None => None,
        },
        LogicalPlan::Filter(filter) => match with_watermark(&filter.input, tables)? {
            Some((input, column)) => {
                let plan = LogicalPlanBuilder::from(input).filter(filter.predicate.clone())?.build()?;
                Some((plan, column))
            }
            None => None,
        },
        LogicalPlan::Projection(projection) => match with_watermark(&projection.input, tables)? {
            Some((input, column)) => {
                let mut exprs = projection.expr.clone();
                exprs.push(Expr::Column(column).alias(WATERMARK_COLUMN));
                let plan = LogicalPlanBuilder::from(input).project(exprs)?.build()?;
                Some((plan, Column::new_unqualified(WATERMARK_COLUMN)))
            }
            None => None,
        },
        LogicalPlan::Extension(_) => match as_window(plan) {
            Some(window) => match with_watermark(&window.input, tables)? {
                Some((input, column)) => {
                    let node = WindowNode::new(input, window.window, window.time.clone())?;
                    Some((LogicalPlan::Extension(Extension { node: Arc::new(node) }), column))
                }
                None => None,
            },
            None => None,
        },
        LogicalPlan::Union(union) => {
            let mut inputs = Vec::with_capacity(union.inputs.len());
            for input in &union.inputs {
                let columns =
                    input.schema().iter().map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field))));
                let mut exprs: Vec<Expr> = columns.collect();
                let input = match with_watermark(input, tables)? {
                    Some((input, column)) => {
                        exprs.push(Expr::Column(column).alias(WATERMARK_COLUMN));
                        input
                    }
                    None => {
                        exprs.push(lit(ScalarValue::Int64(None)).alias(WATERMARK_COLUMN));
                        input.as_ref().clone()
                    }
                };
                inputs.push(LogicalPlanBuilder::from(input).project(exprs)?);
            }
            let mut inputs = inputs.into_iter();
            let Some(mut all) = inputs.next() else {
                return Ok(None);
            };
            for input in inputs {
                all = all.union(input.build()?)?;
            }
            Some((all.build()?, Column::new_unqualified(WATERMARK_COLUMN)))
        }
        _ => None,
    })
}

/// A time moved by so many milliseconds. As an integer, since arithmetic with intervals ends at the years that a
/// calendar library can name; nothing overflows, as [`window_start`] bounds the times, and 32 bits of days the lengths.
fn moved(time: Expr, by_ms: i64) -> Expr {
    cast(cast(time, DataType::Int64) + lit(by_ms), MILLISECONDS)
}

/// A window function as projections.
fn projected(window: &WindowNode) -> DataFusionResult<LogicalPlan> {
    let [start_name, end_name, time_name] = WINDOW_COLUMNS;
    let (size_ms, slide_ms) = match window.window {
        Window::Tumble { size_ms } => (size_ms, size_ms),
        Window::Hop { size_ms, slide_ms } => (size_ms, slide_ms),
    };
    let own: Vec<Expr> =
        window.input.schema().iter().map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field)))).collect();
    let last = window_start(window.time.clone(), slide_ms);
    let mut first = own.clone();
    let mut builder = LogicalPlanBuilder::from(window.input.clone());
    if slide_ms == size_ms {
        first.push(last.alias(start_name));
        builder = builder.project(first)?;
    } else {
        // The windows in the order of their starts.
        let starts = (0..size_ms / slide_ms).rev().map(|before| moved(last.clone(), -before * slide_ms)).collect();
        first.push(make_array(starts).alias(start_name));
        builder = builder.project(first)?.unnest_column(Column::new_unqualified(start_name))?;
    }
    let start = || Expr::Column(Column::new_unqualified(start_name));
    let mut all = own;
    all.push(start());
    all.push(moved(start(), size_ms).alias(end_name));
    all.push(moved(start(), size_ms - 1).alias(time_name));
    builder.project(all)?.build()
}
