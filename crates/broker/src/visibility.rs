//! Up to where the records of a partition are shown.
//!
//! The visible end is the high watermark that clients see. Invariants:
//!
//! - it is never above the ready end (what is durable; or, when the node does not sync before it
//!   answers, what is appended), so nothing is shown that a power cut could take back;
//! - it is never above the limit of a held partition, so nobody sees half of a stream's step;
//! - it never moves back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use millpond_types::Offset;
use parking_lot::Mutex;

use crate::frozen::Ends;
use crate::waiter::{Waiter, Watchers, wake_all};

/// The limit of a partition that nobody holds.
const NO_LIMIT: Offset = Offset::MAX;

/// The visible end of one partition, and who waits for it to move.
#[derive(Debug)]
pub(crate) struct Visibility {
    /// A copy of what the lock guards, for the readers.
    visible_end: AtomicI64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ready_end: Offset,
    limit: Offset,
    watchers: Watchers,
}

impl Visibility {
    /// Of a partition that is open and all of whose records up to `ready_end` may be shown; when `held_at` is
    /// given, only those below it.
    pub(crate) fn new(ready_end: Offset, held_at: Option<Offset>) -> Visibility {
        let limit = held_at.unwrap_or(NO_LIMIT);
        Visibility {
            visible_end: AtomicI64::new(ready_end.min(limit)),
            state: Mutex::new(State { ready_end, limit, watchers: Watchers::default() }),
        }
    }

    /// The visible end.
    pub(crate) fn end(&self) -> Offset {
        self.visible_end.load(Ordering::Acquire)
    }

    /// The end below which records are safe has moved to `ready_end` (or was there already).
    pub(crate) fn ready(&self, ready_end: Offset) {
        self.change(|state| state.ready_end = state.ready_end.max(ready_end));
    }

    /// From now on the visible end stays where it is, until [`Visibility::reveal`] says so.
    pub(crate) fn hold(&self) {
        self.change(|state| {
            if state.limit == NO_LIMIT {
                state.limit = state.ready_end;
            }
        });
    }

    /// Whether somebody holds the partition.
    pub(crate) fn is_held(&self) -> bool {
        self.state.lock().limit != NO_LIMIT
    }

    /// The ready end, and below which nothing is cut.
    pub(crate) fn ends(&self) -> Ends {
        let State { ready_end, limit, .. } = *self.state.lock();
        Ends { ready: ready_end, settled: ready_end.min(limit) }
    }

    /// Shows the records below `end`, as soon as they are ready, and goes on holding those above.
    pub(crate) fn reveal(&self, end: Offset) {
        self.change(|state| {
            if state.limit != NO_LIMIT {
                state.limit = state.limit.max(end);
            }
        });
    }

    /// Ends the holding: everything that is ready is shown.
    pub(crate) fn release(&self) {
        self.change(|state| state.limit = NO_LIMIT);
    }

    /// The log was cut at `end`, which no reader has seen beyond: what comes there again has to become ready again.
    ///
    /// # Panics
    /// When records were cut that had been shown.
    pub(crate) fn cut(&self, end: Offset) {
        let mut state = self.state.lock();
        assert!(end >= self.end(), "a log was cut at {end}, below its visible end {}", self.end());
        state.ready_end = state.ready_end.min(end);
        if state.limit != NO_LIMIT {
            state.limit = state.limit.min(end);
        }
    }

    /// The log now starts at `log_start`: a held partition shows nothing less than that.
    pub(crate) fn started_at(&self, log_start: Offset) {
        self.reveal(log_start);
    }

    /// Wakes `waiter` at the next move of the visible end.
    pub(crate) fn watch(&self, waiter: &Arc<Waiter>) {
        let mut state = self.state.lock();
        let next = self.end() + 1;
        state.watchers.add(next, waiter);
    }

    /// Wakes everybody: the partition is gone, or there is a reason to look again.
    pub(crate) fn wake_all(&self) {
        let due = self.state.lock().watchers.take_all();
        wake_all(due);
    }

    fn change(&self, apply: impl FnOnce(&mut State)) {
        let due = {
            let mut state = self.state.lock();
            apply(&mut state);
            let end = state.ready_end.min(state.limit);
            if end <= self.end() {
                return;
            }
            self.visible_end.store(end, Ordering::Release);
            state.watchers.take_up_to(end)
        };
        wake_all(due);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_held_partition_shows_nothing_until_it_is_revealed() {
        let visibility = Visibility::new(10, Some(3));
        assert_eq!(visibility.end(), 3);
        visibility.ready(20);
        assert_eq!(visibility.end(), 3);
        visibility.reveal(12);
        assert_eq!(visibility.end(), 12);
    }

    #[test]
    fn what_is_revealed_before_it_is_ready_is_shown_when_it_is() {
        let visibility = Visibility::new(10, Some(10));
        visibility.reveal(15);
        assert_eq!(visibility.end(), 10);
        visibility.ready(13);
        assert_eq!(visibility.end(), 13);
        visibility.ready(20);
        assert_eq!(visibility.end(), 15);
    }

    #[test]
    fn a_cut_keeps_the_records_that_follow_hidden_until_they_are_ready() {
        let visibility = Visibility::new(10, Some(4));
        visibility.cut(6);
        visibility.reveal(9);
        assert_eq!(visibility.end(), 6, "6 to 8 were cut; what stands there now is not durable yet");
        visibility.ready(8);
        assert_eq!(visibility.end(), 8);
    }

    #[test]
    fn the_visible_end_never_moves_back() {
        let visibility = Visibility::new(10, None);
        visibility.ready(5);
        visibility.hold();
        visibility.reveal(2);
        assert_eq!(visibility.end(), 10);
        visibility.ready(12);
        assert_eq!(visibility.end(), 10);
        visibility.release();
        assert_eq!(visibility.end(), 12);
    }

    #[test]
    fn only_a_move_wakes_those_who_watch() {
        let visibility = Visibility::new(10, None);
        let waiter = Waiter::new();
        visibility.watch(&waiter);
        visibility.ready(10);
        assert!(!waiter.wait(Duration::ZERO));
        visibility.ready(11);
        assert!(waiter.wait(Duration::ZERO));
    }

    #[test]
    #[should_panic(expected = "below its visible end")]
    fn records_that_were_shown_are_never_cut() {
        Visibility::new(10, None).cut(9);
    }
}
