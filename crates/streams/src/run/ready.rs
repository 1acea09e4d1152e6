//! The queries that wait for a thread.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::running::Running;

/// Who is next: first come, first served. A query stands in it once at most, and stands behind all others after each of
/// its steps, so none waits for more than one step of each.
#[derive(Default)]
pub(crate) struct Ready {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Running>>,
    closed: bool,
}

impl Ready {
    /// The query wants a turn. One that has its turn now gets another one after it.
    pub(crate) fn add(&self, query: &Arc<Running>) {
        if query.turn.ask() {
            self.push(query.clone());
        }
    }

    fn push(&self, query: Arc<Running>) {
        self.queue.lock().waiting.push_back(query);
        self.arrived.notify_one();
    }

    /// The next query; waits for one. None when the queue is closed.
    pub(crate) fn next(&self) -> Option<Arc<Running>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(query) = queue.waiting.pop_front() {
                query.turn.begin();
                return Some(query);
            }
            self.arrived.wait(&mut queue);
        }
    }

    /// The query at `place`, if one stands there.
    pub(crate) fn take(&self, place: usize) -> Option<Arc<Running>> {
        let query = self.queue.lock().waiting.remove(place)?;
        query.turn.begin();
        Some(query)
    }

    /// How many stand in the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }

    /// The turn of `query` is over; with `again` it wants another one.
    pub(crate) fn done(&self, query: Arc<Running>, again: bool) {
        if query.turn.end(again) {
            self.push(query);
        }
    }

    /// Nobody gets a turn any more.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.waiting.clear();
        self.arrived.notify_all();
    }
}

/// Where a query is between its turns.
#[derive(Default)]
pub(crate) struct Turn(Mutex<Phase>);

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Phase {
    #[default]
    Asleep,
    Queued,
    Running,
    /// Somebody asked during the turn.
    RunningAndAsked,
}

impl Turn {
    /// Whether the query has to be put into the queue.
    fn ask(&self) -> bool {
        let mut phase = self.0.lock();
        match *phase {
            Phase::Asleep => {
                *phase = Phase::Queued;
                true
            }
            Phase::Running => {
                *phase = Phase::RunningAndAsked;
                false
            }
            Phase::Queued | Phase::RunningAndAsked => false,
        }
    }

    fn begin(&self) {
        *self.0.lock() = Phase::Running;
    }

    /// Whether the query has to be put into the queue again.
    fn end(&self, again: bool) -> bool {
        let mut phase = self.0.lock();
        let queue = again || *phase == Phase::RunningAndAsked;
        *phase = if queue { Phase::Queued } else { Phase::Asleep };
        queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_twice_stands_in_the_queue_once() {
        let turn = Turn::default();
        assert!(turn.ask());
        assert!(!turn.ask());
        turn.begin();
        assert!(!turn.end(false));
        assert!(turn.ask(), "asleep again");
    }

    #[test]
    fn who_is_asked_during_its_turn_gets_another() {
        let turn = Turn::default();
        turn.ask();
        turn.begin();
        assert!(!turn.ask(), "it runs");
        assert!(turn.end(false), "but was asked");
        turn.begin();
        assert!(turn.end(true));
    }
}
