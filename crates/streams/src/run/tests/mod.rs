//! Stories of whole queries on a real node: from records in topics to records in topics.

mod driven;
mod exactly_once;
mod rows;
mod steering;
pub(super) mod support;
mod transactions;
mod windows;
