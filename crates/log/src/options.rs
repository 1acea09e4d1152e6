//! What a topic's configuration says about its logs.

/// How a log rolls, indexes, keeps and deletes. The default is Kafka's.
#[derive(Debug, Clone, PartialEq)]
pub struct LogOptions {
    /// Bytes of a segment before the next is begun (`segment.bytes`); at most `i32::MAX`, as positions are 31 bits.
    pub segment_bytes: u64,
    /// A segment's first and last timestamps lie at most so far apart (`segment.ms`).
    pub segment_ms: i64,
    /// A segment may be begun up to so much earlier, so that not all roll at once (`segment.jitter.ms`).
    pub segment_jitter_ms: i64,
    /// Bytes of batches between two index entries (`index.interval.bytes`); a change counts from the next segment on.
    pub index_interval_bytes: u32,
    /// Bytes of an index before the next segment is begun (`segment.index.bytes`).
    pub index_bytes_max: u32,
    /// Segments are deleted when their newest record is older (`retention.ms`); -1 keeps them.
    pub retention_ms: i64,
    /// Old segments are deleted while the rest is at least as large (`retention.bytes`); -1 keeps them.
    pub retention_bytes: i64,
    /// Of the records with one key the newest stays (`cleanup.policy` with `compact`).
    pub compact: bool,
    /// A tombstone stays for so long after it was compacted first (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// Segments with a record younger than this are not compacted (`min.compaction.lag.ms`).
    pub min_compaction_lag_ms: i64,
    /// Segments that begin with an older record are compacted, whatever the ratio (`max.compaction.lag.ms`).
    pub max_compaction_lag_ms: i64,
    /// Compaction waits until a larger part of the log is dirty, from 0 to 1 (`min.cleanable.dirty.ratio`).
    pub min_cleanable_dirty_ratio: f64,
    /// Deleted segments stay on disk for so long (`file.delete.delay.ms`).
    pub file_delete_delay_ms: i64,
    /// Reserve the room for a segment when it is begun (`preallocate`).
    pub preallocate: bool,
    /// Bytes of the newest batches that are kept in memory for readers, at most; the node's bound is the
    /// [`LogBudget`](crate::LogBudget).
    pub tail_bytes_max: usize,
    /// Bytes of batches that are kept until the journal takes them, at most; with more, a sync is needed. 0: there is no journal.
    pub journal_bytes_max: usize,
    /// A producer that has not written for so long is forgotten (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: i64,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 60 * 60 * 1000,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            index_bytes_max: 10 << 20,
            retention_ms: 7 * 24 * 60 * 60 * 1000,
            retention_bytes: -1,
            compact: false,
            delete_retention_ms: 24 * 60 * 60 * 1000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
            file_delete_delay_ms: 60_000,
            preallocate: false,
            tail_bytes_max: 4 << 20,
            journal_bytes_max: 0,
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
        }
    }
}
