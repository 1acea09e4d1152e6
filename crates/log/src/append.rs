//! Appending, and beginning a new segment.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use millpond_records::{BatchHeader, HEADER_LEN, crc32c, stamp};
use millpond_types::{LeaderEpoch, Offset, TimestampMs};
use parking_lot::MutexGuard;

use crate::log::{SegmentStart, Writer};
use crate::producers::Verdict;
use crate::segment::Segment;
use crate::{AppendError, LogError, LogOptions, PartitionLog, names, snapshot};

/// Rolled segments that wait for a sync, at most; with one more the append itself syncs the oldest.
pub const UNSYNCED_SEGMENTS_MAX: usize = 4;

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The broker's clock, where it gives the timestamps; -1 otherwise.
    pub log_append_time_ms: TimestampMs,
    /// The log's first offset.
    pub log_start_offset: Offset,
    /// It had been appended before, at these offsets; nothing was written.
    pub duplicate: bool,
}

/// A rolled segment that a sync has to make durable.
#[derive(Debug)]
pub(crate) struct Unsynced {
    pub(crate) segment: Arc<Segment>,
    /// Room was reserved for it, perhaps more than it took.
    pub(crate) is_preallocated: bool,
    /// The producers' snapshot at the next segment's base offset.
    pub(crate) snapshot: (Offset, Vec<u8>),
}

impl PartitionLog {
    /// Appends one batch that `validate_produced` has passed (or that the broker built): stamps base offset and leader
    /// epoch in place, writes it with one call, and shows it to readers. A transactional one begins its producer's transaction, if
    /// none is open; only [`PartitionLog::append_marker`] ends it. It is durable after the next [`PartitionLog::sync`].
    ///
    /// Of a batch whose write failed nothing is visible. The failure poisons the log, unless the disk is full: then another try may
    /// do better.
    pub fn append(
        &self,
        batch: BytesMut,
        leader_epoch: LeaderEpoch,
        now_ms: TimestampMs,
    ) -> Result<Appended, AppendError> {
        let header = BatchHeader::parse(&batch)?;
        let len = header.size();
        if len != batch.len() {
            return Err(millpond_records::BatchError::TooShort { found: batch.len(), needed: len }.into());
        }
        if header.last_offset_delta < 0 {
            return Err(millpond_records::BatchError::Length(header.last_offset_delta).into());
        }
        if header.is_control() {
            return Err(AppendError::ControlBatch);
        }
        if len > i32::MAX as usize {
            return Err(AppendError::TooLarge { len });
        }
        let options = self.options();
        let mut writer = self.lock_writer()?;
        if header.has_producer()
            && let Verdict::Duplicate(base_offset, last_offset) = writer.producers.check(&header, writer.next_offset)?
        {
            return Ok(self.appended(base_offset, last_offset, true));
        }
        self.append_at_end(&mut writer, &options, header, batch, leader_epoch, now_ms)
    }

