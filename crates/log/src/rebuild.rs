//! What producers have written and which transactions were aborted, built again from a snapshot and the batches since.
//!
//! A snapshot is written when all entries below it are on the disk in the transaction index of their segment
//! (txn_index.rs). So what a crash can have taken from an index lies above the newest sound snapshot, and is found again on
//! the way from there to the log's end, which the producers' state needs anyway.

use std::path::Path;
use std::sync::Arc;

use millpond_types::{Offset, TimestampMs};

use crate::producers::{EndedTransaction, Producers};
use crate::scan::{Scanner, Step};
use crate::segment::Segment;
use crate::transactions::read_marker;
use crate::{AbortedTransaction, LogError, names, snapshot, txn_index};

/// Batches of control records are looked into up to this size. Markers have some 80 bytes.
const CONTROL_BATCH_BYTES_MAX: usize = 64 << 10;

/// Where to begin.
struct Start {
    from: Offset,
    producers: Producers,
}

/// The newest sound snapshot in `[log_start, to]`; if there is none, nothing at the log's start.
fn newest_snapshot(dir: &Path, log_start: Offset, to: Offset) -> Result<Start, LogError> {
    let mut snapshots: Vec<Offset> = millpond_disk::list(dir)?
        .iter()
        .filter_map(|entry| names::parse(&entry.name))
        .filter(|(at, kind)| *kind == names::SNAPSHOT && (log_start..=to).contains(at))
        .map(|(at, _)| at)
        .collect();
    snapshots.sort_unstable();
    for from in snapshots.into_iter().rev() {
        if let Some(producers) = snapshot::read(dir, from)? {
            return Ok(Start { from, producers });
        }
    }
    Ok(Start { from: log_start, producers: Producers::default() })
}

/// Takes note of the batches with records at or after `from` that end at or before `to`. A batch counts as appended at
/// `appended_ms`, or else when its newest record says. What is known at a segment's start is given to `begin`, and each transaction
/// that ended to `each`, with its marker's segment.
fn note_batches(
    producers: &mut Producers,
    segments: &[Arc<Segment>],
    (from, to): (Offset, Offset),
    appended_ms: Option<TimestampMs>,
    mut begin: impl FnMut(&Arc<Segment>, &Producers),
    mut each: impl FnMut(&Arc<Segment>, &EndedTransaction),
) -> Result<(), LogError> {
    for (place, segment) in segments.iter().enumerate() {
        let ends_before = segments.get(place + 1).is_some_and(|next| next.base_offset() <= from);
        if (from..=to).contains(&segment.base_offset()) {
            begin(segment, producers);
        }
        if ends_before || segment.base_offset() >= to {
            continue;
        }
        let (file, opened) = segment.file()?;
        let start = if from <= segment.base_offset() { Some(0) } else { segment.locate(&file, from)?.map(|(p, _)| p) };
        let mut scanner = Scanner::headers(&file, start.unwrap_or(segment.size()), segment.size());
        while let Step::Batch(position, header, _) = scanner.step()? {
            if !header.has_producer() || header.next_offset() <= from || header.next_offset() > to {
                continue;
            }
            let timestamp = appended_ms.unwrap_or(header.max_timestamp);
            if !header.is_control() {
                producers.note(&header, timestamp);
                continue;
            }
            // One that is larger is cut off, and so cannot be read.
            let batch = file.read_at(header.size().min(CONTROL_BATCH_BYTES_MAX), position)?;
            if let Some(marker) = read_marker(&batch, segment)
                && let Some(ended) = producers.note_marker(&marker, header.base_offset, timestamp)
            {
                each(segment, &ended);
            }
        }
        if opened {
            segment.close_file();
        }
    }
    Ok(())
}

/// The producers' state at `log_end`.
pub(crate) fn producers_at(
    dir: &Path,
    segments: &[Arc<Segment>],
    log_start: Offset,
    log_end: Offset,
) -> Result<Producers, LogError> {
    let Start { from, mut producers } = newest_snapshot(dir, log_start, log_end)?;
    note_batches(&mut producers, segments, (from, log_end), None, |_, _| {}, |_, _| {})?;
    Ok(producers)
}

/// What was found after a crash.
pub(crate) struct Rebuilt {
    /// The producers' state at the log's end.
    pub(crate) producers: Producers,
    /// Snapshots for the starts of those segments behind the first scanned one that have none, to be written once the transaction
    /// indexes are.
    pub(crate) snapshots: Vec<(Offset, Vec<u8>)>,
}

/// The producers' state after a crash. The transaction indexes of the segments from the one at `scanned` on are brought into
/// memory and completed.
pub(crate) fn after_crash(
    dir: &Path,
    segments: &[Arc<Segment>],
    scanned: usize,
    (log_start, log_end): (Offset, Offset),
    recovery_point: Offset,
    now_ms: TimestampMs,
) -> Result<Rebuilt, LogError> {
    let scanned = scanned.min(segments.len().saturating_sub(1));
    let first = segments.get(scanned).expect("a log has at least one segment");
    // A snapshot at the next segment's start vouches for this one's index; a log that Kafka wrote has it earlier than that.
    let to = match segments.get(scanned + 1).map(|next| next.base_offset()) {
        None => log_end,
        Some(next) if next <= recovery_point => next,
        Some(next) => next - 1,
    };
    let mut start = newest_snapshot(dir, log_start, to)?;
    let mut entries = Vec::new();
    if start.from > first.base_offset() {
        match txn_index::read(&first.path(names::TXN_INDEX), first.base_offset())? {
            Some(found) => entries = found.into_iter().filter(|entry| entry.last_offset < start.from).collect(),
            None => start = newest_snapshot(dir, log_start, first.base_offset())?,
        }
    }
    for segment in segments.iter().skip(scanned) {
        let file_len = segment.txn_index.file_len();
        segment.txn_index.set(std::mem::take(&mut entries), file_len);
    }
    let Start { from, mut producers } = start;
    let mut snapshots = Vec::new();
    let begin = |segment: &Arc<Segment>, producers: &Producers| {
        if segment.base_offset() > first.base_offset() {
            snapshots.push((segment.base_offset(), snapshot::encode(producers)));
        }
    };
    note_batches(&mut producers, segments, (from, log_end), Some(now_ms), begin, |segment, ended| {
        segment.note_transaction(ended);
    })?;
    let mut missing = Vec::new();
    for (at, bytes) in snapshots {
        if snapshot::read(dir, at)?.is_none() {
            missing.push((at, bytes));
        }
    }
    Ok(Rebuilt { producers, snapshots: missing })
}

/// The transactions that were aborted in `wanted`, a segment that is no longer written.
pub(crate) fn aborted_in(
    dir: &Path,
    segments: &[Arc<Segment>],
    wanted: &Arc<Segment>,
    log_start: Offset,
) -> Result<Vec<AbortedTransaction>, LogError> {
    let Some(place) = segments.iter().position(|segment| Arc::ptr_eq(segment, wanted)) else { return Ok(Vec::new()) };
    let to = segments.get(place + 1).map_or(Offset::MAX, |next| next.base_offset());
    let Start { from, mut producers } = newest_snapshot(dir, log_start, wanted.base_offset())?;
    let mut aborted = Vec::new();
    note_batches(
        &mut producers,
        segments,
        (from, to),
        None,
        |_, _| {},
        |segment, ended| {
            if Arc::ptr_eq(segment, wanted) {
                aborted.extend(ended.aborted());
            }
        },
    )?;
    Ok(aborted)
}
