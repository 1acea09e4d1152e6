//! Where a plan's columns come from, as far as time is concerned.

use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::definition::StreamSource;
use super::window_node::WindowNode;

/// What a column is to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing.
    Plain,
    /// The event time of the stream that was read.
    EventTime,
    /// `window_start` of a window table function.
    WindowStart,
    /// `window_end` of a window table function.
    WindowEnd,
}

/// The window function of a node of ours.
pub(crate) fn as_window(plan: &LogicalPlan) -> Option<&WindowNode> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<WindowNode>(),
        _ => None,
    }
}

/// The role of every column of `plan`.
pub(crate) fn roles(plan: &LogicalPlan) -> Vec<Role> {
    let width = plan.schema().fields().len();
    match plan {
        LogicalPlan::TableScan(scan) => {
            let mut all = vec![Role::Plain; scan.source.schema().fields().len()];
            if let Some(source) = as_stream(scan.source.as_ref())
                && let Some(watermark) = &source.definition.watermark
            {
                all[watermark.time_column] = Role::EventTime;
            }
            match &scan.projection {
                Some(projection) => projection.iter().map(|place| all[*place]).collect(),
                None => all,
            }
        }
        LogicalPlan::Projection(projection) => {
            let below = roles(&projection.input);
            let role = |expr: &Expr| match column_of(expr) {
                Some(column) => {
                    projection.input.schema().index_of_column(column).map_or(Role::Plain, |place| below[place])
                }
                None => Role::Plain,
            };
            projection.expr.iter().map(role).collect()
        }
        LogicalPlan::Filter(filter) => roles(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => roles(&alias.input),
        LogicalPlan::Union(union) => {
            // Only what all inputs agree on.
            let mut inputs = union.inputs.iter().map(|input| roles(input));
            let mut agreed = inputs.next().unwrap_or_default();
            for input in inputs {
                for (role, other) in agreed.iter_mut().zip(input) {
                    if *role != other {
                        *role = Role::Plain;
                    }
                }
            }
            agreed
        }
        LogicalPlan::Extension(_) => match as_window(plan) {
            Some(window) => {
                let mut all = roles(&window.input);
                all.extend([Role::WindowStart, Role::WindowEnd, Role::Plain]);
                all
            }
            None => vec![Role::Plain; width],
        },
        _ => vec![Role::Plain; width],
    }
}

/// The stream behind a scan.
pub(crate) fn as_stream(source: &dyn datafusion::logical_expr::TableSource) -> Option<&StreamSource> {
    (source as &dyn std::any::Any).downcast_ref::<StreamSource>()
}

/// The column that an expression is, whatever it is called.
pub(crate) fn column_of(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => column_of(&alias.expr),
        _ => None,
    }
}

/// The role of an expression over the rows of `input`.
pub(crate) fn role_of(expr: &Expr, input: &LogicalPlan, roles: &[Role]) -> Role {
    column_of(expr)
        .and_then(|column| input.schema().index_of_column(column).ok())
        .map_or(Role::Plain, |place| roles[place])
}
