//! Reads one segment from its first byte to its last.

use std::collections::VecDeque;

use millpond_records::BatchHeader;
use millpond_types::{LeaderEpoch, Offset, ProducerId};

use super::finding::{Finding, FindingKind, Findings, finding};
use super::indexes::IndexChecks;
use super::producers::SeenProducers;
use super::{Outcome, Unfinished, View, Watch, batch};
use crate::LogError;
use crate::inspect::{BatchWalk, Found, FoundBatch, Gap, ListedFile, SegmentFiles};

const DURABLE_DAMAGE: &str = "this was on the disk once: restore the file from a backup. Without one, let consumers seek past these \
     offsets; what is left of them `millpond log dump` shows";
const END_OF_LOG: &str = "the next start of the node cuts the log off here, with all that follows: restore the file from a backup \
     before, if there is one";
const LOST_OFFSETS: &str = "restore the partition's folder from a backup. Without one, consumers go on at the next offset that is \
     there; a start after a crash may cut the log off here";
const EPOCHS: &str = "stop the node and mend the file leader-epoch-checkpoint, if it is wrong and the batches are right: each line \
     below the second is an epoch and the offset of its first record, the second is the number of these lines";

/// What the walk over a log knows at a place between two batches.
#[derive(Debug, Clone, Default)]
pub(super) struct LogState {
    /// The offset that comes next. `None`: what was before is damaged, or gone.
    pub(super) next: Option<Offset>,
    /// What comes next if the last batch has a wrong base offset.
    alternative: Option<Offset>,
    /// Nothing below it comes any more.
    pub(super) floor: Offset,
    /// The leader epoch of the last batch; -1 before the first.
    pub(super) epoch: LeaderEpoch,
    /// The last complaint about one: what a batch has, and what it should have.
    told_epochs: Option<(LeaderEpoch, Option<LeaderEpoch>)>,
    pub(super) producers: SeenProducers,
}

impl LogState {
    pub(super) fn new() -> LogState {
        LogState { epoch: -1, ..LogState::default() }
    }
}

/// A segment that is being read.
pub(super) struct SegmentCheck<'a> {
    view: &'a View,
    segment: &'a SegmentFiles,
    next_base: Option<Offset>,
    state: &'a mut LogState,
    /// If nobody writes to them any more.
    indexes: Option<IndexChecks>,
    /// Those that lie within the segment, or at its end.
    snapshots: VecDeque<(Offset, &'a ListedFile)>,
    /// Damage behind which no batch came yet, and the offset that was next before it.
    damage: Option<(Finding, Option<Offset>)>,
    findings: Findings,
}

/// Reads a segment behind which one begins at `next_base`; the newest if none does. One that is gone is no finding.
pub(super) fn check(
    view: &View,
    (segment, next_base): (&SegmentFiles, Option<Offset>),
    state: &mut LogState,
    outcome: &mut Outcome,
    watch: &Watch<'_>,
) -> Result<(), LogError> {
    let mut walk = match BatchWalk::open(&segment.log.path) {
        Err(LogError::Disk(error)) if error.is_not_found() => {
            state.next = None;
            state.producers.has_gaps = true;
            return Ok(());
        }
        opened => opened?,
    };
    // Of what is rolled the first sync that comes after it writes the indexes. One that came before may have covered all of it.
    let is_complete = view.claims.is_closed || next_base.is_some_and(|next| view.is_durable(next));
    // The one at its front was looked at with the segment before, if there is one.
    let from = if state.producers.is_fresh() { segment.base_offset } else { segment.base_offset.saturating_add(1) };
    let within = |offset: Offset| offset >= from && next_base.is_none_or(|next| offset <= next);
    let snapshots = view.folder.snapshots.iter().filter(|(offset, _)| within(*offset));
    let mut check = SegmentCheck {
        view,
        segment,
        next_base,
        indexes: is_complete.then(|| IndexChecks::open(segment)).transpose()?,
        snapshots: snapshots.map(|(offset, file)| (*offset, file)).collect(),
        state,
        damage: None,
        findings: Findings::default(),
    };
    let index_files = check.indexes.as_ref().map_or(0, IndexChecks::files);
    outcome.tallies.files += 1 + index_files + check.snapshots.len() as u64;
    if let Some(missing) = check.indexes.as_ref().and_then(|indexes| indexes.check_missing(segment)) {
        check.findings.push(missing);
    }
    check.begin();
    let mut position = 0;
    while let Some(found) = walk.next()? {
        match found {
            Found::Batch(batch) => check.batch(&batch, outcome)?,
            Found::Gap(gap) => check.gap(&gap, outcome)?,
        }
        (watch.progress)(walk.position() - position);
        outcome.tallies.bytes += walk.position() - position;
        position = walk.position();
    }
    check.finish(position, outcome)
}

