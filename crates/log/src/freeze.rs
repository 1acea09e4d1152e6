//! A log as it is at one moment, under other names, while it goes on: for a backup of a running node.
//!
//! Files get a second name in another folder (a hard link), so that retention and compaction, which only ever take names away and
//! put new files under old names, do not touch what is there. What grows is told by its length. So nothing is copied here, and
//! what was frozen is read at leisure.
//!
//! # Invariants
//!
//! - What is frozen is what a crash could have left at that moment: a start recovers it as any other log.
//! - Of a segment that may still be written only the `.log` is frozen. Its indexes, and snapshots that speak of it, are built anew.
//! - Bytes of a frozen file never change below [`FrozenFile::bytes_settled`], and between that and [`FrozenFile::bytes`] only if the
//!   log is cut, which happens above `settled_end` alone.

use std::path::Path;
use std::sync::Arc;

use millpond_types::Offset;

use crate::segment::Segment;
use crate::{LogError, PartitionLog, names};

/// A file of a frozen log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenFile {
    /// Its name.
    pub name: String,
    /// So many bytes of it belong to the frozen log; there may be more.
    pub bytes: u64,
    /// So many of them stay as they are, whatever happens to the log.
    pub bytes_settled: u64,
}

/// What [`PartitionLog::freeze`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenLog {
    /// Its files.
    pub files: Vec<FrozenFile>,
    /// What a checkpoint may say of it.
    pub recovery_point: Offset,
    /// Where it starts.
    pub log_start_offset: Offset,
}

impl PartitionLog {
    /// Gives the files that make the log up to `end` a second name in the folder `into`, which is empty and on the same file system.
    /// Nobody may ever cut the log below `settled_end`.
    ///
    /// The caller keeps cuts, retention, compaction, checkpoints and the close away meanwhile; appends and syncs may go on.
    pub fn freeze(&self, into: &Path, end: Offset, settled_end: Offset) -> Result<FrozenLog, LogError> {
        // The files of a log whose disk failed may lack what the journal has.
        self.check_poison()?;
        self.settle_swap()?;
        let (log_start_offset, log_end) = (self.log_start_offset(), self.log_end_offset());
        if end < log_start_offset || end > log_end {
            return Err(LogError::OutOfRange { offset: end, log_start: log_start_offset, log_end });
        }
        let recovery_point = self.recovery_point();
        let segments = self.segments.read().clone();
        let mut files = Vec::new();
        let mut finished_end = None;
        for (place, segment) in segments.iter().enumerate() {
            let base = segment.base_offset();
            if place > 0 && base >= end {
                break;
            }
            let next = segments.get(place + 1).map(|next| next.base_offset());
            let bytes = match next {
                Some(next) if next <= end => segment.size(),
                _ => self.position_of(segment, end)?,
            };
            let bytes_settled = match settled_end {
                settled if settled >= end => bytes,
                settled if settled <= base => 0,
                settled => self.position_of(segment, settled)?.min(bytes),
            };
            let log = freeze_file(&self.dir, into, &names::file(base, names::LOG))?.ok_or_else(|| missing(segment))?;
            files.push(FrozenFile { bytes, bytes_settled, ..log });
            // A cut writes to the indexes, too.
            if !(segment.is_finished() && next.is_some_and(|next| next <= settled_end.min(end))) {
                finished_end = finished_end.or(Some(base));
            } else if finished_end.is_none() {
                for kind in [names::INDEX, names::TIME_INDEX, names::TXN_INDEX] {
                    files.extend(freeze_file(&self.dir, into, &names::file(base, kind))?);
                }
            }
        }
        let recovery_point = recovery_point.min(settled_end).min(finished_end.unwrap_or(end));
        for entry in millpond_disk::list(&self.dir)? {
            let is_wanted = match names::parse(&entry.name) {
                Some((at, names::SNAPSHOT)) => at <= recovery_point,
                _ => [names::PARTITION_METADATA, names::COMPACTION_CHECKPOINT, names::LEADER_EPOCHS]
                    .contains(&entry.name.as_str()),
            };
            if is_wanted {
                files.extend(freeze_file(&self.dir, into, &entry.name)?);
            }
        }
        Ok(FrozenLog { files, recovery_point, log_start_offset })
    }

    /// Where in a segment the first batch lies that does not end below `offset`.
    fn position_of(&self, segment: &Arc<Segment>, offset: Offset) -> Result<u64, LogError> {
        {
            let writer = self.writer.lock();
            if writer.next_offset == offset && Arc::ptr_eq(&writer.active, segment) {
                return Ok(writer.position);
            }
        }
        // Before the look: what is appended meanwhile is not wanted.
        let size = segment.size();
        let file = self.open_files.file_of(segment)?;
        Ok(segment.locate(&file, offset)?.map_or(size, |(position, _)| position))
    }
}

/// Gives a file its second name; none if it is not there.
fn freeze_file(dir: &Path, into: &Path, name: &str) -> Result<Option<FrozenFile>, LogError> {
    let to = into.join(name);
    match millpond_disk::hard_link(&dir.join(name), &to) {
        Err(error) if error.is_not_found() => return Ok(None),
        linked => linked?,
    }
    let bytes = millpond_disk::file_bytes(&to)?;
    Ok(Some(FrozenFile { name: name.to_owned(), bytes, bytes_settled: bytes }))
}

fn missing(segment: &Segment) -> LogError {
    LogError::Damaged { path: segment.path(names::LOG), what: "the file is gone, while the log is open".to_owned() }
}
