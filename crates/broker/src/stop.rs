//! A thread of the node that works from time to time, from outside.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct StoppableThread {
    stop: Arc<Stop>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Tells the thread to end.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopping: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Sleeps until `until`. Says whether to go on.
    pub(crate) fn sleep(&self, until: Instant) -> bool {
        let mut stopping = self.stopping.lock();
        while !*stopping {
            if self.changed.wait_until(&mut stopping, until).timed_out() {
                break;
            }
        }
        !*stopping
    }
}

impl StoppableThread {
    /// Starts the thread; `work` asks from time to time whether to go on.
    pub(crate) fn start(name: &str, work: impl FnOnce(&Stop) + Send + 'static) -> std::io::Result<StoppableThread> {
        let stop = Arc::new(Stop::default());
        let stopping = stop.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&stopping))?;
        Ok(StoppableThread { stop, thread: Mutex::new(Some(thread)) })
    }

    /// No thread: the caller does what is to be done.
    pub(crate) fn none() -> StoppableThread {
        StoppableThread { stop: Arc::default(), thread: Mutex::new(None) }
    }

    /// Ends the thread after what it is doing.
    pub(crate) fn stop(&self) {
        *self.stop.stopping.lock() = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // A thread that panicked has printed its message.
            let _ = thread.join();
        }
    }
}

impl Drop for StoppableThread {
    fn drop(&mut self) {
        self.stop();
    }
}
