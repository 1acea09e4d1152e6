//! From a statement's text to what will be done: everything that can be wrong is found here, before anything is.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::{ExprSchemable, Volatility};
use millpond_broker::Broker;
use millpond_types::{Offset, TopicName};

use super::explain::explain;
use super::options::{DeclareOptions, declare_options, materialize_options};
use super::view::View;
use crate::catalog::{Catalog, CatalogKind, CatalogStream, Frozen, Read};
use crate::plan::{ColumnOrigin, Format, SinkPlan, SourceColumn, StreamPlan};
use crate::select::{PlannedSelect, plan_select};
use crate::sql::definition::{
    METADATA_COLUMNS, StreamDefinition, StreamOrigin, WatermarkDefinition, metadata_column, schema_of,
};
use crate::sql::error::{SqlResult, StatementError, did_you_mean};
use crate::sql::expression::plan_expression;
use crate::sql::names::Streams;
use crate::sql::parser::{parse, place_of};
use crate::sql::planner::plan_query;
use crate::sql::refuse::refuse_for_streams;
use crate::sql::session::Session;
use crate::sql::statement::{CreateMaterialized, CreateStream, Name, Statement};
use crate::sql::stream_plan::operators;
use crate::sql::types::{MILLISECONDS, arrow_type, sql_name};

/// Names that begin so belong to the node.
const RESERVED_PREFIXES: [&str; 2] = ["_millpond", "__"];

/// A statement that is right.
pub(crate) enum Prepared {
    /// It changes nothing.
    Read(Box<ReadStatement>),
    /// It changes the catalog.
    Change(Box<Change>),
}

/// A statement that only tells something.
pub(crate) enum ReadStatement {
    Select(Box<PlannedSelect>),
    ShowStreams,
    /// The stream or topic that is described.
    Describe(Arc<StreamDefinition>),
    /// The lines of the explanation.
    Explain(Vec<String>),
}

/// A change of the catalog.
pub(crate) enum Change {
    Create {
        stream: Box<CatalogStream>,
        frozen: Frozen,
        /// The topic is to be made, with so many partitions (−1: the node's default).
        new_topic: Option<i32>,
    },
    Drop {
        name: String,
    },
    Pause {
        name: String,
    },
    Resume {
        name: String,
    },
    /// DROP IF EXISTS of what does not exist.
    Nothing {
        message: String,
    },
}

impl Prepared {
    /// The catalog as it would be after it.
    pub(crate) fn would_leave(&self, catalog: &Catalog) -> Catalog {
        match self {
            Prepared::Change(change) => match change.as_ref() {
                Change::Create { stream, .. } => catalog.with(stream.as_ref().clone()),
                Change::Drop { name } => catalog.without(name),
                Change::Pause { name } => catalog.with_paused(name, true),
                Change::Resume { name } => catalog.with_paused(name, false),
                Change::Nothing { .. } => catalog.clone(),
            },
            Prepared::Read(_) => catalog.clone(),
        }
    }
}

/// Prepares one statement.
pub(crate) struct Preparation {
    pub(crate) session: Arc<Session>,
    pub(crate) view: View,
    /// Whether a SELECT is to be followed.
    pub(crate) follow: bool,
    /// Whether topics that exist are the stream's own: it comes back after a restart.
    pub(crate) again: bool,
}

impl Preparation {
    pub(crate) fn prepare(&self, text: &str) -> SqlResult<Prepared> {
        self.statement(&parse(text)?, text)
    }

