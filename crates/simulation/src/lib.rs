//! What does a node lose when everything goes wrong?
//!
//! Runs a whole node from one seed, on one thread: its clients, its clock, the turns of its threads, and a disk that loses
//! what was not synced. Beside it a [`model`](model::Model) knows what was acknowledged and what was shown; after each crash,
//! and again and again in between, the node is asked for all of it.
//!
//! ```text
//! seed ─▶ World ── a client's request, or one turn of one thread ──▶ Broker ──▶ SimulatedDisk
//!           │                                                                  │
//!           ├── model: acknowledged, shown, in doubt ◀── answers               ├── in the middle of a sync: more requests
//!           └── checks after every start                                       └── kill, power cut, failed and short calls
//! ```
//!
//! Start with [`simulate`]. It does not know how a node works inside: it uses what the protocol's front uses, and the
//! [`Driver`](millpond_broker::Driver).
//!
//! One seed of four has **registered streams** (`streams`): filters, projections and windows over one partition and several, one
//! over another's results. Their queries are planned once a process and run by the node's runner, whose turns are calls
//! ([`RunnerDriver`](millpond_streams::run::RunnerDriver)); while one waits for the disk in the middle of a step, clients, readers
//! and other queries go on. Their state lies on the simulated disk in a simple store that stands for RocksDB
//! (`millpond_state`'s `database` names the promises). What a reader was shown must stay as it was; a query that has recovered
//! shows all of it; and at the end, when nothing disturbs any more, each topic must hold what a calm node gives that reads the
//! same input: the same bytes, or, where rows of several partitions are put one after the other, the same rows.
//!
//! Now and then a **backup** of the running node is taken (`backups`), read while everything goes on, and another node started on it.
//!
//! What is not simulated: statements (`_millpond_sql` and the catalog: the queries are handed to the runner), DROP, RocksDB itself,
//! and the wire protocol.
//!
//! # What it promises
//!
//! - The same seed makes the same calls to the disk in the same order; [`Summary::trace`] tells.
//! - A failure names the seed and what led to it; `make simulate SEED=…` runs it again.
//! - Each [`Mutation`] is a mistake that somebody could make, and is noticed within a few hundred seeds.

mod actions;
mod backups;
mod checks;
mod groups;
mod inspection;
mod model;
mod mutation;
mod node;
mod run;
mod streams;
mod world;

pub use mutation::Mutation;
pub use run::{Failure, Options, Summary, simulate, simulate_all};
