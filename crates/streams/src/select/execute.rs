//! Runs SELECTs: a bounded number of them, each with its own memory, on threads that give way to the broker's.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::sqlparser::ast::Query;
use futures::StreamExt;
use millpond_broker::{Broker, Waiter};
use millpond_types::{Offset, PartitionIndex, TopicName};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::late_rows::over_tables;
use super::topic_table::{PartitionRange, TopicTable};
use super::{RowStream, SelectNotes};
use crate::engine::lower_priority;
use crate::sql::definition::StreamSource;
use crate::sql::error::{SqlResult, StatementError};
use crate::sql::lineage::as_window;
use crate::sql::names::Streams;
use crate::sql::planner::{PlannedQuery, plan_query};
use crate::sql::session::Session;
use crate::sql::translate::translate;

/// How many threads run SELECTs.
const THREADS: usize = 2;
/// Their stacks, in bytes: plans are trees.
const STACK_BYTES: usize = 8 << 20;
/// A reader that takes no batch for so long has its SELECT ended.
const READER_IDLE_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// How many batches wait for the reader of a result.
const BATCHES_WAITING_MAX: usize = 4;

/// A SELECT that was planned, and can be run.
pub(crate) struct PlannedSelect {
    planned: PlannedQuery,
    session: Arc<Session>,
    schema: SchemaRef,
}

impl PlannedSelect {
    /// The columns of the result.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

/// Plans a SELECT to the end, so that what is wrong is told before any row.
pub(crate) fn plan_select(
    session: &Arc<Session>,
    streams: &dyn Streams,
    broker: &Broker,
    query: &Query,
    follow: bool,
) -> SqlResult<PlannedSelect> {
    let planned = plan_query(session, streams, query)?;
    if follow {
        refuse_to_follow(&planned.plan)?;
    }
    let notes = Arc::new(SelectNotes::default());
    let ranges = Ranges::now(broker, &planned, &HashMap::new());
    let optimized = optimized(session, &planned, &ranges, &notes)?;
    refuse_cross_joins(&optimized)?;
    let schema: SchemaRef = optimized.schema().inner().clone();
    Ok(PlannedSelect { planned, session: session.clone(), schema })
}

/// What is read of every topic.
struct Ranges {
    by_topic: HashMap<TopicName, Arc<Vec<PartitionRange>>>,
}

impl Ranges {
    /// From where `from` says (or the log's start) to the end of what is committed now.
    fn now(broker: &Broker, planned: &PlannedQuery, from: &HashMap<(TopicName, PartitionIndex), Offset>) -> Ranges {
        let mut by_topic = HashMap::new();
        for source in planned.streams.values() {
            let topic = &source.definition.topic;
            let count = broker.topic(topic).map_or(0, |image| image.partition_count);
            let ranges = (0..count)
                .filter_map(|index| broker.partition(topic, index))
                .map(|partition| {
                    let key = (topic.clone(), partition.index());
                    let start = from.get(&key).copied().unwrap_or_else(|| partition.log_start());
                    let end = partition.last_stable_offset();
                    PartitionRange { offsets: start..end.max(start), partition }
                })
                .collect();
            by_topic.insert(topic.clone(), Arc::new(ranges));
        }
        Ranges { by_topic }
    }

    /// Where the next look begins.
    fn ends(&self) -> HashMap<(TopicName, PartitionIndex), Offset> {
        let ends = self.by_topic.iter().flat_map(|(topic, ranges)| {
            ranges.iter().map(|range| ((topic.clone(), range.partition.index()), range.offsets.end))
        });
        ends.collect()
    }

