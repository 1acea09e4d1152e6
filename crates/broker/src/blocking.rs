//! Work that waits for the disk, off the threads that serve connections.

/// Runs `work` on a thread that may block. It runs to its end even if nobody waits for it any more.
///
/// # Panics
/// When `work` does.
pub(crate) async fn blocking<Done: Send + 'static>(work: impl FnOnce() -> Done + Send + 'static) -> Done {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime goes away while it works; whoever waits goes with it.
        Err(_cancelled) => std::future::pending().await,
    }
}
