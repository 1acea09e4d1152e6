//! The log as its callers see it: on a real disk, through its public interface.

mod compaction;
mod concurrency;
mod crash;
mod files;
mod idempotence;
mod inspection;
mod journal;
mod model;
mod reading;
mod retention;
mod scratch;
mod take_over;
mod truncation;
