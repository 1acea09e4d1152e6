//! The streams of a real node on a real disk.

mod garbage;
mod gate;
mod refusals;
mod restarts;
mod selects;
mod statements;
mod support;
mod windows;
