//! Transactions in a partition: what readers of committed records get, and the markers that end transactions.
//!
//! There is no transaction coordinator yet, so no client can begin a transaction: `append_marker` is for the one that comes,
//! and partitions that Kafka wrote have transactions in them.

use std::sync::Arc;

use millpond_log::{AbortedTransactions, Appended, FetchedBytes, FoundBatches};
use millpond_records::TransactionMarker;
use millpond_types::{Offset, TimestampMs};

use super::{Partition, nothing_at};
use crate::errors::{FetchError, ProduceError};

impl Partition {
    /// Up to where readers of committed records see: the first record of the transactions that are open or whose end is not
    /// shown yet, or else the visible end. It moves only when the visible end does.
    pub fn last_stable_offset(&self) -> Offset {
        self.log.last_stable_offset(self.visible_end())
    }

    /// The same as [`Partition::read`] up to the last stable offset, and the transactions in what was read that were aborted.
    /// The reader leaves out their batches, and the markers.
    pub fn read_committed(
        &self,
        from: Offset,
        bytes_max: usize,
        whole_first: bool,
    ) -> Result<(FetchedBytes, AbortedTransactions), FetchError> {
        let committed = self.within(from, self.last_stable_offset(), |end| {
            let fetched = self.log.read(from, bytes_max, end, whole_first)?;
            let aborted = self.log.aborted_transactions(from, fetched.next_offset)?;
            Ok((fetched, aborted))
        })?;
        let (fetched, aborted) = committed.unwrap_or_else(|| (nothing_at(from), AbortedTransactions::default()));
        self.around.metrics.bytes_read.inc_by(fetched.len as u64);
        Ok((fetched, aborted))
    }

    /// The same as [`Partition::find`] up to the last stable offset, and the transactions in what was found that were aborted.
    pub fn find_committed(
        &self,
        from: Offset,
        bytes_max: usize,
        whole_first: bool,
    ) -> Result<(FoundBatches, AbortedTransactions), FetchError> {
        let committed = self.within(from, self.last_stable_offset(), |end| {
            let found = self.log.find(from, bytes_max, end, whole_first)?;
            let aborted = self.log.aborted_transactions(from, found.next_offset)?;
            Ok((found, aborted))
        })?;
        let (found, aborted) = committed.unwrap_or_default();
        self.around.metrics.bytes_read.inc_by(found.len as u64);
        Ok((found, aborted))
    }

    /// The first record below the last stable offset that is not older than `timestamp_ms`.
    pub fn committed_offset_for_timestamp(
        &self,
        timestamp_ms: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, FetchError> {
        let _life = self.existing()?;
        self.log.offset_for_timestamp(timestamp_ms, self.last_stable_offset()).map_err(FetchError::Search)
    }

    /// The record below the last stable offset with the highest timestamp.
    pub fn committed_max_timestamp(&self) -> Result<Option<(Offset, TimestampMs)>, FetchError> {
        let _life = self.existing()?;
        self.log.max_timestamp(self.last_stable_offset()).map_err(FetchError::Search)
    }

    /// Appends the marker that ends a producer's transaction, for the transaction coordinator alone: what clients send is
    /// looked at elsewhere, and never holds one. The sync is under way when this returns; [`Partition::durable`] waits for it.
    pub fn append_marker(self: &Arc<Self>, marker: &TransactionMarker) -> Result<Appended, ProduceError> {
        let append = |now_ms| self.log.append_marker(marker, self.leader_epoch(), now_ms);
        self.append_with(TransactionMarker::BATCH_LEN, append)
    }
}
