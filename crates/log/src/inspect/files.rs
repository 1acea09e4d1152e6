//! What a single file is, by its name.

use std::path::Path;

use millpond_disk::File;
use millpond_types::{LeaderEpoch, Offset};

use super::BatchWalk;
use crate::checkpoint::{LOG_STARTS, RECOVERY_POINTS};
use crate::epochs::LeaderEpochs;
use crate::index::{self, Lookup};
use crate::{LogError, names};

/// Kafka's other files in the form of a checkpoint of offsets.
const KAFKAS_CHECKPOINTS: [&str; 2] = ["replication-offset-checkpoint", "cleaner-offset-checkpoint"];

/// A kind of file that a data folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Record batches.
    Log,
    /// Positions by offset, of the segment with this base offset.
    Index(Offset),
    /// Offsets by timestamp, of the segment with this base offset.
    TimeIndex(Offset),
    /// Transactions that were aborted.
    TransactionIndex,
    /// What producers had written.
    Snapshot,
    /// Leader epochs and their first offsets.
    LeaderEpochs,
    /// An offset for each partition.
    OffsetCheckpoint,
    /// A few lines for people.
    Text,
}

impl FileKind {
    /// The kind of a file with this name. What comes after a segment's kind (`.deleted`, `.cleaned`, `.swap`) does not matter.
    /// `None`: it is none that is known.
    pub fn of(path: &Path) -> Option<FileKind> {
        let name = path.file_name()?.to_str()?;
        match name {
            names::LEADER_EPOCHS => return Some(FileKind::LeaderEpochs),
            LOG_STARTS | RECOVERY_POINTS => return Some(FileKind::OffsetCheckpoint),
            names::PARTITION_METADATA | names::COMPACTION_CHECKPOINT | "meta.properties" => {
                return Some(FileKind::Text);
            }
            _ if KAFKAS_CHECKPOINTS.contains(&name) => return Some(FileKind::OffsetCheckpoint),
            _ => {}
        }
        let (base_offset, kind) = match names::parse(name) {
            Some((base_offset, kind)) => (Some(base_offset), kind),
            // Somebody's copy of a segment, perhaps.
            None => (None, name.split_once('.')?.1),
        };
        match (kind.split('.').next()?, base_offset) {
            (names::LOG, _) => Some(FileKind::Log),
            (names::INDEX, base_offset) => Some(FileKind::Index(base_offset.unwrap_or(0))),
            (names::TIME_INDEX, base_offset) => Some(FileKind::TimeIndex(base_offset.unwrap_or(0))),
            (names::TXN_INDEX, _) => Some(FileKind::TransactionIndex),
            (names::SNAPSHOT, _) => Some(FileKind::Snapshot),
            _ => None,
        }
    }
}

/// Bytes of a small file that is read, at most.
const SMALL_FILE_BYTES_MAX: usize = 1 << 20;

/// Whether there is a file of this name.
pub fn is_there(path: &Path) -> Result<bool, LogError> {
    Ok(millpond_disk::exists(path)?)
}

/// The front of a file, at most a megabyte; `None` if there is none.
pub fn read_small_file(path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    match File::open_read_only(path) {
        Err(error) if error.is_not_found() => Ok(None),
        opened => Ok(Some(opened?.read_at(SMALL_FILE_BYTES_MAX, 0)?)),
    }
}

/// The leader epochs in a file, and the offset of each one's first record. A damaged file is [`LogError::Damaged`].
pub fn read_leader_epochs(path: &Path) -> Result<Vec<(LeaderEpoch, Offset)>, LogError> {
    Ok(LeaderEpochs::read_file(path)?.entries().to_vec())
}

/// Lets a walk over the `.log` at `path` begin at a batch that starts at or before the one with `offset`, as near as the index
/// beside it says. Without an index, or with one that leads nowhere, it begins at the front.
pub fn seek_offset(walk: &mut BatchWalk, path: &Path, offset: Offset) -> Result<(), LogError> {
    let Some(base_offset) = walk.base_offset() else { return Ok(()) };
    let Some(relative) = offset.checked_sub(base_offset).filter(|relative| *relative > 0) else { return Ok(()) };
    let relative = u32::try_from(relative).unwrap_or(u32::MAX);
    let index = names::path(path.parent().unwrap_or(Path::new("")), base_offset, names::INDEX);
    if let Lookup::Found(entry) = index::offset_entry_before(&index, relative)? {
        walk.seek(u64::from(entry.position), base_offset.saturating_add(i64::from(entry.relative)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        for (name, expected) in [
            ("00000000000000000042.log", Some(FileKind::Log)),
            ("00000000000000000042.log.deleted", Some(FileKind::Log)),
            ("copy.log", Some(FileKind::Log)),
            ("00000000000000000042.index", Some(FileKind::Index(42))),
            ("00000000000000000042.timeindex.cleaned", Some(FileKind::TimeIndex(42))),
            ("00000000000000000042.txnindex", Some(FileKind::TransactionIndex)),
            ("00000000000000000042.snapshot", Some(FileKind::Snapshot)),
            ("leader-epoch-checkpoint", Some(FileKind::LeaderEpochs)),
            ("recovery-point-offset-checkpoint", Some(FileKind::OffsetCheckpoint)),
            ("replication-offset-checkpoint", Some(FileKind::OffsetCheckpoint)),
            ("partition.metadata", Some(FileKind::Text)),
            ("millpond-journal.0", None),
            ("notes", None),
            (".lock", None),
        ] {
            assert_eq!(FileKind::of(&Path::new("/data/t-0").join(name)), expected, "{name}");
        }
    }
}