    /// The append lock, of a log that takes writes.
    pub(crate) fn lock_writer(&self) -> Result<MutexGuard<'_, Writer>, AppendError> {
        let writer = self.writer.lock();
        match self.poisoned() {
            Some(reason) => Err(AppendError::Poisoned { reason: reason.to_owned() }),
            None => Ok(writer),
        }
    }

    /// Appends a batch that was checked.
    pub(crate) fn append_at_end(
        &self,
        writer: &mut Writer,
        options: &LogOptions,
        mut header: BatchHeader,
        mut batch: BytesMut,
        leader_epoch: LeaderEpoch,
        now_ms: TimestampMs,
    ) -> Result<Appended, AppendError> {
        let base_offset = writer.next_offset;
        stamp(&mut batch, base_offset, leader_epoch);
        header.base_offset = base_offset;
        header.leader_epoch = leader_epoch;
        let batch = batch.freeze();
        self.write(writer, &header, &batch, options, now_ms)?;
        writer.fresh.push(&batch, options.journal_bytes_max);
        self.show(&header, batch, options);
        Ok(self.appended(base_offset, header.last_offset(), false))
    }

    /// Writes a stamped batch to the log's end, in a new segment if it is time for one.
    fn write(
        &self,
        writer: &mut Writer,
        header: &BatchHeader,
        batch: &Bytes,
        options: &LogOptions,
        now_ms: TimestampMs,
    ) -> Result<(), AppendError> {
        let refused = |error: LogError| match error {
            LogError::Disk(error) => AppendError::Disk(error),
            other => AppendError::Poisoned { reason: other.to_string() },
        };
        self.read_segment_start(writer).map_err(refused)?;
        if writer.must_roll(options, header, now_ms) {
            self.roll(writer, options).map_err(refused)?;
        }
        let position = writer.position;
        let file = self.open_files.file_to_write(&writer.active).map_err(refused)?;
        if let Err(error) = file.write_all_at(batch, position) {
            // Of a full disk the part that fitted is given back, and nothing has happened.
            if !error.is_full() || file.set_len(position).is_err() {
                self.poison(error.to_string());
            }
            // A clean start believes the length.
            writer.length_dirty = true;
            return Err(error.into());
        }

        // From here on nothing fails.
        let latest_epoch = self.epochs.read().latest();
        if latest_epoch != Some(header.leader_epoch)
            && self.epochs.write().assign(header.leader_epoch, header.base_offset)
        {
            writer.epochs_dirty = true;
        }
        if header.has_producer() {
            self.note_producer(writer, header, batch, now_ms);
        }
        if writer.started.first_append_ms.is_none() {
            writer.started.first_append_ms = Some(now_ms);
            writer.started.first_timestamp = (header.max_timestamp >= 0).then_some(header.max_timestamp);
        }
        writer.position += batch.len() as u64;
        writer.next_offset = header.next_offset();
        writer.active.grow(header, position);
        Ok(())
    }

    /// Lets readers see a batch that was written.
    fn show(&self, header: &BatchHeader, batch: Bytes, options: &LogOptions) {
        self.tail.push(header.base_offset, header.next_offset(), batch, options.tail_bytes_max);
        // Last: who sees the new end finds the batch in the tail or in the file.
        self.log_end.store(header.next_offset(), Ordering::Release);
    }

    /// Appends those of the `batches`, which lie as this log had them before a crash, that it lacks. They are durable after
    /// the next [`PartitionLog::sync`]. Returns their bytes. [`LogError::Damaged`] if batches before them are missing, too.
    pub fn restore(&self, batches: &[u8], now_ms: TimestampMs) -> Result<u64, LogError> {
        let options = self.options();
        let mut writer = self.writer.lock();
        self.check_poison()?;
        let damaged = |what: String| LogError::Damaged { path: self.dir.clone(), what };
        let mut restored = 0;
        for batch in millpond_records::batches(batches) {
            let batch = batch.map_err(|error| damaged(format!("no batch in the journal: {error}")))?;
            let (header, next_offset) = (batch.header, writer.next_offset);
            if header.next_offset() <= next_offset {
                continue;
            }
            if header.base_offset != next_offset {
                return Err(damaged(format!(
                    "the log ends at {next_offset}, and the journal goes on at {}",
                    header.base_offset
                )));
            }
            let bytes = Bytes::copy_from_slice(batch.bytes);
            self.write(&mut writer, &header, &bytes, &options, now_ms).map_err(|error| match error {
                AppendError::Disk(error) => LogError::Disk(error),
                other => LogError::Poisoned { reason: other.to_string() },
            })?;
            restored += bytes.len() as u64;
            self.show(&header, bytes, &options);
        }
        let end = writer.next_offset;
        writer.fresh.restart(end);
        Ok(restored)
    }

    /// Where a batch with this header is already, if its idempotent producer sent it before. For who must know before
    /// it appends; [`PartitionLog::append`] looks by itself.
    pub fn find_duplicate(&self, header: &BatchHeader) -> Option<Appended> {
        let writer = self.writer.lock();
        match header.has_producer().then(|| writer.producers.check(header, writer.next_offset)) {
            Some(Ok(Verdict::Duplicate(base, last))) => Some(self.appended(base, last, true)),
            _ => None,
        }
    }

    fn appended(&self, base_offset: Offset, last_offset: Offset, duplicate: bool) -> Appended {
        let log_start_offset = self.log_start_offset();
        Appended { base_offset, last_offset, log_append_time_ms: -1, log_start_offset, duplicate }
    }

    /// Learns from the active segment's first batch when it was begun, if it was opened with batches in it.
    fn read_segment_start(&self, writer: &mut Writer) -> Result<(), LogError> {
        if !writer.started.unread {
            return Ok(());
        }
        let header = self.open_files.file_of(&writer.active)?.read_at(HEADER_LEN, 0)?;
        let started = &mut writer.started;
        started.unread = false;
        if let Ok(header) = BatchHeader::parse(&header)
            && header.max_timestamp >= 0
        {
            started.first_timestamp = Some(header.max_timestamp);
            started.first_append_ms = started.first_append_ms.map(|opened| opened.min(header.max_timestamp));
        }
        Ok(())
    }

    /// Begins a new segment if the active one is older than `segment.ms`; `true` if it did.
    pub fn roll_if_due(&self, now_ms: TimestampMs) -> Result<bool, LogError> {
        let options = self.options();
        let mut writer = self.writer.lock();
        self.check_poison()?;
        self.read_segment_start(&mut writer)?;
        let waited = writer.started.first_append_ms.map_or(0, |first| now_ms.saturating_sub(first));
        if writer.position == 0 || waited <= options.segment_ms.saturating_sub(writer.jitter(&options)) {
            return Ok(false);
        }
        self.roll(&mut writer, &options)?;
        Ok(true)
    }

    /// Begins a new segment at the log's end. The old one's bytes, indexes and the snapshot at its end are written by
    /// the next sync, outside the append lock.
    pub(crate) fn roll(&self, writer: &mut Writer, options: &LogOptions) -> Result<(), LogError> {
        if writer.unsynced.len() >= UNSYNCED_SEGMENTS_MAX {
            if let Some(oldest) = writer.unsynced.first() {
                self.or_poison_unless_full(oldest.finish(&self.dir))?;
            }
            writer.unsynced.remove(0);
        }
        let base_offset = writer.next_offset;
        let created = Segment::create(&self.dir, base_offset, options.index_interval_bytes);
        let (segment, file) = self.or_poison_unless_full(created)?;
        if options.preallocate
            && let Err(error) = file.preallocate(options.segment_bytes)
        {
            if !error.is_full() || millpond_disk::remove_file(&segment.path(names::LOG)).is_err() {
                self.poison(error.to_string());
            }
            return Err(error.into());
        }
        let segment = Arc::new(segment);
        writer.unsynced.push(Unsynced {
            segment: std::mem::replace(&mut writer.active, segment.clone()),
            is_preallocated: options.preallocate,
            snapshot: (base_offset, snapshot::encode(&writer.producers)),
        });
        writer.folder_dirty = true;
        writer.position = 0;
        writer.started = SegmentStart::default();
        self.segments.write().push(segment);
        Ok(())
    }
}

