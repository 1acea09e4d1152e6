//! The window table functions TUMBLE and HOP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::{Column, DFSchema, DataFusionError, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, TableFactor,
};

use super::dialect::{as_whole_table, whole_table};
use super::error::{ErrorKind, Place, StatementError, did_you_mean};
use super::parser::place_of;
use super::types::{MILLISECONDS, sql_name};
use super::window_node::{WINDOW_COLUMNS, WindowNode};
use crate::plan::Window;

/// In how many windows of a HOP a row may stand.
pub(crate) const WINDOWS_PER_ROW_MAX: i64 = 1_000;

/// The window functions that there are.
const FUNCTIONS: &[&str] = &["TUMBLE", "HOP"];

/// Plans a relation that is a window table function.
#[derive(Debug, Default)]
pub(crate) struct WindowFunctions {
    /// How many were planned; names those without an alias.
    planned: AtomicUsize,
}

/// A call of a table function, however it was written.
struct Call {
    name: String,
    place: Option<Place>,
    arguments: Vec<FunctionArg>,
    alias: Option<ast::TableAlias>,
}

fn outside(error: StatementError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// There is no such table function.
pub(crate) fn unknown_table_function(name: &str) -> StatementError {
    let error = StatementError::unknown(format!("unknown table function `{name}`"));
    match did_you_mean(name, FUNCTIONS.iter().copied()) {
        Some(hint) => error.with_hint(hint),
        None => error.with_hint("the table functions are TUMBLE and HOP"),
    }
}

/// `TABLE(F(…))` and `F(…)` as a relation.
fn as_call(relation: &TableFactor) -> Option<Call> {
    match relation {
        TableFactor::TableFunction { expr: ast::Expr::Function(function), alias } => {
            let arguments = match &function.args {
                FunctionArguments::List(list) => list.args.clone(),
                _ => Vec::new(),
            };
            let place = place_of(&function.name);
            Some(Call { name: function.name.to_string(), place, arguments, alias: alias.clone() })
        }
        TableFactor::Table { name, args: Some(args), alias, .. } => Some(Call {
            name: name.to_string(),
            place: place_of(name),
            arguments: args.args.clone(),
            alias: alias.clone(),
        }),
        _ => None,
    }
}

/// Makes `TUMBLE(bids, …)` the same as `TUMBLE(TABLE bids, …)`, so that whoever visits relations sees the stream.
pub(crate) fn name_the_table(relation: &mut TableFactor) {
    let arguments = match relation {
        TableFactor::TableFunction { expr: ast::Expr::Function(function), .. } => match &mut function.args {
            FunctionArguments::List(list) => &mut list.args,
            _ => return,
        },
        TableFactor::Table { args: Some(args), .. } => &mut args.args,
        _ => return,
    };
    for (place, argument) in arguments.iter_mut().enumerate() {
        let value = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) if place == 0 => value,
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. }
                if name.value.eq_ignore_ascii_case("DATA") =>
            {
                value
            }
            _ => continue,
        };
        let name = match value {
            ast::Expr::Identifier(ident) => ObjectName::from(vec![ident.clone()]),
            ast::Expr::CompoundIdentifier(idents) => ObjectName::from(idents.clone()),
            _ => continue,
        };
        *value = ast::Expr::Subquery(Box::new(whole_table(name)));
    }
}

impl RelationPlanner for WindowFunctions {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        let Some(call) = as_call(&relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let plan = self.plan_call(&call, context).map_err(|error| match error {
            Failure::Ours(error) => outside(error.at(call.place)),
            Failure::Theirs(error) => error,
        })?;
        // Without an alias of its own, columns keep one name each, whatever else the query reads.
        let plan = match &call.alias {
            Some(_) => plan,
            None => {
                let number = self.planned.fetch_add(1, Ordering::Relaxed);
                LogicalPlanBuilder::from(plan).alias(format!("{WINDOW_ALIAS}{number}"))?.build()?
            }
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, call.alias))))
    }
}

/// What a window function without an alias is called inside; never shown.
pub(crate) const WINDOW_ALIAS: &str = "__window";

enum Failure {
    Ours(StatementError),
    Theirs(DataFusionError),
}

