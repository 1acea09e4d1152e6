//! What can go wrong.

use std::path::PathBuf;

/// Why state could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StateError {
    /// RocksDB refused to open its folder.
    #[error("the state store in {} cannot be opened: {reason}", path.display())]
    Open {
        /// The store's folder.
        path: PathBuf,
        /// What RocksDB said.
        reason: String,
    },
    /// A newer Millpond wrote the store.
    #[error("the state store in {} has format {found}, this version reads up to {known}: start a newer version", path.display())]
    NewerFormat {
        /// The store's folder.
        path: PathBuf,
        /// The format that was found.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// RocksDB failed to read or write.
    #[error("the state store in {} failed to {operation}: {reason}", path.display())]
    Storage {
        /// The store's folder.
        path: PathBuf,
        /// What was tried: "read", "write".
        operation: &'static str,
        /// What RocksDB said.
        reason: String,
    },
    /// What was read is not what was written.
    #[error("the state of query {query} (operator {operator}) in {} is damaged: {reason}", path.display())]
    Damaged {
        /// The store's folder.
        path: PathBuf,
        /// The query.
        query: u64,
        /// Which of its operators.
        operator: u16,
        /// What is wrong.
        reason: String,
    },
}
