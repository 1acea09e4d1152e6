//! What is wrong with a log's files, and what to do about it.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use millpond_types::Offset;

/// Findings of one partition that are kept; more are counted.
pub const FINDINGS_MAX: usize = 1_000;

/// Something in the files that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// The file.
    pub file: PathBuf,
    /// Where in the file.
    pub position: Option<u64>,
    /// At which offset of the log.
    pub offset: Option<Offset>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// Bytes that are no batch.
    Batch,
    /// A batch whose bytes are not those that were written.
    Crc,
    /// Offsets that are missing, or there twice.
    Offsets,
    /// A batch whose header contradicts itself or its records.
    Records,
    /// A batch whose header tells of other timestamps than its records have.
    Timestamps,
    /// An entry of `.index` that leads astray.
    Index,
    /// An entry of `.timeindex` that leads astray.
    TimeIndex,
    /// An entry of `.txnindex` that no aborted transaction belongs to.
    TransactionIndex,
    /// A snapshot of producers that the batches contradict.
    Snapshot,
    /// Leader epochs that the batches contradict.
    LeaderEpochs,
    /// What the node has noted of the log and is not so.
    Checkpoint,
    /// Whose log it is.
    Metadata,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FindingKind::Batch => "batch",
            FindingKind::Crc => "crc",
            FindingKind::Offsets => "offsets",
            FindingKind::Records => "records",
            FindingKind::Timestamps => "timestamps",
            FindingKind::Index => "index",
            FindingKind::TimeIndex => "timeindex",
            FindingKind::TransactionIndex => "txnindex",
            FindingKind::Snapshot => "snapshot",
            FindingKind::LeaderEpochs => "leader-epochs",
            FindingKind::Checkpoint => "checkpoint",
            FindingKind::Metadata => "metadata",
        })
    }
}

/// The findings of one partition, at most [`FINDINGS_MAX`] of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings {
    pub(super) listed: Vec<Finding>,
    pub(super) unlisted: u64,
}

impl Findings {
    pub(super) fn push(&mut self, finding: Finding) {
        if self.listed.len() < FINDINGS_MAX {
            self.listed.push(finding);
        } else {
            self.unlisted += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Adds those of `other`.
    pub(super) fn append(&mut self, other: Findings) {
        self.unlisted += other.unlisted;
        other.listed.into_iter().for_each(|finding| self.push(finding));
    }

    /// Keeps what was found before, too; the rest came and went while the node was writing.
    pub(super) fn retain_those_in(&mut self, before: &Findings) {
        let place = |finding: &Finding| (finding.kind, finding.file.clone(), finding.position, finding.offset);
        let known: HashSet<_> = before.listed.iter().map(place).collect();
        self.listed.retain(|finding| known.contains(&place(finding)));
        if before.unlisted == 0 {
            self.unlisted = 0;
        }
    }
}

/// A finding in the making.
pub(super) fn finding(kind: FindingKind, file: &Path, what: String, remedy: &'static str) -> Finding {
    Finding { kind, file: file.to_owned(), position: None, offset: None, what, remedy }
}

impl Finding {
    pub(super) fn at(self, position: u64) -> Finding {
        Finding { position: Some(position), ..self }
    }

    pub(super) fn of(self, offset: Offset) -> Finding {
        Finding { offset: Some(offset), ..self }
    }
}
