//! What the node counts.

use std::sync::Weak;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::topics::Topics;

/// Upper bounds in seconds of the buckets for syncs: from a fast NVMe disk to one that is in trouble.
const SYNC_SECONDS_BUCKETS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

/// The node's counters. All only grow.
#[derive(Debug)]
pub struct BrokerMetrics {
    /// Batches appended, duplicates not counted.
    pub batches_appended: Counter,
    /// Their bytes.
    pub bytes_appended: Counter,
    /// Batches that a producer sent again and that were there already.
    pub appends_duplicate: Counter,
    /// Batches that a log did not take.
    pub appends_refused: Counter,
    /// Bytes of batches read from the logs.
    pub bytes_read: Counter,
    /// Rounds of fdatasync of a partition's log.
    pub syncs: Counter,
    /// How long those took, in seconds.
    pub sync_seconds: Histogram,
    /// Writes of the journal, each followed by one fdatasync.
    pub journal_writes: Counter,
    /// Bytes of batches in them.
    pub journal_bytes: Counter,
    /// How long those took, in seconds.
    pub journal_seconds: Histogram,
    /// Logs that take no more writes because a sync failed.
    pub logs_poisoned: Counter,
    /// Segments deleted by retention.
    pub segments_deleted: Counter,
    /// Compactions of a log.
    pub compactions: Counter,
    /// Compactions that failed.
    pub compactions_failed: Counter,
    /// Bytes that compaction has read.
    pub compaction_bytes_read: Counter,
    /// Bytes that it has written.
    pub compaction_bytes_written: Counter,
    /// Records that it has taken out.
    pub records_compacted: Counter,
    /// Changes of the metadata written down.
    pub metadata_changes: Counter,
    /// Requests to the group coordinator.
    pub group_requests: Counter,
}

impl Default for BrokerMetrics {
    fn default() -> BrokerMetrics {
        BrokerMetrics {
            batches_appended: Counter::default(),
            bytes_appended: Counter::default(),
            appends_duplicate: Counter::default(),
            appends_refused: Counter::default(),
            bytes_read: Counter::default(),
            syncs: Counter::default(),
            sync_seconds: Histogram::new(SYNC_SECONDS_BUCKETS),
            journal_writes: Counter::default(),
            journal_bytes: Counter::default(),
            journal_seconds: Histogram::new(SYNC_SECONDS_BUCKETS),
            logs_poisoned: Counter::default(),
            segments_deleted: Counter::default(),
            compactions: Counter::default(),
            compactions_failed: Counter::default(),
            compaction_bytes_read: Counter::default(),
            compaction_bytes_written: Counter::default(),
            records_compacted: Counter::default(),
            metadata_changes: Counter::default(),
            group_requests: Counter::default(),
        }
    }
}

impl BrokerMetrics {
    /// Adds the counters to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let counters = [
            ("log_batches_appended", "Record batches appended to logs", &self.batches_appended),
            ("log_bytes_appended", "Bytes of record batches appended to logs", &self.bytes_appended),
            (
                "log_appends_duplicate",
                "Batches of idempotent producers that were in the log already",
                &self.appends_duplicate,
            ),
            ("log_appends_refused", "Batches that a log did not take", &self.appends_refused),
            ("log_bytes_read", "Bytes of record batches read from logs", &self.bytes_read),
            ("log_syncs", "Rounds of fdatasync of a log", &self.syncs),
            ("journal_writes", "Writes of the journal, each followed by one fdatasync", &self.journal_writes),
            ("journal_bytes", "Bytes of record batches written to the journal", &self.journal_bytes),
            ("log_poisoned", "Logs that take no more writes because a sync failed", &self.logs_poisoned),
            ("log_segments_deleted", "Segments deleted by retention", &self.segments_deleted),
            ("log_compactions", "Compactions of a log that were done", &self.compactions),
            ("log_compactions_failed", "Compactions of a log that failed", &self.compactions_failed),
            ("log_compaction_bytes_read", "Bytes that compaction has read", &self.compaction_bytes_read),
            ("log_compaction_bytes_written", "Bytes that compaction has written", &self.compaction_bytes_written),
            ("log_records_compacted", "Records that compaction has taken out", &self.records_compacted),
            ("metadata_changes", "Changes of the metadata written down", &self.metadata_changes),
            ("group_requests", "Requests to the group coordinator", &self.group_requests),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("log_sync_seconds", "How long a round of fdatasync of a log took", self.sync_seconds.clone());
        let help = "How long a write of the journal and its fdatasync took";
        registry.register("journal_seconds", help, self.journal_seconds.clone());
    }
}

/// What is looked up when somebody asks, not counted.
#[derive(Debug)]
pub(crate) struct Sizes {
    pub(crate) topics: Weak<Topics>,
}

impl Collector for Sizes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(topics) = self.topics.upgrade() else { return Ok(()) };
        let image = topics.image();
        let bytes: u64 = topics.directory().partitions().iter().map(|partition| partition.size_bytes()).sum();
        let gauges = [
            ("topics", "Topics, internal ones included", image.topics().len() as u64),
            ("partitions", "Partitions of all topics", image.partition_count()),
            ("log_size_bytes", "Bytes of all logs on the disk", bytes),
            ("log_tail_bytes", "Bytes of the newest batches that are kept in memory", topics.tail_bytes() as u64),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
