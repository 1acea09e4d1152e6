//! Is the log of a partition what it must be?
//!
//! Reads all of it, and writes nothing: each batch's bytes against its checksum, its header against its records, its offsets
//! against those before; indexes, snapshots, leader epochs and checkpoints against the batches.
//!
//! The node may be running. It writes behind what is looked at, rolls, deletes and compacts segments, cuts the log and replaces
//! small files. So what is found in files that may be written is looked at again after a pause, and told if it is there
//! still. What a crash of the process leaves is no finding either: the next start goes on from there.

mod batch;
mod finding;
mod indexes;
mod producers;
mod segment;

use std::path::{Path, PathBuf};

use millpond_records::BatchHeader;
use millpond_types::{LeaderEpoch, Offset, TopicId};

pub use finding::{FINDINGS_MAX, Finding, FindingKind};
use finding::{Findings, finding};
use segment::LogState;

use crate::checkpoint::{LOG_STARTS, RECOVERY_POINTS};
use crate::compaction::CompactionCheckpoint;
use crate::epochs::LeaderEpochs;
use crate::inspect::PartitionFolder;
use crate::{LogError, names, read_topic_id};

/// How often a finding in files that may be written is looked at again, at most.
const SECOND_LOOKS_MAX: usize = 3;

const WRITE_EPOCHS: &str = "stop the node and write the file anew: 0, the number of epochs, and for each a line with its number and \
     the offset of its first record; `millpond log dump` shows both of each batch";

/// What others say of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The node was stopped cleanly: nothing is in the making.
    pub is_closed: bool,
    /// By the node's checkpoint everything below was synced. `None`: it says nothing.
    pub recovery_point: Option<Offset>,
    /// Where the log starts by the node's checkpoint. `None`: it says nothing.
    pub log_start: Option<Offset>,
    /// Whose log it is by the node's metadata. `None`: that is not known.
    pub topic_id: Option<TopicId>,
    /// Apache Kafka wrote it: it does not note down where compaction may have left holes.
    pub is_kafkas: bool,
}

/// Who waits for a verification, and what it needs of the world.
pub struct Watch<'a> {
    /// What others say of the log at the moment.
    pub claims: &'a dyn Fn() -> Claims,
    /// Waits for longer than a write takes, and than files' times are exact to.
    pub pause: &'a dyn Fn(),
    /// Hears of bytes that were read.
    pub progress: &'a dyn Fn(u64),
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Files.
    pub files: u64,
    /// Batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the `.log` files.
    pub bytes: u64,
    /// Batches whose records take too many bytes to be looked at; their checksums were.
    pub batches_too_large: u64,
}

impl Tallies {
    /// Adds those of another log.
    pub fn add(&mut self, other: &Tallies) {
        self.files += other.files;
        self.batches += other.batches;
        self.records += other.records;
        self.bytes += other.bytes;
        self.batches_too_large += other.batches_too_large;
    }
}

/// Bytes behind the last whole batch of a log that is being written, or was when the node ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The file.
    pub file: PathBuf,
    /// Where they begin.
    pub position: u64,
    /// How many they are.
    pub bytes: u64,
}

/// What a verification came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// What was read.
    pub tallies: Tallies,
    /// What is wrong, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How much more is wrong.
    pub findings_unlisted: u64,
    /// What is not part of the log yet.
    pub unfinished: Option<Unfinished>,
}

/// What looking at some segments came to.
#[derive(Debug, Default)]
struct Outcome {
    tallies: Tallies,
    findings: Findings,
    unfinished: Option<Unfinished>,
}

/// A log's folder, and what was said of it, at one moment.
struct View {
    claims: Claims,
    folder: PartitionFolder,
    /// These three: or what is wrong with the file.
    epochs: Result<LeaderEpochs, String>,
    compaction: Result<CompactionCheckpoint, String>,
    topic_id: Result<TopicId, String>,
}

/// Verifies the log in a partition's folder. `None`: the folder does not exist (any more).
pub fn verify(dir: &Path, watch: &Watch<'_>) -> Result<Option<Verified>, LogError> {
    let Some(mut view) = View::read(dir, watch)? else { return Ok(None) };
    let log_start = view.claims.log_start.unwrap_or(0);
    let mut ranges: Vec<(Offset, Option<Offset>)> =
        view.folder.segments_from(log_start).map(|(segment, next)| (segment.base_offset, next)).collect();
    if ranges.is_empty() {
        ranges.push((0, None));
    }
    let mut state = LogState::new();
    let mut total = Outcome::default();
    for range in ranges {
        let Some((outcome, after)) = look_twice(&mut view, range, &state, watch)? else { return Ok(None) };
        state = after;
        total.tallies.add(&outcome.tallies);
        total.findings.append(outcome.findings);
        total.unfinished = outcome.unfinished;
    }
    Ok(Some(Verified {
        tallies: total.tallies,
        findings: total.findings.listed,
        findings_unlisted: total.findings.unlisted,
        unfinished: total.unfinished,
    }))
}

