//! The metadata's own log: one record for each change, durable before anybody is told of it.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use millpond_log::{LogError, LogOptions, PartitionLog};
use millpond_metadata::{Image, MetadataRecord, RecordError};
use millpond_records::{BatchBuilder, BatchOptions, batches, verify_crc};
use millpond_types::{LeaderEpoch, Offset, TimestampMs, TopicId};

/// How much of the log is read at once when it is replayed, in bytes.
const REPLAY_BYTES: usize = 1 << 20;
/// The most bytes of one batch, decompressed; what was written here is never near it.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// How the log is kept: never rolled by age nor deleted, since all of it is read at every start.
pub(crate) fn options() -> LogOptions {
    LogOptions { retention_ms: -1, segment_ms: i64::MAX, ..LogOptions::default() }
}

/// The log of the metadata. Writing to it is for whoever holds it alone: [`crate::topics::Topics`].
#[derive(Debug)]
pub(crate) struct MetadataLog {
    log: PartitionLog,
    leader_epoch: LeaderEpoch,
    /// Where the log ended when it was last checkpointed.
    checkpointed_end: Offset,
}

/// Why the metadata's log cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("the record at offset {offset} is of a newer version: {source}")]
    Newer { offset: Offset, source: RecordError },
    #[error("the record at offset {offset}: {source}")]
    Record { offset: Offset, source: RecordError },
    #[error("{0}")]
    Log(String),
}

/// What the log tells.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) image: Image,
    /// All topics that ever were deleted: their folders may go.
    pub(crate) deleted: BTreeSet<TopicId>,
}

impl MetadataLog {
    pub(crate) fn new(log: PartitionLog, leader_epoch: LeaderEpoch) -> MetadataLog {
        MetadataLog { checkpointed_end: log.log_end_offset(), log, leader_epoch }
    }

    /// Makes the changes durable, all or none of them.
    pub(crate) fn write(&self, changes: &[MetadataRecord], now_ms: TimestampMs) -> Result<(), String> {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for change in changes {
            batch.push(now_ms, None, Some(&change.encode()), &[]);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let batch = BytesMut::from(Bytes::from(batch.build()));
        self.log.append(batch, self.leader_epoch, now_ms).map_err(|error| error.to_string())?;
        self.log.sync().map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Applies all changes to an empty image.
    pub(crate) fn replay(&self, cluster_id: &str) -> Result<Replayed, ReplayError> {
        let mut replayed = Replayed { image: Image::new(cluster_id), deleted: BTreeSet::new() };
        let mut next = self.log.log_start_offset();
        let end = self.log.log_end_offset();
        while next < end {
            let fetched = self.log.read(next, REPLAY_BYTES, end, true).map_err(|e| ReplayError::Log(e.to_string()))?;
            let before = next;
            for chunk in &fetched.chunks {
                for batch in batches(chunk) {
                    let batch = batch.map_err(|e| ReplayError::Log(e.to_string()))?;
                    let found = batch.header.base_offset;
                    if found != next {
                        return Err(ReplayError::Log(format!("a batch at offset {found} where {next} is next")));
                    }
                    apply(&batch, &mut replayed)?;
                    next = batch.header.next_offset();
                }
            }
            if next == before {
                return Err(ReplayError::Log(format!(
                    "nothing can be read at offset {next}, though the log ends at {end}"
                )));
            }
        }
        Ok(replayed)
    }

    /// Writes down what spares a start after a crash from reading the log again. Gives the recovery point.
    pub(crate) fn checkpoint(&mut self) -> Offset {
        let end = self.log.log_end_offset();
        if self.checkpointed_end != end {
            match self.log.checkpoint() {
                Ok(_) => self.checkpointed_end = end,
                Err(error) => tracing::warn!(%error, "no checkpoint of the metadata's log was made"),
            }
        }
        self.log.recovery_point()
    }

    /// The log itself.
    pub(crate) fn log(&self) -> &PartitionLog {
        &self.log
    }

    /// Up to where the log is known to be right.
    pub(crate) fn recovery_point(&self) -> Offset {
        self.log.recovery_point()
    }

    /// Closes the log, so that the next start need not look into it. Gives the offset up to which it is known to be right.
    pub(crate) fn close(&self, now_ms: TimestampMs) -> Result<Offset, LogError> {
        self.log.close(now_ms)
    }
}

/// Makes the changes that a batch of the log tells.
pub(crate) fn apply(batch: &millpond_records::BatchView<'_>, replayed: &mut Replayed) -> Result<(), ReplayError> {
    // The log itself believes what was verified once. What the node is made of is looked at each time.
    let damaged = |error| ReplayError::Log(format!("the batch at offset {}: {error}", batch.header.base_offset));
    verify_crc(batch.bytes).map_err(damaged)?;
    let mut records = batch.records(BATCH_BYTES_MAX).map_err(|error| ReplayError::Log(error.to_string()))?;
    while let Some(record) = records.next() {
        let record = record.map_err(|error| ReplayError::Log(error.to_string()))?;
        let offset = record.offset;
        let change = MetadataRecord::decode(record.value.unwrap_or_default()).map_err(|source| match source {
            RecordError::UnknownVersion { .. } => ReplayError::Newer { offset, source },
            source => ReplayError::Record { offset, source },
        })?;
        if let MetadataRecord::TopicDeleted { id } = &change {
            replayed.deleted.insert(*id);
        }
        replayed.image.apply(&change);
    }
    Ok(())
}
