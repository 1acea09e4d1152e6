//! One query as the runner knows it: what it should do, what it does, what it shows.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_broker::{Broker, Partition, Waiter};
use millpond_state::StateStore;
use millpond_types::{Offset, TimestampMs};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::failure::QueryFailure;
use super::inputs::pin_name;
use super::metrics::Metrics;
use super::query::{Query, StepOutcome, Surroundings};
use super::ready::Turn;
use super::recovery::{prepare, recover};
use super::runner::batch_bytes_max;
use super::step_record::Counters;
use super::{PartitionStatus, QuerySpec, QueryState, QueryStatus};

/// What the user wants of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Run,
    Pause,
    Remove,
}

/// A query that was launched. It lives in the runner until it is removed; threads take turns with it.
pub(crate) struct Running {
    pub(crate) spec: Arc<QuerySpec>,
    pub(crate) around: Arc<Surroundings>,
    store: Option<Arc<StateStore>>,
    metrics: Arc<Metrics>,
    pub(crate) turn: Turn,
    pub(crate) wanted: Mutex<Wanted>,
    /// The operators; none before the recovery and after a failure. Only the thread whose turn it is looks here.
    query: Mutex<Option<Query>>,
    shown: Mutex<Shown>,
    /// Woken when an input partition has something new.
    pub(crate) waiter: Arc<Waiter>,
    /// When to look again though nothing new came; seen by the task that wakes the query.
    pub(crate) wake_at_ms: watch::Sender<Option<TimestampMs>>,
    /// Becomes true when the query is removed.
    pub(crate) removed: watch::Sender<bool>,
}

/// What others may see without waiting for a step.
struct Shown {
    state: QueryState,
    error: Option<String>,
    notice: Option<String>,
    counters: Counters,
    steps: u64,
    watermark_ms: Option<TimestampMs>,
    watermark_held_by: Option<(String, i32)>,
    state_bytes: usize,
    open_windows: usize,
    partitions: Vec<ShownPartition>,
}

struct ShownPartition {
    partition: Arc<Partition>,
    position: Offset,
    watermark_ms: Option<TimestampMs>,
    idle: bool,
}

impl Running {
    pub(crate) fn new(
        spec: QuerySpec,
        around: Arc<Surroundings>,
        store: Option<Arc<StateStore>>,
        metrics: Arc<Metrics>,
    ) -> Running {
        let wanted = if spec.paused { Wanted::Pause } else { Wanted::Run };
        Running {
            spec: Arc::new(spec),
            around,
            store,
            metrics,
            turn: Turn::default(),
            wanted: Mutex::new(wanted),
            query: Mutex::new(None),
            shown: Mutex::new(Shown {
                state: QueryState::Recovering,
                error: None,
                notice: None,
                counters: Counters::default(),
                steps: 0,
                watermark_ms: None,
                watermark_held_by: None,
                state_bytes: 0,
                open_windows: 0,
                partitions: Vec::new(),
            }),
            waiter: Waiter::new(),
            wake_at_ms: watch::Sender::new(None),
            removed: watch::Sender::new(false),
        }
    }

    /// One turn: recovers, or takes a step. Says whether it wants another turn at once.
    pub(crate) fn take_turn(&self) -> bool {
        let wanted = *self.wanted.lock();
        if wanted == Wanted::Remove {
            self.remove();
            return false;
        }
        if self.state() == QueryState::Failed {
            return false;
        }
        let mut query = self.query.lock();
        // A panic of an operator ends this query and no other; its operators are not used again.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.advance(&mut query, wanted)));
        let failure = match outcome {
            Ok(Ok(again)) => return again,
            Ok(Err(QueryFailure::Crashed)) => QueryFailure::Crashed.to_string(),
            Ok(Err(failure)) => {
                self.cut_unfinished(&query);
                failure.to_string()
            }
            Err(panic) => {
                self.cut_unfinished(&query);
                format!("a bug in Millpond or DataFusion: {}", panic_message(panic.as_ref()))
            }
        };
        *query = None;
        self.fail(failure);
        false
    }

    fn advance(&self, query: &mut Option<Query>, wanted: Wanted) -> Result<bool, QueryFailure> {
        let query = match query {
            Some(query) => query,
            none => {
                let bytes_max = batch_bytes_max(&self.around.broker, &self.spec.plan.sink.topic);
                let prepared = prepare(&self.spec, bytes_max, self.around.options.query_memory_bytes_max)
                    .map_err(|error| QueryFailure::Operator { operator: "the plan", reason: error.to_string() })?;
                let recovered = recover(self.spec.clone(), self.around.clone(), prepared, self.store.as_ref())?;
                none.insert(recovered)
            }
        };
        if wanted == Wanted::Pause {
            self.show(query, QueryState::Paused);
            self.wake_at_ms.send_replace(None);
            return Ok(false);
        }
        let (before, started) = (query.last.counters, Instant::now());
        let outcome = query.step(false)?;
        self.show(query, QueryState::Running);
        match outcome {
            StepOutcome::Stepped => {
                self.metrics.stepped(&self.spec.name, &before, &query.last.counters, started.elapsed());
                Ok(true)
            }
            StepOutcome::NothingToDo => {
                // First the registration, then the look: what comes between them is seen by one of the two.
                query.inputs.watch(&self.waiter);
                self.wake_at_ms.send_replace(query.wake_at_ms());
                Ok(query.inputs.has_records())
            }
        }
    }

