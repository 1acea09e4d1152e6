//! What a start finds in a partition's folder.

use std::path::Path;
use std::sync::Arc;

use millpond_disk::FolderEntry;
use millpond_types::{Offset, TimestampMs};

use crate::compaction::{self, CompactionCheckpoint};
use crate::epochs::LeaderEpochs;
use crate::log::{Parts, SegmentStart};
use crate::segment::Segment;
use crate::txn_index::TxnIndex;
use crate::{LogBudget, LogError, LogOptions, PartitionLog, names, partition_metadata, recovery, snapshot};

/// What the node knows of a log from its last run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// The log was closed, and the recovery point is what [`PartitionLog::close`] returned.
    pub clean: bool,
    /// Everything below it was verified or synced; 0 if that is not known.
    pub recovery_point: Offset,
    /// The log's start as it was checkpointed; 0 if that is not known.
    pub log_start_offset: Offset,
    /// A bad batch that whole ones follow is an error. For a log in which each batch was synced before the next was
    /// appended: there no crash leaves such a thing behind, and what follows is not to be thrown away.
    pub refuse_damage: bool,
}

/// What opening a log took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes of batches whose CRC was checked.
    pub bytes_verified: u64,
    /// Bytes that were cut off, those of deleted segments included.
    pub truncated_bytes: u64,
    /// Why something was cut off, or why a clean log was recovered nevertheless.
    pub reason: Option<String>,
}

/// The files of a folder, sorted out.
pub(crate) struct Files {
    /// Base offset and length of each `.log`, oldest first.
    pub(crate) logs: Vec<(Offset, u64)>,
    /// Base offset and length of each `.txnindex`, oldest first.
    txn_indexes: Vec<(Offset, u64)>,
    /// The offsets of the `.snapshot`s, oldest first.
    pub(crate) snapshots: Vec<Offset>,
    /// The newest of them that does not lie at a segment's start.
    pub(crate) checkpoint_snapshot: Option<Offset>,
    pub(crate) compaction: CompactionCheckpoint,
}

impl Files {
    /// The transaction index of the segment at `base`, as it lies there.
    pub(crate) fn txn_index(&self, base: Offset) -> TxnIndex {
        let place = self.txn_indexes.binary_search_by_key(&base, |(offset, _)| *offset);
        let len = place.ok().and_then(|place| self.txn_indexes.get(place)).map_or(0, |(_, len)| *len);
        TxnIndex::on_disk(len)
    }
}

impl PartitionLog {
    /// Opens the log in `dir`. A clean one is taken at its word, and no segment is read. One that is not is verified
    /// from the recovery point on: the first batch that is not whole ends it, everything behind it is removed, indexes
    /// and producer state are rebuilt, and what was verified is synced.
    pub fn open(
        dir: &Path,
        options: LogOptions,
        budget: Arc<LogBudget>,
        recovery: Recovery,
        now_ms: TimestampMs,
    ) -> Result<(PartitionLog, Recovered), LogError> {
        let topic_id = partition_metadata::read_topic_id(dir)?;
        let mut compaction = CompactionCheckpoint::read(dir)?;
        compaction::complete(dir, &mut compaction)?;
        let mut files = sort_out(dir, millpond_disk::list(dir)?, compaction)?;
        forget_below_start(dir, &mut files, recovery.log_start_offset)?;
        let (mut parts, recovered) = match open_clean(dir, &files, &options, recovery, now_ms)? {
            Ok(parts) => (parts, Recovered::default()),
            Err(reason) => recovery::recover(dir, &files, &options, recovery, now_ms, reason)?,
        };
        parts.compaction = compaction.cut_at(dir, parts.log_end)?;
        parts.producers.expire(now_ms, options.producer_id_expiration_ms);
        if let Some(reason) = &recovered.reason {
            tracing::warn!(
                log = %dir.display(), reason, truncated_bytes = recovered.truncated_bytes, log_end = parts.log_end,
                "recovered a log"
            );
        }
        Ok((PartitionLog::from_parts(dir, topic_id, options, budget, parts), recovered))
    }
}

