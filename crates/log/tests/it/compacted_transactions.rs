//! Compaction of logs with transactions: aborted records go, markers stay as long as they say something, and readers of
//! committed records see the newest committed record of each key.

use std::collections::BTreeMap;

use millpond_log::{LogOptions, PartitionLog, Recovery};
use millpond_records::{BatchOptions, BatchView, TransactionMarker, batches};
use millpond_types::Offset;
use proptest::prelude::*;

use crate::committed::{Abort, Commit, after_clients_filter, check_committed, end};
use crate::compaction::{
    DAY_MS, KEYS_BYTES_MAX, Record, built, compact, compact_at, latest, options, records_of, roll, take_steps, text,
};
use crate::scratch::{NOW, Scratch, append, joined, read_all};

/// A batch of a producer's transaction.
fn in_transaction(producer: (i64, i32), records: &[(&str, Option<&str>)]) -> bytes::BytesMut {
    let producer = Some((producer.0, 0, producer.1));
    built(BatchOptions { producer, transactional: true, ..BatchOptions::default() }, NOW, records)
}

/// The records that a Kafka client that reads committed ones is given, read in pieces of `bytes_max`.
fn seen(log: &PartitionLog, bytes_max: usize) -> Vec<Record> {
    let (start, stable) = (log.log_start_offset(), log.last_stable_offset(log.log_end_offset()));
    let (mut from, mut seen) = (start, Vec::new());
    while from < stable {
        let fetched = log.read(from, bytes_max, stable, true).unwrap();
        assert!(fetched.next_offset > from, "nothing at {from} of {stable}");
        let aborted = log.aborted_transactions(from, fetched.next_offset).unwrap();
        let bytes = joined(&fetched);
        let given = after_clients_filter(&bytes, &aborted);
        for batch in batches(&bytes).map(Result::unwrap).filter(|batch| given.contains(&batch.header.base_offset)) {
            seen.extend(records_of(batch.bytes).into_iter().filter(|(offset, ..)| *offset >= from));
        }
        from = fetched.next_offset;
    }
    seen
}

/// Offset, result and whether it has a delete horizon, of each marker.
fn markers(log: &PartitionLog) -> Vec<(Offset, bool, bool)> {
    let bytes = read_all(log, 1 << 20);
    let marker = |batch: BatchView<'_>| {
        let marker = TransactionMarker::read(&batch).unwrap()?;
        Some((batch.header.base_offset, marker.result == Commit, batch.header.delete_horizon_ms().is_some()))
    };
    batches(&bytes).map(Result::unwrap).filter_map(marker).collect()
}

fn txn_indexes(scratch: &Scratch) -> Vec<(String, u64)> {
    let entries = millpond_disk::list(&scratch.dir()).unwrap().into_iter();
    entries.filter(|entry| entry.name.contains(".txnindex")).map(|entry| (entry.name, entry.len)).collect()
}

#[test]
fn aborted_records_go_and_take_nobodys_place() {
    let scratch = Scratch::with(LogOptions { segment_bytes: 10_000, ..options() });
    let log = scratch.create();
    append(&log, built(BatchOptions::default(), NOW, &[("a", Some("old")), ("b", Some("old"))])); // 0 and 1
    append(&log, in_transaction((1, 0), &[("a", Some("aborted")), ("c", Some("aborted"))])); // 2 and 3
    append(&log, in_transaction((2, 0), &[("b", Some("new"))])); // 4
    end(&log, (1, 0), Abort); // 5
    end(&log, (2, 0), Commit); // 6
    append(&log, in_transaction((1, 2), &[("d", None)])); // 7, so that the aborted batch is not its last
    end(&log, (1, 0), Commit); // 8
    append(&log, in_transaction((2, 1), &[("e", Some("e"))])); // 9
    roll(&log);
    assert_eq!(compact(&log).clean_below, 0, "what is open is not looked at");
    end(&log, (2, 0), Commit); // 10
    append(&log, built(BatchOptions::default(), NOW, &[("f", Some("f"))])); // 11
    roll(&log);

    let expected: Vec<Record> = [(0, "a", Some("old")), (4, "b", Some("new")), (7, "d", None), (9, "e", Some("e"))]
        .into_iter()
        .chain([(11, "f", Some("f"))])
        .map(|(offset, key, value)| (offset, text(key), value.map(str::to_owned)))
        .collect();
    assert_eq!(compact(&log).records_removed, 3);
    assert_eq!(seen(&log, 1 << 20), expected);
    assert_eq!(markers(&log), [(5, false, false), (6, true, false), (8, true, false), (10, true, false)]);
    check_committed(&log, 12, "once");

    // Of the aborted transaction nothing is left, so its marker may go when its time is over. The others' batches are there.
    append(&log, built(BatchOptions::default(), NOW, &[("f", Some("f"))])); // 12
    roll(&log);
    compact(&log);
    assert_eq!(markers(&log), [(5, false, true), (6, true, false), (8, true, false), (10, true, false)]);
    check_committed(&log, 13, "twice");
    append(&log, built(BatchOptions::default(), NOW, &[("f", Some("f"))])); // 13
    roll(&log);
    compact_at(&log, NOW + DAY_MS, KEYS_BYTES_MAX);
    assert_eq!(markers(&log), [(6, true, false), (8, true, false), (10, true, false)]);
    assert!(log.aborted_transactions(0, 14).unwrap().is_empty());
    check_committed(&log, 14, "a day later");
    assert_eq!(txn_indexes(&scratch).iter().map(|(_, len)| len).sum::<u64>(), 0);

    let close = log.close(NOW).unwrap();
    drop(log);
    check_committed(&scratch.open_clean(close), 14, "after a stop");
}

