//! Stories of groups, told through the coordinator's public face.

mod admin;
mod bounds;
mod harness;
mod interleavings;
mod offsets;
mod rebalance;
mod replay;
mod static_members;