impl From<StatementError> for Failure {
    fn from(error: StatementError) -> Failure {
        Failure::Ours(error)
    }
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Failure {
        Failure::Theirs(error)
    }
}

impl WindowFunctions {
    fn plan_call(&self, call: &Call, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan, Failure> {
        let function = call.name.to_uppercase();
        let names: &[&str] = match function.as_str() {
            "TUMBLE" => &["DATA", "TIMECOL", "SIZE"],
            "HOP" => &["DATA", "TIMECOL", "SLIDE", "SIZE"],
            "SESSION" | "CUMULATE" => {
                return Err(StatementError::unsupported(format!("{function} is not supported yet"))
                    .with_hint("the window functions are TUMBLE and HOP")
                    .into());
            }
            _ => return Err(unknown_table_function(&call.name).into()),
        };
        let arguments = arrange(&function, names, &call.arguments)?;
        let input = bare(plan_data(arguments[0], context)?)?;
        let time = time_column(arguments[1], input.schema())?;
        let lengths: Vec<i64> = arguments[2..]
            .iter()
            .zip(&names[2..])
            .map(|(argument, name)| milliseconds(argument, name, context))
            .collect::<Result<_, _>>()?;
        let window = match lengths.as_slice() {
            [size_ms] => Window::Tumble { size_ms: *size_ms },
            [slide_ms, size_ms] => {
                if size_ms % slide_ms != 0 {
                    return Err(StatementError::invalid(format!(
                        "HOP's size ({size_ms} ms) must be a multiple of its slide ({slide_ms} ms)"
                    ))
                    .with_hint("the slide comes first: HOP(TABLE t, DESCRIPTOR(ts), slide, size)")
                    .into());
                }
                if size_ms / slide_ms > WINDOWS_PER_ROW_MAX {
                    return Err(StatementError::limit(format!(
                        "each row would stand in {} windows; at most {WINDOWS_PER_ROW_MAX} are allowed",
                        size_ms / slide_ms
                    ))
                    .into());
                }
                Window::Hop { size_ms: *size_ms, slide_ms: *slide_ms }
            }
            other => unreachable!("a window function has one or two lengths, not {}", other.len()),
        };
        if let Some(taken) = WINDOW_COLUMNS.iter().find(|name| input.schema().has_column_with_unqualified_name(name)) {
            return Err(StatementError::unsupported(format!(
                "the input of {function} has a column `{taken}` already, and {function} would add another"
            ))
            .with_hint("a window over windows is not supported yet; give the column another name in a sub query")
            .into());
        }
        let node = WindowNode::new(input, window, time)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }
}

/// The arguments in the order of `names`, given by place or by name.
fn arrange<'a>(
    function: &str,
    names: &[&str],
    arguments: &'a [FunctionArg],
) -> Result<Vec<&'a ast::Expr>, StatementError> {
    let form = match function {
        "TUMBLE" => "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
        _ => "HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '1' MINUTE), the slide before the size",
    };
    let wrong = |what: String| StatementError::invalid(what).with_hint(format!("write {form}"));
    let mut arranged: Vec<Option<&ast::Expr>> = vec![None; names.len()];
    for (index, argument) in arguments.iter().enumerate() {
        let (place, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (index, value),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                let wanted = name.value.to_uppercase();
                match names.iter().position(|name| *name == wanted) {
                    Some(place) => (place, value),
                    None if wanted == "OFFSET" => {
                        return Err(StatementError::unsupported(format!(
                            "{function} with an OFFSET is not supported yet"
                        ))
                        .at(Place::start(name.span)));
                    }
                    None => {
                        return Err(
                            wrong(format!("{function} has no argument `{}`", name.value)).at(Place::start(name.span))
                        );
                    }
                }
            }
            other => return Err(wrong(format!("{function} cannot take `{other}`")).at(place_of(other))),
        };
        match arranged.get_mut(place) {
            Some(slot @ None) => *slot = Some(value),
            Some(Some(_)) => {
                return Err(wrong(format!("{function} got its {} twice", names[place])).at(place_of(value)));
            }
            None => {
                return Err(wrong(format!("{function} takes {} arguments, not {}", names.len(), arguments.len()))
                    .at(place_of(value)));
            }
        }
    }
    arranged
        .into_iter()
        .zip(names)
        .map(|(argument, name)| argument.ok_or_else(|| wrong(format!("{function} lacks its {name}"))))
        .collect()
}

