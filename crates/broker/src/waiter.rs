//! Waiting until something moved: a fetch for new records, a produce for its sync, a query for its input.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use millpond_types::Offset;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// One who waits, on any number of partitions at once.
///
/// Register it ([`crate::Partition::watch`]), then look whether there is already enough, then wait. In this
/// order no move is lost: one that comes after the look finds the waiter registered. A registration is
/// used up by its first wake; dropping the waiter ends all its registrations.
#[derive(Debug, Default)]
pub struct Waiter {
    woken: Mutex<bool>,
    /// For threads.
    condition: Condvar,
    /// For tasks. It keeps one permit, so a wake between look and wait is not lost.
    notify: Notify,
}

impl Waiter {
    /// A waiter that nothing wakes yet.
    pub fn new() -> Arc<Waiter> {
        Arc::new(Waiter::default())
    }

    /// Waits until something woke this waiter since the last wait ended. Dropping the future forgets nothing.
    pub async fn notified(&self) {
        loop {
            if std::mem::take(&mut *self.woken.lock()) {
                return;
            }
            self.notify.notified().await;
        }
    }

    /// The same for a thread, for at most `timeout`. Says whether it was woken.
    pub fn wait(&self, timeout: Duration) -> bool {
        // A timeout beyond what the clock can count is as good as none.
        let deadline = Instant::now().checked_add(timeout);
        let mut woken = self.woken.lock();
        while !*woken {
            let timed_out = match deadline {
                Some(deadline) => self.condition.wait_until(&mut woken, deadline).timed_out(),
                None => {
                    self.condition.wait(&mut woken);
                    false
                }
            };
            if timed_out {
                break;
            }
        }
        std::mem::take(&mut *woken)
    }

    /// Wakes whoever waits here, or the next who will.
    pub fn wake(&self) {
        let mut woken = self.woken.lock();
        if !std::mem::replace(&mut *woken, true) {
            self.condition.notify_all();
            self.notify.notify_one();
        }
    }
}

/// How many registrations a list may hold before the dropped and the double ones are first looked for.
const WATCHERS_BEFORE_SWEEP_MIN: usize = 16;

/// Who waits for an end to reach some offset.
///
/// Bounded by the number of living waiters: registrations whose waiter was dropped, or who registered again, go
/// when the list has doubled since the last sweep.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    waiting: Vec<(Offset, Weak<Waiter>)>,
    sweep_at: usize,
}

impl Watchers {
    /// Wakes `waiter` once, when the end is `at_least`.
    pub(crate) fn add(&mut self, at_least: Offset, waiter: &Arc<Waiter>) {
        if self.waiting.len() >= self.sweep_at.max(WATCHERS_BEFORE_SWEEP_MIN) {
            // The lowest bound of each living waiter stays: it is the first that would wake it.
            self.waiting.sort_unstable_by_key(|(bound, waiter)| (waiter.as_ptr(), *bound));
            self.waiting.dedup_by(|later, kept| later.1.ptr_eq(&kept.1));
            self.waiting.retain(|(_, waiter)| waiter.strong_count() > 0);
            self.sweep_at = 2 * self.waiting.len();
        }
        self.waiting.push((at_least, Arc::downgrade(waiter)));
    }

    /// Takes out who waits for `end` or less.
    pub(crate) fn take_up_to(&mut self, end: Offset) -> Vec<Weak<Waiter>> {
        let mut due = Vec::new();
        self.waiting.retain_mut(|(bound, waiter)| {
            let wake = *bound <= end;
            if wake {
                due.push(std::mem::take(waiter));
            }
            !wake
        });
        due
    }

    /// Takes out everybody.
    pub(crate) fn take_all(&mut self) -> Vec<Weak<Waiter>> {
        self.waiting.drain(..).map(|(_, waiter)| waiter).collect()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// Wakes all that still live. Called without the list's lock, so that the woken do not queue up at it.
pub(crate) fn wake_all(waiters: Vec<Weak<Waiter>>) {
    for waiter in waiters {
        if let Some(waiter) = waiter.upgrade() {
            waiter.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_before_the_wait_is_not_lost() {
        let waiter = Waiter::new();
        waiter.wake();
        assert!(waiter.wait(Duration::ZERO));
        assert!(!waiter.wait(Duration::ZERO), "one wake, one wait");
    }

    #[tokio::test]
    async fn a_task_sees_a_wake_that_a_thread_gave() {
        let waiter = Waiter::new();
        let waker = waiter.clone();
        let thread = std::thread::spawn(move || waker.wake());
        waiter.notified().await;
        thread.join().unwrap();
        waiter.wake();
        waiter.wake();
        waiter.notified().await;
        // The permit that Notify kept of the last wake must not end a wait that nothing ended.
        let second = tokio::time::timeout(Duration::from_millis(20), waiter.notified()).await;
        assert!(second.is_err(), "two wakes before one wait are one");
    }

    #[test]
    fn only_those_whose_bound_is_reached_are_taken() {
        let mut watchers = Watchers::default();
        let (near, far) = (Waiter::new(), Waiter::new());
        watchers.add(5, &near);
        watchers.add(10, &far);
        wake_all(watchers.take_up_to(7));
        assert!(near.wait(Duration::ZERO));
        assert!(!far.wait(Duration::ZERO));
        wake_all(watchers.take_up_to(10));
        assert!(far.wait(Duration::ZERO));
    }

    #[test]
    fn dropped_and_repeated_waiters_do_not_pile_up() {
        let mut watchers = Watchers::default();
        let faithful = Waiter::new();
        for round in 0..10_000 {
            watchers.add(round, &Waiter::new());
            watchers.add(round, &faithful);
        }
        assert!(watchers.len() <= 2 * WATCHERS_BEFORE_SWEEP_MIN, "{} registrations", watchers.len());
        wake_all(watchers.take_up_to(0));
        assert!(faithful.wait(Duration::ZERO), "the lowest bound was kept");
    }
}
