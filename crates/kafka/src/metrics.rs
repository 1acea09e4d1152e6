//! What the operator sees of the protocol: requests, bytes, errors and latency by API, and connections.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::apis::{APIS, Api};

/// Which API a figure is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

/// The figures of one API; taken from the families once, so that counting looks nothing up.
#[derive(Debug)]
pub(crate) struct ApiMetrics {
    pub(crate) requests: Counter,
    pub(crate) request_bytes: Counter,
    pub(crate) response_bytes: Counter,
    pub(crate) errors: Counter,
    pub(crate) seconds: Histogram,
}

/// All figures of this crate.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<ApiLabel, Counter>,
    request_bytes: Family<ApiLabel, Counter>,
    response_bytes: Family<ApiLabel, Counter>,
    errors: Family<ApiLabel, Counter>,
    seconds: Family<ApiLabel, Histogram>,
    by_api: Vec<ApiMetrics>,
    pub(crate) connections: Gauge,
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) connections_idle_closed: Counter,
    pub(crate) malformed_frames: Counter,
    pub(crate) disk_reads_failed: Counter,
    pub(crate) fetch_sessions: Gauge,
    pub(crate) fetch_sessions_evicted: Counter,
}

/// From 100 µs to 13 s, doubling.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 18))
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut metrics = Metrics {
            requests: Family::default(),
            request_bytes: Family::default(),
            response_bytes: Family::default(),
            errors: Family::default(),
            seconds: Family::new_with_constructor(latency),
            by_api: Vec::new(),
            connections: Gauge::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_idle_closed: Counter::default(),
            malformed_frames: Counter::default(),
            disk_reads_failed: Counter::default(),
            fetch_sessions: Gauge::default(),
            fetch_sessions_evicted: Counter::default(),
        };
        metrics.by_api = APIS
            .iter()
            .map(|api| {
                let label = ApiLabel { api: api.name };
                ApiMetrics {
                    requests: metrics.requests.get_or_create_owned(&label),
                    request_bytes: metrics.request_bytes.get_or_create_owned(&label),
                    response_bytes: metrics.response_bytes.get_or_create_owned(&label),
                    errors: metrics.errors.get_or_create_owned(&label),
                    seconds: metrics.seconds.get_or_create_owned(&label),
                }
            })
            .collect();
        metrics
    }

    /// The figures of `api`.
    pub(crate) fn of(&self, api: &Api) -> &ApiMetrics {
        &self.by_api[api.place()]
    }

    /// Adds all figures to `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let kafka = registry.sub_registry_with_prefix("millpond_kafka");
        kafka.register("requests", "Requests received", self.requests.clone());
        kafka.register_with_unit("request", "Bytes of requests", Unit::Bytes, self.request_bytes.clone());
        kafka.register_with_unit("response", "Bytes of responses", Unit::Bytes, self.response_bytes.clone());
        kafka.register("errors", "Error codes answered, for each topic, partition or group", self.errors.clone());
        let help = "From the last byte of a request to its answer, waiting for records included";
        kafka.register_with_unit("request_duration", help, Unit::Seconds, self.seconds.clone());
        kafka.register("connections", "Open connections", self.connections.clone());
        kafka.register("connections_accepted", "Connections accepted", self.connections_accepted.clone());
        let help = "Connections closed at once, because there were max.connections";
        kafka.register("connections_refused", help, self.connections_refused.clone());
        let help = "Connections closed after connections.max.idle.ms without progress";
        kafka.register("connections_idle_closed", help, self.connections_idle_closed.clone());
        let help = "Frames that were no request of a served API and version; each closed its connection";
        kafka.register("malformed_frames", help, self.malformed_frames.clone());
        let help = "Answers that broke off since records could not be read from the disk; each closed its connection";
        kafka.register("disk_reads_failed", help, self.disk_reads_failed.clone());
        kafka.register("fetch_sessions", "Fetch sessions kept", self.fetch_sessions.clone());
        let help = "Fetch sessions given up for newer ones";
        kafka.register("fetch_sessions_evicted", help, self.fetch_sessions_evicted.clone());
    }
}
