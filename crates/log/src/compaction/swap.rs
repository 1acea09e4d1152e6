//! Puts a new segment in the place of old ones: all of it or nothing, whenever the power goes.
//!
//! 1. The new segment's files are durable under their `.cleaned` names.
//! 2. The compaction checkpoint says that the old ones are being replaced. From here on the new one counts.
//! 3. The old files are removed, the new ones get their names, and the folder is synced.
//! 4. The checkpoint says so no more.
//!
//! A start that finds the checkpoint of step 2 does step 3 again, whatever part of it was done. Who reads an old segment at the
//! time goes on in its open files.

use std::path::Path;
use std::sync::Arc;

use millpond_types::Offset;

use super::checkpoint::{CompactionCheckpoint, Replacing};
use super::rewrite::Output;
use crate::segment::Segment;
use crate::txn_index::TxnIndex;
use crate::{LogError, PartitionLog, names};

impl PartitionLog {
    /// Puts `output` in the place of the segments `old`, which end at `end`. `false`: they are not all part of the log any more.
    pub(super) fn swap(
        &self,
        mut output: Output,
        old: &[(Arc<Segment>, Offset)],
        end: Offset,
    ) -> Result<bool, LogError> {
        let replaces_txn_index = old.iter().any(|(segment, _)| segment.txn_index.file_len() > 0);
        let (len, txn_index_len) = match output.finish(&self.dir, replaces_txn_index) {
            Ok(lens) => lens,
            Err(error) => {
                output.discard(&self.dir);
                return Err(error);
            }
        };
        let _round = self.round.lock();
        // An append that finishes a segment by itself is over.
        drop(self.writer.lock());
        let ready = self.check_poison().and_then(|()| self.settle_swap()).and_then(|()| self.retire(old));
        if !matches!(ready, Ok(true)) {
            output.discard(&self.dir);
            return ready;
        }
        let first = output.base_offset();
        let mut known = self.compaction.lock();
        let replacing = Replacing { first, end, len };
        let begun =
            CompactionCheckpoint { holes_below: known.holes_below.max(end), replacing: Some(replacing), ..*known };
        if let Err(error) = begun.write(&self.dir) {
            // With no room for a few bytes nothing has happened. If the name may have changed, nobody knows what a power cut
            // leaves.
            match CompactionCheckpoint::read(&self.dir) {
                Ok(found) if found == *known => {
                    output.discard(&self.dir);
                    old.iter().for_each(|(segment, _)| segment.reinstate());
                }
                _ => self.poison(error.to_string()),
            }
            return Err(error);
        }
        self.or_poison(put_in_place(&self.dir, replacing))?;
        *known = begun;
        drop(known);

        let new = Arc::new(Segment::on_disk(
            &self.dir,
            first,
            len,
            TxnIndex::on_disk(txn_index_len),
            self.options().index_interval_bytes,
        ));
        {
            let mut segments = self.segments.write();
            let from = segments.iter().position(|segment| segment.base_offset() == first);
            let from = from.expect("under the round's lock nobody takes segments out");
            segments.splice(from..from + old.len(), [new]);
        }
        // Nobody finds in memory what is gone from the disk.
        self.tail.forget_below(end);
        self.open_files.forget_places();
        old.iter().for_each(|(segment, _)| self.open_files.forget(segment));
        if let Err(error) = self.settle_swap() {
            // It is done before anything happens to these segments.
            tracing::warn!(%error, "the compaction checkpoint is written later");
        }
        Ok(true)
    }

    /// Prepares segments for losing their files, if they are all part of the log, one after the other.
    fn retire(&self, old: &[(Arc<Segment>, Offset)]) -> Result<bool, LogError> {
        let segments = self.segments.read().clone();
        let from = old.first().and_then(|(first, _)| segments.iter().position(|segment| Arc::ptr_eq(segment, first)));
        let Some(from) = from else { return Ok(false) };
        let are_there = segments
            .get(from..from + old.len())
            .is_some_and(|there| there.iter().zip(old).all(|(segment, (old, _))| Arc::ptr_eq(segment, old)))
            && old.iter().all(|(segment, _)| segment.is_finished());
        if !are_there {
            return Ok(false);
        }
        let retired = old.iter().try_for_each(|(segment, _)| self.retire_one(segment));
        if retired.is_err() {
            old.iter().for_each(|(segment, _)| segment.reinstate());
        }
        retired.map(|()| true)
    }

    fn retire_one(&self, segment: &Arc<Segment>) -> Result<(), LogError> {
        if segment.retire()? {
            return Ok(());
        }
        self.rebuild_txn_index(segment, "its file is damaged")?;
        match segment.retire()? {
            true => Ok(()),
            false => {
                let what = "it is damaged again after it was built anew".to_owned();
                Err(LogError::Damaged { path: segment.path(names::TXN_INDEX), what })
            }
        }
    }

    /// Writes down that a swap is over, if that could not be done then.
    pub(crate) fn settle_swap(&self) -> Result<(), LogError> {
        let mut known = self.compaction.lock();
        if known.replacing.is_some() {
            let settled = CompactionCheckpoint { replacing: None, ..*known };
            settled.write(&self.dir)?;
            *known = settled;
        }
        Ok(())
    }
}

/// Finishes at a start what the last run had begun.
pub(crate) fn complete(dir: &Path, checkpoint: &mut CompactionCheckpoint) -> Result<(), LogError> {
    let Some(replacing) = checkpoint.replacing else { return Ok(()) };
    put_in_place(dir, replacing)?;
    let path = names::path(dir, replacing.first, names::LOG);
    let found = match millpond_disk::exists(&path)? {
        true => millpond_disk::File::open_read_only(&path)?.len()?,
        false => 0,
    };
    if found != replacing.len {
        let what = format!(
            "compaction was putting it in the place of older segments, with {} bytes, and it has {found}. Restore the \
             partition's folder from a backup",
            replacing.len
        );
        return Err(LogError::Damaged { path, what });
    }
    checkpoint.replacing = None;
    checkpoint.write(dir)
}

/// Removes the old files and renames the new ones. Done once more it changes nothing.
fn put_in_place(dir: &Path, replacing: Replacing) -> Result<(), LogError> {
    let Replacing { first, end, .. } = replacing;
    for entry in millpond_disk::list(dir)? {
        if let Some((offset, kind)) = names::parse(&entry.name)
            && [names::LOG, names::INDEX, names::TIME_INDEX, names::TXN_INDEX, names::SNAPSHOT].contains(&kind)
            && first < offset
            && offset < end
        {
            millpond_disk::remove_file(&dir.join(&entry.name))?;
        }
    }
    for kind in [names::LOG, names::INDEX, names::TIME_INDEX, names::TXN_INDEX] {
        let cleaned = names::cleaned(dir, first, kind);
        if millpond_disk::exists(&cleaned)? {
            millpond_disk::rename_file(&cleaned, &names::path(dir, first, kind))?;
        }
    }
    Ok(millpond_disk::sync_dir(dir)?)
}