    fn statement(&self, statement: &Statement, text: &str) -> SqlResult<Prepared> {
        let change = |change: Change| Ok(Prepared::Change(Box::new(change)));
        let read = |read: ReadStatement| Ok(Prepared::Read(Box::new(read)));
        match statement {
            Statement::Query(query) => {
                let select = plan_select(&self.session, &self.view, self.broker(), query, self.follow)?;
                read(ReadStatement::Select(Box::new(select)))
            }
            _ if self.follow => Err(StatementError::invalid("only a SELECT can be followed")),
            Statement::ShowStreams => read(ReadStatement::ShowStreams),
            Statement::Describe { name } => read(ReadStatement::Describe(self.described(name)?)),
            Statement::Explain(inner) => read(ReadStatement::Explain(self.explained(inner)?)),
            Statement::CreateStream(create) => change(self.declare(create, text)?),
            Statement::CreateMaterialized(create) => {
                let (stream, frozen) = self.materialize(create, text)?;
                change(Change::Create { stream: Box::new(stream), frozen, new_topic: None })
            }
            Statement::DropStream { name, if_exists } => match self.existing(name) {
                Ok(stream) => {
                    self.refuse_if_used(&stream, name)?;
                    change(Change::Drop { name: stream.name.clone() })
                }
                Err(_) if *if_exists => {
                    change(Change::Nothing { message: format!("there is no stream `{}`", name.text) })
                }
                Err(error) => Err(error),
            },
            Statement::PauseStream { name } => change(Change::Pause { name: self.running(name, "paused")? }),
            Statement::ResumeStream { name } => change(Change::Resume { name: self.running(name, "resumed")? }),
        }
    }

    fn broker(&self) -> &Broker {
        self.view.broker()
    }

    fn catalog(&self) -> &Catalog {
        self.view.catalog()
    }

