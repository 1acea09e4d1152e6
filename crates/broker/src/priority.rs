//! Which threads come first when there is not enough processor for all.

/// Makes this thread nicer than the broker's others by `by` (`nice(2)`, 1 to 19): for work that may wait while clients are
/// served. Where that is not allowed, they are equal.
pub fn lower_thread_priority(by: i32) {
    let thread = rustix::process::Pid::from_raw(rustix::thread::gettid().as_raw_nonzero().get());
    if let Err(error) = rustix::process::setpriority_process(thread, by) {
        tracing::debug!(%error, "this thread runs at the priority of all others");
    }
}
