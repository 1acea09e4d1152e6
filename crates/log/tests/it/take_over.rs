//! A log of Kafka's becomes ours. Kafka's folder is played by one of ours without what is ours alone: the formats are the same.
//! protocol-tests/import does it with Kafka's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millpond_log::inspect::{Claims, Watch, verify};
use millpond_log::{ForeignLog, LogOptions, Recovered, Recovery, TakeOverError, TakenOver};
use millpond_records::{BatchBuilder, BatchOptions, TransactionMarker, TransactionResult};
use millpond_types::{Offset, TopicId};

use crate::scratch::{NOW, Scratch, append, base_of, batch_at, flip_bit, offsets, produced, read_all};

const ID: &str = "AAAAAAAAAAAAAAAAAAAABQ";

fn options() -> LogOptions {
    LogOptions { segment_bytes: 900, index_interval_bytes: 150, retention_ms: -1, ..LogOptions::default() }
}

/// A log of several segments that Kafka has closed, where it ended, and all its batches.
fn foreign() -> (Scratch, Offset, Vec<u8>) {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    for n in 0..30 {
        let made = if n % 3 == 0 { produced((7, 0, n / 3 * 2), 2) } else { batch_at(NOW + i64::from(n), 3, b"value") };
        log.append(made, if n < 15 { 2 } else { 5 }, NOW).unwrap();
    }
    let end = log.close(NOW).unwrap();
    let all = read_all(&log, 1 << 20);
    for name in scratch.names().iter().filter(|name| name.ends_with("index") || name.as_str() == "partition.metadata") {
        std::fs::remove_file(scratch.dir().join(name)).unwrap();
    }
    (scratch, end, all)
}

fn to_take_over(source: &Path, end: Offset) -> ForeignLog<'_> {
    let topic_id = ID.parse::<TopicId>().unwrap();
    ForeignLog { source, topic_id, log_start_offset: 0, recovery_point: end, was_closed: true }
}

