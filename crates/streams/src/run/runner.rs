//! The node's queries and the threads that run them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use millpond_broker::{Broker, NewTopicRequest};
use millpond_state::{StateOptions, StateStore};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::checkpoint::last_record;
use super::driver::RunnerDriver;
use super::failure::QueryFailure;
use super::inputs::birth;
use super::metrics::Metrics;
use super::query::{OwnedPartition, Surroundings};
use super::ready::Ready;
use super::recovery::{pin_inputs, prepare};
use super::running::{Running, Wanted};
use super::step_log::StepLog;
use super::step_record::{Counters, StepRecord};
use super::waits::{SyncHook, Waits};
use super::{QueryId, QuerySpec, QueryState, QueryStatus, RunError, RunnerOptions};

/// How much nicer the queries' threads are than the broker's (`nice(2)`).
const NICE: i32 = 5;
/// How often the topics are looked at for new partitions. One look for all queries, and it ends at once unless something
/// in the node's metadata changed.
const METADATA_INTERVAL: Duration = Duration::from_secs(5);
/// What a batch may have where the topic's configuration does not say (Kafka's default of `max.message.bytes`).
const BATCH_BYTES_MAX: usize = 1_048_588;

/// Runs queries on threads of its own, below the broker's in priority.
///
/// A query is run by one thread at a time, one step a turn, then it stands behind all others that are ready. A
/// step cannot be interrupted: one that takes minutes occupies its thread for as long, and as many of them as there
/// are threads ([`RunnerOptions::threads`]) stop all queries, but never the broker.
pub struct Runner {
    broker: Arc<Broker>,
    pub(super) options: RunnerOptions,
    waits: Waits,
    pub(crate) ready: Arc<Ready>,
    metrics: Arc<Metrics>,
    stopping: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    queries: Mutex<BTreeMap<String, Entry>>,
    /// Made with the first query: a node without queries has no step log.
    around: Mutex<Option<Arc<Surroundings>>>,
    /// Opened for the first query with state.
    store: Mutex<Option<Arc<StateStore>>>,
    /// One launch at a time.
    launching: tokio::sync::Mutex<()>,
}

enum Entry {
    Launched(Arc<Running>),
    /// Shown, but there is no plan that could run.
    Unplanned {
        id: QueryId,
        error: String,
    },
}

impl Runner {
    /// Makes the runner; threads start with the first query. `runtime` must have time enabled.
    pub fn start(broker: Arc<Broker>, options: RunnerOptions, runtime: Handle) -> Result<Arc<Runner>, RunError> {
        Ok(Arc::new(Runner::new(broker, options, Waits::Threads(runtime))))
    }

    /// Makes a runner without threads and tasks: what they do is done when the [`RunnerDriver`] is told to. For simulations, which
    /// want to choose the order in which things happen. The broker is driven, too ([`Broker::open_driven`]); when a query
    /// waits for the disk, `sync` has the partition synced. Calls of the runner that are async do not wait, but
    /// [`Runner::remove`] waits for a turn of its query.
    pub fn open_driven(broker: Arc<Broker>, options: RunnerOptions, sync: SyncHook) -> (Arc<Runner>, RunnerDriver) {
        let runner = Arc::new(Runner::new(broker.clone(), options, Waits::Caller(sync)));
        (runner.clone(), RunnerDriver::new(runner, broker))
    }

    fn new(broker: Arc<Broker>, options: RunnerOptions, waits: Waits) -> Runner {
        Runner {
            broker,
            options: RunnerOptions { threads: options.threads.max(2), ..options },
            waits,
            ready: Arc::default(),
            metrics: Arc::default(),
            stopping: AtomicBool::new(false),
            threads: Mutex::default(),
            queries: Mutex::default(),
            around: Mutex::default(),
            store: Mutex::default(),
            launching: tokio::sync::Mutex::default(),
        }
    }

