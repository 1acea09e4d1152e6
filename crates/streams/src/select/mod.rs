//! One-time SELECTs: what is there now, and then the end.
//!
//! The same logical plan as of a registered query, run by DataFusion over the records that are visible when it starts.
//! Windows are all given, also those that a stream would still keep open; rows that come too late for their window
//! are left out as a stream leaves them out ([`late_rows`]). So it is what a registered query can be compared with.

mod execute;
mod late_rows;
mod topic_table;
mod window_start;

pub use crate::engine::{RowStream, SelectNotes};
pub(crate) use execute::{PlannedSelect, Selection, Selects, plan_select};
