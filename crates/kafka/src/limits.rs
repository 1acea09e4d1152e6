//! Every bound of this crate that is not a setting of Kafka's name, with its default.

use std::time::Duration;

/// How many array elements and tagged fields one request may hold: more than any real request on one node has,
/// and little enough that the decoded form stays below some 50 MB.
pub(crate) const REQUEST_ELEMENTS_MAX: usize = 250_000;

/// The buffer that a connection reads small frames into, in bytes. It is all that an idle connection holds.
pub(crate) const READ_BUFFER_BYTES: usize = 16 * 1024;

/// From this size on a frame is read into a buffer of its own, so that its records are never copied.
pub(crate) const LARGE_FRAME_BYTES: usize = 8 * 1024;

/// How much of a large frame comes before memory of the node is reserved for it: who claims much and sends little holds
/// no more than this.
pub(crate) const FRAME_START_BYTES: usize = 64 * 1024;

/// A frame up to this size gets its whole buffer at its first byte, so that its start is not copied later. What is not
/// written to yet takes no memory.
pub(crate) const FRAME_ALLOCATED_AT_ONCE_BYTES: usize = 1024 * 1024;

/// A frame that holds memory, for which others wait, must go on: in each of these intervals at least
/// [`FRAME_STALL_BYTES_MIN`] or a [`FRAME_INTERVALS_MAX`]th of it must come.
pub(crate) const FRAME_STALL_MAX: Duration = Duration::from_secs(30);

/// See [`FRAME_STALL_MAX`].
pub(crate) const FRAME_STALL_BYTES_MIN: usize = 64 * 1024;

/// See [`FRAME_STALL_MAX`]: after so many intervals every frame is whole. 100 MB take eight minutes at the longest.
pub(crate) const FRAME_INTERVALS_MAX: usize = 16;

/// While Produce requests wait for the disk, small ones that follow them stay in the socket up to so many bytes
/// (the system takes twice as much without a larger buffer).
pub(crate) const LINGER_BYTES: usize = 32 * 1024;

/// How many requests of one connection may wait for their answers (Produce requests; all others go one by one).
pub(crate) const CONNECTION_REQUESTS_MAX: usize = 128;

/// How many bytes the unanswered requests of one connection may have, the last one not counted.
pub(crate) const CONNECTION_REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How many bytes of records the Fetch answers of all connections may hold while they are written to the sockets.
/// When they are used up, answers shrink to one batch a request.
pub(crate) const NODE_FETCH_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The longest Fetch wait, whatever the client asks for.
pub(crate) const FETCH_WAIT_MAX: Duration = Duration::from_secs(30 * 60);

/// How long a fetch session lives at least before another may push it out (Kafka: `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
pub(crate) const FETCH_SESSION_EVICTION_MS_MIN: i64 = 120_000;

/// How many partitions all fetch sessions together may remember.
pub(crate) const FETCH_SESSION_PARTITIONS_MAX: usize = 1_000_000;

/// Chunks of records smaller than this are copied into the answer's own buffer: one slice less to write.
pub(crate) const SMALL_CHUNK_BYTES: usize = 4 * 1024;

/// The answer buffer that a connection keeps for its next answer, in bytes; a larger one is given back.
pub(crate) const WRITE_BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// How many slices one write call gets.
pub(crate) const WRITE_SLICES_MAX: usize = 64;

/// At most one line about malformed frames is logged in this time.
pub(crate) const MALFORMED_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// No answer is added while this many bytes wait to be written, so that a client that does not read holds one
/// answer of each kind and not many.
pub(crate) const OUTGOING_BYTES_MAX: usize = 1024 * 1024;

/// How long the listener pauses when the system has no more file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many topics one CreateTopics request may make: each is answered with all of its configurations.
pub(crate) const TOPICS_CREATED_MAX: usize = 10_000;
