//! Who does what a query waits for: other threads and a runtime, or, where there are none, the caller itself.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use millpond_broker::{Partition, ProduceError};
use millpond_types::Offset;
use tokio::runtime::Handle;
use tokio::task::JoinError;

/// How long a sync may take before the query that waits for it fails.
const SYNC_TIMEOUT: Duration = Duration::from_secs(60);

/// Has everything synced that was appended to a partition. Whether that went well, the partition knows.
pub type SyncHook = Arc<dyn Fn(&Partition) + Send + Sync>;

/// The one difference between a runner with threads and one that is driven.
#[derive(Clone)]
pub(crate) enum Waits {
    /// The node has threads, and this runtime tasks.
    Threads(Handle),
    /// Nobody else is at work while a query has its turn: what it waits for is done by this, at once.
    Caller(SyncHook),
}

impl Waits {
    /// What comes of `work`. Not to be called on a thread of the runtime.
    ///
    /// # Panics
    /// When there is no runtime and the work waits: without one, the broker does at once what waits for the disk.
    pub(crate) fn finish<F: Future>(&self, work: F) -> F::Output {
        match self {
            Waits::Threads(runtime) => runtime.block_on(work),
            Waits::Caller(_) => match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(done) => done,
                Poll::Pending => panic!("without a runtime nothing waits"),
            },
        }
    }

    /// Runs `work` where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match self {
            Waits::Threads(runtime) => runtime.spawn_blocking(work).await,
            Waits::Caller(_) => Ok(work()),
        }
    }

    /// Returns when everything below `end` is durable, or why it will not be.
    pub(crate) fn durable(&self, partition: &Partition, end: Offset) -> Result<(), ProduceError> {
        match self {
            Waits::Threads(_) => partition.durable_blocking(end, SYNC_TIMEOUT),
            Waits::Caller(sync) => {
                sync(partition);
                partition.durable_blocking(end, Duration::ZERO)
            }
        }
    }

    /// How long something took that began at `started`, ms. Without threads time stands while something is done.
    pub(crate) fn took_ms(&self, started: Instant) -> i64 {
        match self {
            Waits::Threads(_) => i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX),
            Waits::Caller(_) => 0,
        }
    }
}
