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
//! What is not simulated: registered streams, and the wire protocol.
//!
//! # What it promises
//!
//! - The same seed makes the same calls to the disk in the same order; [`Summary::trace`] tells.
//! - A failure names the seed and what led to it; `make simulate SEED=…` runs it again.
//! - Each [`Mutation`] is a mistake that somebody could make, and is noticed within a few hundred seeds.

mod actions;
mod checks;
mod groups;
mod inspection;
mod model;
mod mutation;
mod node;
mod run;
mod world;

pub use mutation::Mutation;
pub use run::{Failure, Options, Summary, simulate, simulate_all};