    /// The registered stream of this name.
    fn existing(&self, name: &Name) -> SqlResult<Arc<CatalogStream>> {
        self.catalog().find(&name.text).cloned().ok_or_else(|| {
            if self.broker().topic(&name.text).is_some() {
                return StatementError::unknown(format!("`{}` is a topic, and no registered stream", name.text))
                    .with_hint("topics are deleted with Kafka's tools")
                    .at(name.place);
            }
            let error = StatementError::unknown(format!("unknown stream `{}`", name.text)).at(name.place);
            match did_you_mean(&name.text, self.catalog().names()) {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        })
    }

    fn running(&self, name: &Name, wanted: &str) -> SqlResult<String> {
        let stream = self.existing(name)?;
        match stream.kind {
            CatalogKind::Materialized { .. } => Ok(stream.name.clone()),
            CatalogKind::Declared => Err(StatementError::invalid(format!(
                "`{}` is declared over a topic and runs no query, so it cannot be {wanted}",
                stream.name
            ))
            .at(name.place)),
        }
    }

    fn refuse_if_used(&self, stream: &CatalogStream, name: &Name) -> SqlResult<()> {
        let users = self.catalog().users_of(stream);
        if users.is_empty() {
            return Ok(());
        }
        let users: Vec<String> = users.iter().map(|user| format!("`{user}`")).collect();
        Err(StatementError::conflict(format!("the stream `{}` is read by {}", stream.name, users.join(", ")))
            .with_hint("drop the readers first")
            .at(name.place))
    }

    fn described(&self, name: &Name) -> SqlResult<Arc<StreamDefinition>> {
        if let Some(stream) = self.catalog().find(&name.text) {
            return Ok(stream.definition.clone());
        }
        if let Some(definition) = self.view.find(&name.text).map_err(|error| error.at(name.place))? {
            return Ok(definition);
        }
        let names = self.view.names();
        let lower = name.text.to_lowercase();
        let mut alike = names.iter().filter(|known| known.to_lowercase() == lower);
        if let (Some(one), None) = (alike.next(), alike.next())
            && let Some(definition) = self.view.find(one)?
        {
            return Ok(definition);
        }
        let error = StatementError::unknown(format!("unknown stream or topic `{}`", name.text)).at(name.place);
        Err(match did_you_mean(&name.text, names.iter().map(String::as_str)) {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }

    fn explained(&self, inner: &Statement) -> SqlResult<Vec<String>> {
        match inner {
            Statement::CreateMaterialized(create) => {
                let (stream, _) = self.materialize(create, "")?;
                match &stream.kind {
                    CatalogKind::Materialized { plan: Some(plan), .. } => Ok(explain(plan)),
                    _ => unreachable!("a stream that was planned has a plan"),
                }
            }
            Statement::Query(query) => {
                // A query that could be registered shows its operators; another one its logical plan.
                let planned = plan_query(&self.session, &self.view, query)?;
                match refuse_for_streams(query, &self.session).and_then(|()| operators(&self.session, &planned)) {
                    Ok(operators) => Ok(super::explain::explain_operators(&operators.root, &operators.sources)),
                    Err(error) => {
                        let mut lines =
                            vec![format!("as a registered query: {error}"), "as a one-time SELECT:".to_owned()];
                        lines.extend(planned.plan.display_indent().to_string().lines().map(|line| format!("  {line}")));
                        Ok(lines)
                    }
                }
            }
            _ => unreachable!("the parser lets EXPLAIN have nothing else"),
        }
    }

    /// Refuses a name that cannot be a new stream's.
    fn new_name(&self, name: &Name) -> SqlResult<TopicName> {
        let topic = TopicName::new(&name.text).map_err(|error| {
            StatementError::invalid(format!("a stream is called as a topic can be, and {error}")).at(name.place)
        })?;
        if let Some(prefix) = RESERVED_PREFIXES.iter().find(|prefix| name.text.starts_with(**prefix)) {
            return Err(
                StatementError::conflict(format!("names that begin with `{prefix}` belong to the node")).at(name.place)
            );
        }
        if let Some(stream) = self.catalog().get(&name.text) {
            return Err(StatementError::conflict(format!("the stream `{}` exists already", stream.name))
                .with_hint("drop it first, or choose another name")
                .at(name.place));
        }
        Ok(topic)
    }

    fn declare(&self, create: &CreateStream, text: &str) -> SqlResult<Change> {
        let own = self.new_name(&create.name)?;
        let options: DeclareOptions = declare_options(&create.options)?;
        let topic = options.topic.unwrap_or_else(|| own.clone());
        if topic != own && self.broker().topic(&own).is_some() {
            return Err(StatementError::conflict(format!(
                "there is a topic `{own}`, which the stream `{own}` over the topic `{topic}` would hide"
            ))
            .with_hint("choose another name")
            .at(create.name.place));
        }
        let exists = self.broker().topic(&topic).is_some();
        let columns = match create.columns.as_slice() {
            [] if !exists && !self.again => {
                return Err(StatementError::invalid(format!(
                    "there is no topic `{topic}` whose records could tell the columns"
                ))
                .with_hint("list the columns: CREATE STREAM … (name TYPE, …)")
                .at(create.name.place));
            }
            [] => self.view.infer(&topic).map_err(|error| error.at(create.name.place))?.columns.clone(),
            _ => columns_of(create)?,
        };
        let mut definition = StreamDefinition {
            name: create.name.text.clone(),
            topic,
            format: Format::Json,
            columns,
            watermark: None,
            origin: StreamOrigin::Declared,
        };
        definition.watermark = self.watermark(create, &definition)?;
        let frozen = if create.columns.is_empty() { self.view.frozen() } else { Frozen::new() };
        let stream = CatalogStream {
            name: create.name.text.clone(),
            id: Offset::MAX,
            statement: text.to_owned(),
            definition: Arc::new(definition),
            kind: CatalogKind::Declared,
            broken: None,
        };
        let new_topic = (!exists).then(|| options.partitions.unwrap_or(-1));
        Ok(Change::Create { stream: Box::new(stream), frozen, new_topic })
    }

    fn watermark(
        &self,
        create: &CreateStream,
        definition: &StreamDefinition,
    ) -> SqlResult<Option<WatermarkDefinition>> {
        let Some(watermark) = &create.watermark else {
            return Ok(None);
        };
        let place = watermark.column.place;
        let time_column = find_column(&definition.columns, &watermark.column.text)
            .ok_or_else(|| unknown_column(&watermark.column.text, &definition.columns).at(place))?;
        let column = &definition.columns[time_column];
        if column.data_type != MILLISECONDS {
            return Err(StatementError::invalid(format!(
                "the event time must be of type TIMESTAMP(3), and `{}` is {}",
                column.name,
                sql_name(&column.data_type)
            ))
            .with_hint("event times are read from ISO-8601 text and from milliseconds since 1970")
            .at(place));
        }
        let schema = DFSchema::try_from(schema_of(&definition.columns).as_ref().clone())
            .map_err(|error| StatementError::invalid(error.to_string()))?;
        let expression = plan_expression(&self.session, &watermark.expression, &schema)?;
        let at = place_of(&watermark.expression);
        let data_type =
            expression.get_type(&schema).map_err(|error| StatementError::invalid(error.to_string()).at(at))?;
        if data_type != MILLISECONDS {
            return Err(StatementError::invalid(format!(
                "a watermark must be a TIMESTAMP(3), and this is {}",
                sql_name(&data_type)
            ))
            .with_hint(format!("write for example {} - INTERVAL '5' SECOND", column.name))
            .at(at));
        }
        if volatile(&expression) {
            return Err(StatementError::unsupported("a watermark cannot depend on the clock or on chance")
                .with_hint("a stream computed again must give the same bytes")
                .at(at));
        }
        Ok(Some(WatermarkDefinition { time_column, expression, text: watermark.expression.to_string() }))
    }

    fn materialize(&self, create: &CreateMaterialized, text: &str) -> SqlResult<(CatalogStream, Frozen)> {
        let own = self.new_name(&create.name)?;
        let options = materialize_options(&create.options)?;
        let topic = options.topic.unwrap_or(own);
        if !self.again {
            self.refuse_taken_topic(&topic, create)?;
        }
        refuse_for_streams(&create.query, &self.session)?;
        let planned = plan_query(&self.session, &self.view, &create.query)?;
        let operators = operators(&self.session, &planned)?;
        let columns: Vec<SourceColumn> = operators
            .schema
            .fields()
            .iter()
            .map(|field| SourceColumn {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                origin: ColumnOrigin::Value { field: field.name().clone() },
            })
            .collect();
        if let Err(error) = millpond_formats::JsonEncoder::new(&operators.schema) {
            return Err(StatementError::invalid(format!("the result cannot be written as JSON: {error}"))
                .with_hint("CAST the column to another type, or leave it out"));
        }
        let mut key_columns = Vec::new();
        if let Some((names, option)) = &options.key {
            for name in names {
                let place =
                    find_column(&columns, name).ok_or_else(|| unknown_column(name, &columns).at(option.value_place))?;
                key_columns.push(place);
            }
        }
        for source in &operators.sources {
            let known = self.again
                || self.broker().topic(&source.topic).is_some()
                || self.catalog().writer_of(&source.topic).is_some();
            if !known {
                return Err(StatementError::unknown(format!(
                    "the topic `{}` of the stream `{}` does not exist",
                    source.topic, source.stream
                ))
                .with_hint("create it, or produce to it first"));
            }
        }
        let reads = operators
            .sources
            .iter()
            .map(|source| Read { stream: source.stream.clone(), topic: source.topic.clone() })
            .collect();
        let sink =
            SinkPlan { topic: topic.clone(), partition_count: options.partitions, key_columns, start: options.start };
        let plan = StreamPlan { sources: operators.sources, root: operators.root, sink };
        let name = create.name.text.clone();
        let mut frozen = self.view.frozen();
        frozen.insert(name.clone(), crate::catalog::freeze(&columns));
        let definition = StreamDefinition {
            name: name.clone(),
            topic,
            format: Format::Json,
            columns,
            watermark: None,
            origin: StreamOrigin::Materialized,
        };
        let stream = CatalogStream {
            name,
            id: Offset::MAX,
            statement: text.to_owned(),
            definition: Arc::new(definition),
            kind: CatalogKind::Materialized { plan: Some(Arc::new(plan)), reads, paused: false },
            broken: None,
        };
        Ok((stream, frozen))
    }

    /// A stream's topic is its own from the first record on.
    fn refuse_taken_topic(&self, topic: &TopicName, create: &CreateMaterialized) -> SqlResult<()> {
        let place = create
            .options
            .iter()
            .find(|option| option.name.text == "topic")
            .map_or(create.name.place, |option| option.value_place);
        if let Some(prefix) = RESERVED_PREFIXES.iter().find(|prefix| topic.starts_with(**prefix)) {
            return Err(
                StatementError::conflict(format!("topics that begin with `{prefix}` belong to the node")).at(place)
            );
        }
        let errors = format!("{}.errors", create.name.text);
        for taken in [topic.as_str(), errors.as_str()] {
            let claimed = self.catalog().writer_of(taken).map(|stream| stream.name.clone());
            if claimed.is_some() || self.broker().topic(taken).is_some() {
                return Err(StatementError::conflict(format!("the topic `{taken}` exists already"))
                    .with_hint("a stream writes to a topic of its own; choose another name, or delete the topic")
                    .at(place));
            }
        }
        Ok(())
    }
}

fn columns_of(create: &CreateStream) -> SqlResult<Vec<SourceColumn>> {
    let mut columns: Vec<SourceColumn> = Vec::with_capacity(create.columns.len());
    for column in &create.columns {
        let place = column.name.place;
        if columns.iter().any(|known| known.name == column.name.text) {
            return Err(StatementError::invalid(format!("two columns are called `{}`", column.name.text)).at(place));
        }
        let data_type = arrow_type(&column.data_type).map_err(|error| error.at(place))?;
        let origin = match &column.metadata {
            None => ColumnOrigin::Value { field: column.name.text.clone() },
            Some(from) => {
                let Some((origin, wanted)) = metadata_column(&from.text) else {
                    let error = StatementError::unknown(format!("there is no metadata `{}`", from.text)).at(from.place);
                    return Err(match did_you_mean(&from.text, METADATA_COLUMNS.iter().copied()) {
                        Some(hint) => error.with_hint(hint),
                        None => error.with_hint("metadata are 'key', 'partition', 'offset', 'timestamp' and 'headers'"),
                    });
                };
                let bytes = origin == ColumnOrigin::Key && data_type == arrow::datatypes::DataType::Binary;
                if data_type != wanted && !bytes {
                    return Err(StatementError::invalid(format!(
                        "the metadata '{}' are of type {}, not {}",
                        from.text,
                        sql_name(&wanted),
                        sql_name(&data_type)
                    ))
                    .at(place));
                }
                origin
            }
        };
        columns.push(SourceColumn { name: column.name.text.clone(), data_type, origin });
    }
    let fields: Vec<millpond_formats::Column> = columns
        .iter()
        .filter_map(|column| match &column.origin {
            ColumnOrigin::Value { field } => {
                Some(millpond_formats::Column::new(field.clone(), column.data_type.clone()))
            }
            _ => None,
        })
        .collect();
    if let Err(error) = millpond_formats::JsonDecoder::new(fields) {
        return Err(StatementError::invalid(error.to_string()).at(create.name.place));
    }
    Ok(columns)
}

fn find_column(columns: &[SourceColumn], name: &str) -> Option<usize> {
    columns.iter().position(|column| column.name == name).or_else(|| {
        let lower = name.to_lowercase();
        let mut alike = columns.iter().enumerate().filter(|(_, column)| column.name.to_lowercase() == lower);
        match (alike.next(), alike.next()) {
            (Some((place, _)), None) => Some(place),
            _ => None,
        }
    })
}

fn unknown_column(name: &str, columns: &[SourceColumn]) -> StatementError {
    let error = StatementError::unknown(format!("unknown column `{name}`"));
    match did_you_mean(name, columns.iter().map(|column| column.name.as_str())) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn volatile(expression: &datafusion::logical_expr::Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    use datafusion::logical_expr::Expr;
    expression
        .exists(|part| {
            Ok(matches!(part, Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable))
        })
        .unwrap_or(true)
}
