//! From an analyzed logical plan to what the runtime executes.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, TableScan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;

use super::definition::{StreamDefinition, StreamOrigin, schema_of};
use super::error::{SqlResult, StatementError};
use super::lineage::{Role, as_stream, as_window, role_of, roles};
use super::planner::PlannedQuery;
use super::refuse::place_of_aggregation;
use super::session::Session;
use super::translate::translate;
use super::types::{quoted, sql_name};
use crate::plan::{
    AggregatePlan, Calc, ColumnOrigin, Operator, SourceColumn, SourcePlan, WatermarkPlan, WindowAggregate, WindowAssign,
};

/// The operators of a query, and what they read.
pub(crate) struct Operators {
    pub(crate) sources: Vec<SourcePlan>,
    pub(crate) root: Operator,
    pub(crate) schema: SchemaRef,
}

/// Makes operators of a query, or says why there are none for it.
pub(crate) fn operators(session: &Session, planned: &PlannedQuery) -> SqlResult<Operators> {
    let mut maker = Maker { session, planned, sources: Vec::new(), aggregated: false };
    let optimized = session.optimize_for_streams(planned.plan.clone()).map_err(|error| maker.told(error))?;
    let root = maker.make(&optimized)?;
    let schema = root.schema(&maker.sources).clone();
    Ok(Operators { sources: maker.sources, root, schema })
}

struct Maker<'a> {
    session: &'a Session,
    planned: &'a PlannedQuery,
    sources: Vec<SourcePlan>,
    aggregated: bool,
}