    fn cut_unfinished(&self, query: &Option<Query>) {
        if let Some(query) = query {
            // The node may be stopping, or the topic be gone; whatever it is, the query has failed already.
            let cut = catch_unwind(AssertUnwindSafe(|| query.cut_unfinished()));
            if cut.is_err() {
                tracing::warn!(stream = %self.spec.name, "unfinished results were not cut; they stay hidden");
            }
        }
    }

    fn fail(&self, error: String) {
        tracing::error!(stream = %self.spec.name, "the stream failed: {error}");
        self.metrics.failed();
        let mut shown = self.shown.lock();
        shown.state = QueryState::Failed;
        shown.error = Some(error);
        self.wake_at_ms.send_replace(None);
    }

    /// Forgets the query's state, steps and pins.
    fn remove(&self) {
        *self.query.lock() = None;
        unpin(&self.around.broker, &self.spec);
        self.around.steps.forget(self.spec.id);
        if let Some(store) = &self.store
            && let Err(error) = store.query(self.spec.id.0).remove()
        {
            tracing::warn!(stream = %self.spec.name, %error, "its state is removed at the next start");
        }
        self.metrics.removed(&self.spec.name);
        self.removed.send_replace(true);
    }

    /// The last checkpoint before the node stops.
    pub(crate) fn finish(&self) {
        let mut query = self.query.lock();
        let Some(running) = query.as_mut() else { return };
        let outcome = catch_unwind(AssertUnwindSafe(|| running.step(true)));
        match outcome {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(stream = %self.spec.name, %error, "no last checkpoint; the next start takes some steps again")
            }
            Err(panic) => {
                tracing::error!(stream = %self.spec.name, "no last checkpoint: {}", panic_message(panic.as_ref()))
            }
        }
        *query = None;
    }

    /// Whether an input has something new since the last turn, or the time has come that it waits for.
    pub(crate) fn is_due(&self, now_ms: TimestampMs) -> bool {
        let has_news = self.waiter.wait(Duration::ZERO);
        has_news || self.wake_at_ms.borrow().is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// What it does.
    pub(crate) fn state(&self) -> QueryState {
        self.shown.lock().state
    }

    /// A failed query may try again.
    pub(crate) fn forgive(&self) {
        let mut shown = self.shown.lock();
        if shown.state == QueryState::Failed {
            shown.state = QueryState::Recovering;
            shown.error = None;
        }
    }

    fn show(&self, query: &Query, state: QueryState) {
        let everything = (0..query.inputs.sources.len()).collect();
        let watermark_ms = query.inputs.watermark(&everything);
        let state_bytes = query.pipeline.state_bytes();
        self.metrics.stands(&self.spec.name, state_bytes, watermark_ms);
        let mut shown = self.shown.lock();
        shown.state = state;
        shown.error = None;
        shown.notice.clone_from(&query.notice);
        shown.counters = query.last.counters;
        shown.steps = query.last.step;
        shown.watermark_ms = watermark_ms;
        shown.watermark_held_by = query.inputs.held_by();
        shown.state_bytes = state_bytes;
        shown.open_windows = query.pipeline.open_windows();
        shown.partitions.clear();
        shown.partitions.extend(query.inputs.each().map(|(_, _, input)| ShownPartition {
            partition: input.partition.clone(),
            position: input.position,
            watermark_ms: input.watermark,
            idle: input.idle,
        }));
    }

    /// How it does.
    pub(crate) fn status(&self) -> QueryStatus {
        let shown = self.shown.lock();
        let partitions: Vec<PartitionStatus> = shown
            .partitions
            .iter()
            .map(|shown| PartitionStatus {
                topic: shown.partition.topic().to_string(),
                partition: shown.partition.index(),
                position: shown.position,
                end: shown.partition.last_stable_offset(),
                watermark_ms: shown.watermark_ms,
                idle: shown.idle,
            })
            .collect();
        let Counters { rows_in, rows_out, rows_filtered, rows_late, rows_failed, rows_missed } = shown.counters;
        QueryStatus {
            error: shown.error.clone(),
            notice: shown.notice.clone(),
            rows_in,
            rows_out,
            rows_filtered,
            rows_late,
            rows_failed,
            rows_missed,
            watermark_ms: shown.watermark_ms,
            watermark_held_by: shown.watermark_held_by.clone(),
            lag_records: partitions.iter().map(|p| u64::try_from(p.end - p.position).unwrap_or(0)).sum(),
            state_bytes: shown.state_bytes as u64,
            open_windows: shown.open_windows as u64,
            steps: shown.steps,
            partitions,
            ..QueryStatus::new(shown.state)
        }
    }
}

/// Lets go of the records that a query pinned, also of one that has no operators.
fn unpin(broker: &Broker, spec: &QuerySpec) {
    for (place, source) in spec.plan.sources.iter().enumerate() {
        let count = broker.topic(&source.topic).map_or(0, |topic| topic.partition_count);
        for partition in (0..count).filter_map(|index| broker.partition(&source.topic, index)) {
            partition.unpin(&pin_name(&spec.name, &spec.plan.sources, place));
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}
