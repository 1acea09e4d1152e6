//! Single expressions, such as a watermark's.

use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;
use std::collections::HashMap;
use std::sync::Arc;

use super::context::Context;
use super::error::SqlResult;
use super::session::Session;
use super::translate::translate;

/// Plans an expression over the columns of `schema`, with types made to fit.
pub(crate) fn plan_expression(session: &Session, expression: &ast::Expr, schema: &DFSchema) -> SqlResult<Expr> {
    let streams = HashMap::new();
    let context = Context::new(session, &streams);
    let planner = SqlToRel::new_with_options(&context, session.parser_options());
    let told = |error: DataFusionError| translate(&error, session).at(super::parser::place_of(expression));
    let planned = planner.sql_to_expr(expression.clone(), schema, &mut PlannerContext::new()).map_err(told)?;
    let info = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    ExprSimplifier::new(info).coerce(planned, schema).map_err(told)
}
