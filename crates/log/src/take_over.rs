//! Takes over a log that Apache Kafka wrote: its files are copied into a folder of ours, every batch is checked on the way, and
//! what is left is a log that was closed.
//!
//! `.log`, `.txnindex`, `.snapshot` and the leader epochs are Kafka's, byte for byte. Indexes are built from the batches: Kafka's
//! may speak of several batches at once where compaction wrote them. Kafka's compaction leaves holes and no note of where, so all
//! offsets below the end are noted as holes that are no damage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millpond_disk::{DiskError, File, FolderEntry};
use millpond_records::{BatchHeader, verify_crc};
use millpond_types::{LeaderEpoch, Offset, ProducerId, TimestampMs, TopicId};

use crate::compaction::CompactionCheckpoint;
use crate::epochs::LeaderEpochs;
use crate::index::MemoryIndexes;
use crate::scan::{Scanner, Step};
use crate::{LogBudget, LogError, LogOptions, PartitionLog, Recovery, names, partition_metadata, recovery};

/// Comes after the whole name of a segment that Kafka's compaction was putting in the place of others.
const SWAP: &str = ".swap";

/// Progress is told after so many bytes.
const PROGRESS_BYTES: u64 = 16 << 20;

/// A log that is to be taken over.
#[derive(Debug)]
pub struct ForeignLog<'a> {
    /// Kafka's folder of the partition. Nothing is written there.
    pub source: &'a Path,
    /// Whose log it is.
    pub topic_id: TopicId,
    /// Where it starts, as Kafka has noted it; 0 if it has not.
    pub log_start_offset: Offset,
    /// Up to where it was on the disk, as Kafka has noted it; 0 if it has not. After a clean stop that is its end.
    pub recovery_point: Offset,
    /// Kafka was stopped cleanly.
    pub was_closed: bool,
}

/// What was taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// The first offset.
    pub log_start_offset: Offset,
    /// The offset that the next record gets.
    pub log_end_offset: Offset,
    /// Bytes of batches.
    pub bytes: u64,
    /// Bytes behind the last whole batch that were left out, as a crash of Kafka leaves them.
    pub cut_bytes: u64,
    /// Where a segment begins behind the end of the one before: compaction leaves that, and so does a lost file.
    pub first_gap: Option<Offset>,
    /// The newest epoch of a leader that wrote.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The transactions that were neither committed nor aborted: their producers, and the offsets of their first records.
    pub open_transactions: BTreeMap<ProducerId, Offset>,
}