    fn is_empty(&self) -> bool {
        self.by_topic.values().flat_map(|ranges| ranges.iter()).all(|range| range.offsets.is_empty())
    }
}

fn optimized(
    session: &Arc<Session>,
    planned: &PlannedQuery,
    ranges: &Ranges,
    notes: &Arc<SelectNotes>,
) -> SqlResult<LogicalPlan> {
    let table = |stream: &StreamSource| {
        let ranges = ranges.by_topic.get(&stream.definition.topic).cloned().unwrap_or_default();
        let (definition, columns) = (stream.definition.clone(), stream.columns.clone());
        Ok(TopicTable::new(definition, columns, ranges, session.clone(), notes.clone()))
    };
    let told = |error: DataFusionError| translate(&error, session);
    let plan = over_tables(planned.plan.clone(), &table).map_err(told)?;
    // The clock that now() reads is set when a query begins.
    let mut state = session.state.clone();
    state.mark_start_execution();
    state.optimize(&plan).map_err(told)
}

/// A join without a condition multiplies its inputs, in memory that DataFusion does not count where no column is
/// asked for, and without a point at which it could be ended.
fn refuse_cross_joins(plan: &LogicalPlan) -> SqlResult<()> {
    let mut open = vec![plan];
    while let Some(plan) = open.pop() {
        if let LogicalPlan::Join(join) = plan
            && join.on.is_empty()
            && join.filter.is_none()
        {
            let one_row = |side: &LogicalPlan| side.max_rows().is_some_and(|rows| rows <= 1);
            if !one_row(&join.left) && !one_row(&join.right) {
                return Err(StatementError::unsupported("a join needs a condition that compares its two sides")
                    .with_hint("write JOIN … ON a.x = b.y; CROSS JOIN is not supported"));
            }
        }
        open.extend(plan.inputs());
    }
    Ok(())
}

/// Following gives each row once, so nothing may wait for the end of the input.
fn refuse_to_follow(plan: &LogicalPlan) -> SqlResult<()> {
    let no = |what: &str| {
        Err(StatementError::unsupported(format!("a SELECT that is followed cannot have {what}"))
            .with_hint("register it with CREATE MATERIALIZED STREAM, and follow that stream"))
    };
    let mut open = vec![plan];
    while let Some(plan) = open.pop() {
        match plan {
            LogicalPlan::TableScan(_)
            | LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Union(_) => {}
            LogicalPlan::Extension(_) if as_window(plan).is_some() => {}
            LogicalPlan::Aggregate(_) => return no("an aggregation"),
            LogicalPlan::Join(_) => return no("a join"),
            LogicalPlan::Sort(_) => return no("ORDER BY"),
            LogicalPlan::Limit(_) => return no("LIMIT"),
            LogicalPlan::Distinct(_) => return no("DISTINCT"),
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => return no("no FROM"),
            other => return no(&other.display().to_string()),
        }
        open.extend(plan.inputs());
    }
    Ok(())
}

/// What can be chosen about a run.
pub(crate) struct Selection {
    pub(crate) follow: bool,
    pub(crate) row_limit: Option<usize>,
}

/// The SELECTs of the node.
pub(crate) struct Selects {
    broker: Arc<Broker>,
    running: Arc<Semaphore>,
    running_max: usize,
    memory_bytes_max: usize,
    runtime: OnceLock<Mutex<Option<Runtime>>>,
}

impl Selects {
    pub(crate) fn new(broker: Arc<Broker>, running_max: usize, memory_bytes_max: usize) -> Selects {
        let running = Arc::new(Semaphore::new(running_max));
        Selects { broker, running, running_max, memory_bytes_max, runtime: OnceLock::new() }
    }

    /// Starts it. Its end: all rows were given, or the stream was dropped.
    pub(crate) fn start(
        &self,
        select: PlannedSelect,
        selection: Selection,
    ) -> SqlResult<(RowStream, Arc<SelectNotes>)> {
        let permit = self.running.clone().try_acquire_owned().map_err(|_| {
            StatementError::limit(format!("{} SELECTs are running already, no more are started", self.running_max))
                .with_hint("try again when one has ended")
        })?;
        let notes = Arc::new(SelectNotes::default());
        let (sender, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
        let run = Run {
            broker: self.broker.clone(),
            select,
            memory_bytes_max: self.memory_bytes_max,
            rows_left: selection.row_limit.unwrap_or(usize::MAX),
            follow: selection.follow,
            notes: notes.clone(),
            sender: sender.clone(),
            _permit: permit,
        };
        let runtime = self.runtime.get_or_init(|| Mutex::new(start_runtime()));
        let guard = runtime.lock();
        let Some(runtime) = guard.as_ref() else {
            return Err(StatementError::execution("the node is stopping, or has no thread for SELECTs"));
        };
        let running = runtime.spawn(run.run());
        // A panic in a query ends that query: its sender is gone, and this tells why.
        runtime.spawn(async move {
            let gone = sender.clone();
            tokio::select! {
                ended = running => {
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        let told = StatementError::execution("the query failed: an internal error (a panic)");
                        drop(sender.send(Err(told)).await);
                    }
                }
                () = gone.closed() => {}
            }
        });
        let rows = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|rows| (rows, receiver))
        });
        Ok((rows.boxed(), notes))
    }

    /// Ends what runs.
    pub(crate) fn stop(&self) {
        if let Some(runtime) = self.runtime.get()
            && let Some(runtime) = runtime.lock().take()
        {
            runtime.shutdown_background();
        }
    }
}