/// Looks at the segments of a range of base offsets, again if it finds anything in files that may be written. `None`: the folder
/// is gone.
fn look_twice(
    view: &mut View,
    range: (Offset, Option<Offset>),
    state: &LogState,
    watch: &Watch<'_>,
) -> Result<Option<(Outcome, LogState)>, LogError> {
    let (mut outcome, mut after) = look(view, range, state.clone(), watch)?;
    for _ in 0..SECOND_LOOKS_MAX {
        if outcome.findings.is_empty() {
            break;
        }
        if !(view.claims.is_closed && (watch.claims)().is_closed) {
            (watch.pause)();
        }
        let dir = view.folder.dir.clone();
        let Some(again) = View::read(&dir, watch)? else { return Ok(None) };
        let is_settled = again.claims.is_closed || range.1.is_some();
        if is_settled && again.is_as(view, range) {
            break;
        }
        let (mut second, second_after) = look(&again, range, state.clone(), watch)?;
        second.findings.retain_those_in(&outcome.findings);
        (outcome, after) = (second, second_after);
        *view = again;
    }
    Ok(Some((outcome, after)))
}

fn look(
    view: &View,
    (from, to): (Offset, Option<Offset>),
    mut state: LogState,
    watch: &Watch<'_>,
) -> Result<(Outcome, LogState), LogError> {
    let mut outcome = Outcome::default();
    let log_start = view.claims.log_start.unwrap_or(0);
    for (segment, next) in view.folder.segments_from(log_start) {
        if segment.base_offset >= from && to.is_none_or(|to| segment.base_offset < to) {
            segment::check(view, (segment, next), &mut state, &mut outcome, watch)?;
        }
    }
    if to.is_none() {
        view.check_small_files(&state, &mut outcome);
    }
    Ok((outcome, state))
}

/// Tells what is wrong with a file from why it cannot be read.
fn damage_apart<T>(result: Result<T, LogError>) -> Result<Result<T, String>, LogError> {
    match result {
        Ok(found) => Ok(Ok(found)),
        Err(LogError::Damaged { what, .. }) => Ok(Err(what)),
        Err(error) => Err(error),
    }
}

impl View {
    /// `None`: the folder does not exist.
    fn read(dir: &Path, watch: &Watch<'_>) -> Result<Option<View>, LogError> {
        // What is claimed comes first: the log is never behind it.
        let claims = (watch.claims)();
        let Some(folder) = PartitionFolder::read(dir)? else { return Ok(None) };
        Ok(Some(View {
            epochs: damage_apart(LeaderEpochs::read_file(&dir.join(names::LEADER_EPOCHS)))?,
            compaction: damage_apart(CompactionCheckpoint::read(dir))?,
            topic_id: damage_apart(read_topic_id(dir))?,
            claims,
            folder,
        }))
    }

    /// Whether the segments of a range have not changed since another look.
    fn is_as(&self, other: &View, (from, to): (Offset, Option<Offset>)) -> bool {
        let within = |base: Offset| base >= from && to.is_none_or(|to| base < to);
        let segments = |view: &View| {
            let segments = view.folder.segments.iter().filter(|segment| within(segment.base_offset));
            segments.cloned().collect::<Vec<_>>()
        };
        self.claims == other.claims && segments(self) == segments(other)
    }

    /// Whether the record at `offset` was synced long ago.
    fn is_durable(&self, offset: Offset) -> bool {
        self.claims.recovery_point.is_some_and(|point| offset < point)
    }

    /// Below it compaction may have taken records out.
    fn holes_below(&self) -> Offset {
        match &self.compaction {
            _ if self.claims.is_kafkas => Offset::MAX,
            Ok(compaction) => compaction.holes_below,
            Err(_) => Offset::MAX,
        }
    }

    /// Whether offsets may be missing in front of this one.
    fn may_have_holes_at(&self, offset: Offset) -> bool {
        offset <= self.holes_below()
    }

    /// The leader epoch of a batch by the folder's file; `None` if the file need not know. Where the first epoch began does not
    /// matter to anybody, and a new start of the log may stand there before it is in the node's checkpoint.
    fn epoch_of(&self, header: &BatchHeader) -> Option<LeaderEpoch> {
        let epochs = self.epochs.as_ref().ok()?.entries();
        let (base, last) = (header.base_offset, header.last_offset());
        if !(self.claims.is_closed || self.is_durable(last)) {
            return None;
        }
        let of = |offset: Offset| epochs.iter().rev().find(|(_, start)| *start <= offset).map(|(epoch, _)| *epoch);
        match (of(base), of(last)) {
            // An epoch that begins within the batch: the batch is wrong, or the epoch.
            (Some(epoch), Some(until)) if header.leader_epoch == epoch => Some(until),
            (Some(epoch), _) => Some(epoch),
            (None, until) => until,
        }
    }

