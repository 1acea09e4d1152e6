//! Bringing a query to where its last recorded step left it.
//!
//! Results above the last step are cut off. State comes back from the last checkpoint, and the steps since then are taken
//! again with the same slices, clocks and idle decisions, without writing; they must give what they gave before, and
//! a query that does not stops with a message instead of writing something else. A query without state needs no step
//! taken again.

use std::sync::Arc;

use millpond_state::{QueryState, StateStore};

use super::checkpoint;
use super::errors_topic::errors_topic;
use super::failure::QueryFailure;
use super::inputs::Inputs;
use super::pipeline::Pipeline;
use super::query::{Computed, InputSlice, OwnedPartition, Query, Surroundings};
use super::sink::Sink;
use super::slice::{Slice, SliceEnd};
use super::source::Source;
use super::step_record::StepRecord;
use super::{QuerySpec, RunError};

/// The operators of a query, before anything is known of what it has done.
pub(crate) struct Prepared {
    pub(crate) sources: Vec<Source>,
    pub(crate) pipeline: Pipeline,
    pub(crate) sink: Sink,
}

/// Makes the operators; an error says what they cannot do. `batch_bytes_max` is what a batch of the output may
/// have, `state_bytes_max` what all windows may hold.
pub(crate) fn prepare(spec: &QuerySpec, batch_bytes_max: usize, state_bytes_max: usize) -> Result<Prepared, RunError> {
    let plan = &spec.plan;
    let sources = plan.sources.iter().enumerate().map(|(index, source)| {
        Source::new(index, source.clone())
            .map_err(|reason| RunError::Plan(format!("source `{}`: {reason}", source.stream)))
    });
    let sources = sources.collect::<Result<_, _>>()?;
    let pipeline = Pipeline::new(plan, state_bytes_max).map_err(RunError::Plan)?;
    let sink = Sink::new(plan.sink.clone(), Query::result_schema(spec), batch_bytes_max).map_err(RunError::Plan)?;
    Ok(Prepared { sources, pipeline, sink })
}

/// Recovers a query that has at least its birth on record.
pub(crate) fn recover(
    spec: Arc<QuerySpec>,
    around: Arc<Surroundings>,
    prepared: Prepared,
    store: Option<&Arc<StateStore>>,
) -> Result<Query, QueryFailure> {
    let Prepared { sources, mut pipeline, sink } = prepared;
    let broker = &around.broker;
    // A step whose record is not durable yet may still become so.
    around.steps.sync(around.steps.end())?;
    let steps = around.steps.read(spec.id)?;
    let state = match (pipeline.is_stateful(), store) {
        (true, Some(store)) => Some(store.query(spec.id.0)),
        (true, None) => return Err(QueryFailure::Steps("a query with state has no state store".to_owned())),
        (false, _) => None,
    };
    let (base, again) = base_of(&steps, state.as_ref())?;
    if let Some((before, after)) = std::iter::once(&base).chain(again).zip(again).find(|(a, b)| a.step + 1 != b.step) {
        debug_assert!(before.step < after.step);
        return Err(missing(before.step + 1));
    }
    let last = again.last().unwrap_or(&base);
    let (outputs, errors) = take_over(&spec, &around, last)?;
    let now_ms = broker.now_ms();
    let inputs = Inputs::after(broker, &spec.name, &spec.plan.sources, &base, now_ms)?;
    // At once: retention may run at any moment.
    inputs.pin(&base);
    if let Some(state) = &state {
        checkpoint::restore(state, &mut pipeline)?;
    }
    let mut query = Query {
        next_checkpoint_ms: now_ms + around.options.checkpoint_interval_ms,
        dirty: false,
        in_doubt: false,
        notice: None,
        room_again_ms: None,
        last: base,
        spec,
        around,
        sources,
        pipeline,
        sink,
        inputs,
        outputs,
        errors,
        state,
    };
    for step in again {
        query.take_again(step)?;
    }
    Ok(query)
}

/// The step whose state is there, and the recorded ones since.
fn base_of<'a>(
    steps: &'a [StepRecord],
    state: Option<&QueryState>,
) -> Result<(StepRecord, &'a [StepRecord]), QueryFailure> {
    let Some(state) = state else {
        return Ok((steps.last().cloned().ok_or_else(|| missing(0))?, &[]));
    };
    match checkpoint::last_record(state)? {
        Some(base) => {
            let first = steps.partition_point(|step| step.step <= base.step);
            Ok((base, &steps[first..]))
        }
        None => match steps.split_first() {
            Some((birth, rest)) if birth.step == 0 => Ok((birth.clone(), rest)),
            _ => Err(QueryFailure::Steps(
                "the query has run, but its state is gone from the state store, so it cannot go on where it was. \
                 Drop the stream and register it anew"
                    .to_owned(),
            )),
        },
    }
}

