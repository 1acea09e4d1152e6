//! The console over a socket, without a node behind it.

mod connections;
