//! What can the node do?
//!
//! Owns the running node: the data folder, all partitions and who waits for them, the group coordinator's thread, the
//! threads that sync and clean up. It is the only way to the log, for the Kafka protocol and for the streams alike,
//! as an in-process API. It knows neither sockets nor SQL.
//!
//! Start with [`Broker`], then [`Partition`]; what happens to a batch is in `produce.rs`, how it becomes durable in
//! `sync/`, what a start does in `start.rs`, what lies where in `folders.rs`.
//!
//! # Promises kept here
//!
//! - An acknowledged record survives `kill -9`, and with `acks=all` a power cut: answers wait for an fdatasync that began
//!   after the append, of the journal or of the log itself. One serves all appends that it covers (`sync/`).
//! - After a failed sync a log takes no more writes, and every answer says why (`durability.rs`).
//! - Nothing is shown that could be taken back: not what is not durable, and of a stream's topic not what is not revealed
//!   (`visibility.rs`).
//! - Every queue, list and thread has a bound.
//!
//! # Threads
//!
//! `journal` waits for dirty partitions, `sync-N` for those that have too much for the journal, `behind-journal` for a lap
//! of the journal to end; `groups` for requests and deadlines; `maintenance` and `compaction` for the next interval. When
//! nothing happens, all of them sleep. Appends and reads run on the caller's thread: they are short. What takes
//! longer (topics, configurations) runs on tokio's blocking threads. A node that a simulation drives has none of them: what
//! they do are the calls of [`Driver`].
//!
//! # Locks
//!
//! In the order in which they may be taken: upkeep (`frozen.rs`), the metadata's log ([`Broker`]'s changes), a checkpoint, a partition's sync
//! round, its life, whether it may be cut, the journal, the insides of its log; then the moment (`frozen.rs`), and one of visibility, durability, directory, image, none of which is held
//! while another is taken. Waiters are woken after all of them are given back.
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod batch_rules;
mod blocking;
mod broker;
mod checkpoints;
mod clock;
mod compaction;
mod configs;
mod data_folder;
mod directory;
mod driver;
mod durability;
mod errors;
mod folders;
mod frozen;
mod gate;
mod groups;
mod ids;
mod internal_records;
mod keys;
mod maintenance;
mod meta_properties;
mod metadata_log;
mod metrics;
mod new_data_folder;
mod parallel;
mod partition;
mod pins;
mod priority;
mod produce;
mod producer_ids;
mod space;
mod start;
mod stop;
mod sync;
mod topic;
mod topics;
mod visibility;
mod waiter;

pub use broker::{Broker, LogDir};
pub use clock::Clock;
pub use configs::ConfigWish;
pub use data_folder::{DataFolder, DataFolderError, OtherEntry, Owner};
pub use driver::Driver;
pub use errors::{FetchError, OpenError, ProduceError, TopicError, TrimError};
pub use folders::METADATA_TOPIC;
pub use frozen::{FreezeError, Frozen, FrozenEntry};
pub use gate::{Admitted, BoxFuture, ClientContext, Gate, GatedBatch, OnAppended, Refusal};
pub use groups::OFFSETS_TOPIC;
pub use ids::Ids;
pub use internal_records::NewRecord;
pub use metrics::BrokerMetrics;
pub use millpond_log::{
    AbortedTransaction, AbortedTransactions, Appended, BatchPiece, FetchedBytes, FilePiece, FoundBatches,
};
pub use new_data_folder::NewDataFolder;
pub use partition::Partition;
pub use priority::lower_thread_priority;
pub use produce::{Acks, Begun, Gated, ProducePartition};
pub use space::DiskFull;
pub use start::BrokerOptions;
pub use topics::NewTopicRequest;
pub use waiter::Waiter;
