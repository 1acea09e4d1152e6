//! The engine: takes statements, keeps the catalog, and has registered queries run.
//!
//! A statement goes through two stages. [`prepare`] finds everything that can be wrong with it, and changes nothing;
//! [`Engine::apply`] does it, once the statement is durable in `_millpond_sql`. Changes go one after the other: who
//! prepares one holds the turn until it is applied.

mod explain;
mod interface;
mod metrics;
mod options;
mod planning;
mod plans;
mod prepare;
mod reads;
mod restart;
mod view;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use millpond_broker::{Broker, NewRecord, NewTopicRequest};
use millpond_metadata::Actor;
use millpond_types::Offset;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

pub use interface::{
    ColumnInfo, EngineError, EngineOptions, ExecuteOptions, RowStream, SelectNotes, StatementResult, StreamInfo,
    StreamKind,
};
pub(crate) use planning::lower_priority;
pub use plans::plan_streams;
pub(crate) use prepare::{Change, Prepared};

use crate::admin::{self, AdminTopics, Answer, Answers, Outcome};
use crate::catalog::{self, Catalog, CatalogKind, CatalogRecord, Event, Frozen};
use crate::run::{QueryId, QuerySpec, QueryStatus, Runner, RunnerOptions};
use crate::select::Selects;
use crate::sql::error::{SqlResult, StatementError};
use crate::sql::session::Session;
use metrics::EngineMetrics;
use planning::Planning;
use prepare::Preparation;
use view::View;

/// The streams of a node.
pub struct Engine {
    broker: Arc<Broker>,
    runner: Arc<Runner>,
    options: EngineOptions,
    topics: AdminTopics,
    /// Made when the first statement comes.
    session: OnceLock<Arc<Session>>,
    catalog: RwLock<Catalog>,
    /// Held by who changes the catalog, from preparing to the end of applying.
    turn: Arc<Mutex<()>>,
    planning: Planning,
    selects: Selects,
    metrics: EngineMetrics,
    /// Woken when the catalog changed.
    changed: Arc<Notify>,
    stopping: AtomicBool,
}

impl Engine {
    /// Starts the streams of a node: makes the admin topics if they are missing, brings back what was registered, and
    /// puts the gate before `_millpond_sql`. Without registered streams this plans nothing and starts no query.
    pub async fn start(broker: Arc<Broker>, options: EngineOptions) -> Result<Arc<Engine>, EngineError> {
        let topics = admin::create_admin_topics(&broker).await?;
        let runner_options = RunnerOptions {
            threads: options.threads.max(2),
            query_memory_bytes_max: options.query_memory_bytes_max,
            ..RunnerOptions::new(options.state_dir.clone())
        };
        let runner = Runner::start(broker.clone(), runner_options, tokio::runtime::Handle::current())
            .map_err(|error| EngineError::Runtime(error.to_string()))?;
        let engine = Arc::new(Engine {
            planning: Planning::new(options.plannings_max, Duration::from_millis(options.planning_ms_max)),
            selects: Selects::new(broker.clone(), options.selects_max, options.select_memory_bytes_max),
            session: OnceLock::new(),
            catalog: RwLock::new(Catalog::default()),
            turn: Arc::new(Mutex::new(())),
            metrics: EngineMetrics::default(),
            changed: Arc::new(Notify::new()),
            stopping: AtomicBool::new(false),
            broker,
            runner,
            options,
            topics,
        });
        restart::bring_back(&engine).await?;
        engine.broker.set_gate(engine.topics.statements.clone(), admin::gate(&engine));
        let interval = Duration::from_millis(engine.options.status_interval_ms.max(1));
        tokio::spawn(admin::publish_status(Arc::downgrade(&engine), interval, engine.changed.clone()));
        Ok(engine)
    }

    /// Executes one statement. One that changes something is written to `_millpond_sql` first, as if a client had
    /// produced it.
    pub async fn execute(
        self: &Arc<Self>,
        sql: &str,
        options: ExecuteOptions,
    ) -> Result<StatementResult, StatementError> {
        let prepared = self.prepare(self.catalog(), sql.to_owned(), options.follow).await;
        if let Err(error) = &prepared {
            self.metrics.refused(error);
        }
        match prepared? {
            Prepared::Read(read) => {
                self.metrics.done();
                self.read(*read, &options)
            }
            Prepared::Change(_) => {
                let message = self.change(sql, &options).await?;
                Ok(StatementResult::Done { message })
            }
        }
    }

