//! The one door to the time: everything of the node that asks how late it is asks here.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use millpond_types::TimestampMs;

/// The node's clock, in milliseconds since 1970. Cheap to clone; clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// The time that a test set; none for the machine's clock.
    set_by_hand: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Clock {
        Clock { set_by_hand: None }
    }

    /// A clock that stands at `now_ms` until [`Clock::advance`] moves it: for tests of retention and sessions.
    pub fn standing_at(now_ms: TimestampMs) -> Clock {
        Clock { set_by_hand: Some(Arc::new(AtomicI64::new(now_ms))) }
    }

    /// Moves a standing clock on by `by_ms`.
    ///
    /// # Panics
    /// When this is the machine's clock.
    pub fn advance(&self, by_ms: i64) {
        let time = self.set_by_hand.as_ref().expect("only a standing clock can be moved");
        time.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// The time now.
    pub fn now_ms(&self) -> TimestampMs {
        match &self.set_by_hand {
            Some(time) => time.load(Ordering::SeqCst),
            None => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
                // A machine whose clock stands before 1970 gets 1970.
                Err(_) => 0,
            },
        }
    }
}
