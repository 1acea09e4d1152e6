//! What all connections share.

use std::sync::Arc;
use std::time::Duration;

use millpond_broker::Broker;
use tokio::sync::Semaphore;

use crate::apis::fetch::Sessions;
use crate::budget::Budget;
use crate::limits::{FRAME_STALL_MAX, NODE_FETCH_BYTES_MAX};
use crate::metrics::Metrics;

/// This node's id.
pub(crate) const NODE_ID: i32 = 1;

/// In place of an idle time of -1.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Where clients find a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The node as the connections see it. Made by the server, shared by its connections, gone with the last of them.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) broker: Arc<Broker>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sessions: Sessions,
    /// `socket.request.max.bytes`.
    pub(crate) request_bytes_max: usize,
    /// `connections.max.idle.ms`.
    pub(crate) idle_max: Duration,
    /// In what time a part of a large frame must come ([`FRAME_STALL_MAX`]).
    pub(crate) frame_stall_max: Duration,
    /// `fetch.max.bytes`.
    pub(crate) fetch_bytes_max: usize,
    /// `queued.max.request.bytes`.
    pub(crate) request_memory_bytes: usize,
    /// Bytes of the large frames that are received or served.
    pub(crate) request_memory: Arc<Semaphore>,
    /// Bytes of records in Fetch answers that are not written yet.
    pub(crate) fetch_memory: Arc<Budget>,
}

impl Node {
    pub(crate) fn new(broker: Arc<Broker>) -> Arc<Node> {
        let settings = broker.settings();
        let request_memory_bytes = settings.queued_request_bytes_max.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let metrics = Arc::new(Metrics::new());
        Arc::new(Node {
            sessions: Sessions::new(settings.fetch_sessions_max, metrics.clone()),
            request_bytes_max: settings.request_bytes_max,
            idle_max: u64::try_from(settings.connections_idle_ms_max).map_or(NEVER, Duration::from_millis),
            frame_stall_max: FRAME_STALL_MAX,
            fetch_bytes_max: settings.fetch_bytes_max,
            request_memory_bytes,
            request_memory: Arc::new(Semaphore::new(request_memory_bytes)),
            fetch_memory: Budget::new(NODE_FETCH_BYTES_MAX),
            broker,
            metrics,
        })
    }
}
