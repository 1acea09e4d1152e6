//! Mistakes that are put in on purpose, to see that they are noticed.

use std::path::Path;

use millpond_disk::{Operation, Permit};
use millpond_streams::run::STEPS_TOPIC;

use crate::streams::queries::OUTPUT_PREFIX;

/// What the node does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Running,
    Checkpointing,
}

/// What a query does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepPhase {
    Elsewhere,
    /// It waits until its results are durable, to write down its step.
    OutputWaits,
    /// It waits until its step is durable, to show the results.
    RecordWaits,
}

/// A mistake in the node's code, made by a disk that leaves out what the code would then not have asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Nobody syncs bytes.
    FsyncLeftOut,
    /// Nobody syncs what is written to logs; the journal is synced.
    LogsNotSynced,
    /// Nobody syncs the journal.
    JournalNotSynced,
    /// Nobody syncs names.
    FolderNotSynced,
    /// The recovery points are written before what they speak of was synced.
    CheckpointBeforeData,
    /// A start serves what it found without syncing it.
    ServedBeforeSynced,
    /// Compaction puts segments in the place of others without syncing them.
    CompactedNotSynced,
    /// A query's step is written down, and becomes durable, before its results do.
    StepBeforeOutput,
    /// A query's results are shown before its step is durable.
    ShownBeforeStep,
    /// A query's checkpoint is believed before it is durable, and the steps before it are forgotten.
    StateNotSynced,
}

impl Mutation {
    /// All there are, by name.
    pub const ALL: [(&'static str, Mutation); 10] = [
        ("fsync-left-out", Mutation::FsyncLeftOut),
        ("logs-not-synced", Mutation::LogsNotSynced),
        ("journal-not-synced", Mutation::JournalNotSynced),
        ("folder-not-synced", Mutation::FolderNotSynced),
        ("checkpoint-before-data", Mutation::CheckpointBeforeData),
        ("served-before-synced", Mutation::ServedBeforeSynced),
        ("compacted-not-synced", Mutation::CompactedNotSynced),
        ("step-before-output", Mutation::StepBeforeOutput),
        ("shown-before-step", Mutation::ShownBeforeStep),
        ("state-not-synced", Mutation::StateNotSynced),
    ];

    /// What becomes of a call.
    pub(crate) fn permit(self, phase: Phase, step: StepPhase, operation: Operation, path: &Path) -> Permit {
        let is_log = || path.extension().is_some_and(|extension| extension == "log");
        let is_journal = || path.file_name().is_some_and(|name| name.to_string_lossy().contains("journal"));
        let left_out = match self {
            Mutation::FsyncLeftOut => operation == Operation::Sync,
            Mutation::LogsNotSynced => operation == Operation::Sync && is_log(),
            Mutation::JournalNotSynced => operation == Operation::Sync && is_journal(),
            Mutation::FolderNotSynced => operation == Operation::SyncFolder,
            Mutation::CheckpointBeforeData => operation == Operation::Sync && phase == Phase::Checkpointing && is_log(),
            Mutation::ServedBeforeSynced => operation == Operation::Sync && phase == Phase::Starting && is_log(),
            Mutation::StepBeforeOutput => {
                operation == Operation::Sync
                    && step == StepPhase::OutputWaits
                    && is_log()
                    && is_below(path, &|folder| folder.starts_with(OUTPUT_PREFIX))
            }
            Mutation::ShownBeforeStep => {
                operation == Operation::Sync
                    && step == StepPhase::RecordWaits
                    && is_log()
                    && is_below(path, &|folder| folder.starts_with(STEPS_TOPIC))
            }
            Mutation::StateNotSynced => operation == Operation::Sync && is_below(path, &|folder| folder == "state"),
            Mutation::CompactedNotSynced => {
                operation == Operation::Sync && path.extension().is_some_and(|extension| extension == "cleaned")
            }
        };
        if left_out { Permit::Pretend } else { Permit::Do }
    }
}

/// Whether the file lies in a folder like that.
fn is_below(path: &Path, is_it: &dyn Fn(&str) -> bool) -> bool {
    path.parent().and_then(Path::file_name).and_then(|folder| folder.to_str()).is_some_and(is_it)
}
