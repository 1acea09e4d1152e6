//! Transactions in a log: markers, the last stable offset, and which records were aborted (KIP-98).
//!
//! Who is in a transaction stands in producers.rs, under the append lock. Here is what readers need of it: how far back
//! the transactions reach that are not over for them, and what of a range they must leave out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::{Bytes, BytesMut};
use millpond_records::{BatchError, BatchHeader, BatchView, TransactionMarker};
use millpond_types::{LeaderEpoch, Offset, ProducerId, TimestampMs};
use parking_lot::Mutex;

use crate::log::Writer;
use crate::producers::EndedTransaction;
use crate::segment::Segment;
use crate::txn_index::Search;
use crate::{AbortedTransaction, AppendError, Appended, LogError, PartitionLog, ReadError, names, rebuild};

/// Transactions of a log that have ended, but not below what readers see, at most; of more, neighbours count as one that
/// ends where the later one does.
const ENDED_TRANSACTIONS_MAX: usize = 1024;

/// No transaction.
const NONE: Offset = Offset::MAX;

/// How far back the transactions of a log reach that are open, or whose end readers do not see yet.
#[derive(Debug)]
pub(crate) struct UnstableTransactions {
    /// The first offset of all of them, or [`NONE`]: a copy of what the lock guards, so that a log without transactions
    /// costs readers nothing.
    first: AtomicI64,
    state: Mutex<Unstable>,
}

#[derive(Debug)]
struct Unstable {
    first_open: Offset,
    /// In the order of their markers.
    ended: VecDeque<Ended>,
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    first_offset: Offset,
    marker_offset: Offset,
}

impl Unstable {
    fn first(&self) -> Offset {
        self.ended.iter().map(|ended| ended.first_offset).fold(self.first_open, Offset::min)
    }
}

impl UnstableTransactions {
    pub(crate) fn new(first_open: Option<Offset>) -> UnstableTransactions {
        let first_open = first_open.unwrap_or(NONE);
        let state = Mutex::new(Unstable { first_open, ended: VecDeque::new() });
        UnstableTransactions { first: AtomicI64::new(first_open), state }
    }

    fn change<T>(&self, apply: impl FnOnce(&mut Unstable) -> T) -> T {
        let mut state = self.state.lock();
        let outcome = apply(&mut state);
        self.first.store(state.first(), Ordering::Release);
        outcome
    }

    /// A transaction has begun, before readers see it.
    fn begun(&self, first_open: Option<Offset>) {
        self.change(|state| state.first_open = first_open.unwrap_or(NONE));
    }

    /// A marker was written for a transaction; the others begin at `first_open`.
    fn ended(&self, transaction: &EndedTransaction, first_open: Option<Offset>) {
        let ended = Ended { first_offset: transaction.first_offset, marker_offset: transaction.last_offset };
        self.change(|state| {
            state.first_open = first_open.unwrap_or(NONE);
            let is_full = state.ended.len() >= ENDED_TRANSACTIONS_MAX;
            match state.ended.back_mut() {
                Some(last) if is_full => {
                    last.first_offset = last.first_offset.min(ended.first_offset);
                    last.marker_offset = ended.marker_offset;
                }
                _ => state.ended.push_back(ended),
            }
        });
    }

    /// The log was cut at `end`, and the transactions that are open then begin at `first_open`.
    pub(crate) fn cut(&self, end: Offset, first_open: Option<Offset>) {
        self.change(|state| {
            state.first_open = first_open.unwrap_or(NONE);
            state.ended.retain_mut(|ended| {
                ended.marker_offset = ended.marker_offset.min(end - 1);
                ended.first_offset < end
            });
        });
    }

    fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        if self.first.load(Ordering::Acquire) >= high_watermark {
            return high_watermark;
        }
        self.change(|state| {
            while state.ended.front().is_some_and(|ended| ended.marker_offset < high_watermark) {
                state.ended.pop_front();
            }
            state.first().min(high_watermark)
        })
    }
}

