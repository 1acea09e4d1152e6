//! What a registered query may not do (yet), found on the syntax tree, where it has a place.

use std::ops::ControlFlow;

use datafusion::logical_expr::Volatility;
use datafusion::sql::sqlparser::ast::{
    self, GroupByExpr, Query, Select, SetExpr, SetOperator, SetQuantifier, TableFactor, Visitor,
};

use super::dialect::as_whole_table;
use super::error::{Place, SqlResult, StatementError};
use super::parser::place_of;
use super::session::Session;
use super::walk::walk;

/// Refuses what does not work in a query that runs for ever.
pub(crate) fn refuse_for_streams(query: &Query, session: &Session) -> SqlResult<()> {
    let mut checker = Checker { session };
    walk(query, &mut checker)
}

/// Where the first aggregate call or GROUP BY of a query stands.
pub(crate) fn place_of_aggregation(query: &Query, session: &Session) -> Option<Place> {
    let mut finder = AggregationFinder { session, found: None };
    // It never breaks off.
    let _ = walk(query, &mut finder);
    finder.found
}

struct Checker<'a> {
    session: &'a Session,
}

fn no(what: &str) -> StatementError {
    StatementError::unsupported(format!("{what} is not supported in a registered query"))
}

fn not_yet(what: &str) -> StatementError {
    StatementError::unsupported(format!("{what} is not supported in a registered query yet"))
}

const ONE_TIME: &str = "a one-time SELECT can do it";