    /// Takes a query on: makes its output topic, or takes it over, and writes down where it begins to read if it is
    /// new. When this returns, records that are produced from now on will be read. Recovery and all else happen on the
    /// queries' threads; what fails there is in the query's status.
    pub async fn launch(self: &Arc<Self>, spec: QuerySpec) -> Result<(), RunError> {
        let _alone = self.launching.lock().await;
        if self.stopping.load(Ordering::SeqCst) {
            return Err(RunError::Stopping);
        }
        if let Some(Entry::Launched(_)) = self.queries.lock().get(&spec.name) {
            return Err(RunError::Exists(spec.name));
        }
        let runner = self.clone();
        let running = self.blocking(move || runner.prepare_launch(spec)).await??;
        self.start_threads()?;
        let running = Arc::new(running);
        self.queries.lock().insert(running.spec.name.clone(), Entry::Launched(running.clone()));
        if let Waits::Threads(runtime) = &self.waits {
            runtime.spawn(wake(Arc::downgrade(&running), Arc::downgrade(&self.ready), self.broker.clone()));
        }
        self.ready.add(&running);
        Ok(())
    }

    fn prepare_launch(&self, spec: QuerySpec) -> Result<Running, RunError> {
        let sink = &spec.plan.sink;
        let prepared = prepare(&spec, batch_bytes_max(&self.broker, &sink.topic), self.options.query_memory_bytes_max)?;
        let around = self.surroundings().map_err(|error| RunError::Internal(error.to_string()))?;
        let store = if prepared.pipeline.is_stateful() { Some(self.store()?) } else { None };
        let has_run = around.steps.queries().contains(&spec.id)
            || match &store {
                Some(store) => {
                    last_record(&store.query(spec.id.0)).map_err(|e| RunError::State(e.to_string()))?.is_some()
                }
                None => false,
            };
        if !has_run {
            self.give_birth(&spec, &around)?;
        }
        pin_inputs(&spec, &around, store.as_ref());
        Ok(Running::new(spec, around, store, self.metrics.clone()))
    }

    /// Makes the output topic of a new query, and writes down where it begins.
    fn give_birth(&self, spec: &QuerySpec, around: &Surroundings) -> Result<(), RunError> {
        let (broker, sink) = (&self.broker, &spec.plan.sink);
        for source in &spec.plan.sources {
            let made = self.waits.finish(broker.auto_create_topic(&source.topic));
            made.map_err(|error| RunError::Topic { topic: source.topic.to_string(), reason: error.to_string() })?;
        }
        if broker.topic(&sink.topic).is_none() {
            let request = NewTopicRequest {
                partitions: sink.partition_count,
                owner: Some(spec.name.clone()),
                ..NewTopicRequest::new(sink.topic.as_str())
            };
            let made = self.waits.finish(broker.create_topic(request, false));
            made.map_err(|error| RunError::Topic { topic: sink.topic.to_string(), reason: error.to_string() })?;
        }
        let born = || -> Result<(), QueryFailure> {
            let outputs = (0..sink.partition_count)
                .map(|index| Ok(OwnedPartition::take_over(broker, &spec.name, &sink.topic, index, 0)?.end))
                .collect::<Result<Vec<_>, QueryFailure>>()?;
            let record = StepRecord {
                query: spec.id,
                step: 0,
                clock_ms: broker.now_ms(),
                checkpoint: false,
                sources: birth(broker, &spec.plan.sources, sink.start)?,
                output_ends: outputs,
                errors_end: None,
                counters: Counters::default(),
            };
            let end = around.steps.append(&record)?;
            around.steps.sync(end)
        };
        born().map_err(|error| match error {
            QueryFailure::Topic { topic, reason } => RunError::Topic { topic, reason },
            other => RunError::Internal(other.to_string()),
        })
    }

    fn surroundings(&self) -> Result<Arc<Surroundings>, QueryFailure> {
        let mut around = self.around.lock();
        if let Some(around) = &*around {
            return Ok(around.clone());
        }
        let steps = StepLog::open(self.broker.clone(), self.waits.clone(), self.options.step_log)?;
        let made = Surroundings {
            broker: self.broker.clone(),
            waits: self.waits.clone(),
            options: self.options.clone(),
            steps,
        };
        Ok(around.insert(Arc::new(made)).clone())
    }

    pub(super) fn store(&self) -> Result<Arc<StateStore>, RunError> {
        let mut store = self.store.lock();
        if let Some(store) = &*store {
            return Ok(store.clone());
        }
        let opened = StateStore::open(&self.options.state_dir, &StateOptions::default());
        Ok(store.insert(opened.map_err(|error| RunError::State(error.to_string()))?).clone())
    }

