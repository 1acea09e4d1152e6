//! What Prometheus sees of the queries.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::step_record::Counters;

/// Whose figure it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stream {
    stream: String,
}

/// The metrics of all queries, since the node's start.
#[derive(Debug)]
pub(crate) struct Metrics {
    rows_in: Family<Stream, Counter>,
    rows_out: Family<Stream, Counter>,
    rows_filtered: Family<Stream, Counter>,
    rows_late: Family<Stream, Counter>,
    rows_failed: Family<Stream, Counter>,
    steps: Family<Stream, Counter>,
    state_bytes: Family<Stream, Gauge>,
    watermark_ms: Family<Stream, Gauge>,
    failures: Counter,
    step_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            rows_in: Family::default(),
            rows_out: Family::default(),
            rows_filtered: Family::default(),
            rows_late: Family::default(),
            rows_failed: Family::default(),
            steps: Family::default(),
            state_bytes: Family::default(),
            watermark_ms: Family::default(),
            failures: Counter::default(),
            // 0.25 ms to 8 s.
            step_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("millpond_stream");
        registry.register("rows_in", "Records that a stream read", self.rows_in.clone());
        registry.register("rows_out", "Records that a stream wrote", self.rows_out.clone());
        registry.register("rows_filtered", "Rows that WHERE or HAVING dropped", self.rows_filtered.clone());
        registry.register("rows_late", "Rows that came too late for a window", self.rows_late.clone());
        registry.register("rows_failed", "Rows that went to the errors topic", self.rows_failed.clone());
        registry.register("steps", "Steps that a stream committed", self.steps.clone());
        registry.register("state_bytes", "Memory that a stream's windows take", self.state_bytes.clone());
        registry.register("watermark_ms", "A stream's watermark, ms since 1970", self.watermark_ms.clone());
        registry.register("failures", "Times that a stream stopped by itself", self.failures.clone());
        let help = "Time from the begin of a step to its results being shown";
        registry.register_with_unit("step", help, Unit::Seconds, self.step_seconds.clone());
    }

    /// A step of `stream` was committed.
    pub(crate) fn stepped(&self, stream: &str, before: &Counters, after: &Counters, took: Duration) {
        let label = Stream { stream: stream.to_owned() };
        let count = |family: &Family<Stream, Counter>, before: u64, after: u64| {
            if after > before {
                family.get_or_create(&label).inc_by(after - before);
            }
        };
        count(&self.rows_in, before.rows_in, after.rows_in);
        count(&self.rows_out, before.rows_out, after.rows_out);
        count(&self.rows_filtered, before.rows_filtered, after.rows_filtered);
        count(&self.rows_late, before.rows_late, after.rows_late);
        count(&self.rows_failed, before.rows_failed, after.rows_failed);
        self.steps.get_or_create(&label).inc();
        self.step_seconds.observe(took.as_secs_f64());
    }

    /// How a stream stands.
    pub(crate) fn stands(&self, stream: &str, state_bytes: usize, watermark_ms: Option<i64>) {
        let label = Stream { stream: stream.to_owned() };
        self.state_bytes.get_or_create(&label).set(i64::try_from(state_bytes).unwrap_or(i64::MAX));
        if let Some(watermark_ms) = watermark_ms {
            self.watermark_ms.get_or_create(&label).set(watermark_ms);
        }
    }

    /// A stream stopped by itself.
    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    /// A stream is gone.
    pub(crate) fn removed(&self, stream: &str) {
        let label = Stream { stream: stream.to_owned() };
        for family in
            [&self.rows_in, &self.rows_out, &self.rows_filtered, &self.rows_late, &self.rows_failed, &self.steps]
        {
            family.remove(&label);
        }
        self.state_bytes.remove(&label);
        self.watermark_ms.remove(&label);
    }
}