impl SegmentCheck<'_> {
    fn found(&mut self, kind: FindingKind, what: String, remedy: &'static str, position: u64, offset: Offset) {
        let found = finding(kind, &self.segment.log.path, what, remedy).at(position).of(offset);
        self.findings.push(found);
    }

    /// Whether the segment begins where the one before it ends.
    fn begin(&mut self) {
        let base = self.segment.base_offset;
        match self.state.next {
            Some(next) if next < base && !self.view.may_have_holes_at(base) => {
                let what = format!("the segment before it ends before offset {next}, and this one begins with {base}");
                self.found(FindingKind::Offsets, what, LOST_OFFSETS, 0, next);
            }
            Some(next) if next > base => {
                let what = format!("it begins with offset {base}, and the segment before it ends with {}", next - 1);
                self.found(FindingKind::Offsets, what, LOST_OFFSETS, 0, base);
            }
            _ => {}
        }
        self.state.next = Some(base);
        self.state.alternative = None;
        self.state.floor = base;
    }

    fn batch(&mut self, batch: &FoundBatch<'_>, outcome: &mut Outcome) -> Result<(), LogError> {
        outcome.tallies.batches += 1;
        let header = batch.header;
        if !batch.is_valid() {
            let what = format!(
                "the CRC of the batch is {:#010x}, that of its {} bytes {:#010x}",
                header.crc,
                header.size(),
                batch.computed_crc
            );
            let remedy = self.remedy(header.base_offset);
            self.found(FindingKind::Crc, what, remedy, batch.position, header.base_offset);
            self.lose(batch.position + header.size() as u64)?;
            self.state.alternative = Some(header.next_offset());
            return Ok(());
        }
        let may_lack = self.view.may_have_holes_at(header.base_offset);
        let checked = batch::check(&self.segment.log.path, batch, may_lack);
        outcome.tallies.records += checked.records;
        outcome.tallies.batches_too_large += u64::from(checked.is_too_large);
        checked.findings.into_iter().for_each(|found| self.findings.push(found));
        if header.last_offset_delta < 0 {
            // Where it ends nobody can tell.
            return self.lose(batch.position + header.size() as u64);
        }
        self.end_damage(Some(header.base_offset));
        self.check_offsets(batch.position, &header);
        self.check_snapshots(header.base_offset)?;
        self.state.producers.note(&header);
        self.check_epoch(batch.position, &header);
        let Some(indexes) = &mut self.indexes else { return Ok(()) };
        let findings = &mut self.findings;
        indexes.see(batch.position, &header, aborted(batch), |found| findings.push(found))
    }

    /// Whether the batch's offsets go on where those before it ended.
    fn check_offsets(&mut self, position: u64, header: &BatchHeader) {
        let base = header.base_offset;
        let expected = self.state.next;
        let alternative = self.state.alternative.take();
        self.state.next = Some(header.next_offset());
        let lowest = expected.unwrap_or(self.state.floor);
        let fits = expected.is_none_or(|expected| base <= expected || self.view.may_have_holes_at(base));
        if alternative == Some(base) || (fits && base >= lowest) {
            self.state.floor = self.state.floor.max(header.next_offset());
            return;
        }
        let what = if base < lowest {
            format!("the batch has base offset {base}, and {lowest} or more must come here")
        } else {
            format!("the batch has base offset {base}, and {lowest} is next: {lowest} to {} are missing", base - 1)
        };
        self.found(FindingKind::Offsets, what, LOST_OFFSETS, position, base);
        self.state.alternative = Some(lowest.saturating_add(header.next_offset().saturating_sub(base)));
    }

    /// Whether the batch's leader epoch is the one that the folder's file has for its offsets.
    fn check_epoch(&mut self, position: u64, header: &BatchHeader) {
        let (epoch, before) = (header.leader_epoch, self.state.epoch);
        let told = self.view.epoch_of(header);
        let what = match told {
            _ if epoch < before => format!("its leader epoch is {epoch}, after {before}"),
            Some(told) if told != epoch => {
                format!("its leader epoch is {epoch}, and {told} by leader-epoch-checkpoint")
            }
            _ => {
                self.state.epoch = epoch;
                return;
            }
        };
        // Of many batches in a row with the same fault the first one is told.
        if self.state.told_epochs != Some((epoch, told)) {
            self.found(FindingKind::LeaderEpochs, what, EPOCHS, position, header.base_offset);
            self.state.told_epochs = Some((epoch, told));
        }
        // One batch with a wrong epoch does not make all that follow wrong.
        self.state.epoch = told.unwrap_or(before);
    }

    /// Looks at the snapshots up to `offset`.
    fn check_snapshots(&mut self, offset: Offset) -> Result<(), LogError> {
        while let Some(snapshot) = self.snapshots.pop_front_if(|(at, _)| *at <= offset) {
            let findings = &mut self.findings;
            self.state.producers.check(snapshot, self.view.holes_below(), |found| findings.push(found))?;
        }
        Ok(())
    }

    /// Bytes without a batch.
    fn gap(&mut self, gap: &Gap, outcome: &mut Outcome) -> Result<(), LogError> {
        let next = self.state.next;
        let may_be_unfinished = gap.is_unwritten && self.next_base.is_none() && !self.view.claims.is_closed;
        if may_be_unfinished && next.is_some_and(|next| !self.view.is_durable(next)) {
            let file = self.segment.log.path.clone();
            outcome.unfinished = Some(Unfinished { file, position: gap.position, bytes: gap.len });
            return Ok(());
        }
        let what = format!("{} bytes hold no whole batch: {}", gap.len, gap.what);
        let remedy = self.remedy(next.unwrap_or(self.state.floor));
        let found = finding(FindingKind::Batch, &self.segment.log.path, what, remedy).at(gap.position);
        self.damage = Some((found, next));
        self.lose(gap.position + gap.len)
    }

    /// What was up to position `to` is not known.
    fn lose(&mut self, to: u64) -> Result<(), LogError> {
        self.state.floor = self.state.next.unwrap_or(0).max(self.state.floor);
        self.state.next = None;
        self.state.alternative = None;
        self.state.producers.has_gaps = true;
        self.indexes.as_mut().map_or(Ok(()), |indexes| indexes.skip(to))
    }

    /// Tells of damage, now that it is known with which offset the log goes on behind it.
    fn end_damage(&mut self, goes_on_at: Option<Offset>) {
        let Some((mut found, next)) = self.damage.take() else { return };
        found.offset = next;
        match (next, goes_on_at) {
            (Some(next), Some(goes_on_at)) if next < goes_on_at => {
                found.what.push_str(&format!("; offsets {next} to {} are lost", goes_on_at - 1));
            }
            (_, None) => found.what.push_str("; no batch follows"),
            _ => {}
        }
        self.findings.push(found);
    }

    fn remedy(&self, offset: Offset) -> &'static str {
        if self.view.claims.is_closed || self.view.is_durable(offset) { DURABLE_DAMAGE } else { END_OF_LOG }
    }

    fn finish(mut self, end: u64, outcome: &mut Outcome) -> Result<(), LogError> {
        self.end_damage(None);
        if let Some(next) = self.state.next {
            // Behind the last batch of a segment that is not the newest, others may have been compacted away.
            self.check_snapshots(self.next_base.unwrap_or(next))?;
            if let Some(found) = self.indexes.as_mut().and_then(|indexes| indexes.finish(end, next)) {
                self.findings.push(found);
            }
        }
        if self.view.claims.is_closed {
            for (offset, file) in &self.snapshots {
                let what = format!("it is of offset {offset}, and the log ends before");
                let remedy = "nothing: it is removed at the next start that verifies the log";
                self.findings.push(finding(FindingKind::Snapshot, &file.path, what, remedy).of(*offset));
            }
        }
        outcome.findings.append(self.findings);
        Ok(())
    }
}

/// The producer whose transaction a batch tells to be aborted (KIP-98: the key's second number is 0).
fn aborted(batch: &FoundBatch<'_>) -> Option<ProducerId> {
    const MARKER_BYTES_MAX: usize = 1024;
    if !batch.header.is_control() {
        return None;
    }
    let mut records = batch.view()?.records(MARKER_BYTES_MAX).ok()?;
    let record = records.next()?.ok()?;
    let kind = record.key?.get(2..4)?;
    (kind == [0, 0]).then_some(batch.header.producer_id)
}
