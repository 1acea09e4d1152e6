//! Who is in the group?
//!
//! Owns consumer groups of the classic protocol (any protocol type: consumers, Connect, Schema Registry) and the
//! offsets that they commit, as a state machine without I/O, clock or randomness:
//!
//! ```text
//! (Coordinator, request, now) -> Outcome { records, replies }
//! ```
//!
//! and the form that groups and offsets have in `__consumer_offsets`, byte for byte Kafka's, since its tools and
//! Burrow read that topic. It knows neither sockets nor logs: the caller keeps `__consumer_offsets`, makes an
//! outcome's records durable **before** it sends that outcome's replies, and releases outcomes in the order in which
//! it got them (a later reply may tell what an earlier outcome's records say).
//!
//! A caller's life: [`Coordinator::new`]; [`replay`](Coordinator::replay) of every record of `__consumer_offsets`, then
//! once [`loaded`](Coordinator::loaded); then [`request`](Coordinator::request) as they come,
//! [`tick`](Coordinator::tick) not later than [`next_deadline_ms`](Coordinator::next_deadline_ms) says, and
//! [`forget`](Coordinator::forget) when a connection with a waiting request has died.
//!
//! Start with [`Coordinator`], then `group.rs` for the states, `join.rs` and `sync.rs` for the rebalance.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod admin;
mod coordinator;
mod error;
mod group;
mod join;
mod offsets;
mod options;
mod records;
mod request;
mod response;
mod subscription;
mod sync;

pub use coordinator::{Coordinator, Outcome, Token};
pub use error::GroupError;
pub use options::GroupOptions;
pub use records::{
    GroupValue, MemberValue, OffsetValue, OffsetsKey, OffsetsRecord, OffsetsValue, RecordError, partition_for,
};
pub use request::*;
pub use response::*;
pub use subscription::subscribed_topics;