/// Removes what earlier runs left behind, and sorts out the rest. Files of unknown names are left alone.
fn sort_out(dir: &Path, entries: Vec<FolderEntry>, compaction: CompactionCheckpoint) -> Result<Files, LogError> {
    let mut files = Files {
        logs: Vec::new(),
        txn_indexes: Vec::new(),
        snapshots: Vec::new(),
        checkpoint_snapshot: None,
        compaction,
    };
    let mut indexes = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        if [names::DELETED, names::CLEANED, names::TEMPORARY].iter().any(|suffix| entry.name.ends_with(suffix)) {
            millpond_disk::remove_file(&dir.join(&entry.name))?;
            continue;
        }
        match names::parse(&entry.name) {
            Some((offset, names::LOG)) => files.logs.push((offset, entry.len)),
            Some((offset, names::SNAPSHOT)) => files.snapshots.push(offset),
            Some((offset, kind @ (names::INDEX | names::TIME_INDEX | names::TXN_INDEX))) => {
                indexes.push((offset, &entry.name));
                if kind == names::TXN_INDEX {
                    files.txn_indexes.push((offset, entry.len));
                }
            }
            _ => {}
        }
    }
    let is_base = |offset: &Offset| files.logs.binary_search_by_key(offset, |(base, _)| *base).is_ok();
    for (offset, name) in indexes {
        if !is_base(&offset) {
            millpond_disk::remove_file(&dir.join(name))?;
        }
    }
    // Of the snapshots that checkpoints and closes left between segments' starts, the newest is of use.
    let mut between: Vec<Offset> = files.snapshots.iter().copied().filter(|offset| !is_base(offset)).collect();
    files.checkpoint_snapshot = between.pop();
    for offset in &between {
        millpond_disk::remove_file(&names::path(dir, *offset, names::SNAPSHOT))?;
    }
    files.snapshots.retain(|offset| !between.contains(offset));
    Ok(files)
}

/// Removes the segments that lie below the log's start as a whole. They were to be deleted when the node ended; some of them may
/// be missing already.
fn forget_below_start(dir: &Path, files: &mut Files, log_start: Offset) -> Result<(), LogError> {
    let below = files.logs.iter().skip(1).take_while(|(base, _)| *base <= log_start).count();
    for (base, _) in files.logs.drain(..below) {
        for kind in [names::LOG, names::INDEX, names::TIME_INDEX, names::TXN_INDEX] {
            millpond_disk::remove_file(&names::path(dir, base, kind))?;
        }
    }
    if below > 0 {
        millpond_disk::sync_dir(dir)?;
    }
    Ok(())
}

/// Opens a log without reading a segment; the inner error says why that is not possible.
fn open_clean(
    dir: &Path,
    files: &Files,
    options: &LogOptions,
    recovery: Recovery,
    now_ms: TimestampMs,
) -> Result<Result<Parts, Option<String>>, LogError> {
    if !recovery.clean {
        return Ok(Err(None));
    }
    let log_end = recovery.recovery_point;
    let Some((active_base, active_len)) = files.logs.last().copied() else {
        return Ok(Err(Some("no segment is there".to_owned())));
    };
    if log_end < active_base || (log_end == active_base) != (active_len == 0) || recovery.log_start_offset > log_end {
        let what =
            format!("the recovery point {log_end} does not fit the last segment, {active_base} of {active_len} bytes");
        return Ok(Err(Some(what)));
    }
    let Some(producers) = snapshot::read(dir, log_end)? else {
        return Ok(Err(Some(format!("no sound producer snapshot at the end {log_end} is there"))));
    };

    let interval_bytes = options.index_interval_bytes;
    let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(files.logs.len());
    for (base, len) in &files.logs {
        segments.push(Arc::new(Segment::on_disk(dir, *base, *len, files.txn_index(*base), interval_bytes)));
    }
    let Some(active) = segments.last() else { return Ok(Err(None)) };
    active.load_indexes()?;
    if !active.load_txn_index(log_end)? {
        return Ok(Err(Some("the transaction index of the last segment is damaged".to_owned())));
    }
    let first = files.logs.first().map_or(0, |(base, _)| *base);
    let started = SegmentStart::of_opened(active_len, now_ms);
    let epochs = LeaderEpochs::read(dir)?;
    let log_start = first.max(recovery.log_start_offset);
    let checkpoint_snapshot = files.checkpoint_snapshot;
    let compaction = files.compaction;
    Ok(Ok(Parts { segments, log_start, log_end, producers, epochs, started, checkpoint_snapshot, compaction }))
}
