//! The node as its callers see it, on a real disk.

mod batch_rules;
mod compaction;
mod data_folder;
mod frozen;
mod full_disk;
mod gates;
mod groups;
mod journal;
mod killed;
mod new_data_folder;
mod retention;
mod start;
mod support;
mod topics;
mod transactions;
mod visibility;
mod writing;
