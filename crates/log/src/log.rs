//! The log of one partition: what it is made of, and what can be asked without touching a file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use millpond_disk::File;
use millpond_types::{LeaderEpoch, Offset, TimestampMs, TopicId};
use parking_lot::{Mutex, RwLock};

use crate::append::Unsynced;
use crate::compaction::CompactionCheckpoint;
use crate::epochs::LeaderEpochs;
use crate::fresh::Fresh;
use crate::open_files::OpenFiles;
use crate::producers::Producers;
use crate::retention::DeletedFiles;
use crate::segment::Segment;
use crate::tail::Tail;
use crate::transactions::UnstableTransactions;
use crate::{ActiveProducer, LogBudget, LogError, LogOptions, names, partition_metadata};

/// The log of one partition. All methods take `&self`; any number of threads may read while one appends and one syncs.
#[derive(Debug)]
pub struct PartitionLog {
    pub(crate) dir: PathBuf,
    pub(crate) topic_id: TopicId,
    pub(crate) options: RwLock<Arc<LogOptions>>,
    /// Serialises sync rounds, truncation, checkpoints and the close. Taken before `writer`.
    pub(crate) round: Mutex<()>,
    /// What appending needs; the append lock.
    pub(crate) writer: Mutex<Writer>,
    /// All segments, oldest first, never empty; the last one is the active one.
    pub(crate) segments: RwLock<Vec<Arc<Segment>>>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) open_files: OpenFiles,
    pub(crate) epochs: RwLock<LeaderEpochs>,
    pub(crate) unstable: UnstableTransactions,
    /// Segments that were taken out, whose files have their names still, with where each ended.
    pub(crate) gone: Mutex<Vec<(Arc<Segment>, Offset)>>,
    pub(crate) deleted: Mutex<Vec<DeletedFiles>>,
    /// What the file of it says.
    pub(crate) compaction: Mutex<CompactionCheckpoint>,
    pub(crate) log_start: AtomicI64,
    /// Where the log starts after a crash, at the least.
    pub(crate) durable_start: AtomicI64,
    pub(crate) log_end: AtomicI64,
    pub(crate) durable_end: AtomicI64,
    /// Like the durable end, but by the log's own files alone.
    pub(crate) synced_end: AtomicI64,
    /// Why nothing may be appended any more.
    pub(crate) poison: OnceLock<String>,
}

/// The appender's state, under the append lock.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) active: Arc<Segment>,
    /// Where the next batch goes in the active segment.
    pub(crate) position: u64,
    pub(crate) next_offset: Offset,
    pub(crate) producers: Producers,
    pub(crate) fresh: Fresh,
    pub(crate) started: SegmentStart,
    /// Rolled segments whose bytes were not synced yet, oldest first.
    pub(crate) unsynced: Vec<Unsynced>,
    /// A write that did not fit was cut off again, and that was not synced yet.
    pub(crate) length_dirty: bool,
    /// The folder has names that were not synced yet.
    pub(crate) folder_dirty: bool,
    /// The leader epochs have news that their file does not.
    pub(crate) epochs_dirty: bool,
    /// A snapshot that a checkpoint wrote between two segments' starts; the next one replaces it.
    pub(crate) checkpoint_snapshot: Option<Offset>,
}

/// When the active segment was begun, for rolling by time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SegmentStart {
    /// The largest timestamp of its first batch, if it has one.
    pub(crate) first_timestamp: Option<TimestampMs>,
    /// When its first batch was appended, or when it was opened with batches in it.
    pub(crate) first_append_ms: Option<TimestampMs>,
    /// It was opened with batches in it, and its first one was not looked at yet.
    pub(crate) unread: bool,
}

impl SegmentStart {
    /// Of a segment of `size` bytes that was opened at `now_ms`.
    pub(crate) fn of_opened(size: u64, now_ms: TimestampMs) -> SegmentStart {
        SegmentStart { first_timestamp: None, first_append_ms: (size > 0).then_some(now_ms), unread: size > 0 }
    }
}

/// What [`PartitionLog::segments`] tells of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The offset in its name.
    pub base_offset: Offset,
    /// Bytes of `.log`.
    pub size_bytes: u64,
    /// Where `.log` is.
    pub path: PathBuf,
}

impl PartitionLog {
    /// Makes a new, empty log in `dir`, which must not hold one, and returns when it is durable.
    pub fn create(
        dir: &Path,
        topic_id: TopicId,
        options: LogOptions,
        budget: Arc<LogBudget>,
    ) -> Result<PartitionLog, LogError> {
        millpond_disk::create_dir_all(dir)?;
        remove_unfinished(dir)?;
        let (segment, file) = Segment::create(dir, 0, options.index_interval_bytes)?;
        // The id comes last: a folder without it is one whose creation a crash cut off. This syncs the folder, too.
        partition_metadata::write(dir, topic_id)?;
        if options.preallocate {
            file.preallocate(options.segment_bytes)?;
        }
        let parts = Parts {
            segments: vec![Arc::new(segment)],
            log_start: 0,
            log_end: 0,
            producers: Producers::default(),
            epochs: LeaderEpochs::default(),
            started: SegmentStart::default(),
            checkpoint_snapshot: None,
            compaction: CompactionCheckpoint::default(),
        };
        Ok(PartitionLog::from_parts(dir, topic_id, options, budget, parts))
    }