#[test]
fn a_producer_of_which_only_a_marker_is_left_keeps_its_epoch() {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    append(&log, in_transaction((1, 0), &[("a", Some("1"))])); // 0
    end(&log, (1, 7), Commit); // 1: the coordinator raises the epoch
    append(&log, built(BatchOptions::default(), NOW, &[("a", Some("2"))])); // 2
    for round in 0..3 {
        append(&log, built(BatchOptions::default(), NOW, &[("b", Some("b"))]));
        roll(&log);
        compact_at(&log, NOW + round * 2 * DAY_MS, KEYS_BYTES_MAX);
    }
    assert_eq!(markers(&log).iter().map(|(offset, ..)| *offset).collect::<Vec<_>>(), [1]);
    let image = scratch.crash_image();
    for name in image.names().iter().filter(|name| name.ends_with(".snapshot")) {
        std::fs::remove_file(image.dir().join(name)).unwrap();
    }
    let (log, _) = image.open_crashed(0);
    assert_eq!(log.active_producers().iter().map(|each| each.producer_epoch).collect::<Vec<_>>(), [7]);
}

#[test]
fn the_aborted_transactions_of_merged_segments_are_found_in_the_new_one() {
    let scratch = Scratch::with(LogOptions { segment_bytes: 300, ..options() });
    let log = scratch.create();
    for round in 0..20 {
        append(&log, in_transaction((1, round), &[(&format!("key {round}"), Some("aborted"))]));
        end(&log, (1, 0), Abort);
    }
    append(&log, built(BatchOptions::default(), NOW, &[("a", Some("a"))]));
    roll(&log);
    let before = txn_indexes(&scratch).len();
    compact(&log);
    let after = txn_indexes(&scratch);
    assert!(before > 5 && after.len() < before, "{before}, {after:?}");
    assert_eq!(after.iter().map(|(_, len)| len).sum::<u64>(), 20 * 34);
    check_committed(&log, 41, "merged");
    assert_eq!(seen(&log, 1), [(40, text("a"), text("a"))]);
    let image = scratch.crash_image();
    let (log, _) = image.open_crashed(0);
    check_committed(&log, 41, "after a crash");
}

#[test]
fn a_damaged_transaction_index_is_built_anew_before_its_segment_goes() {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    append(&log, in_transaction((1, 0), &[("a", Some("aborted")), ("b", Some("aborted"))]));
    end(&log, (1, 0), Abort);
    append(&log, built(BatchOptions::default(), NOW, &[("b", Some("b"))]));
    roll(&log);
    let close = log.close(NOW).unwrap();
    drop(log);
    let index = scratch.dir().join("00000000000000000000.txnindex");
    std::fs::write(&index, [7; 34]).unwrap();
    let log = scratch.open_clean(close);
    assert_eq!(compact(&log).records_removed, 2);
    assert_eq!(seen(&log, 1 << 20), [(3, text("b"), text("b"))]);
    assert_eq!(millpond_disk::read_file(&index).unwrap().map(|bytes| bytes.len()), Some(34));
}

/// What happens to a log in between.
#[derive(Debug, Clone)]
enum Event {
    /// By one of some producers; the first of them has no transactions.
    Append(i64, Vec<(u8, bool)>),
    End(i64, bool),
    Roll,
    Steps(usize),
    Trim(u8),
    Reopen {
        clean: bool,
        without_snapshots: bool,
    },
}

