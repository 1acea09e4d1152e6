//! When the next round begins.
//!
//! At once, as long as a round serves one append: then somebody waits for it before sending more, and waiting gains
//! nothing. When rounds serve several, more are on their way, and the next round waits for them a little: each round
//! costs the same however many it serves.

use std::time::{Duration, Instant};

use super::queue::SyncQueue;

/// From one round's beginning to the next one's, at most, while appends keep coming.
const SPACING: Duration = Duration::from_micros(1000);

/// When nothing came for so long, nothing is waited for any more: all who send wait for their answers.
const QUIET: Duration = Duration::from_micros(200);

/// The pace of one thread's rounds.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    /// The last round served more than one append.
    shared: bool,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { began: Instant::now(), shared: false }
    }

    /// Waits until the next round should begin. Says whether to go on.
    pub(super) fn wait(&mut self, queue: &SyncQueue) -> bool {
        let due = self.began + SPACING;
        let mut now = Instant::now();
        while self.shared && now < due {
            let seen = queue.requests();
            if !queue.sleep_until(due.min(now + QUIET)) {
                return false;
            }
            now = Instant::now();
            if queue.requests() == seen {
                break;
            }
        }
        self.began = now;
        true
    }

    /// The round that began last has served so many appends.
    pub(super) fn served(&mut self, appends: usize) {
        self.shared = appends > 1;
    }
}
