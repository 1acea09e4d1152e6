//! Which rolled segments' files are open, and where readers stopped in them.

use std::collections::VecDeque;
use std::sync::Arc;

use millpond_disk::File;
use millpond_types::Offset;
use parking_lot::Mutex;

use crate::LogError;
use crate::segment::Segment;

/// Rolled segments of a log whose file stays open between reads, at most. The active one's is open always.
pub const OPEN_SEGMENTS_MAX: usize = 2;

/// Readers of a log whose place on the disk is remembered, at most.
const PLACES_MAX: usize = 16;

/// The cache of open files, and of the places where readers stopped: who reads on from there needs no index.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles {
    /// Most lately used last.
    segments: Mutex<VecDeque<Arc<Segment>>>,
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
    /// The open file of a segment; another one's is closed for it when there are too many.
    pub(crate) fn file_of(&self, segment: &Arc<Segment>, is_active: bool) -> Result<Arc<File>, LogError> {
        let (file, _) = segment.file()?;
        if is_active {
            return Ok(file);
        }
        let mut segments = self.segments.lock();
        if segments.back().is_none_or(|last| !Arc::ptr_eq(last, segment)) {
            segments.retain(|other| !Arc::ptr_eq(other, segment));
            segments.push_back(segment.clone());
            if segments.len() > OPEN_SEGMENTS_MAX
                && let Some(oldest) = segments.pop_front()
            {
                oldest.close_file();
            }
        }
        Ok(file)
    }

    /// Forgets a segment that is no longer part of the log.
    pub(crate) fn forget(&self, segment: &Arc<Segment>) {
        self.segments.lock().retain(|other| !Arc::ptr_eq(other, segment));
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