const PRODUCERS: i64 = 4;

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..PRODUCERS, proptest::collection::vec((0..6u8, proptest::bool::weighted(0.8)), 1..4))
            .prop_map(|(producer, records)| Event::Append(producer, records)),
        6 => (1..PRODUCERS, any::<bool>()).prop_map(|(producer, commits)| Event::End(producer, commits)),
        3 => Just(Event::Roll),
        6 => (1..20usize).prop_map(Event::Steps),
        1 => any::<u8>().prop_map(Event::Trim),
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(clean, without_snapshots)| Event::Reopen { clean, without_snapshots }),
    ]
}

/// What was written, and what became of it.
#[derive(Debug, Default)]
struct Sent {
    records: BTreeMap<Offset, (Record, Fate)>,
    next_offset: Offset,
    sequences: BTreeMap<i64, i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    Aborted,
    OpenOf(i64),
}

impl Sent {
    fn append(&mut self, log: &PartitionLog, producer: i64, keys: &[(u8, bool)]) {
        let mut values = Vec::new();
        let fate = if producer == 0 { Fate::Committed } else { Fate::OpenOf(producer) };
        for (key, has_value) in keys {
            let value = has_value.then(|| self.next_offset.to_string());
            let record = (self.next_offset, Some(key.to_string()), value.clone());
            self.records.insert(self.next_offset, (record, fate));
            values.push((key.to_string(), value));
            self.next_offset += 1;
        }
        let records: Vec<_> = values.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        if producer == 0 {
            append(log, built(BatchOptions::default(), NOW, &records));
        } else {
            let sequence = self.sequences.entry(producer).or_default();
            append(log, in_transaction((producer, *sequence), &records));
            *sequence += keys.len() as i32;
        }
    }

    fn end(&mut self, log: &PartitionLog, producer: i64, commits: bool) {
        end(log, (producer, 0), if commits { Commit } else { Abort });
        self.next_offset += 1;
        for (_, fate) in self.records.values_mut().filter(|(_, fate)| *fate == Fate::OpenOf(producer)) {
            *fate = if commits { Fate::Committed } else { Fate::Aborted };
        }
    }

    fn check(&self, log: &PartitionLog) {
        let (start, log_end) = (log.log_start_offset(), log.log_end_offset());
        assert_eq!(log_end, self.next_offset);
        check_committed(log, log_end, "after an event");
        let stable = log.last_stable_offset(log_end);
        let committed: Vec<Record> = self
            .records
            .range(..stable)
            .filter(|(_, (_, fate))| *fate == Fate::Committed)
            .map(|(_, (record, _))| record.clone())
            .collect();
        for bytes_max in [1, 1 << 20] {
            let seen = seen(log, bytes_max);
            assert!(seen.is_sorted_by(|a, b| a.0 < b.0));
            for record in &seen {
                assert!(committed.contains(record), "{record:?} is not committed, or was never sent");
            }
            for record in latest(&committed).iter().filter(|(offset, _, value)| *offset >= start && value.is_some()) {
                assert!(seen.contains(record), "{record:?} is missing in {seen:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_in_between_readers_see_the_newest_committed_record_of_each_key(
        events in proptest::collection::vec(event(), 1..80)
    ) {
        let scratch = Scratch::with(LogOptions { delete_retention_ms: 2_000, segment_bytes: 400, ..options() });
        let mut log = scratch.create();
        let (mut sent, mut log_start) = (Sent::default(), 0);
        let mut compaction = None;
        for (round, event) in events.into_iter().enumerate() {
            let now_ms = NOW + round as i64 * 300;
            match event {
                Event::Append(producer, keys) => sent.append(&log, producer, &keys),
                Event::End(producer, commits) => sent.end(&log, producer, commits),
                Event::Roll => {
                    log.roll_if_due(i64::MAX).unwrap();
                    log.sync().unwrap();
                }
                Event::Steps(steps) => take_steps(&log, &mut compaction, now_ms, steps),
                Event::Trim(at) => {
                    let to = log_start + (log.log_end_offset() - log_start) * i64::from(at) / 1_000;
                    log_start = log.advance_log_start(to).unwrap();
                    log.delete_gone(log.log_start_offset()).unwrap();
                }
                Event::Reopen { clean, without_snapshots } => {
                    compaction = None;
                    let recovery_point = if clean { log.close(NOW).unwrap() } else { log.sync().unwrap() / 2 };
                    drop(log);
                    for name in scratch.names().iter().filter(|name| !clean && without_snapshots && name.ends_with(".snapshot")) {
                        std::fs::remove_file(scratch.dir().join(name)).unwrap();
                    }
                    let recovery = Recovery { clean, recovery_point, log_start_offset: log_start, refuse_damage: false };
                    let (opened, recovered) = scratch.open(recovery);
                    prop_assert_eq!(recovered.reason, None);
                    log = opened;
                }
            }
            sent.check(&log);
        }
    }
}
