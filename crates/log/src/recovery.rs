//! Starting after a crash: verify what lies beyond the recovery point, and cut at the first batch that is not whole.

use std::path::Path;
use std::sync::Arc;

use millpond_disk::File;
use millpond_records::{BatchHeader, verify_crc};
use millpond_types::{Offset, TimestampMs};

use crate::epochs::LeaderEpochs;
use crate::index::{self, MemoryIndexes};
use crate::log::{Parts, SegmentStart};
use crate::open::{Files, Recovered, Recovery};
use crate::scan::{Scanner, Step};
use crate::segment::Segment;
use crate::{LogError, LogOptions, names, rebuild, snapshot};

/// How far behind a bad batch whole ones are looked for, in bytes.
const DAMAGE_BYTES_MAX: usize = 16 << 20;

/// Recovers the log in `dir`. `reason`: why a log that was closed is not taken at its word.
pub(crate) fn recover(
    dir: &Path,
    files: &Files,
    options: &LogOptions,
    recovery: Recovery,
    now_ms: TimestampMs,
    reason: Option<String>,
) -> Result<(Parts, Recovered), LogError> {
    let mut recovered = Recovered { reason, ..Recovered::default() };
    let mut epochs = LeaderEpochs::read(dir)?;
    let epochs_before = epochs.clone();
    let interval_bytes = options.index_interval_bytes;

    // The last segment that begins below the recovery point is the first that is looked at. If it also ends there, its
    // batches are durable, but it may have been rolled after the last sync, and then its indexes are not complete.
    let first_scanned = files.logs.partition_point(|(base, _)| *base < recovery.recovery_point).saturating_sub(1);
    let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(files.logs.len());
    for (base, len) in files.logs.iter().take(first_scanned) {
        segments.push(Arc::new(Segment::on_disk(dir, *base, *len, files.txn_index(*base), interval_bytes)));
    }
    let mut scanned = Vec::new();
    let mut log_end = files.logs.get(first_scanned).map_or(recovery.log_start_offset, |(base, _)| *base);
    let mut ended = false;
    let is_empty = files.logs.iter().all(|(_, len)| *len == 0);
    if recovery.refuse_damage && is_empty && recovery.recovery_point > recovery.log_start_offset {
        let what = format!(
            "it holds nothing, and had {} records on the disk; restore it from a backup",
            recovery.recovery_point
        );
        return Err(LogError::Damaged { path: dir.to_owned(), what });
    }
    let newest = files.logs.last().map(|(base, _)| *base);
    for (base, len) in files.logs.iter().skip(first_scanned) {
        // What compaction has taken out is not missing.
        let is_hole = *base > log_end && *base <= files.compaction.holes_below;
        if !ended && *base != log_end && !is_hole {
            ended = true;
            recovered.add_reason(format!("segment {base} does not begin where the one before ends, at {log_end}"));
        }
        if ended {
            remove_segment(dir, *base)?;
            recovered.truncated_bytes += len;
            continue;
        }
        let is_newest = newest == Some(*base);
        let known = Known { recovery, holes_below: files.compaction.holes_below, is_newest };
        let scan = scan_segment(dir, (*base, *len), known, interval_bytes, &mut epochs, &mut recovered)?;
        log_end = scan.end;
        ended = scan.broken;
        scanned.push(scan);
    }

    // Bytes, then names: what was verified stays, also if the power goes next.
    for scan in &scanned {
        scan.file.sync_data()?;
    }
    let is_cut = scanned.last().is_some_and(|scan| scan.broken);
    for scan in scanned {
        let indexes = (scan.indexes, files.txn_index(scan.base));
        let segment = Segment::with_indexes(dir, scan.base, scan.size, indexes, &scan.file, interval_bytes);
        segments.push(Arc::new(segment));
    }
    let first = files.logs.first().map_or(recovery.log_start_offset, |(base, _)| *base);
    let log_start = first.max(recovery.log_start_offset);
    if segments.is_empty() || log_end < log_start {
        if !segments.is_empty() {
            recovered.add_reason(format!("the log ends at {log_end}, below its start {log_start}"));
        }
        for segment in segments.drain(..) {
            recovered.truncated_bytes += segment.size();
            remove_segment(dir, segment.base_offset())?;
        }
        segments.push(Arc::new(Segment::create(dir, log_start, interval_bytes)?.0));
        log_end = log_start;
    } else if log_end < recovery.recovery_point {
        recovered
            .add_reason(format!("the log ends at {log_end}, below its recovery point {}", recovery.recovery_point));
    }

    let bounds = (log_start, log_end);
    let rebuilt = rebuild::after_crash(dir, &segments, first_scanned, bounds, recovery.recovery_point, now_ms)?;
    let (active, rolled) = segments.split_last().expect("a log has at least one segment");
    for segment in rolled.iter().skip(first_scanned) {
        segment.finish()?;
        segment.close_file();
    }
    // Compaction relies on one at the end of each segment that it looks at.
    for (at, bytes) in &rebuilt.snapshots {
        snapshot::write(dir, *at, bytes)?;
    }
    rolled.iter().for_each(|segment| segment.set_finished());
    if is_cut {
        // Entries behind the cut would later lead into other batches.
        active.write_indexes(false, true)?;
    } else {
        active.cut_index_files()?;
    }
    for at in files.snapshots.iter().filter(|at| **at > log_end) {
        millpond_disk::remove_file(&names::path(dir, *at, names::SNAPSHOT))?;
    }
    epochs.truncate_to(log_end);
    epochs.truncate_from_start(log_start);
    if epochs != epochs_before {
        epochs.write(dir)?;
    }
    millpond_disk::sync_dir(dir)?;
    let started = SegmentStart::of_opened(active.size(), now_ms);
    let checkpoint_snapshot = files.checkpoint_snapshot;
    let compaction = files.compaction;
    let producers = rebuilt.producers;
    let parts = Parts { segments, log_start, log_end, producers, epochs, started, checkpoint_snapshot, compaction };
    Ok((parts, recovered))
}