    pub(crate) fn from_parts(
        dir: &Path,
        topic_id: TopicId,
        options: LogOptions,
        budget: Arc<LogBudget>,
        parts: Parts,
    ) -> PartitionLog {
        let active = parts.segments.last().expect("a log has at least one segment").clone();
        // Of many logs few are used soon.
        parts.segments.iter().for_each(|segment| _ = segment.close_file());
        let unstable = UnstableTransactions::new(parts.producers.first_open_transaction());
        let writer = Writer {
            position: active.size(),
            active,
            next_offset: parts.log_end,
            producers: parts.producers,
            fresh: Fresh::new(parts.log_end),
            started: parts.started,
            unsynced: Vec::new(),
            length_dirty: false,
            folder_dirty: false,
            epochs_dirty: false,
            checkpoint_snapshot: parts.checkpoint_snapshot,
        };
        PartitionLog {
            dir: dir.to_owned(),
            topic_id,
            options: RwLock::new(Arc::new(options)),
            round: Mutex::new(()),
            writer: Mutex::new(writer),
            segments: RwLock::new(parts.segments),
            tail: Tail::new(budget.tails.clone()),
            open_files: OpenFiles::new(budget.clone()),
            epochs: RwLock::new(parts.epochs),
            unstable,
            gone: Mutex::default(),
            deleted: Mutex::default(),
            compaction: Mutex::new(parts.compaction),
            log_start: AtomicI64::new(parts.log_start),
            durable_start: AtomicI64::new(parts.log_start),
            log_end: AtomicI64::new(parts.log_end),
            durable_end: AtomicI64::new(parts.log_end),
            synced_end: AtomicI64::new(parts.log_end),
            poison: OnceLock::new(),
        }
    }

    /// The partition's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The topic this is a partition of.
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        self.log_start.load(Ordering::Acquire)
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        self.log_end.load(Ordering::Acquire)
    }

    /// Everything below it survives a power cut.
    pub fn durable_end_offset(&self) -> Offset {
        self.durable_end.load(Ordering::Acquire)
    }

    /// What a checkpoint may say of this log: everything below is sound in its own files, as verified or synced.
    /// [`PartitionLog::checkpoint`] does more, so that the next start after a crash reads less.
    pub fn recovery_point(&self) -> Offset {
        self.synced_end.load(Ordering::Acquire)
    }

    /// Bytes of all segments' `.log` files.
    pub fn size_bytes(&self) -> u64 {
        self.segments.read().iter().map(|segment| segment.size()).sum()
    }

    /// The segments, oldest first; the last one is the active one.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let info = |segment: &Arc<Segment>| SegmentInfo {
            base_offset: segment.base_offset(),
            size_bytes: segment.size(),
            path: segment.path(names::LOG),
        };
        self.segments.read().iter().map(info).collect()
    }

    /// The newest leader epoch that wrote at or below `epoch`, and the offset after its last record, as Kafka answers
    /// OffsetForLeaderEpoch. `None` if nothing was written in `epoch` or later.
    pub fn leader_epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.read().end_of(epoch, self.log_end_offset())
    }

    /// The leader epoch of the newest batch; `None` if nothing was written.
    pub fn latest_leader_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.read().latest()
    }

    /// The producers that have written lately, by id.
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        self.writer.lock().producers.active()
    }

    /// What it is configured to do.
    pub fn options(&self) -> Arc<LogOptions> {
        self.options.read().clone()
    }

    /// Changes the configuration, from the next append or clean-up on.
    pub fn set_options(&self, options: LogOptions) {
        *self.options.write() = Arc::new(options);
    }

    /// Why the log takes no more writes; `None` while it does.
    pub fn poisoned(&self) -> Option<&str> {
        self.poison.get().map(String::as_str)
    }

    /// Stops all writing until the log is opened again, for the first reason that is given: what is on the disk is not
    /// what it should be.
    pub fn poison(&self, reason: String) {
        if self.poison.set(reason).is_ok() {
            tracing::error!(
                log = %self.dir.display(),
                reason = self.poisoned().unwrap_or_default(),
                "the log takes no more writes until the node is started again"
            );
        }
    }

    pub(crate) fn check_poison(&self) -> Result<(), LogError> {
        match self.poison.get() {
            Some(reason) => Err(LogError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Runs a write to the disk; its failure poisons the log.
    pub(crate) fn or_poison<T, E: std::fmt::Display>(&self, result: Result<T, E>) -> Result<T, E> {
        if let Err(error) = &result {
            self.poison(error.to_string());
        }
        result
    }

    /// The same, but that the disk is full is no reason: what was written can be written again.
    pub(crate) fn or_poison_unless_full<T>(&self, result: Result<T, LogError>) -> Result<T, LogError> {
        match result {
            Err(LogError::Disk(error)) if error.is_full() => Err(LogError::Disk(error)),
            other => self.or_poison(other),
        }
    }

    /// The segment that holds `offset`; the oldest one for an older offset.
    pub(crate) fn segment_of(&self, offset: Offset) -> Arc<Segment> {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.base_offset() <= offset);
        segments.get(after.saturating_sub(1)).expect("a log has at least one segment").clone()
    }
}

/// Removes the empty segment of a creation that a crash cut off before the topic's id was written.
fn remove_unfinished(dir: &Path) -> Result<(), LogError> {
    let first = names::path(dir, 0, names::LOG);
    let has_id = millpond_disk::exists(&dir.join(names::PARTITION_METADATA))?;
    if !has_id && millpond_disk::exists(&first)? && File::open_read_only(&first)?.is_empty()? {
        millpond_disk::remove_file(&first)?;
    }
    Ok(())
}

/// What [`PartitionLog::open`] found in the folder.
pub(crate) struct Parts {
    pub(crate) segments: Vec<Arc<Segment>>,
    /// The active segment's file.
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    pub(crate) producers: Producers,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) started: SegmentStart,
    /// The newest snapshot that does not lie at a segment's start.
    pub(crate) checkpoint_snapshot: Option<Offset>,
    pub(crate) compaction: CompactionCheckpoint,
}