/// The aborted transactions of a range of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AbortedTransactions {
    /// By producer, and then in their order.
    transactions: Vec<AbortedTransaction>,
}

impl AbortedTransactions {
    /// Of these transactions, of which no two of one producer overlap.
    pub fn new(mut transactions: Vec<AbortedTransaction>) -> AbortedTransactions {
        transactions.sort_unstable_by_key(|aborted| (aborted.producer_id, aborted.first_offset));
        AbortedTransactions { transactions }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Each of them, by producer and then in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &AbortedTransaction> {
        self.transactions.iter()
    }

    /// The one of `producer_id` that its marker at `marker_offset` has ended.
    pub(crate) fn ended_at(&self, producer_id: ProducerId, marker_offset: Offset) -> Option<&AbortedTransaction> {
        let key = (producer_id, marker_offset);
        let place = self.transactions.binary_search_by_key(&key, |aborted| (aborted.producer_id, aborted.last_offset));
        place.ok().and_then(|place| self.transactions.get(place))
    }

    /// Whether the records of a batch in the range were aborted. Not so for markers, which are no records.
    pub fn covers(&self, batch: &BatchHeader) -> bool {
        if self.transactions.is_empty() || !batch.is_transactional() || batch.is_control() {
            return false;
        }
        let key: (ProducerId, Offset) = (batch.producer_id, batch.base_offset);
        let after = self.transactions.partition_point(|aborted| (aborted.producer_id, aborted.first_offset) <= key);
        let candidate = after.checked_sub(1).and_then(|place| self.transactions.get(place));
        candidate
            .is_some_and(|aborted| aborted.producer_id == batch.producer_id && batch.base_offset <= aborted.last_offset)
    }
}

impl PartitionLog {
    /// Appends the control batch that ends a producer's transaction, for the transaction coordinator. It is durable after the
    /// next [`PartitionLog::sync`]. A marker without a transaction is written, too: a coordinator repeats what it is not sure of.
    ///
    /// A producer epoch or a coordinator epoch below the last one is refused. A higher producer epoch is taken, and what
    /// was known of the producer's sequences is forgotten with it (KIP-890's coordinator raises it for each transaction).
    pub fn append_marker(
        &self,
        marker: &TransactionMarker,
        leader_epoch: LeaderEpoch,
        now_ms: TimestampMs,
    ) -> Result<Appended, AppendError> {
        if marker.producer_id < 0 || marker.producer_epoch < 0 {
            return Err(BatchError::Control("it names no producer").into());
        }
        let batch = BytesMut::from(&marker.build(now_ms)[..]);
        let header = BatchHeader::parse(&batch)?;
        let options = self.options();
        let mut writer = self.lock_writer()?;
        writer.producers.check_marker(marker)?;
        self.append_at_end(&mut writer, &options, header, batch, leader_epoch, now_ms)
    }

    /// Takes note of a batch with a producer that was written to the active segment, before readers see it.
    pub(crate) fn note_producer(&self, writer: &mut Writer, header: &BatchHeader, batch: &Bytes, now_ms: TimestampMs) {
        if !header.is_control() {
            if writer.producers.note(header, now_ms) {
                self.unstable.begun(writer.producers.first_open_transaction());
            }
            return;
        }
        let Some(marker) = read_marker(batch, &writer.active) else { return };
        if let Some(ended) = writer.producers.note_marker(&marker, header.base_offset, now_ms) {
            writer.active.note_transaction(&ended);
            self.unstable.ended(&ended, writer.producers.first_open_transaction());
        }
    }

    /// Up to where all transactions have ended, as seen by who sees everything below `high_watermark`, and nothing else: a
    /// transaction whose marker is not below it has not ended.
    ///
    /// `high_watermark` is looked up before this is called, so that nothing can come below it that this does not know.
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        self.unstable.last_stable_offset(high_watermark).max(self.log_start_offset()).min(high_watermark)
    }

