//! Going over a syntax tree.
//!
//! sqlparser's own walk is generic over the visitor: each kind of visitor is another copy of the code for all of SQL's
//! nodes, and with nine kinds those were two thirds of what the compiler had to make of this crate. Here all visitors
//! are one kind that asks the real one.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
};

use super::error::{SqlResult, StatementError};

/// Shows `visitor` the nodes of `part`, until it breaks off. It is asked at queries, selects, table factors, relations
/// and expressions, by the methods that [`Looking`] forwards. Its other methods are not called: who overrides one
/// forwards it there, too.
pub(crate) fn walk(part: &impl Visit, visitor: &mut dyn Visitor<Break = StatementError>) -> SqlResult<()> {
    result(part.visit(&mut Looking(visitor)))
}

/// The same, and the visitor may change the nodes. Here, too, only the methods are called that [`Changing`] forwards.
pub(crate) fn walk_mut(
    part: &mut impl VisitMut,
    visitor: &mut dyn VisitorMut<Break = StatementError>,
) -> SqlResult<()> {
    result(part.visit(&mut Changing(visitor)))
}

fn result(flow: ControlFlow<StatementError>) -> SqlResult<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

type Flow = ControlFlow<StatementError>;

struct Looking<'a>(&'a mut dyn Visitor<Break = StatementError>);

impl Visitor for Looking<'_> {
    type Break = StatementError;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        self.0.pre_visit_query(query)
    }

    fn post_visit_query(&mut self, query: &Query) -> Flow {
        self.0.post_visit_query(query)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        self.0.pre_visit_select(select)
    }

    fn post_visit_select(&mut self, select: &Select) -> Flow {
        self.0.post_visit_select(select)
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> Flow {
        self.0.pre_visit_relation(relation)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        self.0.pre_visit_table_factor(factor)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        self.0.pre_visit_expr(expr)
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> Flow {
        self.0.post_visit_expr(expr)
    }
}

struct Changing<'a>(&'a mut dyn VisitorMut<Break = StatementError>);

impl VisitorMut for Changing<'_> {
    type Break = StatementError;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        self.0.pre_visit_query(query)
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        self.0.pre_visit_select(select)
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        self.0.pre_visit_table_factor(factor)
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        self.0.pre_visit_expr(expr)
    }
}