impl Recovered {
    fn add_reason(&mut self, reason: String) {
        match &mut self.reason {
            Some(before) => {
                before.push_str("; ");
                before.push_str(&reason);
            }
            None => self.reason = Some(reason),
        }
    }
}

/// A segment that was looked at.
struct Scan {
    base: Offset,
    file: Arc<File>,
    /// Bytes of whole batches; the file is no longer.
    size: u64,
    indexes: MemoryIndexes,
    /// The offset after its last batch.
    end: Offset,
    /// Something was cut off.
    broken: bool,
}

/// What is known of a segment before it is looked at.
#[derive(Debug, Clone, Copy)]
struct Known {
    recovery: Recovery,
    /// Below it offsets may be missing.
    holes_below: Offset,
    /// It is the last one of its log.
    is_newest: bool,
}

fn scan_segment(
    dir: &Path,
    (base, len): (Offset, u64),
    known: Known,
    interval_bytes: u32,
    epochs: &mut LeaderEpochs,
    recovered: &mut Recovered,
) -> Result<Scan, LogError> {
    let Known { recovery, is_newest, .. } = known;
    let recovery_point = recovery.recovery_point;
    let path = names::path(dir, base, names::LOG);
    let file = Arc::new(File::open(&path)?);
    // What the last run could not sync, and the disk does not have, must not be found in the system's cache: who comes
    // after this believes that it is durable, and the journal may have it.
    forget_unsynced(&file)?;
    for kind in [names::INDEX, names::TIME_INDEX] {
        match File::open(&names::path(dir, base, kind)) {
            Ok(index) => forget_unsynced(&index)?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (mut indexes, start, mut end) = trusted_front(dir, base, len, recovery_point, &file)?;
    let mut scanner = Scanner::batches(&file, start, len);
    let broken = loop {
        let at = scanner.position();
        let fault = match scanner.step()? {
            Step::End => break None,
            Step::Broken(what) => what,
            Step::Batch(position, header, bytes) => match check_batch(&header, bytes, base, end, known) {
                Ok(verified) => {
                    recovered.bytes_verified += if verified { bytes.len() as u64 } else { 0 };
                    let len = bytes.len() as u64;
                    indexes.note(header.last_offset(), header.max_timestamp, position, len, interval_bytes);
                    epochs.assign(header.leader_epoch, header.base_offset);
                    end = header.next_offset();
                    continue;
                }
                Err(what) => what,
            },
        };
        break Some((at, fault));
    };
    let Some((at, fault)) = broken else {
        return Ok(Scan { base, file, size: len, indexes, end, broken: false });
    };
    if recovery.refuse_damage && (end < recovery_point || !is_newest || whole_batch_follows(&file, at, len, end)?) {
        let what = format!(
            "at position {at}: {fault}; this was on the disk or whole batches follow, so it is no write that a crash cut off. \
             Restore the file from a backup, or, to go on without what follows, cut it at {at} bytes"
        );
        return Err(LogError::Damaged { path, what });
    }
    recovered.add_reason(format!("{} at position {at}: {fault}", path.display()));
    recovered.truncated_bytes += len - at;
    file.set_len(at)?;
    Ok(Scan { base, file, size: at, indexes, end, broken: true })
}

/// Whether there is a whole batch anywhere behind the bad one at position `at`, where offset `end` was next.
pub(crate) fn whole_batch_follows(file: &File, at: u64, len: u64, end: Offset) -> Result<bool, LogError> {
    let left = usize::try_from(len - at).unwrap_or(usize::MAX).min(DAMAGE_BYTES_MAX);
    let bytes = file.read_at(left, at)?;
    let is_whole = |from: usize| {
        let bytes = bytes.get(from..).unwrap_or_default();
        BatchHeader::parse(bytes).is_ok_and(|header| header.base_offset > end && bytes.len() >= header.size())
            && verify_crc(bytes).is_ok()
    };
    Ok((1..bytes.len()).any(is_whole))
}

/// Whether the batch that should begin at `expected` can be one; `Ok(true)` if its CRC was checked, too.
fn check_batch(
    header: &BatchHeader,
    bytes: &[u8],
    segment_base: Offset,
    expected: Offset,
    known: Known,
) -> Result<bool, String> {
    if header.last_offset_delta < 0 {
        return Err(format!("the batch at offset {} ends before it begins", header.base_offset));
    }
    let is_hole = header.base_offset > expected && header.base_offset <= known.holes_below;
    if header.base_offset != expected && !is_hole {
        return Err(format!("a batch at offset {} where {expected} is next", header.base_offset));
    }
    if header.last_offset() - segment_base > i64::from(u32::MAX) {
        return Err(format!("offset {} is too far from the segment's first", header.last_offset()));
    }
    if header.last_offset() < known.recovery.recovery_point {
        return Ok(false);
    }
    verify_crc(bytes).map_err(|error| error.to_string())?;
    Ok(true)
}

/// The part of a segment below the recovery point that its index files describe: its indexes, and position and offset
/// of the batch to go on at. Nothing if the files do not fit.
fn trusted_front(
    dir: &Path,
    base: Offset,
    len: u64,
    recovery_point: Offset,
    file: &File,
) -> Result<(MemoryIndexes, u64, Offset), LogError> {
    let none = || (MemoryIndexes::new(base), 0, base);
    let (index, time_index) = (names::path(dir, base, names::INDEX), names::path(dir, base, names::TIME_INDEX));
    let Some(mut indexes) = index::load(base, &index, &time_index, len)? else { return Ok(none()) };
    // Entries name the last offset of a batch, so all of it lies below the recovery point.
    indexes.truncate_to(recovery_point, len);
    let Some(last) = indexes.offsets.last().copied() else { return Ok(none()) };
    let position = u64::from(last.position);
    let mut scanner = Scanner::headers(file, position, len);
    match scanner.step()? {
        Step::Batch(_, header, _) if header.last_offset() == base + i64::from(last.relative) => {
            // The batch is read again, and so is noted again; its entry goes.
            indexes.truncate_to(header.last_offset(), position);
            Ok((indexes, position, header.base_offset))
        }
        _ => Ok(none()),
    }
}

fn forget_unsynced(file: &File) -> Result<(), LogError> {
    file.sync_data()?;
    Ok(file.forget_cached()?)
}

fn remove_segment(dir: &Path, base: Offset) -> Result<(), LogError> {
    for kind in [names::LOG, names::INDEX, names::TIME_INDEX, names::TXN_INDEX] {
        millpond_disk::remove_file(&names::path(dir, base, kind))?;
    }
    Ok(())
}