fn start_runtime() -> Option<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_time()
        .thread_name("select")
        .thread_stack_size(STACK_BYTES)
        .on_thread_start(lower_priority)
        .build();
    runtime.inspect_err(|error| tracing::error!(%error, "no threads for SELECTs")).ok()
}

/// One SELECT that runs.
struct Run {
    broker: Arc<Broker>,
    select: PlannedSelect,
    memory_bytes_max: usize,
    rows_left: usize,
    follow: bool,
    notes: Arc<SelectNotes>,
    sender: mpsc::Sender<SqlResult<RecordBatch>>,
    _permit: OwnedSemaphorePermit,
}

impl Run {
    async fn run(mut self) {
        let sender = self.sender.clone();
        let outcome = tokio::select! {
            outcome = self.looks() => outcome,
            // Whoever read is gone.
            () = sender.closed() => return,
        };
        if let Err(error) = outcome {
            drop(sender.send(Err(error)).await);
        }
    }

    /// One look at what is there, and for a follower one more whenever there is more.
    async fn looks(&mut self) -> SqlResult<()> {
        let mut from = HashMap::new();
        loop {
            let waiter = Waiter::new();
            let ranges = Ranges::now(&self.broker, &self.select.planned, &from);
            if self.follow {
                for range in ranges.by_topic.values().flat_map(|ranges| ranges.iter()) {
                    range.partition.watch(&waiter);
                }
            }
            let ranges = Ranges::now(&self.broker, &self.select.planned, &from);
            if !ranges.is_empty() || !self.follow {
                self.look(&ranges).await?;
            }
            from = ranges.ends();
            if !self.follow || self.rows_left == 0 || self.broker.is_stopping() {
                return Ok(());
            }
            // New partitions are seen at the next move of an old one, or after a while.
            drop(tokio::time::timeout(FOLLOW_LOOK_INTERVAL, waiter.notified()).await);
        }
    }

    async fn look(&mut self, ranges: &Ranges) -> SqlResult<()> {
        let session = self.select.session.clone();
        let told = |error: DataFusionError| translate(&error, &session);
        let optimized = optimized(&session, &self.select.planned, ranges, &self.notes)?;
        let physical =
            session.state.query_planner().create_physical_plan(&optimized, &session.state).await.map_err(told)?;
        let context = self.context(&session)?;
        let physical: Arc<dyn ExecutionPlan> = physical;
        let mut rows = execute_stream(physical, context).map_err(told)?;
        while let Some(batch) = rows.next().await {
            let mut batch = batch.map_err(told)?;
            if batch.num_rows() == 0 {
                continue;
            }
            if batch.num_rows() > self.rows_left {
                batch = batch.slice(0, self.rows_left);
            }
            self.rows_left -= batch.num_rows();
            if batch.num_rows() > 0 {
                let sent = tokio::time::timeout(READER_IDLE_MAX, self.sender.send(Ok(batch)));
                match sent.await {
                    Ok(Ok(())) => {}
                    // The reader is gone, or as good as gone: it keeps others from reading.
                    Ok(Err(_)) | Err(_) => return Ok(()),
                }
            }
            if self.rows_left == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Memory of its own, and no disk.
    fn context(&self, session: &Session) -> SqlResult<Arc<TaskContext>> {
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(self.memory_bytes_max)))
            .with_disk_manager_builder(
                datafusion::execution::disk_manager::DiskManagerBuilder::default()
                    .with_mode(datafusion::execution::disk_manager::DiskManagerMode::Disabled),
            )
            .build_arc()
            .map_err(|error| translate(&error, session))?;
        let context =
            TaskContext::default().with_session_config(session.state.config().clone()).with_runtime(environment);
        Ok(Arc::new(context))
    }
}

/// How long a follower waits at most until it looks whether a topic got more partitions.
const FOLLOW_LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);
