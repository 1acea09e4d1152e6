//! How much room the disk has left for what clients send.
//!
//! Below a reserve no records are taken, so that what must go on has room: commits of groups, deletions, the metadata, indexes,
//! the state of streams. It is looked at again every second and when what was seen is used up, so that records are taken again
//! as soon as there is room.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use millpond_types::TimestampMs;

/// What was seen holds for so long: others use the disk, too.
const LOOK_INTERVAL_MS: i64 = 1_000;
/// Of a small disk no more than one part of so many is kept.
const RESERVE_PARTS: u64 = 20;

/// There is less room than the reserve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk of {} is full: {free_bytes} bytes are free, and {reserve_bytes} are kept for what must go on \
     (millpond.disk.reserve.bytes); records are taken again when there is room. Delete topics or records, shorten their \
     retention, or enlarge the disk", path.display()
)]
pub struct DiskFull {
    /// The data folder.
    pub path: PathBuf,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that are kept.
    pub reserve_bytes: u64,
}

/// The disk's room, as last seen.
#[derive(Debug)]
pub(crate) struct DiskRoom {
    data_dir: PathBuf,
    reserve_bytes_max: u64,
    /// Bytes that may still be taken before the next look.
    left_bytes: AtomicI64,
    /// When somebody looked last.
    looked_ms: AtomicI64,
}

impl DiskRoom {
    pub(crate) fn new(data_dir: PathBuf, reserve_bytes_max: u64) -> DiskRoom {
        DiskRoom {
            data_dir,
            reserve_bytes_max,
            left_bytes: AtomicI64::new(0),
            looked_ms: AtomicI64::new(TimestampMs::MIN),
        }
    }

    /// Takes room for so many bytes, or says that there is none.
    pub(crate) fn take(&self, bytes: usize, now_ms: TimestampMs) -> Result<(), DiskFull> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let is_fresh =
            now_ms.saturating_sub(self.looked_ms.load(Ordering::Relaxed)).unsigned_abs() < LOOK_INTERVAL_MS as u64;
        if is_fresh && self.left_bytes.fetch_sub(bytes, Ordering::Relaxed) >= bytes {
            return Ok(());
        }
        let (free_bytes, reserve_bytes) = match millpond_disk::space(&self.data_dir) {
            Ok(space) => (space.free_bytes, self.reserve_bytes_max.min(space.total_bytes / RESERVE_PARTS)),
            Err(error) => {
                // Whoever writes will hear of it.
                tracing::warn!(%error, "how full the disk is cannot be seen");
                return Ok(());
            }
        };
        let left = i64::try_from(free_bytes).unwrap_or(i64::MAX) - i64::try_from(reserve_bytes).unwrap_or(i64::MAX);
        self.left_bytes.store(left.saturating_sub(bytes), Ordering::Relaxed);
        self.looked_ms.store(now_ms, Ordering::Relaxed);
        if left >= bytes {
            return Ok(());
        }
        Err(DiskFull { path: self.data_dir.clone(), free_bytes, reserve_bytes })
    }
}

#[cfg(test)]
mod tests {
    use millpond_disk::SimulatedDisk;

    use super::*;

    #[test]
    fn what_is_kept_is_not_given_away_and_what_is_freed_is_seen() {
        let disk = SimulatedDisk::new(1);
        millpond_disk::create_dir_all(&disk.root().join("data")).unwrap();
        let room = DiskRoom::new(disk.root().join("data"), 1_000);
        disk.set_capacity_bytes(Some(100_000));
        assert_eq!(room.take(90_000, 0), Ok(()));
        // As long as nobody has written there is as much as before, but this is not looked at for each batch.
        assert_eq!(room.take(9_000, 0), Ok(()));
        let full = room.take(99_001, 0).unwrap_err();
        assert_eq!((full.free_bytes, full.reserve_bytes), (100_000, 1_000));
        assert!(full.to_string().contains("100000 bytes are free, and 1000 are kept"), "{full}");

        disk.set_capacity_bytes(Some(10_000));
        assert_eq!(room.take(1, LOOK_INTERVAL_MS + 1), Ok(()), "of a small disk a twentieth is kept");
        assert_eq!(room.take(9_501, LOOK_INTERVAL_MS + 1).unwrap_err().reserve_bytes, 500);
        disk.set_capacity_bytes(Some(0));
        assert!(room.take(1, 3 * LOOK_INTERVAL_MS).is_err());
        disk.set_capacity_bytes(None);
        assert_eq!(room.take(1, 3 * LOOK_INTERVAL_MS), Ok(()));
        // A clock that was put back does not keep what was seen for ever.
        disk.set_capacity_bytes(Some(0));
        assert!(room.take(1, -5 * LOOK_INTERVAL_MS).is_err());
    }
}
