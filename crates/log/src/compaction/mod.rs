//! Compaction: of the records with one key, the newest stays (`cleanup.policy=compact`).
//!
//! ```text
//! segments   | 0 ········· | 900 ····· | 1400 ······ | 2000 ········ | 2600 (active)
//!              clean: each   ^           dirty                       ^
//!              key once      clean_below                             end: what may be looked at
//!
//! 1. collect   reads the dirty part and notes where each key was written last                  latest.rs
//! 2. rewrite   reads everything below the end and writes what stays into new segments          rewrite.rs
//! 3. swap      puts a new segment in the place of old ones, as a whole, also if the power goes  swap.rs, checkpoint.rs
//! ```
//!
//! A record stays if no newer one with its key was noted. Offsets, timestamps and the order stay as they were, so that
//! afterwards there are holes between offsets. Tombstones stay for `delete.retention.ms` after they were compacted first. The last
//! batch of each producer stays, if need be without its records, so that what producers have sent can be learned from the batches;
//! so does the last one of all, so that consumers get to the end.
//! What cannot be decompressed or read stays as it is; what has no key goes, as in Kafka. Nothing is compacted beyond the last stable
//! offset; transactions.rs tells what becomes of aborted records and of markers.
//!
//! With more keys than fit the memory that is given, all keys go to the disk first, and are sorted out there in parts (spill.rs). If
//! the disk has no room for that, the end is where the memory was full; another compaction goes on from there.
//!
//! A compaction is done in steps of about [`STEP_BYTES`], between which nothing is held but memory and files: the log may be
//! read, written, synced, cut and trimmed. What it was to replace and is gone meanwhile ends it.

mod checkpoint;
mod latest;
mod passes;
mod rewrite;
mod spill;
mod swap;
mod transactions;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millpond_records::{BatchHeader, BatchView, batches, verify_crc};
use millpond_types::{Offset, ProducerEpoch, ProducerId, TimestampMs};

pub(crate) use checkpoint::CompactionCheckpoint;
pub(crate) use swap::complete;

use crate::segment::Segment;
use crate::{LogError, PartitionLog, names};
use latest::{KeyHash, LatestOffsets};
use rewrite::Output;
use spill::{SortOut, Sorted, Spill, Superseded};
use transactions::Transactions;

/// Bytes that a step reads; more if a batch is larger.
pub const STEP_BYTES: usize = 1 << 20;

/// What a compaction of a log would be about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cleanable {
    /// Bytes of the segments in which each key is there once.
    pub clean_bytes: u64,
    /// Bytes of the segments after them that may be compacted.
    pub dirty_bytes: u64,
    /// Among them are records that should have been compacted by now (`max.compaction.lag.ms`).
    pub is_overdue: bool,
    /// Where the dirty ones begin.
    pub(crate) first_dirty: Offset,
    /// Where they end.
    pub(crate) end: Offset,
}

impl Cleanable {
    /// Which part of it is dirty, from 0 to 1.
    pub fn dirty_ratio(&self) -> f64 {
        self.dirty_bytes as f64 / (self.clean_bytes + self.dirty_bytes).max(1) as f64
    }
}

/// What a compaction came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes that were read, those of the first pass included.
    pub bytes_read: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
    /// Keys that were noted.
    pub keys: u64,
    /// Records that were taken out.
    pub records_removed: u64,
    /// Records among them that had no key: from before the topic was compacted.
    pub records_without_key: u64,
    /// Segments that made room for others.
    pub segments_replaced: u64,
    /// Batches that could not be read and stay as they are.
    pub batches_unreadable: u64,
    /// Each key is there once below it.
    pub clean_below: Offset,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is more to do. This many bytes were read and written.
    More(u64),
    /// That was the last one.
    Done(Compacted),
    /// Some of the segments are not part of the log any more. What was done before is good.
    Abandoned,
}