    fn start_threads(self: &Arc<Self>) -> Result<(), RunError> {
        let Waits::Threads(runtime) = &self.waits else { return Ok(()) };
        let mut threads = self.threads.lock();
        if !threads.is_empty() {
            return Ok(());
        }
        for number in 0..self.options.threads {
            let ready = self.ready.clone();
            let thread = std::thread::Builder::new().name(format!("query-{number}")).spawn(move || {
                millpond_broker::lower_thread_priority(NICE);
                while let Some(query) = ready.next() {
                    let again = query.take_turn();
                    ready.done(query, again);
                }
            });
            threads.push(thread.map_err(|error| RunError::Internal(format!("a query thread did not start: {error}")))?);
        }
        runtime.spawn(watch_metadata(Arc::downgrade(self)));
        Ok(())
    }

    /// Lets a query finish its step, then wait. What it has shown stays; nothing of its input is lost.
    pub fn pause(&self, name: &str) -> Result<(), RunError> {
        let query = self.find(name)?;
        *query.wanted.lock() = Wanted::Pause;
        self.ready.add(&query);
        Ok(())
    }

    /// Lets a paused query go on; a failed one recovers and tries again.
    pub fn resume(&self, name: &str) -> Result<(), RunError> {
        let query = self.find(name)?;
        *query.wanted.lock() = Wanted::Run;
        query.forgive();
        self.ready.add(&query);
        Ok(())
    }

    /// Ends a query after its step, and forgets its state and its steps. Its topics stay; they are the caller's to delete.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<(), RunError> {
        let unplanned = match self.queries.lock().get(name) {
            Some(Entry::Launched(_)) => None,
            Some(Entry::Unplanned { id, .. }) => Some(*id),
            None => return Err(RunError::Unknown(name.to_owned())),
        };
        match unplanned {
            Some(id) => {
                let runner = self.clone();
                self.blocking(move || runner.forget(&[id])).await??;
            }
            None => {
                let query = self.find(name)?;
                let mut removed = query.removed.subscribe();
                *query.wanted.lock() = Wanted::Remove;
                self.ready.add(&query);
                if removed.wait_for(|removed| *removed).await.is_err() {
                    return Err(RunError::Stopping);
                }
            }
        }
        self.queries.lock().remove(name);
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Arc<Running>, RunError> {
        match self.queries.lock().get(name) {
            Some(Entry::Launched(query)) => Ok(query.clone()),
            Some(Entry::Unplanned { error, .. }) => Err(RunError::Plan(error.clone())),
            None => Err(RunError::Unknown(name.to_owned())),
        }
    }

    /// How a query does.
    pub fn status(&self, name: &str) -> Option<QueryStatus> {
        match self.queries.lock().get(name)? {
            Entry::Launched(query) => Some(query.status()),
            Entry::Unplanned { error, .. } => {
                Some(QueryStatus { error: Some(error.clone()), ..QueryStatus::new(QueryState::Failed) })
            }
        }
    }

    /// Shows a stream that could not be planned at start as failed.
    pub fn failed_to_plan(&self, name: &str, id: QueryId, error: String) {
        tracing::error!(stream = name, "the stream cannot run: {error}");
        self.queries.lock().insert(name.to_owned(), Entry::Unplanned { id, error });
    }

    /// Called once all streams are launched at a start: what is left of queries that are not in `live` (a crash in the
    /// middle of a DROP) is removed.
    pub async fn forget_others(self: &Arc<Self>, live: &[QueryId]) -> Result<(), RunError> {
        let (runner, live) = (self.clone(), live.to_vec());
        self.blocking(move || {
            let mut known = match &*runner.around.lock() {
                Some(around) => around.steps.queries(),
                None => Vec::new(),
            };
            if let Some(store) = &*runner.store.lock() {
                let stored = store.queries().map_err(|error| RunError::State(error.to_string()))?;
                known.extend(stored.into_iter().map(QueryId));
            }
            known.retain(|id| !live.contains(id));
            runner.forget(&known)
        })
        .await?
    }

