//! Fields of nested records: `a.b.c`, exact first, then without regard to case if only one fits.

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Column, Result as DataFusionResult, ScalarValue, TableReference};
use datafusion::functions::core::get_field;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};
use datafusion::logical_expr::{Expr, lit};

/// Plans compound identifiers whose first parts name a column.
#[derive(Debug)]
pub(crate) struct StructFields;

impl ExprPlanner for StructFields {
    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> DataFusionResult<PlannerResult<Vec<Expr>>> {
        let mut expr = Expr::Column(Column::from((qualifier, field)));
        let mut data_type = field.data_type();
        for name in nested_names {
            // A name that does not fit stays: the caller swallows errors from here, and DataFusion's type check tells it.
            let found = match data_type {
                DataType::Struct(fields) => find(fields, name),
                _ => None,
            };
            let (name, next) = match found {
                Some(found) => (found.name().clone(), found.data_type()),
                None => (name.clone(), &DataType::Null),
            };
            data_type = next;
            expr = Expr::ScalarFunction(ScalarFunction::new_udf(get_field(), vec![expr, lit(ScalarValue::from(name))]));
        }
        Ok(PlannerResult::Planned(expr))
    }
}

/// The field called `name`.
fn find<'a>(fields: &'a Fields, name: &str) -> Option<&'a Field> {
    if let Some(field) = fields.iter().find(|field| field.name() == name) {
        return Some(field);
    }
    let mut alike = fields.iter().filter(|field| field.name().to_lowercase() == name.to_lowercase());
    match (alike.next(), alike.next()) {
        (Some(field), None) => Some(field),
        _ => None,
    }
}
