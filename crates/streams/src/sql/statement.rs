//! Statements as they were written.

use datafusion::sql::sqlparser::ast;

use super::error::Place;

/// One statement.
#[derive(Debug, Clone)]
pub(crate) enum Statement {
    /// A SELECT that reads what is there now.
    Query(Box<ast::Query>),
    CreateStream(Box<CreateStream>),
    CreateMaterialized(Box<CreateMaterialized>),
    DropStream {
        name: Name,
        if_exists: bool,
    },
    PauseStream {
        name: Name,
    },
    ResumeStream {
        name: Name,
    },
    ShowStreams,
    Describe {
        name: Name,
    },
    /// Of a query, or of what CREATE MATERIALIZED STREAM would run.
    Explain(Box<Statement>),
}

impl Statement {
    /// Whether it changes the catalog.
    pub(crate) fn changes_catalog(&self) -> bool {
        match self {
            Statement::CreateStream(_)
            | Statement::CreateMaterialized(_)
            | Statement::DropStream { .. }
            | Statement::PauseStream { .. }
            | Statement::ResumeStream { .. } => true,
            Statement::Query(_) | Statement::ShowStreams | Statement::Describe { .. } | Statement::Explain(_) => false,
        }
    }
}

/// A name and where it stands. Parts are joined by dots, as topics' names have them.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) place: Option<Place>,
}

/// `name = value` of a WITH clause.
#[derive(Debug, Clone)]
pub(crate) struct StatementOption {
    pub(crate) name: Name,
    pub(crate) value: String,
    pub(crate) value_place: Option<Place>,
}

/// `CREATE STREAM name (columns, WATERMARK FOR …) WITH (…)`.
#[derive(Debug, Clone)]
pub(crate) struct CreateStream {
    pub(crate) name: Name,
    pub(crate) columns: Vec<ColumnDefinition>,
    pub(crate) watermark: Option<Watermark>,
    pub(crate) options: Vec<StatementOption>,
}

/// One column of CREATE STREAM.
#[derive(Debug, Clone)]
pub(crate) struct ColumnDefinition {
    pub(crate) name: Name,
    pub(crate) data_type: ast::DataType,
    /// `METADATA FROM 'key'`; without FROM the column's own name.
    pub(crate) metadata: Option<Name>,
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, Clone)]
pub(crate) struct Watermark {
    pub(crate) column: Name,
    pub(crate) expression: ast::Expr,
}

/// `CREATE MATERIALIZED STREAM name WITH (…) AS query`.
#[derive(Debug, Clone)]
pub(crate) struct CreateMaterialized {
    pub(crate) name: Name,
    pub(crate) options: Vec<StatementOption>,
    pub(crate) query: Box<ast::Query>,
}
