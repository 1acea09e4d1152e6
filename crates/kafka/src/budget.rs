//! Memory that all connections share, counted in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that may be taken, and is given back when the [`Taken`] is dropped.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
}

/// A share of a [`Budget`].
#[derive(Debug)]
pub(crate) struct Taken {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: usize) -> Arc<Budget> {
        Arc::new(Budget { left: AtomicUsize::new(bytes) })
    }

    /// Takes up to `wanted` bytes: what is left, if that is less. Never waits.
    pub(crate) fn take(self: &Arc<Budget>, wanted: usize) -> Taken {
        let mut left = self.left.load(Ordering::Relaxed);
        loop {
            let bytes = wanted.min(left);
            match self.left.compare_exchange_weak(left, left - bytes, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Taken { budget: self.clone(), bytes },
                Err(now) => left = now,
            }
        }
    }

    #[cfg(test)]
    fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }
}

impl Taken {
    /// How many bytes were taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back all but `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        self.budget.left.fetch_add(surplus, Ordering::Relaxed);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_and_nothing_is_taken_twice() {
        let budget = Budget::new(100);
        let mut first = budget.take(70);
        let second = budget.take(70);
        assert_eq!((first.bytes(), second.bytes(), budget.left()), (70, 30, 0));
        first.shrink(20);
        assert_eq!(budget.left(), 50);
        drop((first, second));
        assert_eq!(budget.left(), 100);
    }
}
