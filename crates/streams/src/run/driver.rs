//! The runner's threads and tasks, as calls: for who wants to choose the order in which things happen, as a simulation does.
//!
//! Each call is one turn, on the caller's thread. All that a turn does is what it does on the queries' threads; what differs is
//! who waits for the disk (`waits`).

use std::sync::Arc;

use millpond_broker::Broker;
use millpond_metadata::Image;
use parking_lot::Mutex;

use super::runner::Runner;

/// Gives queries their turns. Made by [`Runner::open_driven`].
pub struct RunnerDriver {
    runner: Arc<Runner>,
    broker: Arc<Broker>,
    /// The metadata when the topics were last looked at.
    known: Mutex<Arc<Image>>,
}

impl RunnerDriver {
    pub(crate) fn new(runner: Arc<Runner>, broker: Arc<Broker>) -> RunnerDriver {
        let known = Mutex::new(broker.image());
        RunnerDriver { runner, broker, known }
    }

    /// How many queries want a turn.
    pub fn waiting(&self) -> usize {
        self.runner.ready.waiting()
    }

    /// One turn of the query that stands at `place` among those that want one, the first at 0: it recovers, or takes a step.
    /// Gives its name; none if nobody stands there. May be called in the middle of another query's turn, when that waits for
    /// the disk.
    pub fn turn(&self, place: usize) -> Option<String> {
        let query = self.runner.ready.take(place)?;
        let name = query.spec.name.clone();
        let again = query.take_turn();
        self.runner.ready.done(query, again);
        Some(name)
    }

    /// Those queries want a turn whose inputs have something new, or whose time has come.
    pub fn wake(&self) {
        let now_ms = self.broker.now_ms();
        self.runner.each(|query| {
            if query.is_due(now_ms) {
                self.runner.ready.add(query);
            }
        });
    }

    /// All queries want a turn, if something in the node's metadata changed since the last call: there may be new partitions.
    pub fn look_at_topics(&self) {
        let image = self.broker.image();
        let mut known = self.known.lock();
        if !Arc::ptr_eq(&image, &known) {
            *known = image;
            self.runner.wake_all();
        }
    }
}

impl std::fmt::Debug for RunnerDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunnerDriver").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}
