//! What does one partition hold?
//!
//! Owns a partition's folder: segments, indexes, producer state, leader epochs; append, sync, read, transactions, recovery,
//! retention, truncation. It does not know which partitions there are, who may write, or what time it is (time is
//! an argument), and it starts no threads: the broker decides when to sync and when to clean up.
//!
//! Start with [`PartitionLog`], its `append` in append.rs and `read` in read.rs; transactions.rs tells what readers of
//! committed records get, open.rs and recovery.rs what a start does; compaction/ is what keeps the newest record of each key.
//! The [`journal`] makes small appends to many logs durable with one write. [`inspect`] reads the files of any log for operators;
//! a [`ForeignLog`] is one of Kafka's that becomes ours.
//!
//! # The folder, in Kafka's own format
//!
//! ```text
//! flights-0/
//!   partition.metadata               which topic this is
//!   leader-epoch-checkpoint          which epoch began at which offset
//!   00000000000000000000.log         record batches, one after the other      src/scan.rs
//!   00000000000000000000.index       offset → position, sparse                src/index.rs
//!   00000000000000000000.timeindex   timestamp → offset, sparse
//!   00000000000000000000.txnindex    transactions that were aborted there      src/txn_index.rs
//!   00000000000000041234.log         the next segment, named by its first offset; the last is the active one
//!   00000000000000041234.snapshot    what producers had written before it     src/snapshot.rs
//!   compaction-checkpoint            what was compacted, and what is being swapped   src/compaction/
//!   *.cleaned                        a segment that compaction is writing
//!   *.deleted                        files of deleted segments, until the delay is over
//! ```
//!
//! The active segment's indexes are in memory; their files are written when it is rolled, at a checkpoint and at
//! the close. All of indexes and snapshots can be built again from the `.log` files (src/rebuild.rs).
//!
//! # Invariants
//!
//! - Batches lie one after the other, in the files and in the tail, their offsets growing without overlap, and without holes
//!   but those that compaction made.
//! - `log_start ≤ durable_end ≤ log_end`; a batch below `log_end` is whole in its file.
//! - `synced_end` moves only after every segment below it, its name and the leader epochs were synced; `durable_end` moves
//!   with it, or after the batches below it were written to the node's [`journal`].
//! - A producer's open transaction, and one whose marker is not seen yet, is known to readers before its first batch is: the
//!   last stable offset never passes it.
//! - A sound snapshot vouches for what the transaction index of the segment below it says of the batches below it.
//! - After a failed write or sync nothing is appended or synced again, and the reason is in every answer.
//! - Locks are taken in the order: sync round, writer, compaction's checkpoint, segments, one segment, tail. No reader takes the first two.
//!   Nothing is taken under that of the unstable transactions.
//!
//! # Bounds
//!
//! [`LogOptions::journal_bytes_max`] a log for batches that wait for the journal,
//! [`LogOptions::tail_bytes_max`] a log and [`LogBudget`] a node for the tail, [`PRODUCERS_MAX`] producers and
//! [`OPEN_TRANSACTIONS_MAX`] open transactions a log and 1,024 whose marker is not seen yet, [`LogOptions::index_bytes_max`] a segment for each of its indexes,
//! [`LogBudget::with_files`] open files of segments a node (and those of the [`FilePiece`]s that somebody holds, which
//! also keep deleted ones on the disk), [`UNSYNCED_SEGMENTS_MAX`] rolled segments that wait for a
//! sync, [`DECOMPRESSED_BYTES_MAX`] for a batch that a time is looked for in.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod append;
mod budget;
pub mod checkpoint;
mod compaction;
mod epochs;
mod error;
mod freeze;
mod fresh;
mod index;
pub mod inspect;
pub mod journal;
mod log;
mod names;
mod open;
mod open_files;
mod options;
mod partition_metadata;
mod producers;
mod read;
mod rebuild;
mod recovery;
mod retention;
mod scan;
mod segment;
mod snapshot;
mod sync;
mod tail;
mod take_over;
mod time;
mod transactions;
mod truncate;
mod txn_index;

pub use append::{Appended, UNSYNCED_SEGMENTS_MAX};
pub use budget::LogBudget;
pub use compaction::{Cleanable, Compacted, Compaction, STEP_BYTES, Step};
pub use error::{AppendError, LogError, ReadError};
pub use freeze::{FrozenFile, FrozenLog};
pub use fresh::FreshBatches;
pub use log::{PartitionLog, SegmentInfo};
pub use open::{Recovered, Recovery};
pub use options::LogOptions;
pub use partition_metadata::read_topic_id;
pub use producers::{ActiveProducer, OPEN_TRANSACTIONS_MAX, PRODUCERS_MAX};
pub use read::{BatchPiece, FetchedBytes, FilePiece, FoundBatches};
pub use take_over::{ForeignLog, TakeOverError, TakenOver};
pub use time::DECOMPRESSED_BYTES_MAX;
pub use transactions::AbortedTransactions;
pub use txn_index::AbortedTransaction;