    /// The transactions with records in `[from, to)` that were aborted. All of them if `to` is at most the last stable
    /// offset; above it the fate of some is not known.
    ///
    /// For readers, which leave their records out, and for compaction, which removes them. There are never more
    /// than markers in the range and transactions open at its end.
    pub fn aborted_transactions(&self, from: Offset, to: Offset) -> Result<AbortedTransactions, ReadError> {
        if from >= to {
            return Ok(AbortedTransactions::default());
        }
        let found = self.find_aborted(from, to);
        // With a segment that was deleted meanwhile its part of the answer went.
        self.check_not_deleted(from)?;
        Ok(found?)
    }

    /// The same without a look at where the log starts.
    pub(crate) fn find_aborted(&self, from: Offset, to: Offset) -> Result<AbortedTransactions, LogError> {
        let mut found = Vec::new();
        for segment in self.segments_with_aborted(from) {
            if self.search_aborted(&segment, (from, to), &mut found)? == Search::Done {
                break;
            }
        }
        Ok(AbortedTransactions::new(found))
    }

    fn check_not_deleted(&self, from: Offset) -> Result<(), ReadError> {
        let (log_start, log_end) = (self.log_start_offset(), self.log_end_offset());
        if from < log_start {
            return Err(ReadError::OutOfRange { offset: from, log_start, log_end });
        }
        Ok(())
    }

    /// From the segment that holds `from` on, those in which transactions were aborted.
    fn segments_with_aborted(&self, from: Offset) -> Vec<Arc<Segment>> {
        let segments = self.segments.read();
        let first = segments.partition_point(|segment| segment.base_offset() <= from).saturating_sub(1);
        segments.iter().skip(first).filter(|segment| !segment.txn_index.is_empty()).cloned().collect()
    }

    fn search_aborted(
        &self,
        segment: &Arc<Segment>,
        range: (Offset, Offset),
        found: &mut Vec<AbortedTransaction>,
    ) -> Result<Search, LogError> {
        let path = segment.path(names::TXN_INDEX);
        let before = found.len();
        let damage = match segment.txn_index.search(&path, segment.base_offset(), range, found)? {
            Search::Damaged(damage) => damage,
            sound => return Ok(sound),
        };
        found.truncate(before);
        self.rebuild_txn_index(segment, damage)?;
        match segment.txn_index.search(&path, segment.base_offset(), range, found)? {
            Search::Damaged(what) => {
                Err(LogError::Damaged { path, what: format!("{what}, although it was built anew") })
            }
            sound => Ok(sound),
        }
    }

    /// Builds the index of a rolled segment anew from the batches.
    pub(crate) fn rebuild_txn_index(&self, segment: &Arc<Segment>, reason: &str) -> Result<(), LogError> {
        let path = segment.path(names::TXN_INDEX);
        tracing::warn!(file = %path.display(), reason, "building the transaction index of a segment anew");
        let segments = self.segments.read().clone();
        let entries = rebuild::aborted_in(&self.dir, &segments, segment, self.log_start_offset())?;
        segment.replace_txn_index(&entries)
    }
}

/// The marker in a control batch of `segment`. None also if it cannot be read; its transaction then stays open, and
/// nobody is shown what may have been aborted.
pub(crate) fn read_marker(batch: &[u8], segment: &Segment) -> Option<TransactionMarker> {
    let marker = BatchView::parse(batch).and_then(|batch| TransactionMarker::read(&batch));
    marker.unwrap_or_else(|error| {
        let offset = BatchHeader::parse(batch).map_or(-1, |header| header.base_offset);
        let file = segment.path(names::LOG);
        tracing::error!(file = %file.display(), offset, %error, "a control batch ends no transaction, since it cannot be read");
        None
    })
}

#[cfg(test)]
mod tests {
    use millpond_records::{BatchBuilder, BatchOptions, TransactionResult};

