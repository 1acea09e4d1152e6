//! A line on stderr, if that is a terminal, that tells how far the import is.

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use millpond_types::TopicPartition;

/// How often it is shown.
const INTERVAL: Duration = Duration::from_millis(200);

/// Gone from the terminal when it is dropped.
pub(super) struct Progress {
    is_shown: bool,
    bytes_all: u64,
    bytes: Cell<u64>,
    shown: Cell<Option<Instant>>,
    partition: RefCell<String>,
}

impl Progress {
    pub(super) fn new(bytes_all: u64) -> Progress {
        Progress {
            is_shown: io::stderr().is_terminal(),
            bytes_all,
            bytes: Cell::new(0),
            shown: Cell::new(None),
            partition: RefCell::default(),
        }
    }

    pub(super) fn begin(&self, partition: &TopicPartition) {
        if self.is_shown {
            *self.partition.borrow_mut() = partition.to_string();
            self.add(0);
        }
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        if !self.is_shown || self.shown.get().is_some_and(|shown| shown.elapsed() < INTERVAL) {
            return;
        }
        self.shown.set(Some(Instant::now()));
        let (done, all) = (self.bytes.get() / 1_000_000, self.bytes_all / 1_000_000);
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "\r\x1b[K{done} of {all} MB: {}", self.partition.borrow());
        let _ = stderr.flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.get().is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