/// A compaction between two of its steps. Made by [`PartitionLog::begin_compaction`].
#[derive(Debug)]
pub struct Compaction {
    /// Each segment, and where the next one begins; all of the log up to `end`.
    segments: Vec<(Arc<Segment>, Offset)>,
    place: Place,
    phase: Phase,
    /// The segment that is being written, and the number of the first of those that it is to replace.
    output: Option<(Output, usize)>,
    first_dirty: Offset,
    /// Records from here on are not looked at.
    end: Offset,
    newest: Newest,
    keys_bytes_max: usize,
    /// There are files of spilled keys.
    has_spilled: bool,
    /// The disk had no room for the keys.
    is_spill_refused: bool,
    /// Where each producer's last batch of records below `end` ends.
    last_offsets: HashMap<ProducerId, Offset>,
    /// Producers of which only markers came in this epoch.
    without_records: HashMap<ProducerId, ProducerEpoch>,
    transactions: Transactions,
    now_ms: TimestampMs,
    delete_horizon_ms: TimestampMs,
    keys_of_batch: Vec<(KeyHash, Offset)>,
    compacted: Compacted,
}

/// What the next step does.
#[derive(Debug)]
enum Phase {
    /// The first pass.
    Collect,
    /// The first pass once more, and over all segments, since the keys do not fit the memory.
    Spill(Box<Spill>),
    /// What was spilled is sorted out.
    SortOut(Box<SortOut>),
    /// The second pass.
    Rewrite,
}

/// How it is known whether there is a newer record with a key.
#[derive(Debug)]
enum Newest {
    Table(LatestOffsets),
    Spilled(Superseded),
}

impl Newest {
    /// Whether a record is the newest one with its key. Asked with rising offsets.
    fn is(&mut self, key: &[u8], offset: Offset) -> Result<bool, LogError> {
        match self {
            Newest::Table(latest) => Ok(latest.of(key).is_none_or(|latest| offset >= latest)),
            Newest::Spilled(superseded) => superseded.contains(offset).map(|found| !found),
        }
    }
}

/// Where the next step goes on.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    segment: usize,
    position: u64,
    /// No batch of the segment begins before, from `position` on.
    next_offset: Offset,
}

impl PartitionLog {
    /// What there is to compact, below `floor` and of what is in the log's own files. `None` if nothing is dirty, or if the
    /// log is not to be compacted at all.
    pub fn cleanable(&self, now_ms: TimestampMs, floor: Offset) -> Result<Option<Cleanable>, LogError> {
        let options = self.options();
        if !options.compact {
            return Ok(None);
        }
        let floor = self.last_stable_offset(floor.min(self.recovery_point()));
        let clean_below = self.compaction.lock().clean_below.max(self.log_start_offset());
        let mut found =
            Cleanable { clean_bytes: 0, dirty_bytes: 0, is_overdue: false, first_dirty: clean_below, end: clean_below };
        for (segment, end) in self.finished_segments().into_iter().take_while(|(_, end)| *end <= floor) {
            if end <= clean_below {
                found.clean_bytes += segment.size();
                continue;
            }
            let lag_ms = options.min_compaction_lag_ms;
            if lag_ms > 0 && segment.max_timestamp()?.timestamp > now_ms.saturating_sub(lag_ms) {
                break;
            }
            if options.max_compaction_lag_ms < i64::MAX && !found.is_overdue {
                let is_old = |first: TimestampMs| now_ms.saturating_sub(first) > options.max_compaction_lag_ms;
                found.is_overdue = segment.first_timestamp()?.is_some_and(is_old);
            }
            found.dirty_bytes += segment.size();
            found.end = end;
        }
        Ok((found.dirty_bytes > 0).then_some(found))
    }

    /// Whether a whole segment more could be compacted if the log were synced in its own files.
    pub fn awaits_sync_to_compact(&self) -> bool {
        let active = self.segments.read().last().map_or(0, |active| active.base_offset());
        self.options().compact && active > self.recovery_point()
    }

    /// Whether that is worth it, by `min.cleanable.dirty.ratio` and `max.compaction.lag.ms`.
    pub fn is_due(&self, cleanable: &Cleanable) -> bool {
        cleanable.is_overdue || cleanable.dirty_ratio() > self.options().min_cleanable_dirty_ratio
    }

