//! The protocol against a real broker: every API in every version that is advertised, driven by kafka-protocol's
//! client side over a socket.

mod admin;
mod client;
mod groups;
mod limits;
mod listing;
mod protocol;
mod records;
mod sessions;
mod transactions;