impl Unsynced {
    /// Makes a rolled segment durable, and writes what was put off at the roll.
    pub(crate) fn finish(&self, dir: &Path) -> Result<(), LogError> {
        if self.is_preallocated {
            // The same length, but what is reserved behind it is given back.
            self.segment.file_to_write()?.set_len(self.segment.size())?;
        }
        self.segment.finish()?;
        snapshot::write(dir, self.snapshot.0, &self.snapshot.1)?;
        self.segment.set_finished();
        self.segment.close_file();
        Ok(())
    }
}

impl Writer {
    /// Whether a batch goes to a new segment: by size, by time, because an index is full, or because the batch's
    /// offsets are too far from the segment's first (Kafka's rules).
    fn must_roll(&self, options: &LogOptions, batch: &BatchHeader, now_ms: TimestampMs) -> bool {
        if self.position == 0 {
            return false;
        }
        let segment_bytes = options.segment_bytes.min(i32::MAX as u64);
        let waited = match (self.started.first_timestamp, batch.max_timestamp) {
            (Some(first), newest) if newest >= 0 => newest.saturating_sub(first),
            _ => self.started.first_append_ms.map_or(0, |first| now_ms.saturating_sub(first)),
        };
        self.position + batch.size() as u64 > segment_bytes
            || waited > options.segment_ms.saturating_sub(self.jitter(options))
            || batch.last_offset() - self.active.base_offset() > i64::from(i32::MAX)
            || self.active.is_index_full(options.index_bytes_max)
            || (batch.is_control() && self.active.txn_index.is_full(options.index_bytes_max))
    }

    /// How much earlier than `segment.ms` this segment is rolled: some number below the configured one that differs
    /// from log to log and from segment to segment, but not from run to run.
    fn jitter(&self, options: &LogOptions) -> i64 {
        let bound = options.segment_jitter_ms.min(options.segment_ms);
        if bound <= 0 {
            return 0;
        }
        let name = self.active.path(crate::names::LOG);
        i64::from(crc32c(name.as_os_str().as_encoded_bytes())) % bound
    }
}