impl Maker<'_> {
    fn told(&self, error: DataFusionError) -> StatementError {
        translate(&error, self.session)
    }

    fn physical(&self, expr: &Expr, schema: &DFSchema) -> SqlResult<Arc<dyn PhysicalExpr>> {
        self.session.physical(expr, schema).map_err(|error| self.told(error))
    }

    fn make(&mut self, plan: &LogicalPlan) -> SqlResult<Operator> {
        match plan {
            LogicalPlan::TableScan(scan) => self.source(scan),
            LogicalPlan::SubqueryAlias(alias) => self.make(&alias.input),
            LogicalPlan::Projection(projection) => {
                let below = projection.input.as_ref();
                // A filter right below is the same operator's.
                let (input, filter) = match below {
                    LogicalPlan::Filter(filter) => {
                        (self.make(&filter.input)?, Some(self.physical(&filter.predicate, filter.input.schema())?))
                    }
                    _ => (self.make(below)?, None),
                };
                let exprs = projection
                    .expr
                    .iter()
                    .map(|expr| self.physical(expr, below.schema()))
                    .collect::<SqlResult<Vec<_>>>()?;
                let schema = arrow_schema(plan);
                Ok(Operator::Calc(Calc { input: Box::new(input), filter, projection: exprs, schema }))
            }
            LogicalPlan::Filter(filter) => {
                let input = self.make(&filter.input)?;
                let predicate = self.physical(&filter.predicate, filter.input.schema())?;
                let schema = arrow_schema(plan);
                let projection = places(&schema);
                Ok(Operator::Calc(Calc { input: Box::new(input), filter: Some(predicate), projection, schema }))
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| self.make(input)).collect::<SqlResult<Vec<_>>>()?;
                Ok(Operator::Union { inputs, schema: arrow_schema(plan) })
            }
            LogicalPlan::Extension(_) if as_window(plan).is_some() => self.window(plan),
            LogicalPlan::Join(_) => Err(refused("JOIN")),
            LogicalPlan::Sort(_) => Err(refused("ORDER BY")),
            LogicalPlan::Limit(_) => Err(refused("LIMIT")),
            LogicalPlan::Window(_) => Err(refused("OVER")),
            LogicalPlan::Distinct(_) => Err(refused("DISTINCT")),
            LogicalPlan::Unnest(_) => Err(refused("UNNEST")),
            LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => {
                Err(StatementError::invalid("a registered query reads at least one stream"))
            }
            LogicalPlan::RecursiveQuery(_) => Err(refused("WITH RECURSIVE")),
            other => Err(refused(other.display().to_string().split([':', ' ']).next().unwrap_or("this"))),
        }
    }

    /// A source of the columns that are asked for, and of those that its watermark needs.
    fn source(&mut self, scan: &TableScan) -> SqlResult<Operator> {
        let Some(stream) = as_stream(scan.source.as_ref()) else {
            return Err(StatementError::invalid(format!("`{}` is not a stream", scan.table_name)));
        };
        let all: Vec<usize> = (0..stream.columns.len()).collect();
        let wanted = scan.projection.as_ref().unwrap_or(&all);
        let mut columns: Vec<SourceColumn> = wanted.iter().map(|place| stream.columns[*place].clone()).collect();
        let asked = columns.len();
        let definition = &stream.definition;
        let mut watermark = None;
        if let Some(declared) = &definition.watermark {
            let mut needed = vec![definition.columns[declared.time_column].clone()];
            for column in declared.expression.column_refs() {
                needed.extend(definition.columns.iter().find(|known| known.name == column.name).cloned());
            }
            for column in needed {
                if !columns.iter().any(|known| known.name == column.name) {
                    columns.push(column);
                }
            }
            let schema = DFSchema::try_from(schema_of(&columns).as_ref().clone()).map_err(|error| self.told(error))?;
            let time = &definition.columns[declared.time_column].name;
            let time_column = columns.iter().position(|column| column.name == *time).unwrap_or_default();
            watermark = Some(WatermarkPlan { time_column, expression: self.physical(&declared.expression, &schema)? });
        }
        let schema = schema_of(&columns);
        let index = self.sources.len();
        self.sources.push(SourcePlan {
            stream: definition.name.clone(),
            topic: definition.topic.clone(),
            format: definition.format,
            columns,
            schema: schema.clone(),
            watermark,
        });
        let source = Operator::Source { index };
        if schema.fields().len() == asked {
            return Ok(source);
        }
        // What only the watermark needs ends here.
        let schema =
            Arc::new(schema.project(&(0..asked).collect::<Vec<_>>()).map_err(|error| self.told(error.into()))?);
        Ok(Operator::Calc(Calc { input: Box::new(source), filter: None, projection: places(&schema), schema }))
    }

    fn window(&mut self, plan: &LogicalPlan) -> SqlResult<Operator> {
        let Some(window) = as_window(plan) else {
            return Err(refused("this relation"));
        };
        let time_column = window.time_column().map_err(|error| self.told(error))?;
        if self.aggregated {
            return Err(second_window());
        }
        let before = self.aggregated;
        let input = self.make(&window.input)?;
        if self.aggregated != before {
            return Err(second_window());
        }
        if roles(&window.input)[time_column] != Role::EventTime {
            return Err(self.no_event_time(&window.input, window.input.schema().field(time_column).name()));
        }
        Ok(Operator::WindowAssign(WindowAssign {
            input: Box::new(input),
            window: window.window,
            time_column,
            schema: arrow_schema(plan),
        }))
    }

    /// Why the column is not an event time, with what to write so that it is.
    fn no_event_time(&self, input: &LogicalPlan, column: &str) -> StatementError {
        let scans = scans_of(input);
        let Some(definition) = scans.first() else {
            return StatementError::invalid(format!("`{column}` is not the event time of a stream"));
        };
        match (&definition.watermark, definition.origin) {
            (Some(watermark), _) => StatementError::invalid(format!(
                "`{column}` is not the event time of `{}`, so nothing tells when a window over it is complete",
                definition.name
            ))
            .with_hint(format!("its event time is `{}`", definition.columns[watermark.time_column].name)),
            (None, StreamOrigin::Declared) => StatementError::invalid(format!(
                "the stream `{}` has no watermark, so nothing tells when a window over it is complete",
                definition.name
            ))
            .with_hint(format!(
                "drop it and create it with WATERMARK FOR {} AS {0} - INTERVAL '5' SECOND",
                quoted(column)
            )),
            (None, _) => StatementError::invalid(format!(
                "`{}` has no declared event time, so nothing tells when a window over it is complete",
                definition.name
            ))
            .with_hint(format!("declare it: {}", create_stream(definition, column))),
        }
    }

    fn aggregate(&mut self, aggregate: &Aggregate) -> SqlResult<Operator> {
        let place = place_of_aggregation(&self.planned.query, self.session);
        let input_plan = aggregate.input.as_ref();
        let input_roles = roles(input_plan);
        let role = |expr: &Expr| role_of(expr, input_plan, &input_roles);
        let group_roles: Vec<Role> = aggregate.group_expr.iter().map(role).collect();
        if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
            return Err(refused("ROLLUP, CUBE and GROUPING SETS").at(place));
        }
        let bounds = (
            group_roles.iter().position(|role| *role == Role::WindowStart),
            group_roles.iter().position(|role| *role == Role::WindowEnd),
        );
        let (Some(start_group), Some(end_group)) = bounds else {
            return Err(self.without_window(input_plan, &input_roles).at(place));
        };
        if self.aggregated {
            return Err(second_window().at(place));
        }
        let input = self.make(input_plan)?;
        if self.aggregated {
            return Err(second_window().at(place));
        }
        self.aggregated = true;
        let schema = input_plan.schema();
        let place_in_input = |group: usize| match super::lineage::column_of(&aggregate.group_expr[group]) {
            Some(column) => schema.index_of_column(column).map_err(|error| self.told(error)),
            None => Err(refused("a computed window bound")),
        };
        let (window_start, window_end) = (place_in_input(start_group)?, place_in_input(end_group)?);
        let others: Vec<usize> =
            (0..aggregate.group_expr.len()).filter(|group| *group != start_group && *group != end_group).collect();
        let groups = others
            .iter()
            .map(|group| self.physical(&aggregate.group_expr[*group], schema))
            .collect::<SqlResult<Vec<_>>>()?;
        let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let mut aggregates = Vec::with_capacity(aggregate.aggr_expr.len());
        for expr in &aggregate.aggr_expr {
            let lowered = LoweredAggregateBuilder::new(expr, schema, schema.as_arrow(), &props, &context)
                .build()
                .map_err(|error| self.told(error).at(place))?;
            aggregates.push(AggregatePlan { function: lowered.aggregate, filter: lowered.filter });
        }
        // The operator's columns: start, end, other groups, aggregates. The plan's: as written.
        let logical = aggregate.schema.as_arrow();
        let group_count = aggregate.group_expr.len();
        let mut order = vec![start_group, end_group];
        order.extend(&others);
        order.extend(group_count..logical.fields().len());
        let inner = Arc::new(logical.project(&order).map_err(|error| self.told(error.into()))?);
        let operator = Operator::WindowAggregate(WindowAggregate {
            input: Box::new(input),
            window_start,
            window_end,
            groups,
            aggregates,
            schema: inner.clone(),
        });
        if order.is_sorted() {
            return Ok(operator);
        }
        let projection = (0..order.len())
            .map(|wanted| {
                let place = order.iter().position(|from| *from == wanted).unwrap_or_default();
                Arc::new(PhysicalColumn::new(inner.field(place).name(), place)) as Arc<dyn PhysicalExpr>
            })
            .collect();
        let schema = Arc::new(logical.clone());
        Ok(Operator::Calc(Calc { input: Box::new(operator), filter: None, projection, schema }))
    }

    fn without_window(&self, input: &LogicalPlan, roles: &[Role]) -> StatementError {
        if roles.contains(&Role::WindowStart) || roles.contains(&Role::WindowEnd) {
            return StatementError::invalid("an aggregation over windows must group by them")
                .with_hint("add window_start and window_end to GROUP BY");
        }
        let hint = match scans_of(input).first() {
            Some(stream) => format!(
                "use a window: FROM TABLE(TUMBLE(TABLE {}, DESCRIPTOR({}), INTERVAL '1' MINUTE)) … GROUP BY window_start, window_end",
                quoted(&stream.name),
                event_time_of(stream)
            ),
            None => "use TUMBLE or HOP, and group by window_start and window_end".to_owned(),
        };
        StatementError::unsupported("an aggregation without a window never ends, and would change its result for ever")
            .with_hint(hint)
    }
}

