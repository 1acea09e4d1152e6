//! How large a query may be.
//!
//! The parser bounds how deep brackets nest, but not chains such as `1 + 1 + …`, whose tree is as deep as they are long and
//! whose planning costs more than the square of that; nor how often a WITH query is read, which is copied at every
//! reading, so that twenty lines that each read the last one twice are a million scans.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, ObjectName, Query, SetExpr, Spanned, Value, Visit, Visitor};

use super::error::{Place, SqlResult, StatementError};
use super::walk::walk;

/// How many operators a chain in an expression may have.
const CHAIN_LEN_MAX: usize = 256;
/// How many queries UNION ALL and its like may put together.
const SET_OPERANDS_MAX: usize = 128;
/// How many relations a query may read, those of its WITH queries counted at every reading.
const RELATIONS_MAX: u64 = 256;

/// Refuses what is too large to be planned in reasonable time and memory, and parameters, which nobody could give.
pub(crate) fn check(query: &Query) -> SqlResult<()> {
    let mut bounds = Bounds { depth: 0 };
    walk(query, &mut bounds)
}

struct Bounds {
    depth: usize,
}

impl Visitor for Bounds {
    type Break = StatementError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<StatementError> {
        let place = Place::start(query.span());
        if set_operands(&query.body) > SET_OPERANDS_MAX {
            let error =
                StatementError::limit(format!("more than {SET_OPERANDS_MAX} queries are put together by UNION"));
            return ControlFlow::Break(error.at(place));
        }
        if relations(query) > RELATIONS_MAX {
            let error = StatementError::limit(format!(
                "the query reads more than {RELATIONS_MAX} relations; a WITH query counts again wherever it is read"
            ));
            return ControlFlow::Break(error.at(place));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<StatementError> {
        self.depth += 1;
        let place = || Place::start(expr.span());
        if self.depth > CHAIN_LEN_MAX {
            let error =
                StatementError::limit(format!("an expression has a chain of more than {CHAIN_LEN_MAX} operators"))
                    .with_hint("a long chain of ORs over one column is shorter as IN (…)");
            return ControlFlow::Break(error.at(place()));
        }
        match expr {
            Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
                let error =
                    StatementError::unsupported(format!("there are no parameters: `{}` has no value", value.value));
                ControlFlow::Break(error.at(place()))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<StatementError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// A loop, since the left operand is the long one.
fn set_operands(mut body: &SetExpr) -> usize {
    let mut count = 1;
    while let SetExpr::SetOperation { left, right, .. } = body {
        count += set_operands(right);
        body = left;
    }
    count
}

/// How many relations are read in all.
fn relations(query: &Query) -> u64 {
    let mut known: HashMap<String, u64> = HashMap::new();
    let tables = query.with.iter().flat_map(|with| &with.cte_tables);
    for table in tables {
        let weight = weight(table.query.as_ref(), &known);
        known.insert(table.alias.name.value.to_lowercase(), weight);
    }
    weight(query.body.as_ref(), &known)
}

fn weight(part: &impl Visit, known: &HashMap<String, u64>) -> u64 {
    let mut scale = Scale { known, sum: 0 };
    // It never breaks off.
    let _ = walk(part, &mut scale);
    scale.sum
}

struct Scale<'a> {
    known: &'a HashMap<String, u64>,
    sum: u64,
}

impl Visitor for Scale<'_> {
    type Break = StatementError;

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<StatementError> {
        let weight = self.known.get(&relation.to_string().to_lowercase()).copied().unwrap_or(1);
        self.sum = self.sum.saturating_add(weight);
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parser::parse;
    use crate::sql::statement::Statement;

    fn refusal(text: &str) -> Option<String> {
        let Ok(Statement::Query(query)) = parse(text) else { panic!("{text} is a query") };
        check(&query).err().map(|error| error.message)
    }

    #[test]
    fn long_chains_are_refused_and_ordinary_ones_are_not() {
        let chain = |len: usize| format!("SELECT {} FROM t", vec!["1"; len].join(" + "));
        assert_eq!(refusal(&chain(200)), None);
        assert!(refusal(&chain(1_200)).is_some_and(|error| error.contains("a chain of more than 256")));
    }

    #[test]
    fn a_with_query_counts_at_every_reading() {
        let mut text = "WITH a0 AS (SELECT * FROM ev)".to_owned();
        for level in 1..25 {
            text += &format!(", a{level} AS (SELECT * FROM a{0} UNION ALL SELECT * FROM a{0})", level - 1);
        }
        assert!(
            refusal(&format!("{text} SELECT * FROM a24"))
                .is_some_and(|error| error.contains("more than 256 relations"))
        );
        assert_eq!(refusal(&format!("{text} SELECT * FROM a5")), None);
    }

    #[test]
    fn many_unions_are_refused() {
        let union = |count: usize| vec!["SELECT a FROM t"; count].join(" UNION ALL ");
        assert_eq!(refusal(&union(100)), None);
        assert!(refusal(&union(200)).is_some_and(|error| error.contains("more than 128 queries")));
    }

    #[test]
    fn parameters_are_refused() {
        assert!(refusal("SELECT $1 FROM t").is_some_and(|error| error.contains("no parameters")));
    }
}