    /// The statement as a record of `_millpond_sql`, then what it asks for, then the answer.
    async fn change(self: &Arc<Self>, sql: &str, options: &ExecuteOptions) -> SqlResult<String> {
        let _turn = self.take_turn().await;
        // Prepared again: others may have changed the catalog since.
        let Prepared::Change(change) = self.prepare(self.catalog(), sql.to_owned(), false).await? else {
            return Err(StatementError::execution("the statement changed its meaning while it was executed"));
        };
        let record = NewRecord { key: None, value: Some(Bytes::copy_from_slice(sql.as_bytes())), headers: Vec::new() };
        let offset = self
            .broker
            .append_records(&self.topics.statements, 0, vec![record])
            .await
            .map_err(|error| StatementError::execution(format!("the statement was not stored: {error}")))?
            .unwrap_or_default();
        let outcome = self.apply(offset, sql, *change).await;
        let answered = match &outcome {
            Ok(message) => Outcome::Done { message: message.clone() },
            Err(error) => Outcome::Failed(error.clone()),
        };
        let answer = Answer {
            statement: sql.to_owned(),
            outcome: answered,
            client: options.client.clone(),
            key: None,
            headers: Vec::new(),
        };
        self.answers().write(vec![answer]).await;
        outcome
    }

    /// The statements of a script, one by one.
    pub fn statements(&self, script: &str) -> Result<Vec<String>, StatementError> {
        crate::sql::parser::split(script)
    }

    /// All registered streams and how they do, by name.
    pub fn streams(&self) -> Vec<StreamInfo> {
        let catalog = self.catalog();
        let info = |stream: &Arc<catalog::CatalogStream>| StreamInfo {
            name: stream.name.clone(),
            kind: match stream.kind {
                CatalogKind::Declared => StreamKind::Declared,
                CatalogKind::Materialized { .. } => StreamKind::Materialized,
            },
            topic: stream.definition.topic.clone(),
            columns: stream.definition.columns.iter().map(reads::column_info).collect(),
            query: stream.statement.clone(),
            status: self.status_of(stream),
        };
        catalog.iter().map(info).collect()
    }

    fn status_of(&self, stream: &catalog::CatalogStream) -> Option<QueryStatus> {
        match stream.kind {
            CatalogKind::Materialized { .. } => self.runner.status(&stream.name),
            CatalogKind::Declared => None,
        }
    }

