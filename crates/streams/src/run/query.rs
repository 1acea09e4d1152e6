//! One query: its operators, its positions, and the steps it takes.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use millpond_broker::{Broker, NewTopicRequest, Partition};
use millpond_state::QueryState;
use millpond_types::{Offset, PartitionIndex, TimestampMs};

use super::chunk::{Chunk, Origin};
use super::crash::CrashPoint;
use super::errors_topic::{self, FailedRecord, errors_topic};
use super::failure::{QueryFailure, RowFailure};
use super::inputs::Inputs;
use super::pipeline::{Effects, Pipeline};
use super::sink::{PartitionOutput, Sink};
use super::slice::{Slice, SliceEnd};
use super::source::Source;
use super::step_log::StepLog;
use super::step_record::{Counters, PartitionStep, SourceStep, StepRecord};
use super::waits::Waits;
use super::{QuerySpec, RunnerOptions};

/// How often a query that waits for room on the disk looks again.
const ROOM_INTERVAL_MS: i64 = 1_000;

/// What all queries of a node share.
pub(crate) struct Surroundings {
    pub(crate) broker: Arc<Broker>,
    pub(crate) waits: Waits,
    pub(crate) options: RunnerOptions,
    pub(crate) steps: StepLog,
}

/// A query that runs. Used by one thread at a time.
pub(crate) struct Query {
    pub(crate) spec: Arc<QuerySpec>,
    pub(crate) around: Arc<Surroundings>,
    pub(crate) sources: Vec<Source>,
    pub(crate) pipeline: Pipeline,
    pub(crate) sink: Sink,
    pub(crate) inputs: Inputs,
    pub(crate) outputs: Vec<OwnedPartition>,
    /// The errors topic, once something failed.
    pub(crate) errors: Option<OwnedPartition>,
    /// The last step that counts.
    pub(crate) last: StepRecord,
    /// Where checkpoints go; none if no operator has state.
    pub(crate) state: Option<QueryState>,
    /// Whether there were steps since the last checkpoint.
    pub(crate) dirty: bool,
    /// The last step's record was appended, or perhaps was, and is not known to be durable.
    pub(crate) in_doubt: bool,
    /// When the next checkpoint is due, ms of the node's clock.
    pub(crate) next_checkpoint_ms: TimestampMs,
    /// Something that the user should know of.
    pub(crate) notice: Option<String>,
    /// When it looks again whether the disk has room; none while it has.
    pub(crate) room_again_ms: Option<TimestampMs>,
}

/// A partition that the query alone writes.
pub(crate) struct OwnedPartition {
    pub(crate) partition: Arc<Partition>,
    /// The offset after the last record that counts.
    pub(crate) end: Offset,
}

/// The records of a slice, and of which partition.
pub(crate) struct InputSlice {
    pub(crate) source: usize,
    pub(crate) partition: PartitionIndex,
    pub(crate) slice: Slice,
}

/// What a step gives.
pub(crate) struct Computed {
    pub(crate) outputs: Vec<PartitionOutput>,
    pub(crate) errors: PartitionOutput,
    /// Totals after the step.
    pub(crate) counters: Counters,
}

/// What came of the attempt to take a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepOutcome {
    /// A step was taken.
    Stepped,
    /// There was nothing to do.
    NothingToDo,
}

