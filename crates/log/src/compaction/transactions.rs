//! What compaction has to know of transactions: which records were aborted, and which markers still say something.
//!
//! Aborted records go. A marker says something as long as a batch of its transaction is there when it is passed; from then on it
//! stays for `delete.retention.ms` more (KIP-534), since who has read those batches must see how they ended. Its entry in the
//! transaction index stays exactly as long as an ABORT marker itself: who is told of an aborted transaction leaves out everything
//! that its producer wrote, until the marker comes.

use std::collections::HashSet;
use std::sync::Arc;

use millpond_records::{BatchHeader, TransactionMarker};
use millpond_types::{Offset, ProducerId};

use crate::segment::Segment;
use crate::{AbortedTransaction, AbortedTransactions, LogError, PartitionLog};

/// The transactions around the place where a pass is.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Those with records in the segment that is passed, whose id is this. As large as the transaction indexes of that segment
    /// and of the transactions that were open at its end, so that `segment.index.bytes` bounds it.
    aborted: AbortedTransactions,
    segment: Option<u64>,
    /// The producers of which a batch was passed since their last marker: at most as many as had a transaction open at a time.
    begun: HashSet<ProducerId>,
}

impl Transactions {
    /// The pass goes on in a segment.
    pub(super) fn enter(
        &mut self,
        log: &PartitionLog,
        (segment, end): &(Arc<Segment>, Offset),
    ) -> Result<(), LogError> {
        if self.segment != Some(segment.id()) {
            self.aborted = log.find_aborted(segment.base_offset(), *end)?;
            self.segment = Some(segment.id());
        }
        Ok(())
    }

    /// Whether the records of a batch were aborted.
    pub(super) fn is_aborted(&self, batch: &BatchHeader) -> bool {
        self.aborted.covers(batch)
    }

    /// The second pass comes by a batch of records.
    pub(super) fn pass(&mut self, batch: &BatchHeader) {
        if batch.is_transactional() {
            self.begun.insert(batch.producer_id);
        }
    }

    /// The second pass comes by a marker. Says whether a batch of the transaction that it ends was there.
    pub(super) fn end(&mut self, producer_id: ProducerId) -> bool {
        self.begun.remove(&producer_id)
    }

    /// What the transaction index says of a marker.
    pub(super) fn aborted_by(&self, marker: &TransactionMarker, offset: Offset) -> Option<AbortedTransaction> {
        self.aborted.ended_at(marker.producer_id, offset).copied()
    }
}
