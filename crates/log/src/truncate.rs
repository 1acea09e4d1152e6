//! Cutting a log at its new end: what a stream's step had written and not committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use millpond_types::Offset;

use crate::log::{SegmentStart, Writer};
use crate::segment::Segment;
use crate::{LogError, PartitionLog, names, rebuild};

impl PartitionLog {
    /// Cuts off the batch that contains `offset` and everything after it, and returns the new end when the cut is
    /// durable. An `offset` at or after the end changes nothing.
    ///
    /// Should the log's start lie within that batch (after DeleteRecords), it moves down to the new end.
    ///
    /// Nobody may have been shown what is cut: a reader that is below the cut at the same time is fine, one above it
    /// may read what is appended there next.
    pub fn truncate_to(&self, offset: Offset) -> Result<Offset, LogError> {
        let _round = self.round.lock();
        let mut writer = self.writer.lock();
        self.check_poison()?;
        let (log_start, log_end) = (self.log_start_offset(), writer.next_offset);
        if offset >= log_end {
            return Ok(log_end);
        }
        if offset < log_start {
            return Err(LogError::OutOfRange { offset, log_start, log_end });
        }
        self.or_poison(self.cut(&mut writer, offset))
    }

    fn cut(&self, writer: &mut Writer, offset: Offset) -> Result<Offset, LogError> {
        let segment = self.segment_of(offset);
        let file = self.open_files.file_of(&segment)?;
        if !segment.load_txn_index(Offset::MAX)? {
            self.rebuild_txn_index(&segment, "its file is damaged")?;
            segment.load_txn_index(Offset::MAX)?;
        }
        let (position, end) = match segment.locate(&file, offset)? {
            Some((position, header)) => (position, header.base_offset.min(offset)),
            // A hole at the segment's end: there is nothing of it to cut.
            None => (segment.size(), offset),
        };

        // Readers find the new end before the bytes go.
        self.log_end.store(end, Ordering::Release);
        self.durable_end.fetch_min(end, Ordering::AcqRel);
        self.synced_end.fetch_min(end, Ordering::AcqRel);
        self.log_start.fetch_min(end, Ordering::AcqRel);
        self.durable_start.fetch_min(end, Ordering::AcqRel);
        self.tail.truncate_to(end);
        self.open_files.forget_places();
        let gone: Vec<Arc<Segment>> = {
            let mut segments = self.segments.write();
            let keep = segments.partition_point(|other| other.base_offset() <= segment.base_offset());
            segments.drain(keep..).collect()
        };

        {
            let mut known = self.compaction.lock();
            *known = known.cut_at(&self.dir, end)?;
        }
        // Newest first: a crash in between leaves a log without a hole.
        for other in gone.iter().rev() {
            writer.unsynced.retain(|rolled| !Arc::ptr_eq(&rolled.segment, other));
            self.open_files.forget(other);
            for kind in [names::LOG, names::INDEX, names::TIME_INDEX, names::TXN_INDEX] {
                millpond_disk::remove_file(&other.path(kind))?;
            }
        }
        writer.unsynced.retain(|rolled| !Arc::ptr_eq(&rolled.segment, &segment));
        segment.load_indexes()?;
        segment.file_to_write()?.set_len(position)?;
        segment.sync()?;
        segment.truncate_to(end, position)?;
        segment.write_indexes(false, true)?;

        for entry in millpond_disk::list(&self.dir)? {
            if names::parse(&entry.name).is_some_and(|(at, kind)| kind == names::SNAPSHOT && at > end) {
                millpond_disk::remove_file(&self.dir.join(&entry.name))?;
                writer.checkpoint_snapshot = None;
            }
        }
        millpond_disk::sync_dir(&self.dir)?;
        if self.epochs.write().truncate_to(end) {
            self.epochs.read().write(&self.dir)?;
        }
        if !writer.producers.is_empty() {
            let segments = self.segments.read().clone();
            writer.producers = rebuild::producers_at(&self.dir, &segments, self.log_start_offset(), end)?;
        }
        self.unstable.cut(end, writer.producers.first_open_transaction());
        if position == 0 || !Arc::ptr_eq(&writer.active, &segment) {
            writer.started = SegmentStart { unread: position > 0, ..SegmentStart::default() };
        }
        writer.active = segment;
        writer.position = position;
        writer.next_offset = end;
        writer.fresh.restart(end);
        Ok(end)
    }
}
