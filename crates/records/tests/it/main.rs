//! Batches as their callers see them.

mod batches;
mod control;
mod hostile;
mod retain;