fn plan_data(argument: &ast::Expr, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan, Failure> {
    match argument {
        ast::Expr::Subquery(query) => {
            let relation = match as_whole_table(query) {
                Some(table) => table.clone(),
                None => TableFactor::Derived { lateral: false, subquery: query.clone(), alias: None, sample: None },
            };
            Ok(context.plan(relation)?)
        }
        other => Err(StatementError::invalid(format!("a window function reads a stream, not `{other}`"))
            .with_hint("write TABLE and the stream's name")
            .at(place_of(other))
            .into()),
    }
}

/// The plan with columns of bare names, so that nothing outside meets them twice.
fn bare(plan: LogicalPlan) -> Result<LogicalPlan, Failure> {
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field))).alias(field.name()))
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// The column that `DESCRIPTOR(ts)` or `ts` names.
fn time_column(argument: &ast::Expr, schema: &DFSchema) -> Result<Expr, StatementError> {
    let ident = match argument {
        ast::Expr::Identifier(ident) => Some(ident.clone()),
        ast::Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("DESCRIPTOR") => {
            descriptor(function)
        }
        _ => None,
    };
    let Some(ident) = ident else {
        return Err(StatementError::invalid(format!("`{argument}` does not name the event time"))
            .with_hint("write DESCRIPTOR and the column's name: DESCRIPTOR(ts)")
            .at(place_of(argument)));
    };
    let place = Place::start(ident.span);
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let found = pick(&ident, &names).ok_or_else(|| {
        let error = StatementError::unknown(format!("unknown column `{}`", ident.value)).at(place);
        match did_you_mean(&ident.value, names.iter().copied()) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    })?;
    let field = schema.field(found);
    if *field.data_type() != MILLISECONDS {
        return Err(StatementError::invalid(format!(
            "a window needs an event time of type TIMESTAMP(3), and `{}` is {}",
            field.name(),
            sql_name(field.data_type())
        ))
        .with_hint(format!("declare it so: CREATE STREAM … (`{}` TIMESTAMP(3), …)", field.name()))
        .at(place));
    }
    Ok(Expr::Column(Column::from(schema.qualified_field(found))))
}

fn descriptor(function: &ast::Function) -> Option<Ident> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(ident)))] => Some(ident.clone()),
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::CompoundIdentifier(idents)))] => idents.last().cloned(),
        _ => None,
    }
}

/// The place of the name that fits: exactly, or alone without regard to case.
fn pick(ident: &Ident, names: &[&str]) -> Option<usize> {
    if let Some(place) = names.iter().position(|name| *name == ident.value) {
        return Some(place);
    }
    let lower = ident.value.to_lowercase();
    let mut alike = names.iter().enumerate().filter(|(_, name)| name.to_lowercase() == lower).map(|(place, _)| place);
    match (alike.next(), alike.next()) {
        (Some(place), None) => Some(place),
        _ => None,
    }
}

/// A length of time in milliseconds, more than zero.
fn milliseconds(argument: &ast::Expr, name: &str, context: &mut dyn RelationPlannerContext) -> Result<i64, Failure> {
    let wrong = |what: &str| {
        StatementError::new(ErrorKind::Invalid, format!("{name} must be {what}, and `{argument}` is not"))
            .with_hint("write for example INTERVAL '10' SECOND")
            .at(place_of(argument))
    };
    let expr = match argument {
        ast::Expr::Interval(_) => context.sql_to_expr(argument.clone(), &DFSchema::empty())?,
        _ => return Err(wrong("an interval").into()),
    };
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = expr else {
        return Err(wrong("an interval").into());
    };
    if interval.months != 0 {
        return Err(wrong("of a fixed length (days at most, months differ)").into());
    }
    let nanoseconds = i128::from(interval.days) * 86_400_000_000_000 + i128::from(interval.nanoseconds);
    if nanoseconds <= 0 {
        return Err(wrong("more than zero").into());
    }
    if nanoseconds % 1_000_000 != 0 {
        return Err(wrong("of whole milliseconds").into());
    }
    i64::try_from(nanoseconds / 1_000_000).map_err(|_| wrong("of less than 290 million years").into())
}
