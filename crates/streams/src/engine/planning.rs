//! Plans statements on threads of their own: with deep stacks, few at a time, at low priority, for a bounded time. A
//! panic in there is the statement's error and nobody else's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use crate::sql::error::{SqlResult, StatementError};

/// Stack of a planning thread, in bytes. Only what is used is ever made real.
const STACK_BYTES: usize = 64 << 20;

/// How much lower the priority of the queries' threads is than the broker's (a nice value).
const NICENESS: i32 = 10;

/// Lets the calling thread give way to others.
pub(crate) fn lower_priority() {
    // On Linux the nice value belongs to the thread. That it cannot be set is no reason not to work.
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// Where planning happens.
pub(crate) struct Planning {
    permits: Arc<Semaphore>,
    time_max: Duration,
}

impl Planning {
    pub(crate) fn new(at_a_time: usize, time_max: Duration) -> Planning {
        Planning { permits: Arc::new(Semaphore::new(at_a_time.max(1))), time_max }
    }

    /// Runs `work` on a thread of its own and gives what it gives, or says that it takes too long.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> SqlResult<T> + Send + 'static,
    ) -> SqlResult<T> {
        let too_long = || {
            StatementError::limit(format!("planning the statement takes longer than {} ms", self.time_max.as_millis()))
        };
        let busy = || {
            StatementError::limit("other statements keep all planners busy".to_owned())
                .with_hint("try again in a moment")
        };
        let permit = tokio::time::timeout(self.time_max, self.permits.clone().acquire_owned());
        let permit = permit.await.map_err(|_| busy())?.map_err(|_| stopping())?;
        let planned = async {
            let (sender, receiver) = oneshot::channel();
            std::thread::Builder::new()
                .name("planning".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    lower_priority();
                    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
                        Err(StatementError::execution(
                            "the statement could not be planned: an internal error (a panic)",
                        ))
                    });
                    drop(sender.send(outcome));
                    // Kept to the end, so that statements that take for ever cannot pile up.
                    drop(permit);
                })
                .map_err(|error| StatementError::execution(format!("no thread for planning: {error}")))?;
            receiver.await.map_err(|_| stopping())?
        };
        tokio::time::timeout(self.time_max, planned).await.unwrap_or_else(|_| Err(too_long()))
    }
}

fn stopping() -> StatementError {
    StatementError::execution("the node is stopping")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_the_statements_error() {
        let planning = Planning::new(1, Duration::from_secs(60));
        let error = planning.run::<()>(|| panic!("a bug")).await.unwrap_err();
        assert_eq!(error.message, "the statement could not be planned: an internal error (a panic)");
        assert_eq!(planning.run(|| Ok(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn planning_without_an_end_is_given_up() {
        let planning = Planning::new(1, Duration::from_millis(10));
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let error = planning
            .run(move || {
                let _stopped = wait.recv();
                Ok(())
            })
            .await
            .unwrap_err();
        assert_eq!(error.message, "planning the statement takes longer than 10 ms");
        drop(stop);
    }
}