    use super::*;

    fn ended(first_offset: Offset, last_offset: Offset) -> EndedTransaction {
        let (producer_id, result, last_stable_offset) = (1, TransactionResult::Commit, last_offset + 1);
        EndedTransaction { producer_id, result, first_offset, last_offset, last_stable_offset }
    }

    #[test]
    fn a_transaction_is_unstable_until_readers_see_its_marker() {
        let unstable = UnstableTransactions::new(None);
        assert_eq!(unstable.last_stable_offset(10), 10);
        unstable.begun(Some(4));
        assert_eq!((unstable.last_stable_offset(3), unstable.last_stable_offset(10)), (3, 4));
        unstable.ended(&ended(4, 12), None);
        assert_eq!((unstable.last_stable_offset(12), unstable.last_stable_offset(13)), (4, 13));
        unstable.begun(Some(20));
        unstable.ended(&ended(20, 25), Some(22));
        assert_eq!((unstable.last_stable_offset(25), unstable.last_stable_offset(26)), (20, 22));
    }

    #[test]
    fn a_cut_opens_what_had_ended_behind_it() {
        let unstable = UnstableTransactions::new(Some(2));
        unstable.ended(&ended(2, 6), Some(4));
        unstable.ended(&ended(4, 9), None);
        unstable.cut(8, Some(4));
        assert_eq!((unstable.last_stable_offset(6), unstable.last_stable_offset(8)), (2, 4));
        unstable.ended(&ended(4, 8), None);
        assert_eq!(unstable.last_stable_offset(9), 9);
    }

    #[test]
    fn too_many_ended_ones_count_as_few_long_ones() {
        let unstable = UnstableTransactions::new(None);
        let count = ENDED_TRANSACTIONS_MAX as i64 + 10;
        for n in 0..count {
            unstable.ended(&ended(n * 2, n * 2 + 1), None);
        }
        assert_eq!(unstable.state.lock().ended.len(), ENDED_TRANSACTIONS_MAX);
        for high_watermark in (0..=count * 2).rev().step_by(7) {
            assert!(unstable.last_stable_offset(count * 2) >= high_watermark.min(count * 2));
        }
        assert_eq!(unstable.last_stable_offset(count * 2), count * 2);

        let unstable = UnstableTransactions::new(None);
        for n in 0..count {
            unstable.ended(&ended(n * 2, n * 2 + 1), None);
        }
        let precise = (ENDED_TRANSACTIONS_MAX as i64 - 1) * 2;
        assert_eq!(unstable.last_stable_offset(100), 100);
        assert_eq!(unstable.last_stable_offset(precise + 6), precise, "it is never too far");
    }

    #[test]
    fn only_batches_of_the_producer_within_the_transaction_are_covered() {
        let aborted = |producer_id, first_offset, last_offset| AbortedTransaction {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset: last_offset + 1,
        };
        let found = AbortedTransactions::new(vec![aborted(7, 20, 30), aborted(8, 1, 50), aborted(7, 2, 10)]);
        let header = |producer_id, base_offset, transactional| {
            let producer = Some((producer_id, 0, 0));
            let mut batch =
                BatchBuilder::new(BatchOptions { base_offset, producer, transactional, ..BatchOptions::default() });
            batch.push(0, None, None, &[]);
            BatchHeader::parse(&batch.build()).unwrap()
        };
        for (offset, expected) in [(1, false), (2, true), (9, true), (11, false), (20, true), (29, true), (31, false)] {
            assert_eq!(found.covers(&header(7, offset, true)), expected, "{offset}");
            assert!(!found.covers(&header(7, offset, false)), "{offset}");
            assert!(found.covers(&header(8, offset, true)) && !found.covers(&header(9, offset, true)), "{offset}");
        }
        assert!(!AbortedTransactions::default().covers(&header(7, 2, true)));
    }
}