/// Why a log is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// Kafka ended within a compaction.
    #[error(
        "{} is of a compaction that Kafka was in the middle of when it ended. Start Kafka once more on its folder, and stop it cleanly",
        path.display()
    )]
    Compacting {
        /// The file.
        path: PathBuf,
    },
    /// A batch is none.
    #[error(
        "{} is damaged at position {position}, where offset {offset} or a later one is next: {what}. Restore the file from a backup; or \
         start Kafka once more on its folder without its .kafka_cleanshutdown, so that it cuts the log there, and stop it cleanly",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// The offset that is next there.
        offset: Offset,
        /// What is wrong.
        what: String,
    },
    /// Something at the end is missing.
    #[error(
        "the log in {} ends at offset {log_end}, and Kafka had noted {expected_end} as its end when it was stopped: something is \
         missing. Restore the folder from a backup",
        path.display()
    )]
    Short {
        /// The partition's folder.
        path: PathBuf,
        /// Where it ends.
        log_end: Offset,
        /// Where it ended.
        expected_end: Offset,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<DiskError> for TakeOverError {
    fn from(error: DiskError) -> TakeOverError {
        TakeOverError::Log(LogError::Disk(error))
    }
}

impl ForeignLog<'_> {
    /// Copies the log into `dir`, which must not exist, and returns when that is durable. `progress` hears of bytes that were
    /// copied and checked. Opened with [`Recovery::clean`] and the end as the recovery point it is not read again.
    pub fn take_over(
        &self,
        dir: &Path,
        options: LogOptions,
        now_ms: TimestampMs,
        progress: &dyn Fn(u64),
    ) -> Result<TakenOver, TakeOverError> {
        let entries = millpond_disk::list(self.source)?;
        if let Some(entry) = entries.iter().find(|entry| entry.name.ends_with(SWAP)) {
            return Err(TakeOverError::Compacting { path: self.source.join(&entry.name) });
        }
        millpond_disk::create_dir_all(dir)?;
        // Damaged ones are none: then the batches tell.
        let epochs = LeaderEpochs::read_file(&self.source.join(names::LEADER_EPOCHS)).or_else(|error| match error {
            LogError::Damaged { .. } => Ok(LeaderEpochs::default()),
            error => Err(error),
        })?;
        let bases = self.segments(&entries);
        let first = bases.first().copied().unwrap_or(self.log_start_offset);
        let mut copying = Copying { log: self, dir, epochs, taken: TakenOver::default(), first, end: first, progress };
        for (place, base) in bases.iter().enumerate() {
            copying.segment(*base, place + 1 == bases.len(), options.index_interval_bytes)?;
        }
        if bases.is_empty() {
            File::create_new(&names::path(dir, self.log_start_offset, names::LOG))?.sync_all()?;
        }
        let expected_end = self.recovery_point.max(self.log_start_offset);
        if self.was_closed && copying.end < expected_end {
            return Err(TakeOverError::Short { path: self.source.to_owned(), log_end: copying.end, expected_end });
        }
        copying.snapshots(&entries)?;
        copying.finish(options, now_ms)
    }

    /// The base offsets of its segments, without those that lie below its start as a whole.
    fn segments(&self, entries: &[FolderEntry]) -> Vec<Offset> {
        let parsed = entries.iter().filter(|entry| !entry.is_dir).filter_map(|entry| names::parse(&entry.name));
        let mut bases: Vec<Offset> = parsed.filter(|(_, kind)| *kind == names::LOG).map(|(base, _)| base).collect();
        bases.sort_unstable();
        let below = bases.iter().skip(1).take_while(|base| **base <= self.log_start_offset).count();
        bases.drain(..below);
        bases
    }
}

/// A log that is being taken over.
struct Copying<'a> {
    log: &'a ForeignLog<'a>,
    dir: &'a Path,
    epochs: LeaderEpochs,
    taken: TakenOver,
    /// Where its first segment begins.
    first: Offset,
    /// The offset after the last batch so far.
    end: Offset,
    progress: &'a dyn Fn(u64),
}

