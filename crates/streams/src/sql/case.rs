//! Columns whose names fit only without regard to case: found by planning, and set right in the syntax tree.

use std::ops::ControlFlow;

use datafusion::common::{Column, DataFusionError, SchemaError, Span};
use datafusion::sql::sqlparser::ast::{self, Query, VisitorMut};

use super::error::{Place, StatementError};
use super::walk::walk_mut;

/// How many names of one statement are set right; every one costs a planning.
pub(crate) const REPAIRS_MAX: usize = 64;

/// The unknown column that an error is about, where it stands, and which columns there are.
pub(crate) struct UnknownColumn<'a> {
    pub(crate) column: &'a Column,
    pub(crate) valid: &'a [Column],
    pub(crate) span: Option<Span>,
}

impl UnknownColumn<'_> {
    pub(crate) fn of(error: &DataFusionError) -> Option<UnknownColumn<'_>> {
        let DataFusionError::SchemaError(inner, _) = error.find_root() else {
            return None;
        };
        let SchemaError::FieldNotFound { field, valid_fields } = inner.as_ref() else {
            return None;
        };
        let span = error.diagnostic().and_then(|diagnostic| diagnostic.span).or_else(|| field.spans().first());
        Some(UnknownColumn { column: field, valid: valid_fields, span })
    }

    pub(crate) fn place(&self) -> Option<Place> {
        self.span.map(place)
    }

    /// Sets the name right if exactly one column fits without regard to case. False: nothing was changed.
    pub(crate) fn repair(&self, query: &mut Query) -> bool {
        let Some(span) = self.span else {
            return false;
        };
        let same = |left: &str, right: &str| left.to_lowercase() == right.to_lowercase();
        let relation = self.column.relation.as_ref().map(|relation| relation.table());
        let mut whole = self.valid.iter().filter(|valid| {
            same(valid.name(), self.column.name())
                && relation
                    .is_none_or(|wanted| valid.relation.as_ref().is_some_and(|relation| same(relation.table(), wanted)))
        });
        let repair = match (whole.next(), whole.next(), relation) {
            (Some(column), None, _) => Repair::Column(column),
            // `A.b` where `a` is a column of nested records.
            (None, _, Some(wanted)) => {
                let mut nested = self.valid.iter().filter(|valid| same(valid.name(), wanted) && valid.name() != wanted);
                match (nested.next(), nested.next()) {
                    (Some(column), None) => Repair::Part { written: wanted, name: column.name() },
                    _ => return false,
                }
            }
            _ => return false,
        };
        let end = (span.end.line, span.end.column);
        let mut writer = Writer { end, repair, changed: false };
        // It never breaks off.
        let _ = walk_mut(query, &mut writer);
        writer.changed
    }
}

/// DataFusion's place as ours.
pub(crate) fn place(span: Span) -> Place {
    Place { line: span.start.line as u32, column: span.start.column as u32 }
}

enum Repair<'a> {
    /// This is the column that was meant.
    Column(&'a Column),
    /// The part before the last that was written so is this column.
    Part { written: &'a str, name: &'a str },
}

struct Writer<'a> {
    end: (u64, u64),
    repair: Repair<'a>,
    changed: bool,
}

impl Writer<'_> {
    fn set(&mut self, ident: &mut ast::Ident, name: &str) {
        if ident.value != name {
            ident.value = name.to_owned();
            self.changed = true;
        }
    }
}

impl VisitorMut for Writer<'_> {
    type Break = StatementError;

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<StatementError> {
        let ends_here = |ident: &ast::Ident, end: (u64, u64)| (ident.span.end.line, ident.span.end.column) == end;
        match expr {
            ast::Expr::Identifier(ident) if ends_here(ident, self.end) => {
                if let Repair::Column(column) = self.repair {
                    self.set(ident, column.name());
                }
            }
            ast::Expr::CompoundIdentifier(idents) if idents.last().is_some_and(|last| ends_here(last, self.end)) => {
                match self.repair {
                    Repair::Part { written, name } => {
                        let part = idents.iter_mut().rev().skip(1).find(|ident| ident.value == written);
                        if let Some(ident) = part {
                            self.set(ident, name);
                        }
                    }
                    Repair::Column(column) => {
                        let last = idents.len() - 1;
                        self.set(&mut idents[last], column.name());
                        if let (Some(relation), 1) = (&column.relation, last) {
                            let relation = relation.table().to_owned();
                            self.set(&mut idents[0], &relation);
                        }
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
