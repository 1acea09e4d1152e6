//! What the logs of a node may take together: memory for their tails, and open files.

use std::sync::Arc;

use crate::open_files::FileCache;
use crate::tail::TailBudget;

/// What the logs of a node share. One for the node.
#[derive(Debug)]
pub struct LogBudget {
    pub(crate) tails: Arc<TailBudget>,
    pub(crate) files: FileCache,
}

impl LogBudget {
    /// How many files stay open after use if nothing else is said.
    pub const OPEN_FILES_MAX_DEFAULT: usize = 256;

    /// With `tail_bytes_max` bytes for all tails.
    pub fn new(tail_bytes_max: usize) -> Arc<LogBudget> {
        LogBudget::with_files(tail_bytes_max, LogBudget::OPEN_FILES_MAX_DEFAULT)
    }

    /// The same with a bound on the segments' files that stay open after use. Those that were written and not synced are
    /// open whatever it says: one a log, and those that it has rolled since.
    pub fn with_files(tail_bytes_max: usize, open_files_max: usize) -> Arc<LogBudget> {
        Arc::new(LogBudget { tails: TailBudget::new(tail_bytes_max), files: FileCache::new(open_files_max) })
    }

    /// The bytes that all tails hold now.
    pub fn tail_bytes(&self) -> usize {
        self.tails.used_bytes()
    }

    /// The bound of that.
    pub fn tail_bytes_max(&self) -> usize {
        self.tails.bytes_max()
    }
}