impl Copying<'_> {
    fn segment(&mut self, base: Offset, is_last: bool, interval_bytes: u32) -> Result<(), TakeOverError> {
        if base > self.end {
            self.taken.first_gap.get_or_insert(base);
        }
        let source = names::path(self.log.source, base, names::LOG);
        let damaged = |position, offset, what| TakeOverError::Damaged { path: source.clone(), position, offset, what };
        if base < self.end {
            return Err(damaged(0, self.end, "it begins before the segment before it ends".to_owned()));
        }
        self.end = base;
        let file = millpond_disk::copy_file(&source, &names::path(self.dir, base, names::LOG))?;
        let len = file.len()?;
        let mut indexes = MemoryIndexes::new(base);
        let mut scanner = Scanner::batches(&file, 0, len);
        let mut told_bytes = 0;
        let broken = loop {
            let at = scanner.position();
            if at - told_bytes >= PROGRESS_BYTES {
                (self.progress)(at - told_bytes);
                told_bytes = at;
            }
            let fault = match scanner.step()? {
                Step::End => break None,
                Step::Broken(what) => what,
                Step::Batch(position, header, bytes) => match check_batch(&header, bytes, base, self.end) {
                    Ok(()) => {
                        let len = bytes.len() as u64;
                        indexes.note(header.last_offset(), header.max_timestamp, position, len, interval_bytes);
                        self.note(&header);
                        continue;
                    }
                    Err(what) => what,
                },
            };
            break Some((at, fault));
        };
        let mut size = len;
        if let Some((at, fault)) = broken {
            // What a crash cut off within a write is no loss. Anything else is not thrown away.
            let is_torn = !self.log.was_closed && is_last && !recovery::whole_batch_follows(&file, at, len, self.end)?;
            if !is_torn {
                return Err(damaged(at, self.end, fault));
            }
            file.set_len(at)?;
            size = at;
            self.taken.cut_bytes = len - at;
        }
        (self.progress)(size.saturating_sub(told_bytes));
        self.taken.bytes += size;
        file.sync_all()?;
        indexes.note_max();
        let index = |kind| names::path(self.dir, base, kind);
        indexes.unwritten().store(&index(names::INDEX), &index(names::TIME_INDEX), true)?;
        self.copy_small(base, names::TXN_INDEX)
    }

    fn note(&mut self, header: &BatchHeader) {
        self.epochs.assign(header.leader_epoch, header.base_offset);
        self.end = header.next_offset();
        if header.is_control() {
            self.taken.open_transactions.remove(&header.producer_id);
        } else if header.is_transactional() {
            self.taken.open_transactions.entry(header.producer_id).or_insert(header.base_offset);
        }
    }

    /// Copies a file of which an empty one says as much as none.
    fn copy_small(&self, offset: Offset, kind: &str) -> Result<(), TakeOverError> {
        let source = names::path(self.log.source, offset, kind);
        match millpond_disk::copy_file(&source, &names::path(self.dir, offset, kind)) {
            Err(error) if error.is_not_found() && error.path == source => Ok(()),
            copied => Ok(copied?.sync_all()?),
        }
    }

    /// What producers had written up to where; later ones speak of what is not there.
    fn snapshots(&self, entries: &[FolderEntry]) -> Result<(), TakeOverError> {
        let parsed = entries.iter().filter(|entry| !entry.is_dir).filter_map(|entry| names::parse(&entry.name));
        for (offset, _) in parsed.filter(|(offset, kind)| *kind == names::SNAPSHOT && *offset <= self.end) {
            self.copy_small(offset, names::SNAPSHOT)?;
        }
        Ok(())
    }

    /// Makes it a log of ours that was closed.
    fn finish(mut self, options: LogOptions, now_ms: TimestampMs) -> Result<TakenOver, TakeOverError> {
        if self.end > 0 {
            let compaction = CompactionCheckpoint { holes_below: self.end, clean_below: 0, replacing: None };
            compaction.write(self.dir)?;
        }
        let log_start_offset = self.log.log_start_offset.max(self.first);
        self.epochs.truncate_from_start(log_start_offset);
        self.epochs.write(self.dir)?;
        partition_metadata::write(self.dir, self.log.topic_id)?;
        // After a crash Kafka's transaction index is sure up to the recovery point alone, and is completed from there on.
        let recovery_point = if self.log.was_closed { self.end } else { self.log.recovery_point.min(self.end) };
        let recovery = Recovery { clean: false, recovery_point, log_start_offset, refuse_damage: false };
        let (log, recovered) = PartitionLog::open(self.dir, options, LogBudget::new(0), recovery, now_ms)?;
        let log_end = log.close(now_ms)?;
        assert!(
            log_end == self.end.max(log_start_offset),
            "the log in {} was checked up to {}, and opened it ends at {log_end} ({recovered:?})",
            self.dir.display(),
            self.end
        );
        self.taken.log_start_offset = log.log_start_offset();
        self.taken.log_end_offset = log_end;
        self.taken.leader_epoch = log.latest_leader_epoch();
        Ok(self.taken)
    }
}

/// Whether the batch can be the next one where offset `expected` or a later one comes next.
fn check_batch(header: &BatchHeader, bytes: &[u8], base: Offset, expected: Offset) -> Result<(), String> {
    if header.last_offset_delta < 0 {
        return Err(format!("the batch at offset {} ends before it begins", header.base_offset));
    }
    if header.base_offset < expected {
        return Err(format!("a batch at offset {} where {expected} or a later one is next", header.base_offset));
    }
    if header.last_offset() - base > i64::from(u32::MAX) {
        return Err(format!("offset {} is too far from the segment's first", header.last_offset()));
    }
    verify_crc(bytes).map_err(|error| error.to_string())
}