    /// Adds the streams' metrics to `registry`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
        self.runner.register_metrics(registry);
    }

    /// Makes the folder `into` with what all queries remember now, if any ever remembered something. They go on meanwhile. Waits for
    /// the disk.
    ///
    /// # Errors
    /// What the disk or the store said.
    pub fn freeze_state(&self, into: &std::path::Path) -> Result<(), String> {
        self.runner.freeze_state(into).map_err(|error| error.to_string())
    }

    /// Ends all queries, after a last checkpoint of those that are registered.
    pub async fn shutdown(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
        self.changed.notify_one();
        self.selects.stop();
        self.runner.shutdown().await;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(crate) fn catalog(&self) -> Catalog {
        self.catalog.read().clone()
    }

    pub(crate) fn answers(&self) -> Answers {
        Answers { broker: self.broker.clone(), topic: self.topics.answers.clone() }
    }

    /// Waits until nobody else changes the catalog.
    pub(crate) async fn take_turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    /// Prepares a statement against a catalog, on a thread for planning.
    pub(crate) async fn prepare(self: &Arc<Self>, catalog: Catalog, text: String, follow: bool) -> SqlResult<Prepared> {
        self.prepare_with(catalog, text, follow, Frozen::new(), false).await
    }

    async fn prepare_with(
        self: &Arc<Self>,
        catalog: Catalog,
        text: String,
        follow: bool,
        frozen: Frozen,
        again: bool,
    ) -> SqlResult<Prepared> {
        let engine = self.clone();
        self.planning
            .run(move || {
                let session = engine.session.get_or_init(|| Arc::new(Session::new())).clone();
                let view = View::new(catalog, engine.broker.clone(), frozen, engine.options.inference_records_max);
                Preparation { session, view, follow, again }.prepare(&text)
            })
            .await
    }

    /// Does what was prepared. The caller holds the turn, and the statement is durable at `offset`.
    pub(crate) async fn apply(self: &Arc<Self>, offset: Offset, statement: &str, change: Change) -> SqlResult<String> {
        let nothing = matches!(change, Change::Nothing { .. });
        let outcome = self.apply_change(offset, statement, change).await;
        match &outcome {
            Ok(_) => self.metrics.done(),
            Err(error) => self.metrics.refused(error),
        }
        if nothing || outcome.is_err() {
            self.pass(offset, statement).await;
        }
        self.changed.notify_one();
        outcome
    }

    async fn apply_change(self: &Arc<Self>, offset: Offset, statement: &str, change: Change) -> SqlResult<String> {
        match change {
            Change::Nothing { message } => Ok(message),
            Change::Create { mut stream, frozen, new_topic } => {
                stream.id = offset;
                let (name, topic) = (stream.name.clone(), stream.definition.topic.clone());
                if let Some(partitions) = new_topic {
                    let request = NewTopicRequest { partitions, ..NewTopicRequest::new(topic.as_str()) };
                    if self.broker.topic(&topic).is_none() {
                        self.broker.create_topic(request, false).await.map_err(|error| {
                            StatementError::execution(format!("the topic `{topic}` could not be created: {error}"))
                        })?;
                    }
                }
                self.remember(CatalogRecord::new(offset, Event::Created, &name, statement, frozen)).await?;
                let plan = match &stream.kind {
                    CatalogKind::Materialized { plan, .. } => plan.clone(),
                    CatalogKind::Declared => None,
                };
                let next = self.catalog().with(*stream);
                *self.catalog.write() = next;
                let Some(plan) = plan else {
                    return Ok(format!("the stream `{name}` is declared over the topic `{topic}`"));
                };
                let spec = QuerySpec {
                    name: name.clone(),
                    id: QueryId(offset as u64),
                    plan: plan.as_ref().clone(),
                    paused: false,
                };
                if let Err(error) = self.runner.launch(spec).await {
                    self.runner.failed_to_plan(&name, QueryId(offset as u64), error.to_string());
                    return Err(StatementError::execution(format!(
                        "the stream `{name}` is registered, but does not run: {error}"
                    )));
                }
                Ok(format!("the stream `{name}` runs; its results are in the topic `{topic}`"))
            }
            Change::Drop { name } => {
                let Some(stream) = self.catalog().get(&name).cloned() else {
                    return Ok(format!("there is no stream `{name}`"));
                };
                self.remember(CatalogRecord::new(offset, Event::Dropped, &name, statement, Frozen::new())).await?;
                let next = self.catalog().without(&name);
                *self.catalog.write() = next;
                match stream.kind {
                    CatalogKind::Declared => {
                        Ok(format!("the stream `{name}` is dropped; its topic `{}` stays", stream.definition.topic))
                    }
                    CatalogKind::Materialized { .. } => {
                        if let Err(error) = self.runner.remove(&name).await {
                            tracing::warn!(stream = name, %error, "a dropped query was not running");
                        }
                        self.delete_owned_topics(&name).await;
                        Ok(format!("the stream `{name}` and its topic `{}` are dropped", stream.definition.topic))
                    }
                }
            }
            Change::Pause { name } => {
                self.remember(CatalogRecord::new(offset, Event::Paused, &name, statement, Frozen::new())).await?;
                let next = self.catalog().with_paused(&name, true);
                *self.catalog.write() = next;
                self.runner.pause(&name).map_err(|error| StatementError::execution(error.to_string()))?;
                Ok(format!("the stream `{name}` is paused"))
            }
            Change::Resume { name } => {
                self.remember(CatalogRecord::new(offset, Event::Resumed, &name, statement, Frozen::new())).await?;
                let next = self.catalog().with_paused(&name, false);
                *self.catalog.write() = next;
                self.runner.resume(&name).map_err(|error| StatementError::execution(error.to_string()))?;
                Ok(format!("the stream `{name}` goes on"))
            }
        }
    }

    /// Deletes the topics that this stream wrote: its results and its errors.
    async fn delete_owned_topics(&self, stream: &str) {
        let image = self.broker.image();
        let owned: Vec<String> = image
            .topics()
            .filter(|topic| topic.owner.as_deref() == Some(stream))
            .map(|topic| topic.name.to_string())
            .collect();
        for topic in owned {
            if let Err(error) = self.broker.delete_topic(&topic, Actor::Node).await {
                tracing::error!(topic, %error, "the topic of a dropped stream could not be deleted");
            }
        }
    }

    /// Notes that the statement at `offset` is settled, so that the next start does not apply it.
    async fn pass(&self, offset: Offset, statement: &str) {
        let record = CatalogRecord::new(offset, Event::Passed, "", statement, Frozen::new());
        if let Err(error) = self.remember(record).await {
            tracing::warn!(offset, %error, "a statement that failed will be tried again at the next start");
        }
    }

    /// Writes a change to the catalog's log.
    async fn remember(&self, record: CatalogRecord) -> SqlResult<()> {
        catalog::append(&self.broker, &self.topics.catalog, &record)
            .await
            .map_err(|error| StatementError::execution(format!("the catalog could not be written: {error}")))
    }

    /// What `_millpond_streams` says at a start: the newest state of every stream.
    pub(crate) fn published_status(&self) -> HashMap<String, Bytes> {
        let mut newest = HashMap::new();
        let Some(partition) = self.broker.partition(&self.topics.streams, 0) else {
            return newest;
        };
        let read = catalog::read_all(&partition, 0, |_, key, value| {
            let name = key.map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default();
            match value {
                Some(value) => drop(newest.insert(name, Bytes::copy_from_slice(value))),
                None => drop(newest.remove(&name)),
            }
        });
        if let Err(error) = read {
            tracing::warn!(error, "the states that were written before cannot be read");
        }
        newest
    }

    pub(crate) async fn write_status(&self, records: Vec<NewRecord>) -> Result<(), String> {
        self.broker.append_records(&self.topics.streams, 0, records).await.map(drop).map_err(|error| error.to_string())
    }
}
