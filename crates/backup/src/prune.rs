//! Removing old generations, and what only they had.

use std::collections::HashSet;

use crate::backup::manifest_name;
use crate::pieces::{PIECES, PieceId};
use crate::{Backup, BackupError};

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
        // Durable before a piece goes that they name.
        let manifests: Vec<String> = old.iter().map(|number| manifest_name(*number)).collect();
        self.place.check_lock()?;
        self.place.remove(&manifests, true)?;
        let bytes = self.sweep(&needed)?;
        Ok(Pruned { generations: old.len() as u64, bytes })
    }

    /// Removes all pieces that are not needed.
    fn sweep(&self, needed: &HashSet<PieceId>) -> Result<u64, BackupError> {
        let is_needless = |name: &str| match name.strip_suffix(".tmp") {
            // A piece that was being written when a backup was killed.
            Some(torn) => PieceId::in_place(torn).is_some(),
            None => PieceId::in_place(name).is_some_and(|id| !needed.contains(&id)),
        };
        let mut needless = self.place.list(PIECES)?;
        needless.retain(|entry| is_needless(&entry.name));
        let bytes = needless.iter().map(|entry| entry.bytes).sum();
        let names: Vec<String> = needless.into_iter().map(|entry| entry.name).collect();
        self.place.check_lock()?;
        self.place.remove(&names, false)?;
        Ok(bytes)
    }
}