impl Checker<'_> {
    fn query(&self, query: &Query) -> SqlResult<()> {
        if let Some(with) = &query.with
            && with.recursive
        {
            return Err(no("WITH RECURSIVE").with_hint(ONE_TIME).at(place_of(with)));
        }
        if let Some(order_by) = &query.order_by {
            return Err(no("ORDER BY")
                .with_hint("its rows never end, so they are never all there to be sorted")
                .at(place_of(order_by)));
        }
        if let Some(limit) = &query.limit_clause {
            return Err(no("LIMIT").with_hint("a stream goes on for ever; filter with WHERE").at(place_of(limit)));
        }
        if let Some(fetch) = &query.fetch {
            return Err(no("FETCH")
                .with_hint("a stream goes on for ever; filter with WHERE")
                .at(fetch.quantity.as_ref().and_then(place_of)));
        }
        if !query.pipe_operators.is_empty() || !query.locks.is_empty() || query.for_clause.is_some() {
            return Err(no("what follows the SELECT").at(place_of(query)));
        }
        self.body(&query.body)
    }

    fn body(&self, body: &SetExpr) -> SqlResult<()> {
        match body {
            SetExpr::Select(_) | SetExpr::Query(_) => Ok(()),
            SetExpr::SetOperation { op: SetOperator::Union, set_quantifier: SetQuantifier::All, left, right } => {
                self.body(left)?;
                self.body(right)
            }
            SetExpr::SetOperation { op: SetOperator::Union, right, .. } => Err(no("UNION without ALL")
                .with_hint("write UNION ALL; telling duplicates would keep every row for ever")
                .at(place_of(right.as_ref()))),
            SetExpr::SetOperation { op, right, .. } => {
                Err(no(&op.to_string()).with_hint(ONE_TIME).at(place_of(right.as_ref())))
            }
            SetExpr::Values(values) => Err(no("VALUES").with_hint("it reads no stream").at(place_of(values))),
            other => Err(no(&format!("`{other}`")).at(place_of(other))),
        }
    }

    fn select(&self, select: &Select) -> SqlResult<()> {
        let start = Place::start(select.select_token.0.span);
        if select.distinct.is_some() {
            return Err(not_yet("DISTINCT")
                .with_hint("it would keep every row for ever; in a window, GROUP BY does it")
                .at(start));
        }
        if select.from.is_empty() {
            return Err(StatementError::invalid(
                "a registered query reads at least one stream, and this SELECT has no FROM",
            )
            .at(start));
        }
        if let Some(join) = select.from.iter().find_map(|table| table.joins.first()) {
            return Err(not_yet("JOIN").with_hint(ONE_TIME).at(place_of(&join.relation)));
        }
        if let Some(second) = select.from.get(1) {
            return Err(not_yet("a join (a second relation in FROM)").with_hint(ONE_TIME).at(place_of(second)));
        }
        if let Some(qualify) = &select.qualify {
            return Err(not_yet("QUALIFY").with_hint(ONE_TIME).at(place_of(qualify)));
        }
        if let GroupByExpr::All(_) = &select.group_by {
            return Err(no("GROUP BY ALL").with_hint("name the columns").at(start));
        }
        if let GroupByExpr::Expressions(_, modifiers) = &select.group_by
            && !modifiers.is_empty()
        {
            return Err(not_yet("ROLLUP, CUBE and GROUPING SETS").with_hint(ONE_TIME).at(start));
        }
        if let Some(sort) = select.sort_by.first() {
            return Err(no("SORT BY").at(place_of(sort)));
        }
        if !select.lateral_views.is_empty() || select.top.is_some() || select.into.is_some() {
            return Err(no("this form of SELECT").at(start));
        }
        Ok(())
    }

    fn relation(&self, relation: &TableFactor) -> SqlResult<()> {
        match relation {
            TableFactor::Table { .. } | TableFactor::TableFunction { .. } => Ok(()),
            TableFactor::Derived { lateral: false, .. } => Ok(()),
            TableFactor::UNNEST { .. } => Err(not_yet("UNNEST").with_hint(ONE_TIME).at(place_of(relation))),
            TableFactor::NestedJoin { .. } => Err(not_yet("JOIN").with_hint(ONE_TIME).at(place_of(relation))),
            TableFactor::MatchRecognize { .. } => Err(not_yet("MATCH_RECOGNIZE").at(place_of(relation))),
            other => Err(no("such a relation").at(place_of(other))),
        }
    }

    fn expr(&self, expr: &ast::Expr) -> SqlResult<()> {
        match expr {
            ast::Expr::Subquery(query) if as_whole_table(query).is_none() => {
                Err(not_yet("a sub query in an expression").with_hint(ONE_TIME).at(place_of(expr)))
            }
            ast::Expr::Exists { .. } | ast::Expr::InSubquery { .. } => {
                Err(not_yet("a sub query in an expression").with_hint(ONE_TIME).at(place_of(expr)))
            }
            ast::Expr::Rollup(_) | ast::Expr::Cube(_) | ast::Expr::GroupingSets(_) => {
                Err(not_yet("ROLLUP, CUBE and GROUPING SETS").with_hint(ONE_TIME).at(place_of(expr)))
            }
            ast::Expr::Function(function) => {
                let name = function.name.to_string().to_lowercase();
                if function.over.is_some() {
                    return Err(not_yet("OVER").with_hint(ONE_TIME).at(place_of(&function.name)));
                }
                if name == "unnest" {
                    return Err(not_yet("UNNEST").with_hint(ONE_TIME).at(place_of(&function.name)));
                }
                let changes = self
                    .session
                    .state
                    .scalar_functions()
                    .get(&name)
                    .is_some_and(|known| known.signature().volatility != Volatility::Immutable);
                if changes {
                    return Err(no(&format!("`{name}`"))
                        .with_hint(
                            "a stream computed again must give the same bytes, and this gives something else each \
                             time; the record's own time is the column `timestamp`",
                        )
                        .at(place_of(&function.name)));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn flow(result: SqlResult<()>) -> ControlFlow<StatementError> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

impl Visitor for Checker<'_> {
    type Break = StatementError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<StatementError> {
        flow(self.query(query))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<StatementError> {
        // What stands for `TABLE name` was written by nobody.
        if select.select_token.0.span.start.line == 0 {
            return ControlFlow::Continue(());
        }
        flow(self.select(select))
    }

    fn pre_visit_table_factor(&mut self, relation: &TableFactor) -> ControlFlow<StatementError> {
        flow(self.relation(relation))
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<StatementError> {
        flow(self.expr(expr))
    }
}

struct AggregationFinder<'a> {
    session: &'a Session,
    /// The place of the first.
    found: Option<Place>,
}

impl Visitor for AggregationFinder<'_> {
    type Break = StatementError;

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<StatementError> {
        if let ast::Expr::Function(function) = expr {
            let name = function.name.to_string().to_lowercase();
            if self.session.state.aggregate_functions().contains_key(&name) {
                self.found = self.found.or_else(|| place_of(&function.name));
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &Select) -> ControlFlow<StatementError> {
        if let GroupByExpr::Expressions(exprs, _) = &select.group_by
            && let Some(first) = exprs.first()
        {
            self.found = self.found.or_else(|| place_of(first));
        }
        ControlFlow::Continue(())
    }
}