fn refused(what: &str) -> StatementError {
    StatementError::unsupported(format!("{what} is not supported in a registered query yet"))
}

fn second_window() -> StatementError {
    StatementError::unsupported("an aggregation over the results of another is not supported in a registered query yet")
        .with_hint(
            "register the first as a stream of its own, declare its event time with CREATE STREAM, and read that",
        )
}

fn arrow_schema(plan: &LogicalPlan) -> SchemaRef {
    plan.schema().inner().clone()
}

/// All columns of `schema` as they are.
fn places(schema: &SchemaRef) -> Vec<Arc<dyn PhysicalExpr>> {
    let column = |(place, field): (usize, &Arc<arrow::datatypes::Field>)| {
        Arc::new(PhysicalColumn::new(field.name(), place)) as Arc<dyn PhysicalExpr>
    };
    schema.fields().iter().enumerate().map(column).collect()
}

/// The streams that a plan reads.
pub(crate) fn scans_of(plan: &LogicalPlan) -> Vec<Arc<StreamDefinition>> {
    let mut found = Vec::new();
    let mut open = vec![plan];
    while let Some(plan) = open.pop() {
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(stream) = as_stream(scan.source.as_ref())
        {
            found.push(stream.definition.clone());
        }
        open.extend(plan.inputs());
    }
    found
}

fn event_time_of(stream: &StreamDefinition) -> String {
    match &stream.watermark {
        Some(watermark) => quoted(&stream.columns[watermark.time_column].name),
        None => "ts".to_owned(),
    }
}

/// The statement that declares an inferred stream with this event time.
pub(crate) fn create_stream(definition: &StreamDefinition, time_column: &str) -> String {
    let columns: Vec<String> = definition
        .columns
        .iter()
        .filter(|column| matches!(column.origin, ColumnOrigin::Value { .. }))
        .map(|column| format!("{} {}", quoted(&column.name), sql_name(&column.data_type)))
        .collect();
    let time = quoted(time_column);
    format!(
        "CREATE STREAM {} ({}, WATERMARK FOR {time} AS {time} - INTERVAL '5' SECOND) WITH (topic = '{}')",
        quoted(&definition.name),
        columns.join(", "),
        definition.topic
    )
}
