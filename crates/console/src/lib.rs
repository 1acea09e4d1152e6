//! What does the operator see?
//!
//! Owns the HTTP listener: health, metrics, SQL over HTTP, the list of streams. It decides nothing about topics or
//! queries: the engine executes, this crate carries text in and rows out.
//!
//! | path | answer |
//! |---|---|
//! | `GET /health` | 200 as soon as the process listens: it lives |
//! | `GET /ready` | 200 when clients are served, 503 before (logs are verified) and while stopping |
//! | `GET /metrics` | all figures, in the text format that Prometheus reads |
//! | `GET /streams` | the registered streams and how they do, as JSON |
//! | `POST /sql` | executes the statements in the body; see [`sql`] |
//!
//! Errors are JSON: `{"error": {"kind", "message", "line", "column", "hint"}}`, with an HTTP status that says whose
//! fault it is. Requests that a browser sends for a foreign page are refused (`origin.rs`).
//!
//! Start reading at [`Console`].

mod answer;
mod connection;
mod listener;
mod origin;
mod routes;
mod server;
pub mod sql;

pub use server::{Console, ConsoleError, ConsoleHandle, ConsoleOptions, Parts};
