//! What a consumer of committed records must see, found the slow way: by looking at every batch and every marker. And what the
//! log says of it.

use std::collections::BTreeMap;

use bytes::BytesMut;
use millpond_log::{AbortedTransactions, Appended, PartitionLog};
use millpond_records::{
    BatchBuilder, BatchHeader, BatchOptions, BatchView, TransactionMarker, TransactionResult, batches,
};
use millpond_types::Offset;

use crate::scratch::{NOW, joined, read_all};

pub(crate) use TransactionResult::{Abort, Commit};

/// A transactional batch of `count` records.
pub(crate) fn transactional(producer: (i64, i16, i32), count: usize) -> BytesMut {
    let options = BatchOptions { producer: Some(producer), transactional: true, ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    for n in 0..count {
        builder.push(NOW + n as i64, None, Some(b"value"), &[]);
    }
    BytesMut::from(&builder.build()[..])
}

pub(crate) fn marker(producer: (i64, i16), result: TransactionResult) -> TransactionMarker {
    TransactionMarker { producer_id: producer.0, producer_epoch: producer.1, result, coordinator_epoch: 0 }
}

pub(crate) fn end(log: &PartitionLog, producer: (i64, i16), result: TransactionResult) -> Appended {
    log.append_marker(&marker(producer, result), 0, NOW).unwrap()
}

/// What happens to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Shown,
    /// Aborted, or a marker.
    Hidden,
    /// Its transaction is open.
    Unknown,
}

/// Every batch and its fate for those who see what lies below `high_watermark`.
fn fates(bytes: &[u8], high_watermark: Offset) -> Vec<(BatchHeader, Fate)> {
    let mut found: Vec<(BatchHeader, Fate)> = Vec::new();
    let mut open: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for batch in batches(bytes).map(Result::unwrap) {
        let (header, place) = (batch.header, found.len());
        if header.base_offset >= high_watermark {
            break;
        }
        let fate = match TransactionMarker::read(&batch).unwrap() {
            Some(marker) => {
                let fate = if marker.result == Commit { Fate::Shown } else { Fate::Hidden };
                for place in open.remove(&marker.producer_id).unwrap_or_default() {
                    found[place].1 = fate;
                }
                Fate::Hidden
            }
            None if header.is_transactional() => {
                open.entry(header.producer_id).or_default().push(place);
                Fate::Unknown
            }
            None => Fate::Shown,
        };
        found.push((header, fate));
    }
    found
}

/// The last stable offset.
pub(crate) fn stable_end(bytes: &[u8], high_watermark: Offset) -> Offset {
    let first = fates(bytes, high_watermark).into_iter().find(|(_, fate)| *fate == Fate::Unknown);
    first.map_or(high_watermark, |(header, _)| header.base_offset)
}

/// The base offsets of the batches below the last stable offset that are shown.
fn shown(bytes: &[u8], high_watermark: Offset) -> Vec<Offset> {
    let end = stable_end(bytes, high_watermark);
    let fates = fates(bytes, high_watermark).into_iter();
    fates.filter(|(h, fate)| h.base_offset < end && *fate == Fate::Shown).map(|(h, _)| h.base_offset).collect()
}

/// The base offsets of the batches that a consumer of committed records is given, read in pieces of `bytes_max`.
pub(crate) fn consumed(log: &PartitionLog, high_watermark: Offset, bytes_max: usize) -> Vec<Offset> {
    let end = log.last_stable_offset(high_watermark);
    let mut from = log.log_start_offset();
    let mut given = Vec::new();
    while from < end {
        let fetched = log.read(from, bytes_max, end, true).unwrap();
        assert!(!fetched.is_empty(), "nothing at {from} of {end}");
        let aborted = log.aborted_transactions(from, fetched.next_offset).unwrap();
        given.extend(after_filter(&joined(&fetched), &aborted));
        from = fetched.next_offset;
    }
    given
}

fn after_filter(bytes: &[u8], aborted: &AbortedTransactions) -> Vec<Offset> {
    let is_given = |batch: &BatchView<'_>| !batch.header.is_control() && !aborted.covers(&batch.header);
    let given = batches(bytes).map(Result::unwrap).filter(is_given);
    given.map(|batch| batch.header.base_offset).collect()
}

/// What Kafka's consumers make of the same answer: they know only where the aborted transactions began, and take their
/// producers' batches out until they see a marker.
pub(crate) fn after_clients_filter(bytes: &[u8], aborted: &AbortedTransactions) -> Vec<Offset> {
    let mut begins: Vec<(Offset, i64)> = aborted.iter().map(|a| (a.first_offset, a.producer_id)).collect();
    begins.sort_unstable_by(|a, b| b.cmp(a));
    let mut hidden = Vec::new();
    let mut given = Vec::new();
    for batch in batches(bytes).map(Result::unwrap) {
        let header = batch.header;
        while begins.last().is_some_and(|(first, _)| *first <= header.last_offset()) {
            hidden.extend(begins.pop().map(|(_, producer)| producer));
        }
        match TransactionMarker::read(&batch).unwrap() {
            Some(marker) if marker.result == Abort => hidden.retain(|producer| *producer != marker.producer_id),
            Some(_) => {}
            None if header.is_transactional() && hidden.contains(&header.producer_id) => {}
            None => given.push(header.base_offset),
        }
    }
    given
}

/// The log says of every range what the slow way finds, for readers that see up to `high_watermark`.
pub(crate) fn check_committed(log: &PartitionLog, high_watermark: Offset, what: &str) {
    let bytes = read_all(log, 1 << 20);
    let (start, stable) = (log.log_start_offset(), log.last_stable_offset(high_watermark));
    let expected = stable_end(&bytes, high_watermark).max(start);
    // The records of an open transaction may all lie before the start; a restart may forget it then.
    assert!(stable == expected || stable == start, "{what}: stable up to {stable}, expected {expected}");
    let mut shown = shown(&bytes, high_watermark);
    shown.retain(|offset| start < stable && *offset < stable);
    for bytes_max in [1, 300, 1 << 20] {
        assert_eq!(consumed(log, high_watermark, bytes_max), shown, "{what}, in pieces of {bytes_max}");
    }
    // From every batch to the end, as who seeks there reads; by our filter and by that of Kafka's clients.
    for header in batches(&bytes).map(|batch| batch.unwrap().header) {
        let from = header.last_offset();
        if from >= stable {
            break;
        }
        let fetched = log.read(from, 1 << 20, stable, true).unwrap();
        let aborted = log.aborted_transactions(from, fetched.next_offset).unwrap();
        let range = header.base_offset..fetched.next_offset;
        let expected: Vec<Offset> = shown.iter().copied().filter(|base| range.contains(base)).collect();
        assert_eq!(after_filter(&joined(&fetched), &aborted), expected, "{what}, from {from}");
        assert_eq!(after_clients_filter(&joined(&fetched), &aborted), expected, "{what}, a client from {from}");
    }
}