impl Query {
    /// Takes a step, if there is anything to do: records to read, a partition to be called idle, a checkpoint to take.
    /// `last_checkpoint` takes one now, if anything changed since the last.
    pub(crate) fn step(&mut self, last_checkpoint: bool) -> Result<StepOutcome, QueryFailure> {
        let around = self.around.clone();
        let options = &around.options;
        let now_ms = around.broker.now_ms();
        if !last_checkpoint && !self.has_room(now_ms) {
            return Ok(StepOutcome::NothingToDo);
        }
        self.inputs.refresh(&around.broker, now_ms)?;
        let missed = self.skip_deleted();
        let slices = if last_checkpoint { Vec::new() } else { self.read_slices()? };
        let idle_timeout_ms = self.pipeline.is_stateful().then_some(options.idle_timeout_ms);
        let idle_due =
            !last_checkpoint && idle_timeout_ms.is_some_and(|timeout_ms| self.inputs.some_idle_due(now_ms, timeout_ms));
        let moved = !slices.is_empty() || idle_due || missed > 0;
        if !moved && !self.checkpoint_due(now_ms, last_checkpoint) {
            return Ok(StepOutcome::NothingToDo);
        }
        let sources_before = self.positions();
        let mut computed = self.compute(&slices, &mut |query| {
            for input_slice in &slices {
                let InputSlice { source, partition, slice } = input_slice;
                query.inputs.input(*source, *partition).advance(slice.to, now_ms, None);
            }
            for source in &mut query.inputs.sources {
                for input in &mut source.partitions {
                    input.advance(input.position, now_ms, idle_timeout_ms);
                }
            }
            Ok(now_ms)
        })?;
        drop(slices);
        computed.counters.rows_missed += missed;
        self.dirty |= self.state.is_some() && moved;
        let checkpoint = self.checkpoint_due(now_ms, last_checkpoint);
        let sources = self.step_sources(&sources_before);
        self.commit(computed, sources, now_ms, checkpoint)?;
        if checkpoint {
            self.checkpoint()?;
        } else if self.state.is_none() {
            self.around.steps.forget_before(self.spec.id, self.last.step);
            self.inputs.pin(&self.last);
        }
        self.around.steps.trim()?;
        Ok(StepOutcome::Stepped)
    }

    /// Whether there is room for what a step writes. If not, the query waits, and says so.
    fn has_room(&mut self, now_ms: TimestampMs) -> bool {
        let outcome = self.around.broker.take_room(0);
        if let Err(error) = &outcome
            && self.room_again_ms.is_none()
        {
            tracing::warn!(stream = %self.spec.name, %error, "a query waits for room");
            self.notice = Some(format!("it waits: {error}"));
        }
        if outcome.is_ok() && self.room_again_ms.is_some() {
            self.notice = None;
        }
        self.room_again_ms = outcome.is_err().then(|| now_ms.saturating_add(ROOM_INTERVAL_MS));
        self.room_again_ms.is_none()
    }

    fn checkpoint_due(&self, now_ms: TimestampMs, last_checkpoint: bool) -> bool {
        self.dirty && (last_checkpoint || now_ms >= self.next_checkpoint_ms)
    }

    /// When it has to be looked at again though nothing new came, ms of the node's clock.
    pub(crate) fn wake_at_ms(&self) -> Option<TimestampMs> {
        let idle = match self.pipeline.open_windows() {
            0 => None,
            _ => self.inputs.next_idle_ms(self.around.options.idle_timeout_ms),
        };
        let checkpoint = self.dirty.then_some(self.next_checkpoint_ms);
        // Without room nothing else is done.
        self.room_again_ms.or_else(|| [idle, checkpoint].into_iter().flatten().min())
    }

    /// Goes on behind records that somebody deleted before they were read, and says so. Gives how many there were.
    fn skip_deleted(&mut self) -> u64 {
        let mut missed = 0;
        for source in &mut self.inputs.sources {
            for input in &mut source.partitions {
                let log_start = input.partition.log_start();
                if input.position < log_start {
                    missed += log_start.abs_diff(input.position);
                    let place = input.partition.name();
                    let text = format!(
                        "the records {} to {} of {place} were deleted before the query had read them; it goes on behind them",
                        input.position,
                        log_start - 1,
                    );
                    tracing::warn!(stream = %self.spec.name, "{text}");
                    self.notice = Some(text);
                    input.position = log_start;
                }
            }
        }
        missed
    }

