//! Removing old generations, and what only they had.

use std::collections::HashSet;

use crate::Backup;
use crate::BackupError;
use crate::pieces::{PIECES, PieceId};

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Generations.
    pub generations: u64,
    /// Bytes of pieces, those that interrupted backups have left included.
    pub bytes: u64,
}

impl Backup {
    /// Removes all generations but the newest `keep`, at least one, and the pieces that no other has. When a manifest that stays
    /// cannot be read nothing is removed.
    pub fn prune(&self, keep: u64) -> Result<Pruned, BackupError> {
        let _lock = self.lock()?;
        let numbers = self.numbers()?;
        let old = numbers.len().saturating_sub(usize::try_from(keep.max(1)).unwrap_or(usize::MAX));
        let (old, kept) = numbers.split_at(old);
        let mut needed: HashSet<PieceId> = HashSet::new();
        for number in kept {
            needed.extend(self.manifest(*number)?.pieces().cloned());
        }
        for number in old {
            millpond_disk::remove_file(&self.manifest_path(*number))?;
        }
        if let Some(number) = old.first() {
            // Durable before a piece goes that they name.
            let manifest = self.manifest_path(*number);
            millpond_disk::sync_dir(manifest.parent().expect("a manifest is in a folder"))?;
        }
        let bytes = self.sweep(&needed)?;
        Ok(Pruned { generations: old.len() as u64, bytes })
    }

    /// Removes all pieces that are not needed.
    fn sweep(&self, needed: &HashSet<PieceId>) -> Result<u64, BackupError> {
        let pieces = self.path.join(PIECES);
        if !millpond_disk::exists(&pieces)? {
            return Ok(0);
        }
        let mut bytes = 0;
        for folder in millpond_disk::list(&pieces)?.iter().filter(|entry| entry.is_dir) {
            let folder = pieces.join(&folder.name);
            for entry in millpond_disk::list(&folder)?.iter().filter(|entry| !entry.is_dir) {
                // A piece that was being written when a backup was killed.
                let is_torn =
                    entry.name.strip_suffix(".tmp").is_some_and(|name| PieceId::try_from(name.to_owned()).is_ok());
                let is_unneeded = PieceId::try_from(entry.name.clone()).is_ok_and(|id| !needed.contains(&id));
                if is_torn || is_unneeded {
                    millpond_disk::remove_file(&folder.join(&entry.name))?;
                    bytes += entry.len;
                }
            }
        }
        Ok(bytes)
    }
}