fn take_over(log: &ForeignLog<'_>) -> (Scratch, Result<TakenOver, TakeOverError>) {
    let ours = Scratch::with(options());
    let taken = log.take_over(&ours.dir(), options(), NOW, &|_| {});
    (ours, taken)
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

/// What `millpond log verify` says of a log that ends at `end`.
fn check_sound(scratch: &Scratch, log_start: Offset, end: Offset) {
    let claims = Claims {
        is_closed: true,
        recovery_point: Some(end),
        log_start: Some(log_start),
        topic_id: Some(ID.parse().unwrap()),
        is_kafkas: false,
    };
    let watch = Watch { claims: &|| claims.clone(), pause: &|| {}, progress: &|_| {} };
    let found = verify(&scratch.dir(), &watch).unwrap().unwrap().findings;
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_closed_log_is_taken_over_whole_and_opened_without_being_read() {
    let (source, end, all) = foreign();
    let before = contents(&source.dir());
    let (ours, taken) = take_over(&to_take_over(&source.dir(), end));
    let taken = taken.unwrap();
    assert_eq!(contents(&source.dir()), before, "Kafka's folder is as it was");
    assert_eq!((taken.log_start_offset, taken.log_end_offset, taken.bytes), (0, end, all.len() as u64));
    assert_eq!((taken.cut_bytes, taken.first_gap, taken.leader_epoch), (0, None, Some(5)));
    assert!(taken.open_transactions.is_empty());
    check_sound(&ours, 0, end);

    let log = ours.open_clean(end);
    assert_eq!(log.topic_id(), ID.parse().unwrap());
    assert!(read_all(&log, 1 << 20) == all);
    assert_eq!(log.leader_epoch_end(2), Some((2, offsets(&all)[15].0)));
    // The idempotent producer goes on, and what it sends again is known.
    assert!(append(&log, produced((7, 0, 18), 2)).duplicate);
    assert!(!append(&log, produced((7, 0, 20), 2)).duplicate);
}

#[test]
fn records_below_the_start_stay_behind() {
    let (source, end, all) = foreign();
    let segments = source.logs();
    let start = base_of(&segments[2]) + 1;
    let (ours, taken) = take_over(&ForeignLog { log_start_offset: start, ..to_take_over(&source.dir(), end) });
    let taken = taken.unwrap();
    assert_eq!((taken.log_start_offset, taken.log_end_offset), (start, end));
    assert_eq!(base_of(&ours.logs()[0]), base_of(&segments[2]));
    check_sound(&ours, start, end);
    let (log, recovered) =
        ours.open(Recovery { clean: true, recovery_point: end, log_start_offset: start, refuse_damage: false });
    assert_eq!((recovered, log.log_start_offset()), (Recovered::default(), start));
    assert!(all.ends_with(&read_all(&log, 1 << 20)));
}

#[test]
fn what_compaction_took_out_is_not_missing_after_a_crash_either() {
    let (source, end, all) = foreign();
    let segments = source.logs();
    let gap = base_of(&segments[2]);
    std::fs::remove_file(&segments[1]).unwrap();
    // And the second batch of the third segment.
    let bytes = std::fs::read(&segments[2]).unwrap();
    let sizes: Vec<usize> = millpond_records::batches(&bytes).map(|batch| batch.unwrap().header.size()).collect();
    let kept = [&bytes[..sizes[0]], &bytes[sizes[0] + sizes[1]..]].concat();
    std::fs::write(&segments[2], &kept).unwrap();

    let (ours, taken) = take_over(&to_take_over(&source.dir(), end));
    assert_eq!(taken.unwrap().first_gap, Some(gap));
    check_sound(&ours, 0, end);
    let (log, recovered) = ours.crash_image().open_crashed(0);
    assert_eq!((log.log_end_offset(), recovered.truncated_bytes), (end, 0));
    let missing = std::fs::read(&ours.logs()[0]).unwrap().len() as u64 + kept.len() as u64;
    assert!(missing < all.len() as u64 && log.size_bytes() < all.len() as u64);
}

#[test]
fn a_log_that_retention_has_emptied_goes_on_at_its_end() {
    let (source, end, _) = foreign();
    source.logs().iter().for_each(|path| std::fs::remove_file(path).unwrap());
    for with_segment in [false, true] {
        if with_segment {
            std::fs::write(source.dir().join(format!("{end:020}.log")), b"").unwrap();
        }
        let (ours, taken) = take_over(&ForeignLog { log_start_offset: end, ..to_take_over(&source.dir(), end) });
        let taken = taken.unwrap();
        assert_eq!((taken.log_start_offset, taken.log_end_offset), (end, end));
        check_sound(&ours, end, end);
        let (log, _) =
            ours.open(Recovery { clean: true, recovery_point: end, log_start_offset: end, refuse_damage: false });
        assert_eq!(append(&log, batch_at(NOW, 1, b"next")).base_offset, end);
    }
}

#[test]
fn a_crash_of_kafka_loses_the_write_that_it_cut_off_and_nothing_else() {
    let (source, end, all) = foreign();
    let last = source.logs().pop().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    let torn = bytes[..100].to_vec();
    bytes.extend_from_slice(&torn);
    std::fs::write(&last, &bytes).unwrap();
    let dir = source.dir();
    let crashed = ForeignLog { was_closed: false, recovery_point: 0, ..to_take_over(&dir, end) };
    let (ours, taken) = take_over(&crashed);
    let taken = taken.unwrap();
    assert_eq!((taken.log_end_offset, taken.bytes, taken.cut_bytes), (end, all.len() as u64, 100));
    check_sound(&ours, 0, end);
    // After a clean stop it is damage.
    let (_, refused) = take_over(&to_take_over(&source.dir(), end));
    assert!(matches!(refused, Err(TakeOverError::Damaged { offset, .. }) if offset == end), "{refused:?}");
}

#[test]
fn damage_is_told_with_its_place_and_nothing_is_cut() {
    let (source, end, _) = foreign();
    let segments = source.logs();
    for (segment, was_closed) in [(0, true), (0, false), (segments.len() - 1, true), (segments.len() - 1, false)] {
        flip_bit(&segments[segment], 70, 3);
        let error = take_over(&ForeignLog { was_closed, ..to_take_over(&source.dir(), end) }).1.unwrap_err();
        assert!(matches!(&error, TakeOverError::Damaged { path, position: 0, .. } if *path == segments[segment]));
        assert!(error.to_string().contains("CRC") && error.to_string().contains("stop it cleanly"), "{error}");
        flip_bit(&segments[segment], 70, 3);
    }
    let swap = source.dir().join("00000000000000000000.log.swap");
    std::fs::write(&swap, b"").unwrap();
    let error = take_over(&to_take_over(&source.dir(), end)).1.unwrap_err();
    assert!(matches!(&error, TakeOverError::Compacting { path } if *path == swap), "{error}");
    std::fs::remove_file(&swap).unwrap();
    std::fs::remove_file(segments.last().unwrap()).unwrap();
    let error = take_over(&to_take_over(&source.dir(), end)).1.unwrap_err();
    assert!(matches!(error, TakeOverError::Short { expected_end, .. } if expected_end == end), "{error}");
}

#[test]
fn transactions_are_taken_over_and_those_that_were_left_open_are_named() {
    for is_ended in [false, true] {
        let scratch = Scratch::new();
        let log = scratch.create();
        let part = |producer, sequence| {
            let producer = Some((producer, 0, sequence));
            let mut batch =
                BatchBuilder::new(BatchOptions { producer, transactional: true, ..BatchOptions::default() });
            batch.push(NOW, None, Some(b"value"), &[]);
            bytes::BytesMut::from(&batch.build()[..])
        };
        let end = |producer_id, result| {
            let marker = TransactionMarker { producer_id, producer_epoch: 0, result, coordinator_epoch: 0 };
            log.append_marker(&marker, 0, NOW).unwrap();
        };
        append(&log, part(1, 0));
        append(&log, part(2, 0));
        append(&log, part(2, 1));
        end(1, TransactionResult::Abort);
        if is_ended {
            end(2, TransactionResult::Commit);
        }
        let log_end = log.close(NOW).unwrap();
        for was_closed in [true, false] {
            let (ours, taken) = take_over(&ForeignLog { was_closed, ..to_take_over(&scratch.dir(), log_end) });
            let open = if is_ended { BTreeMap::new() } else { BTreeMap::from([(2, 1)]) };
            assert_eq!(taken.unwrap().open_transactions, open);
            check_sound(&ours, 0, log_end);
            let aborted = ours.open_clean(log_end).aborted_transactions(0, log_end).unwrap();
            assert_eq!(aborted.iter().map(|aborted| aborted.producer_id).collect::<Vec<_>>(), [1]);
        }
    }
}
