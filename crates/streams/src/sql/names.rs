//! Which streams does a query read, and what does `*` stand for?
//!
//! Done on the syntax tree before DataFusion plans it: names of relations are set to the names that exist (exactly, or
//! without regard to case if only one fits), metadata columns are added to the streams of statements that mention them
//! and taken out of `*` again, and columns that have no name get the text they were written with.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    self, ExceptSelectItem, Ident, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, TableFactor,
    VisitorMut,
};

use super::definition::{METADATA_COLUMNS, StreamDefinition, StreamSource};
use super::dialect::as_whole_table;
use super::error::{SqlResult, StatementError, did_you_mean};
use super::parser::place_of;
use super::walk::walk_mut;
use super::window_function::name_the_table;

/// Where streams are found by name.
pub(crate) trait Streams {
    /// The names of all streams and topics.
    fn names(&self) -> Vec<String>;
    /// The stream or topic of exactly this name. Looking may mean reading records.
    fn find(&self, name: &str) -> SqlResult<Option<Arc<StreamDefinition>>>;
}

/// Looks up all streams of the query, and settles its names.
pub(crate) fn settle(query: &mut Query, streams: &dyn Streams) -> SqlResult<HashMap<String, Arc<StreamSource>>> {
    let mut survey = Survey::default();
    walk_mut(query, &mut survey)?;
    let mut tables =
        Tables { streams, all: None, ctes: survey.ctes, mentioned: survey.mentioned, found: HashMap::new() };
    walk_mut(query, &mut tables)?;
    let mut items = SelectItems { found: &tables.found };
    walk_mut(query, &mut items)?;
    Ok(tables.found)
}

/// First look: which names are common table expressions, which metadata columns are mentioned?
#[derive(Default)]
struct Survey {
    ctes: BTreeSet<String>,
    mentioned: BTreeSet<&'static str>,
}

impl Survey {
    fn mention(&mut self, ident: &Ident) {
        self.mentioned.extend(METADATA_COLUMNS.iter().filter(|name| name.eq_ignore_ascii_case(&ident.value)));
    }
}

impl VisitorMut for Survey {
    type Break = StatementError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<StatementError> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.ctes.insert(cte.alias.name.value.clone());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, relation: &mut TableFactor) -> ControlFlow<StatementError> {
        name_the_table(relation);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<StatementError> {
        match expr {
            ast::Expr::Identifier(ident) => self.mention(ident),
            ast::Expr::CompoundIdentifier(idents) => idents.iter().for_each(|ident| self.mention(ident)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Second look: every relation's name.
struct Tables<'a> {
    streams: &'a dyn Streams,
    all: Option<Vec<String>>,
    ctes: BTreeSet<String>,
    mentioned: BTreeSet<&'static str>,
    found: HashMap<String, Arc<StreamSource>>,
}

impl VisitorMut for Tables<'_> {
    type Break = StatementError;

    fn pre_visit_table_factor(&mut self, relation: &mut TableFactor) -> ControlFlow<StatementError> {
        let TableFactor::Table { name, args, version, sample, .. } = relation else {
            return ControlFlow::Continue(());
        };
        if version.is_some() {
            return ControlFlow::Break(
                StatementError::unsupported("FOR SYSTEM_TIME AS OF is not supported yet").at(place_of(name)),
            );
        }
        if sample.is_some() {
            return ControlFlow::Break(StatementError::unsupported("TABLESAMPLE is not supported").at(place_of(name)));
        }
        if args.is_some() {
            return ControlFlow::Continue(());
        }
        match self.settle(name) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error.at(place_of(name))),
        }
    }
}

