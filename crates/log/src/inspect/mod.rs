//! What lies in a partition's folder, for operators and their tools: figures, entries, batches, and whether all of it is sound.
//!
//! Reads the files of a log that is closed, open or damaged, of Millpond or of Kafka, and never writes. Unlike the rest of the
//! crate it takes nothing for granted: files vanish, grow and get other names while they are read, a walk over batches goes on
//! behind damage, and no file's size decides how much memory is taken.
//!
//! - [`PartitionFolder`]: which files there are
//! - [`summarize`]: a log's figures, without reading all of it
//! - [`BatchWalk`], [`Entries`], [`read_snapshot`], [`read_leader_epochs`]: the files' contents
//! - [`verify`]: whether they fit each other
//!
//! # Bounds
//!
//! [`BATCH_BYTES_MAX`] of a batch that is held in memory, [`DECOMPRESSED_BYTES_MAX`](crate::DECOMPRESSED_BYTES_MAX) of its
//! records, [`FINDINGS_MAX`] findings a log, [`PRODUCERS_MAX`](crate::PRODUCERS_MAX) producers.

mod entries;
mod files;
mod folder;
mod snapshot;
mod summary;
mod verify;
mod walk;
mod window;

pub use entries::{Entries, Entry, IndexEntry, TimeIndexEntry, TransactionIndexEntry};
pub use files::{FileKind, is_there, read_leader_epochs, read_small_file, seek_offset};
pub use folder::{ListedFile, PartitionFolder, SegmentFiles};
pub use snapshot::{SnapshotEntry, read_snapshot};
pub use summary::{PRODUCERS_COUNTED_MAX, SegmentSummary, Summary, summarize};
pub use verify::{Claims, FINDINGS_MAX, Finding, FindingKind, Tallies, Unfinished, Verified, Watch, verify};
pub use walk::{BATCH_BYTES_MAX, BatchWalk, Found, FoundBatch, Gap};
