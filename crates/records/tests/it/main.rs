//! Batches as their callers see them.

mod batches;
mod hostile;
mod retain;
