//! Dying at a chosen moment, for the tests of what comes after.

use std::sync::Arc;

/// Moments in a step between which a crash makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// Results are appended, and perhaps on the disk.
    OutputAppended,
    /// Results are on the disk, the step is not written down.
    OutputSynced,
    /// The step is appended, and perhaps on the disk.
    StepAppended,
    /// The step is on the disk: it counts. Nothing is shown yet.
    StepSynced,
    /// The results are shown.
    Revealed,
    /// A checkpoint is due, nothing of it is written.
    CheckpointDue,
    /// The checkpoint is on the disk.
    CheckpointWritten,
}

/// What a test does at a moment; true stops the query there, as if the process had died.
pub type CrashHook = Arc<dyn Fn(CrashPoint) -> bool + Send + Sync>;

/// Nothing, except in tests of recovery. Costs one look at a pointer.
#[derive(Clone, Default)]
pub struct CrashPoints(Option<CrashHook>);

impl CrashPoints {
    /// Calls `hook` at each moment.
    pub fn with_hook(hook: CrashHook) -> CrashPoints {
        CrashPoints(Some(hook))
    }

    /// Whether the query dies here.
    pub(crate) fn reached(&self, point: CrashPoint) -> Result<(), super::failure::QueryFailure> {
        match &self.0 {
            Some(hook) if hook(point) => Err(super::failure::QueryFailure::Crashed),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for CrashPoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "CrashPoints(hook)" } else { "CrashPoints(none)" })
    }
}
