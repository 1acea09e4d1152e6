//! The log as its callers see it: on a real disk, through its public interface.

mod committed;
mod compacted_transactions;
mod compaction;
mod concurrency;
mod crash;
mod files;
mod freeze;
mod idempotence;
mod inspection;
mod journal;
mod model;
mod power_cuts;
mod reading;
mod retention;
mod scratch;
mod spilled_keys;
mod take_over;
mod transactions;
mod truncation;
