//! Which segments' files are open, and where readers stopped in them.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use millpond_disk::File;
use millpond_types::Offset;
use parking_lot::Mutex;

use crate::segment::Segment;
use crate::{LogBudget, LogError};

/// Readers of a log whose place on the disk is remembered, at most.
const PLACES_MAX: usize = 16;

/// Files that are asked whether they can be closed for another one, at most.
const CLOSE_TRIES_MAX: usize = 64;

/// The files of all logs of a node that stay open after use: those that were used lately, and all that have something to sync.
#[derive(Debug)]
pub(crate) struct FileCache {
    files_max: usize,
    /// In the order in which they were opened; those that were used since come to the end again.
    segments: Mutex<VecDeque<Weak<Segment>>>,
}

impl FileCache {
    pub(crate) fn new(files_max: usize) -> FileCache {
        FileCache { files_max, segments: Mutex::default() }
    }

    /// A segment's file is used, and may be open from now on.
    fn note_use(&self, segment: &Arc<Segment>) {
        if segment.uses.note_use() {
            return;
        }
        self.segments.lock().push_back(Arc::downgrade(segment));
        self.shrink();
    }

    /// Closes files that were not used lately, if there are too many.
    fn shrink(&self) {
        let mut segments = self.segments.lock();
        for _ in 0..CLOSE_TRIES_MAX {
            if segments.len() <= self.files_max {
                break;
            }
            let Some(oldest) = segments.pop_front() else { break };
            let Some(other) = oldest.upgrade() else { continue };
            if other.uses.take_used() || !other.close_file() {
                segments.push_back(oldest);
            } else {
                other.uses.leave_cache();
            }
        }
    }
}

/// The open files of a log, and the places where readers stopped: who reads on from there needs no index.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    budget: Arc<LogBudget>,
    places: Mutex<VecDeque<Place>>,
}

#[derive(Debug)]
struct Place {
    offset: Offset,
    /// The id of the segment.
    segment: u64,
    position: u64,
}

impl OpenFiles {
    pub(crate) fn new(budget: Arc<LogBudget>) -> OpenFiles {
        OpenFiles { budget, places: Mutex::default() }
    }

    /// The open file of a segment; others are closed for it when there are too many.
    pub(crate) fn file_of(&self, segment: &Arc<Segment>) -> Result<Arc<File>, LogError> {
        let (file, _) = segment.file()?;
        self.budget.files.note_use(segment);
        Ok(file)
    }

    /// The same for a write, which a sync is to follow.
    pub(crate) fn file_to_write(&self, segment: &Arc<Segment>) -> Result<Arc<File>, LogError> {
        let file = segment.file_to_write()?;
        self.budget.files.note_use(segment);
        Ok(file)
    }

    /// Something was synced, so that files may be closed that had to wait for it.
    pub(crate) fn shrink(&self) {
        self.budget.files.shrink();
    }

    /// Closes the file of a segment that is no longer part of the log.
    pub(crate) fn forget(&self, segment: &Arc<Segment>) {
        segment.close_file();
    }

    /// Where in `segment` the batch at exactly `offset` starts, if a reader stopped before it.
    pub(crate) fn place(&self, segment: &Segment, offset: Offset) -> Option<u64> {
        let places = self.places.lock();
        places.iter().rev().find(|p| p.offset == offset && p.segment == segment.id()).map(|p| p.position)
    }

    /// A reader stopped in `segment` before the batch at `offset`, which starts at `position`.
    pub(crate) fn remember(&self, segment: &Segment, offset: Offset, position: u64) {
        let mut places = self.places.lock();
        places.retain(|p| p.offset != offset);
        if places.len() == PLACES_MAX {
            places.pop_front();
        }
        places.push_back(Place { offset, segment: segment.id(), position });
    }

    /// Forgets all places, since the log was cut or compacted.
    pub(crate) fn forget_places(&self) {
        self.places.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use millpond_records::{BatchBuilder, BatchOptions};
    use millpond_types::TopicId;

    use super::*;
    use crate::{LogOptions, PartitionLog};

    fn batch() -> BytesMut {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.push(1, None, Some(b"value"), &[]);
        BytesMut::from(&builder.build()[..])
    }

    fn open_files(logs: &[PartitionLog]) -> usize {
        logs.iter().flat_map(|log| log.segments.read().clone()).filter(|segment| segment.is_open()).count()
    }

    #[test]
    fn files_that_were_not_used_lately_are_closed_unless_they_wait_for_a_sync() {
        let folder = tempfile::tempdir().unwrap();
        let budget = LogBudget::with_files(0, 5);
        let id = TopicId::from_uuid("00000000-0000-0000-0000-000000000001".parse().unwrap());
        let create = |n: usize| {
            let dir = folder.path().join(format!("t-{n}"));
            PartitionLog::create(&dir, id, LogOptions::default(), budget.clone()).unwrap()
        };
        let logs: Vec<PartitionLog> = (0..40).map(create).collect();
        assert_eq!(open_files(&logs), 0, "nothing was used yet");
        for log in &logs {
            log.append(batch(), 0, 1).unwrap();
        }
        assert_eq!(open_files(&logs), 40, "what is not synced stays open");
        logs.iter().for_each(|log| _ = log.sync().unwrap());
        for (n, log) in logs.iter().enumerate() {
            assert_eq!(log.read(0, 1000, 1, true).unwrap().len, batch().len());
            // The first one is used all the time.
            logs[0].read(0, 1000, 1, true).unwrap();
            assert!(n < 20 || open_files(&logs) <= 6, "{n}: {}", open_files(&logs));
            assert!(n < 20 || open_files(&logs[..1]) == 1, "{n}");
        }
        // Writing goes on in files that were closed.
        for log in &logs {
            assert_eq!(log.append(batch(), 0, 1).unwrap().base_offset, 1);
            log.sync().unwrap();
        }
        assert!(open_files(&logs) <= 6, "{}", open_files(&logs));
        drop(logs);
        assert!(budget.files.segments.lock().iter().all(|segment| segment.upgrade().is_none()));
    }
}
