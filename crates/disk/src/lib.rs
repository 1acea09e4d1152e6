//! How do bytes become durable?
//!
//! Owns files, folders, sync, rename, locks and the space that is left: the only crate that touches `std::fs`
//! for data. It knows nothing of what the bytes mean. Every error names the operation and the path.
//!
//! Start with [`File`], then [`replace_file`], which is how small files change as a whole. All of it goes through the few calls
//! of `system.rs`: those of the machine, or of a [`SimulatedDisk`], which forgets what was not synced.
//!
//! # Invariants
//!
//! - A name is durable only when its folder was synced: [`create_dir_all`], [`rename`] and [`replace_file`] do it
//!   themselves; after [`File::create_new`], [`rename_file`] and [`remove_file`] the caller does, with [`sync_dir`], since it often
//!   has several at once.
//! - Nothing here retries a failed sync: after one, nobody knows what is on the disk, and the caller must stop.
//! - Writes are at positions, never at a file's own cursor, so a file may be shared between threads.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod block_file;
mod error;
mod file;
mod folder;
mod lock;
mod simulated;
mod system;

pub use block_file::{BLOCK_BYTES, BlockBuffer, BlockFile};
pub use error::DiskError;
pub use file::File;
pub use folder::{
    FolderEntry, Space, copy_file, create_dir, create_dir_all, exists, file_bytes, free_bytes, hard_link, list,
    modified_ms, read_file, remove_dir_all, remove_file, rename, rename_file, replace_file, space, sync_dir,
    write_file,
};
pub use lock::{FolderLock, ForeignFolderLock};
pub use simulated::{Crash, Faults, Operation, Permit, Random, SIMULATED_ROOT, SimulatedDisk};