    /// Removes the steps and the state of queries that do not run.
    fn forget(&self, queries: &[QueryId]) -> Result<(), RunError> {
        if queries.is_empty() {
            return Ok(());
        }
        let around = self.surroundings().map_err(|error| RunError::Internal(error.to_string()))?;
        let has_state =
            millpond_disk::exists(&self.options.state_dir).map_err(|error| RunError::State(error.to_string()))?;
        let store = if has_state { Some(self.store()?) } else { None };
        for id in queries {
            around.steps.forget(*id);
            if let Some(store) = &store {
                store.query(id.0).remove().map_err(|error| RunError::State(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// Adds the queries' metrics to `registry`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Takes a last checkpoint of every query and stops the threads. To be called before the broker stops.
    pub async fn shutdown(self: &Arc<Self>) {
        if self.stopping.swap(true, Ordering::SeqCst) {
            return;
        }
        let _no_launch = self.launching.lock().await;
        self.ready.close();
        let runner = self.clone();
        let stopped = self.blocking(move || {
            for thread in std::mem::take(&mut *runner.threads.lock()) {
                // A turn catches its panics.
                thread.join().expect("the threads of the queries do not panic");
            }
            // Who asks for a status meanwhile is not kept waiting for the last checkpoints.
            let queries = std::mem::take(&mut *runner.queries.lock());
            for entry in queries.into_values() {
                if let Entry::Launched(query) = entry {
                    query.finish();
                }
            }
            *runner.around.lock() = None;
            *runner.store.lock() = None;
        });
        if let Err(error) = stopped.await {
            tracing::error!(%error, "the queries were not stopped in order");
        }
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, RunError> {
        let done = self.waits.blocking(work).await;
        done.map_err(|error| RunError::Internal(format!("a launch or an end did not finish: {error}")))
    }

    /// Gives every query a turn: something in the node's metadata changed.
    pub(crate) fn wake_all(&self) {
        self.each(|query| self.ready.add(query));
    }

    /// All queries that were launched, by name.
    pub(crate) fn each(&self, mut visit: impl FnMut(&Arc<Running>)) {
        for entry in self.queries.lock().values() {
            if let Entry::Launched(query) = entry {
                visit(query);
            }
        }
    }
}

/// What a batch of a topic may have, bytes.
pub(crate) fn batch_bytes_max(broker: &Broker, topic: &str) -> usize {
    let configured = broker.topic(topic).and_then(|topic| topic.configs.get("max.message.bytes")?.parse().ok());
    configured.unwrap_or(BATCH_BYTES_MAX)
}

/// Wakes a query when an input has something new, or when its time has come. Ends with the query.
async fn wake(query: Weak<Running>, ready: Weak<Ready>, broker: Arc<Broker>) {
    let Some((waiter, mut wake_at, mut removed)) =
        query.upgrade().map(|query| (query.waiter.clone(), query.wake_at_ms.subscribe(), query.removed.subscribe()))
    else {
        return;
    };
    let mut at_ms = None;
    loop {
        tokio::select! {
            () = waiter.notified() => {}
            () = until(&broker, at_ms), if at_ms.is_some() => at_ms = None,
            changed = wake_at.changed() => {
                if changed.is_err() {
                    return;
                }
                at_ms = *wake_at.borrow_and_update();
                continue;
            }
            _ = ended(&mut removed) => return,
        }
        let (Some(query), Some(ready)) = (query.upgrade(), ready.upgrade()) else { return };
        ready.add(&query);
    }
}

async fn until(broker: &Broker, at_ms: Option<i64>) {
    let wait_ms = at_ms.map_or(0, |at_ms| at_ms.saturating_sub(broker.now_ms()));
    // At least a little: a clock that stands still must not make a query spin.
    tokio::time::sleep(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0).max(1))).await;
}

/// Ends when the query is removed, or dropped.
async fn ended(removed: &mut watch::Receiver<bool>) {
    let _gone = removed.wait_for(|removed| *removed).await;
}

/// Gives the queries a turn when topics changed, so that they find new partitions and deleted topics.
async fn watch_metadata(runner: Weak<Runner>) {
    let mut known = match runner.upgrade() {
        Some(runner) => runner.broker.image(),
        None => return,
    };
    loop {
        tokio::time::sleep(METADATA_INTERVAL).await;
        let Some(runner) = runner.upgrade().filter(|runner| !runner.stopping.load(Ordering::SeqCst)) else { return };
        let image = runner.broker.image();
        if !Arc::ptr_eq(&image, &known) {
            known = image;
            runner.wake_all();
        }
    }
}
