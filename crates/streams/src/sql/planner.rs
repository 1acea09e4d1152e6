//! From a query's syntax tree to an analyzed logical plan, with errors in our words.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::planner::SqlToRel;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Query, Statement as SqlStatement, Visitor};

use super::case::{REPAIRS_MAX, UnknownColumn};
use super::context::Context;
use super::definition::StreamSource;
use super::error::{Place, SqlResult, StatementError, did_you_mean};
use super::lineage::{Role, role_of, roles};
use super::names::{Streams, settle};
use super::session::Session;
use super::translate::{translate, twice};
use super::walk::walk;

/// A query that means something.
pub(crate) struct PlannedQuery {
    /// Analyzed, not optimized.
    pub(crate) plan: LogicalPlan,
    /// What it reads, by the names in the query.
    pub(crate) streams: HashMap<String, Arc<StreamSource>>,
    /// The syntax tree with all names settled, for places of errors.
    pub(crate) query: Query,
}

/// Plans `query`. What DataFusion finds wrong only while optimizing is found by who optimizes the plan.
pub(crate) fn plan_query(session: &Session, streams: &dyn Streams, query: &Query) -> SqlResult<PlannedQuery> {
    super::bounds::check(query)?;
    let mut query = query.clone();
    let found = settle(&mut query, streams)?;
    let plan = plan_repairing(session, &found, &mut query)?;
    let told = |error: DataFusionError| with_field(translate(&error, session), &query, &found);
    let plan = session.analyze(plan).map_err(told)?;
    let plan = complete_window_groups(plan).map_err(told)?;
    let mut names = std::collections::HashSet::new();
    if let Some(field) = plan.schema().fields().iter().find(|field| !names.insert(field.name().clone())) {
        return Err(twice(field.name()));
    }
    Ok(PlannedQuery { plan, streams: found, query })
}

/// Plans, and sets right columns that fit only without regard to case, one after the other.
fn plan_repairing(
    session: &Session,
    streams: &HashMap<String, Arc<StreamSource>>,
    query: &mut Query,
) -> SqlResult<LogicalPlan> {
    for _ in 0..REPAIRS_MAX {
        let context = Context::new(session, streams);
        let planner = SqlToRel::new_with_options(&context, session.parser_options());
        let statement = SqlStatement::Query(Box::new(query.clone()));
        let error = match planner.sql_statement_to_plan(statement) {
            Ok(plan) => return Ok(plan),
            Err(error) => error,
        };
        let repaired = UnknownColumn::of(&error).is_some_and(|unknown| unknown.repair(query));
        if !repaired {
            return Err(with_field(translate(&error, session), query, streams));
        }
    }
    Err(StatementError::limit(format!(
        "more than {REPAIRS_MAX} names fit only without regard to case; write them in the case they have"
    )))
}

/// Tells where an unknown field of a nested record stands and what may have been meant, which DataFusion does not know.
fn with_field(error: StatementError, query: &Query, streams: &HashMap<String, Arc<StreamSource>>) -> StatementError {
    let Some(name) = error.message.strip_prefix("unknown field `").and_then(|rest| rest.strip_suffix('`')) else {
        return error;
    };
    let mut finder = PartFinder { name, found: None };
    // It never breaks off.
    let _ = walk(query, &mut finder);
    let place = finder.found;
    let mut fields = Vec::new();
    for stream in streams.values() {
        stream.columns.iter().for_each(|column| nested_fields(&column.data_type, &mut fields));
    }
    let hint = did_you_mean(name, fields.iter().map(String::as_str));
    let error = error.at(place);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Looks for the first name of several parts that has this one.
struct PartFinder<'a> {
    name: &'a str,
    found: Option<Place>,
}

impl Visitor for PartFinder<'_> {
    type Break = StatementError;

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<StatementError> {
        if let SqlExpr::CompoundIdentifier(idents) = expr
            && let Some(ident) = idents.iter().find(|ident| ident.value == self.name)
        {
            self.found = self.found.or_else(|| Place::start(ident.span));
        }
        ControlFlow::Continue(())
    }
}

fn nested_fields(data_type: &DataType, names: &mut Vec<String>) {
    match data_type {
        DataType::Struct(fields) => {
            for field in fields {
                names.push(field.name().clone());
                nested_fields(field.data_type(), names);
            }
        }
        DataType::List(item) => nested_fields(item.data_type(), names),
        _ => {}
    }
}

/// Adds `window_end` to the groups where only `window_start` is grouped by, and the other way round: one implies the
/// other, and the operators want both.
fn complete_window_groups(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else {
            return Ok(Transformed::no(node));
        };
        let input = roles(&aggregate.input);
        let grouped: Vec<Role> =
            aggregate.group_expr.iter().map(|expr| role_of(expr, &aggregate.input, &input)).collect();
        let missing = match (grouped.contains(&Role::WindowStart), grouped.contains(&Role::WindowEnd)) {
            (true, false) => Role::WindowEnd,
            (false, true) => Role::WindowStart,
            _ => return Ok(Transformed::no(node)),
        };
        let Some(place) = input.iter().position(|role| *role == missing) else {
            return Ok(Transformed::no(node));
        };
        let mut groups = aggregate.group_expr.clone();
        groups.push(Expr::Column(Column::from(aggregate.input.schema().qualified_field(place))));
        let columns: Vec<Expr> =
            aggregate.schema.iter().map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field)))).collect();
        let completed = Aggregate::try_new(aggregate.input.clone(), groups, aggregate.aggr_expr.clone())?;
        let plan = LogicalPlanBuilder::from(LogicalPlan::Aggregate(completed)).project(columns)?.build()?;
        Ok(Transformed::yes(plan))
    })
    .map(|transformed| transformed.data)
}