    /// What there is to read now, up to the size of a step, the same share from every partition that has something.
    fn read_slices(&self) -> Result<Vec<InputSlice>, QueryFailure> {
        let options = &self.around.options;
        let waiting = self.inputs.each().filter(|(_, _, input)| input.has_records()).count().max(1);
        let end = SliceEnd::AtMost {
            rows: (options.step_rows_max / waiting).max(1),
            bytes: (options.step_bytes_max / waiting).max(1),
        };
        let mut slices = Vec::with_capacity(waiting);
        for (source, partition, input) in self.inputs.each() {
            if input.has_records() {
                let with_headers = self.sources[source].with_headers;
                let slice = Slice::read(&input.partition, input.position, end, with_headers)?;
                if slice.to > slice.from {
                    slices.push(InputSlice { source, partition, slice });
                }
            }
        }
        Ok(slices)
    }

    /// Pushes slices through the operators. `advance` then moves the positions and says what is idle, and gives the
    /// step's clock; after it windows close.
    pub(crate) fn compute(
        &mut self,
        slices: &[InputSlice],
        advance: &mut dyn FnMut(&mut Query) -> Result<TimestampMs, QueryFailure>,
    ) -> Result<Computed, QueryFailure> {
        self.pipeline.begin_step();
        let mut effects = Effects::default();
        let mut outputs: Vec<PartitionOutput> = self.outputs.iter().map(|_| PartitionOutput::default()).collect();
        let mut results = Vec::new();
        let mut counters = self.last.counters;
        let slice_bytes: usize = slices.iter().map(|input| input.slice.size()).sum();
        for InputSlice { source, partition, slice } in slices {
            let watermark = &mut self.inputs.sources[*source].partitions[*partition as usize].watermark;
            let chunks = self.sources[*source].decode(*partition, slice, watermark, &mut effects.failures)?;
            counters.rows_in += slice.len() as u64 + slice.broken.iter().map(|broken| broken.records).sum::<u64>();
            for chunk in chunks {
                self.pipeline.push(*source, chunk, &mut effects, &mut results)?;
            }
            self.write(&mut results, &mut outputs, &mut effects);
            self.check_memory(slice_bytes, &outputs)?;
        }
        let clock_ms = advance(self)?;
        let inputs = &self.inputs;
        self.pipeline.close(&|sources| inputs.watermark(sources), &mut effects, &mut results)?;
        self.write(&mut results, &mut outputs, &mut effects);
        self.check_memory(slice_bytes, &outputs)?;

        let mut errors = PartitionOutput::default();
        // By place, so that the order does not tell how the operators went over the rows.
        effects.failures.sort_by_key(|failure| (failure.origin, failure.offset));
        for failure in &effects.failures {
            errors_topic::write(failure, &self.failed_record(failure, slices, clock_ms), &mut errors);
        }
        counters.rows_filtered += effects.rows_filtered;
        counters.rows_late += effects.rows_late;
        counters.rows_failed += effects.failures.len() as u64;
        counters.rows_out += outputs.iter().map(|output| output.records).sum::<u64>();
        Ok(Computed { outputs, errors, counters })
    }

    fn write(&mut self, results: &mut Vec<Chunk>, outputs: &mut [PartitionOutput], effects: &mut Effects) {
        for chunk in results.drain(..) {
            self.sink.write(&chunk, outputs, effects);
        }
        // Nothing of it is left.
        effects.made_bytes = 0;
    }

