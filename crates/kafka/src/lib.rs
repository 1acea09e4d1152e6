//! What did the client say?
//!
//! Owns Kafka's wire protocol: sockets, frames, versions, error codes, fetch sessions, and one file for each API.
//! It is the only crate that knows kafka-protocol, and it decides nothing about records, topics or groups: it decodes,
//! asks the [`Broker`](millpond_broker::Broker), and encodes what that says.
//!
//! - `apis.rs` is the list that dispatch, ApiVersions and the README's table come from.
//! - `connection.rs` is a connection's life, from its bytes to its answers.
//! - `error_code.rs` is where Kafka's error codes are chosen.
//! - `limits.rs` names every bound.
//!
//! Start with [`Server`], then `connection.rs`, then any file under `apis/`.

mod answer;
mod apis;
mod budget;
mod call;
mod connection;
mod error_code;
mod groups;
mod input;
mod limits;
mod low_water;
mod metrics;
mod node;
mod operations;
mod resources;
mod server;
mod shape;
mod wire;

pub use apis::supported_apis;
pub use node::Endpoint;
pub use server::{BindError, Server, ServerOptions};