/// Keeps what the recovery of a query will read from being deleted before it has its turn, which may be long after a
/// start with many queries.
pub(crate) fn pin_inputs(spec: &QuerySpec, around: &Surroundings, store: Option<&Arc<StateStore>>) {
    let pin = || -> Result<(), QueryFailure> {
        let steps = around.steps.read(spec.id)?;
        let (base, _) = base_of(&steps, store.map(|store| store.query(spec.id.0)).as_ref())?;
        let broker = &around.broker;
        Inputs::after(broker, &spec.name, &spec.plan.sources, &base, broker.now_ms())?.pin(&base);
        Ok(())
    };
    if let Err(error) = pin() {
        // The recovery meets the same, and is the one to tell.
        tracing::debug!(stream = %spec.name, %error, "inputs are not pinned");
    }
}

fn missing(step: u64) -> QueryFailure {
    QueryFailure::Steps(format!("step {step} is missing. Drop the stream and register it anew"))
}

/// Output partitions and errors topic, cut back to what `last` left.
fn take_over(
    spec: &QuerySpec,
    around: &Surroundings,
    last: &StepRecord,
) -> Result<(Vec<OwnedPartition>, Option<OwnedPartition>), QueryFailure> {
    let (sink, broker) = (&spec.plan.sink, &around.broker);
    if last.output_ends.len() != sink.partition_count as usize {
        return Err(QueryFailure::Steps(format!(
            "its steps wrote to {} partitions, its plan says {}",
            last.output_ends.len(),
            sink.partition_count
        )));
    }
    let outputs = last
        .output_ends
        .iter()
        .zip(0..)
        .map(|(end, index)| OwnedPartition::take_over(broker, &spec.name, &sink.topic, index, *end));
    let outputs = outputs.collect::<Result<_, _>>()?;
    let name = errors_topic(&spec.name);
    let ours = broker.topic(&name).is_some_and(|topic| topic.owner.as_deref() == Some(spec.name.as_str()));
    let errors = match (last.errors_end, ours) {
        (_, false) => None,
        (end, true) => {
            // Errors may be deleted by who has read them: then they go on in a new topic.
            let log_end = broker.partition(&name, 0).map_or(0, |partition| partition.end());
            let end = end.unwrap_or(0).min(log_end);
            Some(OwnedPartition::take_over(broker, &spec.name, &name, 0, end)?)
        }
    };
    Ok((outputs, errors))
}

impl Query {
    /// Takes a recorded step again, without writing anything, and checks that it gives what it gave.
    fn take_again(&mut self, step: &StepRecord) -> Result<(), QueryFailure> {
        let now_ms = self.around.broker.now_ms();
        self.inputs.refresh(&self.around.broker, now_ms)?;
        let mut slices = Vec::new();
        for (source, taken) in step.sources.iter().enumerate() {
            for (partition, taken) in taken.partitions.iter().enumerate().filter(|(_, taken)| taken.to > taken.from) {
                let partitions = self.inputs.sources.get(source).map(|inputs| &inputs.partitions);
                let input = partitions.and_then(|partitions| partitions.get(partition)).ok_or_else(|| {
                    QueryFailure::Steps(format!("step {} read a partition that is not there", step.step))
                })?;
                let slice = Slice::read(
                    &input.partition,
                    taken.from,
                    SliceEnd::Exactly(taken.to),
                    self.sources[source].with_headers,
                )?;
                slices.push(InputSlice { source, partition: partition as i32, slice });
            }
        }
        let before = self.last.clone();
        let computed = self.compute(&slices, &mut |query| {
            check_watermarks(query, step)?;
            query.inputs.apply(step)?;
            Ok(step.clock_ms)
        })?;
        self.check_same(&before, step, &computed)?;
        self.last = step.clone();
        self.dirty = true;
        // What followed then follows now, so that the state is folded at the same places.
        if step.checkpoint { self.checkpoint() } else { Ok(()) }
    }

    fn check_same(&self, before: &StepRecord, step: &StepRecord, computed: &Computed) -> Result<(), QueryFailure> {
        let diverged = |what: String| Err(QueryFailure::Diverged { step: step.step, what });
        for (partition, output) in computed.outputs.iter().enumerate() {
            let (from, to) = (before.output_ends[partition], step.output_ends[partition]);
            if i64::try_from(output.records).is_ok_and(|records| from + records != to) {
                return diverged(format!("{} records for partition {partition}, not {}", output.records, to - from));
            }
        }
        let failed = step.counters.rows_failed - before.counters.rows_failed;
        if computed.errors.records != failed {
            return diverged(format!("{} failed rows, not {failed}", computed.errors.records));
        }
        let (mut found, expected) = (computed.counters, step.counters);
        found.rows_missed = expected.rows_missed;
        if found != expected {
            return diverged(format!("{found:?}, not {expected:?}"));
        }
        Ok(())
    }
}

fn check_watermarks(query: &Query, step: &StepRecord) -> Result<(), QueryFailure> {
    for (source, partition, input) in query.inputs.each() {
        let Some(taken) = step.partition(source, partition) else { continue };
        if taken.watermark != input.watermark {
            let what =
                format!("the watermark {:?} in {}, not {:?}", input.watermark, input.partition.name(), taken.watermark);
            return Err(QueryFailure::Diverged { step: step.step, what });
        }
    }
    Ok(())
}
