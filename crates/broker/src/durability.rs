//! Who waits for a partition's records to be safe, and what they are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_types::Offset;
use parking_lot::Mutex;

use crate::waiter::{Waiter, Watchers, wake_all};

/// Why nothing more of a partition will become durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A sync failed, for this reason. It is never tried again: what the failed one left behind is unknown.
    Poisoned(String),
    /// The topic was deleted.
    Deleted,
    /// The node stops.
    Stopped,
}

/// The durable end of one partition, and who waits for it.
#[derive(Debug)]
pub(crate) struct Durability {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    end: Offset,
    ended: Option<Ended>,
    watchers: Watchers,
}

impl Durability {
    /// Of a log that is durable below `end`.
    pub(crate) fn new(end: Offset) -> Durability {
        Durability { state: Mutex::new(State { end, ended: None, watchers: Watchers::default() }) }
    }

    /// The end is at least `end` now.
    pub(crate) fn moved_to(&self, end: Offset) {
        let due = {
            let mut state = self.state.lock();
            state.end = state.end.max(end);
            let end = state.end;
            state.watchers.take_up_to(end)
        };
        wake_all(due);
    }

    /// The log was cut at `end`.
    pub(crate) fn cut(&self, end: Offset) {
        let mut state = self.state.lock();
        state.end = state.end.min(end);
    }

    /// Nothing more becomes durable. The first reason stays. Says whether this was the first.
    pub(crate) fn end(&self, reason: Ended) -> bool {
        let (first, due) = {
            let mut state = self.state.lock();
            let first = state.ended.is_none();
            state.ended.get_or_insert(reason);
            (first, state.watchers.take_all())
        };
        wake_all(due);
        first
    }

    /// Why nothing more becomes durable, if so.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.state.lock().ended.clone()
    }

    /// Whether everything below `end` is durable; none when it is not yet.
    pub(crate) fn reached(&self, end: Offset) -> Option<Result<(), Ended>> {
        let state = self.state.lock();
        if state.end >= end { Some(Ok(())) } else { state.ended.clone().map(Err) }
    }

    /// Waits until everything below `end` is durable.
    pub(crate) async fn wait(&self, end: Offset) -> Result<(), Ended> {
        if let Some(answer) = self.reached(end) {
            return answer;
        }
        let waiter = Waiter::new();
        loop {
            self.watch(end, &waiter);
            if let Some(answer) = self.reached(end) {
                return answer;
            }
            waiter.notified().await;
        }
    }

    /// The same for a thread, for at most `timeout`; none when that was not enough.
    pub(crate) fn wait_blocking(&self, end: Offset, timeout: Duration) -> Option<Result<(), Ended>> {
        let started = Instant::now();
        let waiter = Waiter::new();
        loop {
            self.watch(end, &waiter);
            if let Some(answer) = self.reached(end) {
                return Some(answer);
            }
            let left = timeout.checked_sub(started.elapsed())?;
            waiter.wait(left);
        }
    }

    fn watch(&self, end: Offset, waiter: &Arc<Waiter>) {
        self.state.lock().watchers.add(end, waiter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_durable_before_the_end_of_it_all_stays_durable() {
        let durability = Durability::new(5);
        assert!(durability.end(Ended::Poisoned("input/output error".to_owned())));
        assert!(!durability.end(Ended::Stopped));
        assert_eq!(durability.reached(5), Some(Ok(())));
        assert_eq!(durability.reached(6), Some(Err(Ended::Poisoned("input/output error".to_owned()))));
    }

    #[test]
    fn a_wait_ends_when_the_end_is_reached_or_time_is_up() {
        let durability = Arc::new(Durability::new(0));
        assert_eq!(durability.wait_blocking(1, Duration::ZERO), None);
        let mover = durability.clone();
        let thread = std::thread::spawn(move || (1..=100).for_each(|end| mover.moved_to(end)));
        assert_eq!(durability.wait_blocking(100, Duration::from_secs(60)), Some(Ok(())));
        thread.join().unwrap();
    }
}