    /// Begins to compact what [`PartitionLog::cleanable`] tells; `None` if there is nothing. Keys take at most
    /// `keys_bytes_max` bytes of memory. The caller sees to it that there is one compaction of a log at a time, and that
    /// nothing below `floor` is ever cut off.
    pub fn begin_compaction(
        &self,
        now_ms: TimestampMs,
        floor: Offset,
        keys_bytes_max: usize,
    ) -> Result<Option<Compaction>, LogError> {
        self.check_poison()?;
        self.settle_swap()?;
        if !self.gone.lock().is_empty() {
            // A crash could bring back what a tombstone here has deleted there.
            return Ok(None);
        }
        let Some(Cleanable { first_dirty, end, .. }) = self.cleanable(now_ms, floor)? else { return Ok(None) };
        let mut segments = self.finished_segments();
        segments.retain(|(_, segment_end)| *segment_end <= end);
        let first = segments.iter().position(|(_, segment_end)| *segment_end > first_dirty).unwrap_or(0);
        let (with_records, without_records): (Vec<_>, Vec<_>) =
            self.active_producers().into_iter().partition(|producer| producer.last_offset >= 0);
        let last_offsets = with_records.into_iter().map(|producer| (producer.producer_id, producer.last_offset));
        let without_records = without_records.into_iter().map(|each| (each.producer_id, each.producer_epoch)).collect();
        Ok(Some(Compaction {
            segments,
            place: Place { segment: first, ..Place::default() },
            phase: Phase::Collect,
            output: None,
            first_dirty,
            end,
            newest: Newest::Table(LatestOffsets::new(self.topic_id, keys_bytes_max)),
            keys_bytes_max,
            has_spilled: false,
            is_spill_refused: false,
            last_offsets: last_offsets.filter(|(_, last)| *last < end).collect(),
            without_records,
            transactions: Transactions::default(),
            now_ms,
            delete_horizon_ms: now_ms.saturating_add(self.options().delete_retention_ms),
            keys_of_batch: Vec::new(),
            compacted: Compacted::default(),
        }))
    }

    /// Does the next step. After an error, or when it is done, the compaction is over.
    ///
    /// A failed write leaves everything as it was, unless it is that of the swap itself: that poisons the log.
    pub fn compaction_step(&self, compaction: &mut Compaction) -> Result<Step, LogError> {
        self.check_poison()?;
        let step = match &compaction.phase {
            Phase::Collect => self.collect(compaction),
            Phase::Spill(_) | Phase::SortOut(_) => match spill::has_room(&self.dir) {
                Ok(true) => match self.spill(compaction) {
                    Err(LogError::Disk(error)) if error.is_full() => self.collect_less(compaction),
                    other => other,
                },
                Ok(false) => self.collect_less(compaction),
                Err(error) => Err(error),
            },
            Phase::Rewrite => self.rewrite(compaction),
        };
        if !matches!(step, Ok(Step::More(_))) {
            self.end_compaction(compaction);
        }
        step
    }

    /// Removes what an unfinished compaction has written. Not needed after its last step.
    pub fn end_compaction(&self, compaction: &mut Compaction) {
        if let Some((output, _)) = compaction.output.take()
            // Of a swap that failed halfway, the next start makes the best: it may need the files.
            && self.poisoned().is_none()
        {
            output.discard(&self.dir);
        }
        compaction.forget_spilled(&self.dir);
    }

    /// The segments that nobody writes to any more, with where the next one begins.
    fn finished_segments(&self) -> Vec<(Arc<Segment>, Offset)> {
        let segments = self.segments.read();
        segments
            .windows(2)
            .filter_map(|pair| match pair {
                [segment, next] => Some((segment, next.base_offset())),
                _ => None,
            })
            // What a round of sync has made durable can have been rolled meanwhile: then the next round finishes it.
            .take_while(|(segment, _)| segment.is_finished())
            .map(|(segment, end)| (segment.clone(), end))
            .collect()
    }