impl Tables<'_> {
    fn settle(&mut self, name: &mut ObjectName) -> SqlResult<()> {
        let parts: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
        let Some(first) = parts.first() else {
            return Err(StatementError::invalid(format!("`{name}` is not a stream's name")));
        };
        let written = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
        if self.ctes.contains(&written) {
            return Ok(());
        }
        let settled = match self.stream(&written)? {
            true => written,
            false => self.ignoring_case(&written)?,
        };
        // Names with dots are one name for the planner.
        *name = ObjectName::from(vec![Ident { value: settled, quote_style: Some('`'), span: first.span }]);
        Ok(())
    }

    /// Whether there is a stream of exactly this name.
    fn stream(&mut self, name: &str) -> SqlResult<bool> {
        if self.found.contains_key(name) {
            return Ok(true);
        }
        let Some(definition) = self.streams.find(name)? else {
            return Ok(false);
        };
        let source = StreamSource::new(definition, |metadata| self.mentioned.contains(metadata));
        self.found.insert(name.to_owned(), Arc::new(source));
        Ok(true)
    }

    fn ignoring_case(&mut self, written: &str) -> SqlResult<String> {
        let all = self.all.get_or_insert_with(|| self.streams.names());
        let lower = written.to_lowercase();
        let alike: BTreeSet<String> =
            all.iter().chain(&self.ctes).filter(|name| name.to_lowercase() == lower).cloned().collect();
        let mut alike = alike.into_iter();
        match (alike.next(), alike.next()) {
            (Some(name), None) => {
                if !self.ctes.contains(&name) {
                    self.stream(&name)?;
                }
                Ok(name)
            }
            (Some(one), Some(other)) => {
                Err(StatementError::unknown(format!("`{written}` could be `{one}` or `{other}`"))
                    .with_hint("write it in the case it has"))
            }
            (None, _) => {
                let error = StatementError::unknown(format!("unknown stream or topic `{written}`"));
                Err(match did_you_mean(written, all.iter().chain(&self.ctes).map(String::as_str)) {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                })
            }
        }
    }
}

/// Third look: what the SELECT lists say.
struct SelectItems<'a> {
    found: &'a HashMap<String, Arc<StreamSource>>,
}

/// A relation of a FROM clause: what its columns can be qualified with, and which of them `*` leaves out.
struct Relation {
    qualifier: Option<String>,
    hidden: Vec<String>,
}

impl SelectItems<'_> {
    fn relation(&self, factor: &TableFactor) -> Relation {
        let alias = |alias: &Option<ast::TableAlias>| alias.as_ref().map(|alias| alias.name.value.clone());
        match factor {
            TableFactor::Table { name, args: None, alias: given, .. } => {
                let name = name.0.first().and_then(|part| part.as_ident()).map(|ident| ident.value.clone());
                let hidden = name.as_ref().and_then(|name| self.found.get(name)).map(|stream| stream.hidden.clone());
                Relation { qualifier: alias(given).or(name), hidden: hidden.unwrap_or_default() }
            }
            TableFactor::Table { args: Some(args), alias: given, .. } => {
                Relation { qualifier: alias(given), hidden: self.hidden_of(&args.args) }
            }
            TableFactor::TableFunction { expr: ast::Expr::Function(function), alias: given } => {
                let hidden = match &function.args {
                    ast::FunctionArguments::List(list) => self.hidden_of(&list.args),
                    _ => Vec::new(),
                };
                Relation { qualifier: alias(given), hidden }
            }
            TableFactor::Derived { alias: given, .. } => Relation { qualifier: alias(given), hidden: Vec::new() },
            _ => Relation { qualifier: None, hidden: Vec::new() },
        }
    }

    /// A window function hands on the metadata columns of the stream it reads.
    fn hidden_of(&self, arguments: &[ast::FunctionArg]) -> Vec<String> {
        let queries = arguments.iter().filter_map(|argument| match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Subquery(query)))
            | ast::FunctionArg::Named { arg: ast::FunctionArgExpr::Expr(ast::Expr::Subquery(query)), .. } => {
                Some(query)
            }
            _ => None,
        });
        queries.filter_map(|query| as_whole_table(query)).flat_map(|table| self.relation(table).hidden).collect()
    }
}

