//! Work that waits for the disk, off the threads that serve connections.

use tokio::runtime::Handle;

/// Runs `work` on a thread that may block. It runs to its end even if nobody waits for it any more. Where there is no runtime
/// (a node that is driven), nobody else waits for this thread, and it runs here and now.
///
/// # Panics
/// When `work` does.
pub(crate) async fn blocking<Done: Send + 'static>(work: impl FnOnce() -> Done + Send + 'static) -> Done {
    if Handle::try_current().is_err() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime goes away while it works; whoever waits goes with it.
        Err(_cancelled) => std::future::pending().await,
    }
}