    fn failed_record<'a>(
        &'a self,
        failure: &'a RowFailure,
        slices: &'a [InputSlice],
        clock_ms: TimestampMs,
    ) -> FailedRecord<'a> {
        let row = failure.row.as_ref().map(|row| row.as_bytes());
        let Origin::Partition { source, partition } = failure.origin else {
            return FailedRecord { place: None, value: row, timestamp: clock_ms };
        };
        let topic = self.sources[source as usize].plan.topic.as_str();
        let slice = slices.iter().find(|slice| slice.source == source as usize && slice.partition == partition);
        let record = slice.zip(failure.offset).and_then(|(input, offset)| input.slice.record_at(offset));
        let (value, timestamp) = match record {
            Some((value, timestamp)) => (value, timestamp),
            None => (row, clock_ms),
        };
        FailedRecord { place: Some((topic, partition)), value, timestamp }
    }

    /// The cap on what a query takes; without one a query could take the broker with it.
    fn check_memory(&self, slice_bytes: usize, outputs: &[PartitionOutput]) -> Result<(), QueryFailure> {
        let state_bytes = self.pipeline.state_bytes();
        let output_bytes: usize = outputs.iter().map(PartitionOutput::size).sum();
        let (needed, limit) = (state_bytes + slice_bytes + output_bytes, self.around.options.query_memory_bytes_max);
        if needed <= limit {
            return Ok(());
        }
        Err(QueryFailure::Memory(format!(
            "the query needs {needed} bytes of memory, more than query_memory_bytes_max = {limit}: {state_bytes} for {} open windows of {}, \
             {slice_bytes} for the records of a step and {output_bytes} for its results. Shorter windows, fewer groups, or a watermark that \
             comes sooner bound the windows",
            self.pipeline.open_windows(),
            super::window_aggregate::OPERATOR,
        )))
    }

    /// Makes a step count: results, then the step record, each on the disk before the next; then shows the results.
    fn commit(
        &mut self,
        computed: Computed,
        sources: Vec<SourceStep>,
        clock_ms: TimestampMs,
        checkpoint: bool,
    ) -> Result<(), QueryFailure> {
        let crash = self.around.options.crash_points.clone();
        if computed.errors.records > 0 && self.errors.is_none() {
            self.errors = Some(self.open_errors()?);
        }
        let mut written = 0;
        for (output, computed) in self.outputs.iter_mut().zip(computed.outputs) {
            written += computed.records;
            output.append(computed)?;
        }
        if let Some(errors) = &mut self.errors {
            written += computed.errors.records;
            errors.append(computed.errors)?;
        }
        if written > 0 {
            crash.reached(CrashPoint::OutputAppended)?;
            self.owned().try_for_each(|output| output.sync(&self.around.waits))?;
            crash.reached(CrashPoint::OutputSynced)?;
        }
        let record = StepRecord {
            query: self.spec.id,
            step: self.last.step + 1,
            clock_ms,
            checkpoint,
            sources,
            output_ends: self.outputs.iter().map(|output| output.end).collect(),
            errors_end: self.errors.as_ref().map(|errors| errors.end),
            counters: computed.counters,
        };
        let steps = &self.around.steps;
        self.in_doubt = true;
        let end = steps.append(&record)?;
        crash.reached(CrashPoint::StepAppended)?;
        steps.sync(end)?;
        self.last = record;
        self.in_doubt = false;
        crash.reached(CrashPoint::StepSynced)?;
        self.owned().for_each(|output| output.partition.reveal(output.end));
        crash.reached(CrashPoint::Revealed)
    }

    /// All partitions that it writes.
    pub(crate) fn owned(&self) -> impl Iterator<Item = &OwnedPartition> {
        self.outputs.iter().chain(&self.errors)
    }

    /// The errors topic, made now if it is not there.
    fn open_errors(&self) -> Result<OwnedPartition, QueryFailure> {
        let around = &self.around;
        let name = errors_topic(&self.spec.name);
        if around.broker.topic(&name).is_none() {
            let request = NewTopicRequest {
                partitions: 1,
                owner: Some(self.spec.name.clone()),
                ..NewTopicRequest::new(name.clone())
            };
            let made = around.waits.finish(around.broker.create_topic(request, false));
            made.map_err(|error| QueryFailure::topic(&name, error))?;
        }
        OwnedPartition::take_over(&around.broker, &self.spec.name, &name, 0, 0)
    }

    fn positions(&self) -> Vec<Vec<Offset>> {
        let of_source =
            |source: &super::inputs::SourceInputs| source.partitions.iter().map(|input| input.position).collect();
        self.inputs.sources.iter().map(of_source).collect()
    }

    /// What the step did with the inputs, which were at `before`.
    fn step_sources(&self, before: &[Vec<Offset>]) -> Vec<SourceStep> {
        let sources = self.inputs.sources.iter().zip(before).map(|(source, before)| SourceStep {
            topic: source.id,
            partitions: source
                .partitions
                .iter()
                .zip(before)
                .map(|(input, from)| PartitionStep {
                    from: *from,
                    to: input.position,
                    watermark: input.watermark,
                    idle: input.idle,
                })
                .collect(),
        });
        sources.collect()
    }

    /// What it was before the step that failed is what is on the disk; what was written above it goes. Best effort: the
    /// next recovery does the same. It alone can do it if the step's record may be on the disk.
    pub(crate) fn cut_unfinished(&self) {
        if self.in_doubt {
            return;
        }
        let errors_end = self.last.errors_end.unwrap_or(0);
        let ends = self.last.output_ends.iter().copied().chain([errors_end]);
        for (output, end) in self.owned().zip(ends) {
            if output.partition.end() > end
                && let Err(error) = output.partition.truncate_to(end)
            {
                tracing::warn!(stream = %self.spec.name, %error, "unfinished results were not cut; they stay hidden");
            }
        }
    }

    /// The columns of the results.
    pub(crate) fn result_schema(spec: &QuerySpec) -> &SchemaRef {
        spec.plan.root.schema(&spec.plan.sources)
    }
}

