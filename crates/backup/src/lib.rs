//! What does a backup hold?
//!
//! Owns the format of a backup: generations of a data folder, of which later ones share with earlier ones what is the same.
//! It knows the files of a data folder by nothing but their names and bytes: all of it is kept (logs, journal, metadata, the state of
//! streams), so that a restored folder is the one that the node left. Of a running node it is told which files, and how much of them.
//!
//! Start with [`Backup`]: [`Backup::take`] in take.rs, [`Backup::restore`] and [`Backup::verify`] in restore.rs, [`Backup::prune`] in
//! prune.rs; manifest.rs is the format of a generation. A backup lies at a [`Location`], in a folder or in a bucket of an S3-compatible
//! server: place/ is what is done with either, place/bucket.rs and place/lock.rs are what a bucket needs. The format is the same, so
//! either may be copied into the other by any tool.
//!
//! ```text
//! millpond-backup                      that this is a backup, and of which format
//! .lock                                a folder's: held by whoever writes
//! locked-by                            a bucket's: there while somebody writes, or when somebody was killed who did
//! generations/000000000017.manifest    what was in the data folder, file by file, and of which pieces each is made
//! pieces/3f/3f9a…                      up to 4 MiB of a file, named by their BLAKE3 hash
//! ```
//!
//! # Invariants
//!
//! - A data folder is read while its lock is held: no node runs on it, so what is read is one moment. Or the node that runs on it has
//!   frozen one (`millpond_broker::Frozen`), and says at the end that this has held.
//! - A generation is there when its manifest is. That is written last, when all of its pieces are durable; it is made as a
//!   whole, where there is none of its number, and never changed.
//! - What a piece is, is its hash and nothing else: a compacted segment, which has the name of an old one and other bytes, has
//!   other pieces, and a log that has grown shares all but its last. No file is taken for unchanged unread. A piece is taken for there
//!   when a folder has its bytes, or a bucket an object of its length.
//! - A piece is removed only after the manifests that name it, and only when all others could be read.
//! - Who writes has the lock. A bucket's lock can be broken by hand; so who has it looks for it before a manifest is written and
//!   before anything is removed.
//! - Nothing is restored that does not have its hash, and a folder has its name only when all of it is restored and durable.
//!
//! # Bounds
//!
//! [`PIECE_BYTES`] in memory for a file's bytes, of a bucket [`PIECES_IN_FLIGHT`] times that; [`MANIFEST_BYTES_MAX`] for a manifest. A request to
//! a bucket: [`CONNECT_TIMEOUT`], [`REQUEST_TIMEOUT`], [`RETRIES_MAX`], [`RETRY_TIMEOUT`].
//!
//! # Threads
//!
//! All of it blocks. Requests run on a small tokio runtime of the place's own, on the thread that calls; so a [`Backup`] is to be used and
//! dropped outside of any other runtime's tasks.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod backup;
mod error;
mod location;
mod manifest;
mod pieces;
mod place;
mod prune;
mod restore;
mod take;
#[cfg(test)]
mod tests;

pub use backup::{Backup, Generation};
pub use error::BackupError;
pub use location::{BucketLocation, Location};
pub use manifest::MANIFEST_BYTES_MAX;
pub use pieces::PIECE_BYTES;
pub use place::{CONNECT_TIMEOUT, LOCK_OBJECT, PIECES_IN_FLIGHT, REQUEST_TIMEOUT, RETRIES_MAX, RETRY_TIMEOUT};
pub use prune::Pruned;
pub use restore::{Checked, Restored};
pub use take::{FrozenFile, Taken};