    /// Calls `each` with whole batches of the segment at `place`, as many as a step reads, until it says no; and moves `place`
    /// behind them. Gives their bytes; `None`: the segment is not part of the log any more.
    fn for_each_batch(
        &self,
        (segment, segment_end): &(Arc<Segment>, Offset),
        place: &mut Place,
        mut each: impl FnMut(&BatchView<'_>) -> Result<bool, LogError>,
    ) -> Result<Option<u64>, LogError> {
        if !self.segments.read().iter().any(|other| Arc::ptr_eq(other, segment)) {
            return Ok(None);
        }
        let start = place.position;
        let bytes = read_chunk(segment, start)?;
        let damaged = |position: u64, what: &str| {
            let what = format!("at position {position}: {what}; the log is not compacted until the file is restored");
            LogError::Damaged { path: segment.path(names::LOG), what }
        };
        for batch in batches(&bytes) {
            let batch = batch.and_then(|batch| verify_crc(batch.bytes).map(|()| batch));
            let batch = batch.map_err(|error| damaged(place.position, &error.to_string()))?;
            let header = batch.header;
            let least = place.next_offset.max(segment.base_offset());
            if header.base_offset < least || header.last_offset_delta < 0 || header.next_offset() > *segment_end {
                let (first, last) = (header.base_offset, header.last_offset());
                let what = format!("a batch of the offsets {first} to {last}, where {least} to {segment_end} may be");
                return Err(damaged(place.position, &what));
            }
            place.position += batch.bytes.len() as u64;
            place.next_offset = header.next_offset();
            if !each(&batch)? {
                break;
            }
        }
        if place.position == start && !bytes.is_empty() {
            return Err(damaged(start, "it ends in the middle of a batch"));
        }
        Ok(Some(place.position - start))
    }

    /// One step of the first pass.
    fn collect(&self, compaction: &mut Compaction) -> Result<Step, LogError> {
        let mut place = compaction.place;
        let Some(segment) = compaction.segments.get(place.segment).cloned() else {
            return Ok(compaction.begin_rewrite());
        };
        compaction.transactions.enter(self, &segment)?;
        let mut is_full = false;
        let read = self.for_each_batch(&segment, &mut place, |batch| {
            is_full = !compaction.note(batch);
            Ok(!is_full)
        })?;
        let Some(read) = read else { return Ok(Step::Abandoned) };
        compaction.compacted.bytes_read += read;
        if is_full && !compaction.is_spill_refused {
            compaction.has_spilled = true;
            compaction.place = Place::default();
            compaction.end = compaction.segments.last().map_or(compaction.end, |(_, end)| *end);
            compaction.newest = Newest::Table(LatestOffsets::new(self.topic_id, 0));
            return match Spill::create(&self.dir, self.topic_id, compaction.keys_bytes_max) {
                Ok(spill) => {
                    compaction.phase = Phase::Spill(Box::new(spill));
                    Ok(Step::More(read))
                }
                Err(LogError::Disk(error)) if error.is_full() => self.collect_less(compaction),
                Err(error) => Err(error),
            };
        }
        if is_full {
            return Ok(compaction.begin_rewrite());
        }
        let is_over = place.position >= segment.0.size();
        compaction.place = if is_over { Place { segment: place.segment + 1, ..Place::default() } } else { place };
        Ok(Step::More(read))
    }

    /// One step of spilling, or of sorting out what was spilled.
    fn spill(&self, compaction: &mut Compaction) -> Result<Step, LogError> {
        if let Phase::SortOut(sort_out) = &mut compaction.phase {
            return match sort_out.step(&mut compaction.compacted.keys)? {
                Sorted::More(read) => Ok(Step::More(read)),
                Sorted::Done(superseded) => {
                    compaction.newest = Newest::Spilled(superseded);
                    Ok(compaction.begin_rewrite())
                }
            };
        }
        let mut place = compaction.place;
        let Some(segment) = compaction.segments.get(place.segment).cloned() else {
            let Phase::Spill(spill) = std::mem::replace(&mut compaction.phase, Phase::Collect) else {
                unreachable!("the keys are being spilled")
            };
            compaction.phase = Phase::SortOut(Box::new(spill.sort_out()?));
            return Ok(Step::More(0));
        };
        compaction.transactions.enter(self, &segment)?;
        let read = self.for_each_batch(&segment, &mut place, |batch| compaction.spill(batch).map(|()| true))?;
        let Some(read) = read else { return Ok(Step::Abandoned) };
        let Phase::Spill(spill) = &mut compaction.phase else { unreachable!("the keys are being spilled") };
        let written = spill.take_written();
        compaction.compacted.bytes_read += read;
        compaction.compacted.bytes_written += written;
        let is_over = place.position >= segment.0.size();
        compaction.place = if is_over { Place { segment: place.segment + 1, ..Place::default() } } else { place };
        Ok(Step::More(read + written))
    }

    /// Begins the first pass again, for as many keys as fit the memory.
    fn collect_less(&self, compaction: &mut Compaction) -> Result<Step, LogError> {
        tracing::warn!(log = %self.dir.display(), "the disk has no room for the keys of a compaction; it is done in parts");
        compaction.phase = Phase::Collect;
        compaction.forget_spilled(&self.dir);
        // Some file systems give the room back only then.
        millpond_disk::sync_dir(&self.dir)?;
        compaction.is_spill_refused = true;
        compaction.newest = Newest::Table(LatestOffsets::new(self.topic_id, compaction.keys_bytes_max));
        let first = compaction.segments.iter().position(|(_, end)| *end > compaction.first_dirty).unwrap_or(0);
        compaction.place = Place { segment: first, ..Place::default() };
        Ok(Step::More(0))
    }

    /// One step of the second pass.
    fn rewrite(&self, compaction: &mut Compaction) -> Result<Step, LogError> {
        let mut place = compaction.place;
        let number = place.segment;
        let Some(segment) = compaction.segments.get(number).cloned() else { return self.finish(compaction) };
        let options = self.options();
        if compaction.output.is_none() {
            compaction.output = Some((Output::create(&self.dir, segment.0.base_offset(), &options)?, number));
        }
        compaction.transactions.enter(self, &segment)?;
        // What lies below the start may be served again after a crash, unless the start is written down.
        let log_start = self.durable_start.load(Ordering::Acquire);
        let read = self.for_each_batch(&segment, &mut place, |batch| {
            compaction.pass_on(batch, log_start)?;
            Ok(true)
        })?;
        let Some(read) = read else { return Ok(Step::Abandoned) };
        let Some((mut output, first)) = compaction.output.take() else { unreachable!("the second pass writes") };
        let written = output.take_written();
        compaction.compacted.bytes_read += read;
        compaction.compacted.bytes_written += written;
        let more = Ok(Step::More(read + written));
        if place.position < segment.0.size() {
            (compaction.place, compaction.output) = (place, Some((output, first)));
            return more;
        }
        compaction.place = Place { segment: number + 1, ..Place::default() };
        let merges = number + 1 - first < rewrite::SEGMENTS_MERGED_MAX
            && compaction.segments.get(number + 1).is_some_and(|(next, end)| output.has_room_for(next, *end, &options));
        if merges {
            compaction.output = Some((output, first));
            return more;
        }
        let old = compaction.segments.get(first..=number).unwrap_or_default();
        if old.len() == 1 && !output.is_changed() {
            output.discard(&self.dir);
            return more;
        }
        if !self.swap(output, old, segment.1)? {
            return Ok(Step::Abandoned);
        }
        compaction.compacted.segments_replaced += old.len() as u64;
        more
    }

    /// Takes note that everything below the end is clean.
    fn finish(&self, compaction: &mut Compaction) -> Result<Step, LogError> {
        let _round = self.round.lock();
        let mut known = self.compaction.lock();
        let clean_below = known.clean_below.max(compaction.end).min(self.log_end_offset());
        let checkpoint = CompactionCheckpoint { clean_below, ..*known };
        if checkpoint != *known {
            checkpoint.write(&self.dir)?;
            *known = checkpoint;
        }
        compaction.compacted.clean_below = clean_below;
        Ok(Step::Done(compaction.compacted))
    }
}

impl Compaction {
    /// How much was done so far.
    pub fn so_far(&self) -> Compacted {
        self.compacted
    }
}

/// About [`STEP_BYTES`] of a segment from `position` on, the first batch whole; nothing at its end.
fn read_chunk(segment: &Segment, position: u64) -> Result<Vec<u8>, LogError> {
    let (file, opened) = segment.file()?;
    let left = usize::try_from(segment.size().saturating_sub(position)).unwrap_or(usize::MAX);
    let mut bytes = file.read_at(left.min(STEP_BYTES), position)?;
    if let Ok(header) = BatchHeader::parse(&bytes)
        && header.size() > bytes.len()
        && header.size() <= left
    {
        let done = bytes.len();
        file.append_at(&mut bytes, header.size() - done, position + done as u64)?;
    }
    if opened {
        segment.close_file();
    }
    Ok(bytes)
}