impl OwnedPartition {
    /// Takes over partition `index` of a topic of the stream's, whose committed end is `end`: what is above is cut off,
    /// what is below is shown.
    pub(crate) fn take_over(
        broker: &Broker,
        stream: &str,
        topic: &str,
        index: PartitionIndex,
        end: Offset,
    ) -> Result<OwnedPartition, QueryFailure> {
        let failed = |reason: String| QueryFailure::Topic { topic: topic.to_owned(), reason };
        let image = broker.topic(topic).ok_or_else(|| {
            failed("it is gone, and the stream's results with it. Drop the stream and register it anew".to_owned())
        })?;
        match image.owner.as_deref() {
            Some(owner) if owner == stream => {}
            Some(owner) => return Err(failed(format!("it belongs to the stream `{owner}`"))),
            None => {
                return Err(failed(
                    "it exists and is not a stream's. Delete it, or give the stream another name".to_owned(),
                ));
            }
        }
        let partition = broker.partition_by_id(image.id, index).ok_or_else(|| {
            failed(format!("it has {} partitions, the stream writes to partition {index}", image.partition_count))
        })?;
        partition.hold();
        if partition.end() < end {
            return Err(failed(format!(
                "partition {index} ends at {}, but the stream has written up to {end}: the topic was deleted and made again. Drop the stream and register it anew",
                partition.end()
            )));
        }
        // Retention can have emptied it beyond what was ever cut.
        let end = end.max(partition.log_start());
        if partition.end() > end {
            partition.truncate_to(end).map_err(|error| QueryFailure::trim(topic, error))?;
        }
        partition.reveal(end);
        Ok(OwnedPartition { partition, end })
    }

    fn append(&mut self, output: PartitionOutput) -> Result<(), QueryFailure> {
        let topic = self.partition.topic().clone();
        for batch in output.into_batches() {
            let appended = self.partition.append_owned(batch).map_err(|error| QueryFailure::produce(&topic, error))?;
            assert_eq!(
                appended.base_offset,
                self.end,
                "somebody else wrote to {}, which a stream owns",
                self.partition.name()
            );
            self.end = appended.last_offset + 1;
        }
        Ok(())
    }

    fn sync(&self, waits: &Waits) -> Result<(), QueryFailure> {
        let done = waits.durable(&self.partition, self.end);
        done.map_err(|error| QueryFailure::produce(self.partition.topic(), error))
    }
}