    fn check_small_files(&self, state: &LogState, outcome: &mut Outcome) {
        let mut found = |finding: Finding| outcome.findings.push(finding);
        let dir = &self.folder.dir;
        let file = |name: &str| dir.join(name);
        let checkpoint = |name: &str| dir.with_file_name(name);
        outcome.tallies.files +=
            2 + u64::from(self.compaction.as_ref().is_ok_and(|c| *c != CompactionCheckpoint::default()));

        match (&self.topic_id, self.claims.topic_id) {
            // The folder was being made, and is made anew with the next start.
            (Err(_), _) if self.folder.log_bytes() == 0 && self.claims.recovery_point.unwrap_or(0) == 0 => {}
            (Err(error), _) => {
                let remedy = "stop the node and write the file anew: the lines `version: 0` and `topic_id: ` with the topic's id";
                found(finding(FindingKind::Metadata, &file(names::PARTITION_METADATA), error.clone(), remedy));
            }
            (Ok(id), Some(expected)) if *id != expected => {
                let what =
                    format!("the log is of the topic with id {id}, and the topic of this name has id {expected}");
                let remedy = "the next start of the node sets the folder aside, as one that no topic claims: if the log is the \
                              topic's, stop the node and write the topic's id into this file";
                found(finding(FindingKind::Metadata, &file(names::PARTITION_METADATA), what, remedy));
            }
            _ => {}
        }
        if let Err(error) = &self.compaction {
            let remedy =
                "restore the partition's folder from a backup: without this file nobody knows which segments count";
            found(finding(FindingKind::Checkpoint, &file(names::COMPACTION_CHECKPOINT), error.clone(), remedy));
        }
        if let Err(error) = &self.epochs {
            found(finding(FindingKind::LeaderEpochs, &file(names::LEADER_EPOCHS), error.clone(), WRITE_EPOCHS));
        }

        if self.epochs.as_ref().is_ok_and(|epochs| epochs.entries().is_empty())
            && state.epoch >= 0
            && state.floor > self.claims.log_start.unwrap_or(0)
            && (self.claims.is_closed || self.is_durable(state.floor - 1))
        {
            let what = format!("it is missing or empty, and the batches have leader epochs up to {}", state.epoch);
            found(finding(FindingKind::LeaderEpochs, &file(names::LEADER_EPOCHS), what, WRITE_EPOCHS));
        }

        let bases = self.folder.segments_from(self.claims.log_start.unwrap_or(0));
        let first = bases.map(|(segment, _)| segment.base_offset).next();
        // Kafka notes a start only where it lies within a segment.
        if let (Some(first), Some(log_start)) = (first, self.claims.log_start.filter(|_| !self.claims.is_kafkas))
            && first > log_start
        {
            let what = format!(
                "the log starts at offset {log_start}, and its first segment at {first}: what is between is lost"
            );
            let remedy = "restore the missing segments from a backup; the next start of the node goes on without them";
            found(finding(FindingKind::Offsets, dir, what, remedy).of(log_start));
        }
        let Some(end) = state.next.or_else(|| first.is_none().then_some(0)) else { return };
        if let Some(point) = self.claims.recovery_point {
            let path = checkpoint(RECOVERY_POINTS);
            if point > end {
                let what =
                    format!("it says that everything below offset {point} was synced, and the log ends before {end}");
                let remedy = "records that were on the disk are missing: restore the partition's folder from a backup";
                found(finding(FindingKind::Checkpoint, &path, what, remedy).of(end));
            } else if self.claims.is_closed && point < end {
                let what = format!("it says that the log was closed at offset {point}, and the log ends before {end}");
                let remedy = "stop the node if it runs, and delete the file .kafka_cleanshutdown: the next start verifies the logs";
                found(finding(FindingKind::Checkpoint, &path, what, remedy).of(point));
            }
        }
        if let Some(log_start) = self.claims.log_start.filter(|start| *start > end) {
            let what = format!("it says that the log starts at offset {log_start}, and the log ends before {end}");
            let remedy =
                "restore the partition's folder from a backup: the next start of the node begins the log anew, empty";
            found(finding(FindingKind::Checkpoint, &checkpoint(LOG_STARTS), what, remedy).of(log_start));
        }
        if let Ok(compaction) = &self.compaction
            && compaction.holes_below.max(compaction.clean_below) > end
        {
            let below = compaction.holes_below.max(compaction.clean_below);
            let what =
                format!("it says that the log was compacted up to offset {below}, and the log ends before {end}");
            let remedy = "restore the partition's folder from a backup; a start that verifies the log mends this file";
            found(finding(FindingKind::Checkpoint, &file(names::COMPACTION_CHECKPOINT), what, remedy).of(end));
        }
        if let Ok(epochs) = &self.epochs
            && let Some((epoch, start)) = epochs.entries().last().filter(|(_, start)| *start > end)
        {
            let what = format!("it says that epoch {epoch} begins at offset {start}, and the log ends before {end}");
            let remedy = "stop the node and take the line out, and one off the number in the second line";
            found(finding(FindingKind::LeaderEpochs, &file(names::LEADER_EPOCHS), what, remedy).of(*start));
        }
    }
}