impl VisitorMut for SelectItems<'_> {
    type Break = StatementError;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<StatementError> {
        if select.select_token.0.span.start.line == 0 {
            return ControlFlow::Continue(());
        }
        let relations: Vec<Relation> = select
            .from
            .iter()
            .flat_map(|table| std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)))
            .map(|factor| self.relation(factor))
            .collect();
        let mut items = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            settle_item(item, &relations, &mut items);
        }
        select.projection = items;
        ControlFlow::Continue(())
    }
}

fn settle_item(item: SelectItem, relations: &[Relation], items: &mut Vec<SelectItem>) {
    match item {
        SelectItem::Wildcard(mut options) => {
            let hides = relations.iter().any(|relation| !relation.hidden.is_empty());
            let named = relations.iter().all(|relation| relation.qualifier.is_some());
            if hides && relations.len() > 1 && named {
                for relation in relations {
                    let mut options = options.clone();
                    leave_out(&mut options, &relation.hidden);
                    let qualifier = relation.qualifier.clone().unwrap_or_default();
                    let name = ObjectName::from(vec![Ident::with_quote('`', qualifier)]);
                    items.push(SelectItem::QualifiedWildcard(
                        SelectItemQualifiedWildcardKind::ObjectName(name),
                        options,
                    ));
                }
            } else {
                let hidden: Vec<String> = relations.iter().flat_map(|relation| relation.hidden.clone()).collect();
                leave_out(&mut options, &hidden);
                items.push(SelectItem::Wildcard(options));
            }
        }
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), mut options) => {
            let written = name.to_string().trim_matches(['`', '"']).to_owned();
            let exact = relations.iter().find(|relation| relation.qualifier.as_deref() == Some(&written));
            let alike = || {
                relations.iter().find(|relation| {
                    relation.qualifier.as_ref().is_some_and(|name| name.to_lowercase() == written.to_lowercase())
                })
            };
            let mut settled = name;
            if let Some(relation) = exact.or_else(alike) {
                leave_out(&mut options, &relation.hidden);
                let qualifier = relation.qualifier.clone().unwrap_or_default();
                settled = ObjectName::from(vec![Ident::with_quote('`', qualifier)]);
            }
            items.push(SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(settled), options));
        }
        SelectItem::UnnamedExpr(expr) => {
            let name = match &expr {
                ast::Expr::Identifier(_) => None,
                // `t.price` keeps its name; `a.b.c` and `nested.field` are called as their last part.
                ast::Expr::CompoundIdentifier(idents) => {
                    let qualified = idents.first().is_some_and(|first| {
                        relations.iter().any(|relation| {
                            relation.qualifier.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(&first.value))
                        })
                    });
                    if qualified && idents.len() == 2 { None } else { idents.last().map(|ident| ident.value.clone()) }
                }
                other => Some(other.to_string()),
            };
            items.push(match name {
                Some(name) => {
                    let span = place_span(&expr);
                    SelectItem::ExprWithAlias { expr, alias: Ident { value: name, quote_style: Some('`'), span } }
                }
                None => SelectItem::UnnamedExpr(expr),
            });
        }
        other => items.push(other),
    }
}

fn place_span(expr: &ast::Expr) -> datafusion::sql::sqlparser::tokenizer::Span {
    use datafusion::sql::sqlparser::ast::Spanned;
    expr.span()
}

fn leave_out(options: &mut ast::WildcardAdditionalOptions, hidden: &[String]) {
    let mut idents: Vec<Ident> = hidden.iter().map(|name| Ident::with_quote('`', name)).collect();
    if idents.is_empty() {
        return;
    }
    match &mut options.opt_except {
        Some(except) => except.additional_elements.extend(idents),
        None => {
            let first_element = idents.remove(0);
            options.opt_except = Some(ExceptSelectItem { first_element, additional_elements: idents });
        }
    }
}
