//! Compaction: what stays, what goes, and what is there when it was interrupted.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::BytesMut;
use millpond_disk::{Crash, SimulatedDisk};
use millpond_log::{Compacted, Compaction, LogBudget, LogError, LogOptions, PartitionLog, Recovery, Step};
use millpond_records::{BatchBuilder, BatchOptions, Compression, batches, verify_crc};
use millpond_types::{Offset, TopicId};
use proptest::prelude::*;

use crate::scratch::{NOW, Scratch, append, produced, read_all};

pub(crate) const KEYS_BYTES_MAX: usize = 1 << 20;
pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Offset, key and value of a record.
pub(crate) type Record = (Offset, Option<String>, Option<String>);

pub(crate) fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 500,
        index_interval_bytes: 100,
        retention_ms: -1,
        tail_bytes_max: 0,
        compact: true,
        ..LogOptions::default()
    }
}

fn keyed_at(timestamp: i64, records: &[(&str, Option<&str>)]) -> BytesMut {
    built(BatchOptions::default(), timestamp, records)
}

pub(crate) fn keyed(records: &[(&str, Option<&str>)]) -> BytesMut {
    keyed_at(NOW, records)
}

pub(crate) fn built(options: BatchOptions, timestamp: i64, records: &[(&str, Option<&str>)]) -> BytesMut {
    let mut builder = BatchBuilder::new(options);
    for (key, value) in records {
        builder.push(timestamp, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    BytesMut::from(&builder.build()[..])
}

pub(crate) fn records_of(bytes: &[u8]) -> Vec<Record> {
    let mut found = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        verify_crc(batch.bytes).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut records = batch.records(1 << 20).unwrap();
        records.for_each(|record| found.push((record.offset, record.key.map(text), record.value.map(text)))).unwrap();
    }
    found
}

pub(crate) fn records(log: &PartitionLog) -> Vec<Record> {
    let mut found = records_of(&read_all(log, 300));
    found.retain(|(offset, ..)| *offset >= log.log_start_offset());
    found
}

pub(crate) fn compact_at(log: &PartitionLog, now_ms: i64, keys_bytes_max: usize) -> Compacted {
    let Some(mut compaction) = log.begin_compaction(now_ms, Offset::MAX, keys_bytes_max).unwrap() else {
        return Compacted::default();
    };
    loop {
        match log.compaction_step(&mut compaction).unwrap() {
            Step::More(_) => {}
            Step::Done(compacted) => return compacted,
            Step::Abandoned => panic!("nobody took anything away"),
        }
    }
}

pub(crate) fn compact(log: &PartitionLog) -> Compacted {
    compact_at(log, NOW, KEYS_BYTES_MAX)
}

/// Syncs, and begins a new segment, so that what there is may be compacted.
pub(crate) fn roll(log: &PartitionLog) {
    let before = log.segments().len();
    log.roll_if_due(i64::MAX).unwrap();
    log.sync().unwrap();
    assert!(log.segments().len() > before);
}

/// Of these records, those that compaction keeps.
pub(crate) fn latest(records: &[Record]) -> Vec<Record> {
    let newest: HashMap<&Option<String>, Offset> = records.iter().map(|(offset, key, _)| (key, *offset)).collect();
    records.iter().filter(|(offset, key, _)| key.is_some() && newest[key] == *offset).cloned().collect()
}

pub(crate) fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn of_each_key_the_newest_record_stays_where_it_was() {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    for round in 0..30 {
        let value = format!("value {round}");
        append(&log, keyed(&[("a", Some(&value)), ("b", Some("same")), (&format!("only {round}"), Some(&value))]));
    }
    roll(&log);
    append(&log, keyed(&[("a", Some("not looked at"))]));
    log.sync().unwrap();
    let before = records(&log);
    let segments = log.segments();
    let compacted = compact(&log);

    let mut expected = latest(&before[..90]);
    expected.push((90, text("a"), text("not looked at")));
    assert_eq!(records(&log), expected);
    assert_eq!((compacted.keys, compacted.records_removed, compacted.clean_below), (32, 58, 90));
    assert!(log.segments().len() <= segments.len() && log.size_bytes() < segments.iter().map(|s| s.size_bytes).sum());
    // Each offset leads to the record that has it or comes next.
    for from in 0..=90 {
        let fetched = log.read(from, 1, Offset::MAX, true).unwrap();
        let next = expected.iter().find(|(offset, ..)| *offset >= from).unwrap();
        let found = records_of(&fetched.chunks.concat());
        assert!(found.contains(next), "{from}: {found:?}");
    }
    // Another time there is nothing to do.
    assert_eq!(compact(&log), Compacted::default());
    assert!(scratch.names().iter().all(|name| !name.ends_with(".cleaned") && !name.ends_with(".deleted")));

    // A start finds it so, whatever is known of the last end.
    let end = log.close(NOW).unwrap();
    let image = scratch.crash_image();
    for recovery_point in [0, 45, end] {
        let image = image.crash_image();
        let (log, recovered) = image.open_crashed(recovery_point);
        assert_eq!((recovered.reason, records(&log)), (None, expected.clone()), "from {recovery_point}");
        assert_eq!(compact(&log), Compacted::default());
    }
    let log = image.open_clean(end);
    assert_eq!(records(&log), expected);
    assert_eq!(log.offset_for_timestamp(NOW, Offset::MAX).unwrap(), Some((expected[0].0, NOW)));
}

#[test]
fn a_hole_that_compaction_did_not_make_is_damage() {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    (0..9).for_each(|n| _ = append(&log, keyed(&[("a", Some(&n.to_string()))])));
    roll(&log);
    compact(&log);
    for n in 9..40 {
        append(&log, keyed(&[("a", Some(&n.to_string()))]));
    }
    log.sync().unwrap();
    let third = scratch.logs()[2].clone();
    std::fs::remove_file(third).unwrap();
    let (log, recovered) = scratch.open_crashed(0);
    assert!(recovered.reason.unwrap().contains("does not begin where the one before ends"));
    assert!(log.log_end_offset() < 40);
}

#[test]
fn tombstones_stay_for_their_time_after_they_were_compacted_first() {
    let scratch = Scratch::with(LogOptions { delete_retention_ms: 1000, min_cleanable_dirty_ratio: 0.0, ..options() });
    let log = scratch.create();
    append(&log, keyed(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]));
    append(&log, keyed(&[("a", None), ("b", Some("2"))]));
    roll(&log);
    compact_at(&log, NOW, KEYS_BYTES_MAX);
    let tombstone = (3, text("a"), None);
    let kept = vec![(2, text("c"), text("1")), tombstone.clone(), (4, text("b"), text("2"))];
    assert_eq!(records(&log), kept);

    // Its time is counted from there, in its batch; timestamps are as they were.
    let bytes = read_all(&log, 1000);
    let horizons: Vec<_> = batches(&bytes).map(|batch| batch.unwrap().header.delete_horizon_ms()).collect();
    assert_eq!(horizons, [None, Some(NOW + 1000)]);
    assert_eq!(log.offset_for_timestamp(NOW, Offset::MAX).unwrap(), Some((2, NOW)));

    let mut expected = kept;
    for (later_ms, stays) in [(999, true), (1000, false)] {
        append(&log, keyed(&[("other", Some("1"))]));
        roll(&log);
        compact_at(&log, NOW + later_ms, KEYS_BYTES_MAX);
        expected.retain(|(_, key, _)| *key != text("other"));
        expected.push((log.log_end_offset() - 1, text("other"), text("1")));
        expected.retain(|record| *record != tombstone || stays);
        assert_eq!(records(&log), expected, "{later_ms} ms later");
    }
}

#[test]
fn what_is_too_young_or_not_worth_it_waits_and_what_is_too_old_does_not() {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    for n in 0..40i64 {
        append(&log, keyed_at(NOW + n * 1000, &[("a", Some("some value or other"))]));
    }
    log.sync().unwrap();
    let with = |change: &dyn Fn(&mut LogOptions)| {
        let mut changed = options();
        change(&mut changed);
        log.set_options(changed);
        log.cleanable(NOW + 40_000, Offset::MAX).unwrap()
    };
    let all = with(&|_| {}).unwrap();
    let rolled: u64 = log.segments().iter().rev().skip(1).map(|segment| segment.size_bytes).sum();
    assert_eq!((all.clean_bytes, all.dirty_bytes, all.dirty_ratio()), (0, rolled, 1.0));
    assert_eq!(with(&|options| options.compact = false), None);
    assert_eq!(with(&|options| options.min_compaction_lag_ms = DAY_MS), None);
    let some = with(&|options| options.min_compaction_lag_ms = 20_000).unwrap();
    assert!(0 < some.dirty_bytes && some.dirty_bytes < all.dirty_bytes);
    with(&|_| {});
    let bounded = log.cleanable(NOW, 20).unwrap().unwrap();
    assert!(0 < bounded.dirty_bytes && bounded.dirty_bytes < all.dirty_bytes);
    compact(&log);
    (0..12).for_each(|_| _ = append(&log, keyed(&[("a", Some("some value or other"))])));
    log.sync().unwrap();

    for (ratio, lag_ms, is_due) in [(0.99, i64::MAX, false), (0.5, i64::MAX, true), (0.99, 10_000, true)] {
        let cleanable = with(&|options| {
            (options.min_cleanable_dirty_ratio, options.max_compaction_lag_ms) = (ratio, lag_ms);
        });
        let cleanable = cleanable.unwrap();
        assert!(cleanable.dirty_ratio() > 0.5 && cleanable.dirty_ratio() < 0.99, "{cleanable:?}");
        assert_eq!(log.is_due(&cleanable), is_due, "ratio {ratio}, lag {lag_ms}: {cleanable:?}");
    }
}

#[test]
fn what_producers_sent_is_known_after_their_records_are_gone_and_no_snapshot_is_left() {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    for sequence in 0..20 {
        let options = BatchOptions { producer: Some((7, 0, sequence)), ..BatchOptions::default() };
        append(&log, built(options, NOW, &[("a", Some("some value"))]));
    }
    (0..5).for_each(|_| _ = append(&log, keyed(&[("a", Some("another value"))])));
    roll(&log);
    compact(&log);
    assert_eq!(records(&log), [(24, text("a"), text("another value"))]);
    for name in scratch.names().iter().filter(|name| name.ends_with(".snapshot")) {
        std::fs::remove_file(scratch.dir().join(name)).unwrap();
    }
    let (log, _) = scratch.open_crashed(0);
    let last = BatchOptions { producer: Some((7, 0, 19)), ..BatchOptions::default() };
    let again = append(&log, built(last, NOW, &[("a", Some("some value"))]));
    assert!(again.duplicate && again.base_offset == 19, "{again:?}");
    assert_eq!(append(&log, produced((7, 0, 20), 1)).base_offset, 25);
}

#[test]
fn a_start_after_a_crash_writes_the_snapshots_that_compaction_relies_on() {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    for sequence in 0..30 {
        let options = BatchOptions { producer: Some((7, 0, sequence)), ..BatchOptions::default() };
        append(&log, built(options, NOW, &[("a", Some("some value"))]));
    }
    roll(&log);
    let is_snapshot = |name: &String| name.ends_with(".snapshot");
    let written: Vec<String> = scratch.names().into_iter().filter(is_snapshot).collect();
    let read = |scratch: &Scratch, name: &str| std::fs::read(scratch.dir().join(name)).unwrap();
    assert!(written.len() > 3);
    // The crash came right after the rolls; or it left one that is not whole.
    for damage in [None, Some([0; 10])] {
        let image = scratch.crash_image();
        for name in &written {
            match damage {
                None => std::fs::remove_file(image.dir().join(name)).unwrap(),
                Some(bytes) => std::fs::write(image.dir().join(name), bytes).unwrap(),
            }
        }
        drop(image.open_crashed(0));
        let found: Vec<String> = image.names().into_iter().filter(is_snapshot).collect();
        assert_eq!(found, written);
        for name in &written {
            // The times are those of the start.
            assert_eq!(read(&image, name).len(), read(&scratch, name).len(), "{name}");
        }
    }
}

#[test]
fn records_without_a_key_go_and_what_cannot_be_read_stays() {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    append(&log, crate::scratch::batch(3, b"no key"));
    let mut unreadable = keyed(&[("a", Some("1"))]);
    // A record that claims to be longer than the batch, with the right CRC.
    unreadable[61] = 0x7e;
    let crc = millpond_records::crc32c(&unreadable[21..]);
    unreadable[17..21].copy_from_slice(&crc.to_be_bytes());
    append(&log, unreadable);
    for compression in Compression::ALL {
        let options = BatchOptions { compression, ..BatchOptions::default() };
        append(
            &log,
            built(options, NOW, &[("a", Some("2")), ("b", Some("2")), (compression.to_string().as_str(), None)]),
        );
    }
    roll(&log);
    let compacted = compact(&log);
    assert_eq!((compacted.batches_unreadable, compacted.records_removed), (1, 3 + 8));
    assert_eq!(compacted.records_without_key, 3);
    let bytes = read_all(&log, 1 << 20);
    let found: Vec<(Offset, i32)> = batches(&bytes)
        .map(|batch| batch.unwrap().header)
        .map(|header| (header.base_offset, header.record_count))
        .collect();
    assert_eq!(found, [(3, 1), (4, 1), (7, 1), (10, 1), (13, 1), (16, 3)]);
}

#[test]
fn a_damaged_batch_is_not_written_anew() {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    (0..20).for_each(|n| _ = append(&log, keyed(&[("a", Some(&n.to_string()))])));
    roll(&log);
    let before = std::fs::read(&scratch.logs()[0]).unwrap();
    let second = batches(&before).next().unwrap().unwrap().bytes.len();
    // Offsets are not covered by the CRC; nor is the leader epoch, of which nothing depends.
    for position in (second..second + 12).chain(second + 16..2 * second) {
        crate::scratch::flip_bit(&scratch.logs()[0], position, 3);
        let mut compaction = log.begin_compaction(NOW, Offset::MAX, KEYS_BYTES_MAX).unwrap().unwrap();
        let error = loop {
            match log.compaction_step(&mut compaction) {
                Ok(step) => assert!(matches!(step, Step::More(_)), "byte {position}: {step:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LogError::Damaged { .. }), "byte {position}: {error}");
        assert!(error.to_string().contains(&format!("at position {second}")), "byte {position}: {error}");
        std::fs::write(&scratch.logs()[0], &before).unwrap();
    }
    assert_eq!(log.poisoned(), None);
    assert_eq!(compact(&log).records_removed, 19);
}

#[test]
fn of_the_last_batch_something_stays_so_that_consumers_get_to_the_end() {
    let scratch = Scratch::with(LogOptions { delete_retention_ms: 0, min_cleanable_dirty_ratio: 0.0, ..options() });
    let log = scratch.create();
    append(&log, keyed(&[("a", Some("1"))]));
    append(&log, keyed(&[("a", None)]));
    roll(&log);
    compact(&log);
    append(&log, crate::scratch::batch(1, b"no key"));
    roll(&log);
    compact_at(&log, NOW + 1, KEYS_BYTES_MAX);
    assert_eq!(records(&log), []);
    let fetched = log.read(0, 1000, Offset::MAX, true).unwrap();
    assert_eq!((fetched.len, fetched.next_offset), (61, 3));
    // Nothing is there below 2, and that can be told.
    let fetched = log.read(0, 1000, 2, true).unwrap();
    assert_eq!((fetched.len, fetched.next_offset), (0, 2));
    assert_eq!(log.max_timestamp(Offset::MAX).unwrap(), None);
    let (log, recovered) = scratch.open_crashed(0);
    assert_eq!((recovered.reason, log.log_end_offset()), (None, 3));
}

#[test]
fn retention_goes_over_segments_of_which_nothing_is_left() {
    let scratch = Scratch::with(LogOptions { index_bytes_max: 12, ..options() });
    let log = scratch.create();
    (0..60).for_each(|_| _ = append(&log, keyed(&[("a", Some("a value that takes its room"))])));
    roll(&log);
    append(&log, keyed(&[("b", Some("1"))]));
    log.sync().unwrap();
    compact(&log);
    assert_eq!(records(&log), [(59, text("a"), text("a value that takes its room")), (60, text("b"), text("1"))]);
    let empty = log.segments().iter().filter(|segment| segment.size_bytes == 0).count();
    log.set_options(LogOptions { retention_ms: 1000, ..options() });
    log.enforce_retention(NOW, Offset::MAX).unwrap();
    assert_eq!((log.log_start_offset() > 0, records(&log).len()), (empty > 0, 2));
    log.enforce_retention(NOW + 5000, 60).unwrap();
    assert_eq!(records(&log), [(60, text("b"), text("1"))]);
}

#[test]
fn what_is_taken_away_meanwhile_ends_a_compaction_and_leaves_nothing_behind() {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    (0..60).for_each(|n| _ = append(&log, keyed(&[(&(n % 7).to_string(), Some("value"))])));
    roll(&log);
    for steps in 0..200 {
        let image = scratch.crash_image();
        let (log, _) = image.open_crashed(0);
        let mut compaction = log.begin_compaction(NOW, Offset::MAX, KEYS_BYTES_MAX).unwrap().unwrap();
        let ended = (0..steps).any(|_| !matches!(log.compaction_step(&mut compaction).unwrap(), Step::More(_)));
        let before = records(&log);
        log.advance_log_start(30).unwrap();
        log.delete_gone(log.log_start_offset()).unwrap();
        if ended {
            assert!(steps > 10);
            return;
        }
        let last = loop {
            match log.compaction_step(&mut compaction).unwrap() {
                Step::More(_) => {}
                last => break last,
            }
        };
        let found = records(&log);
        assert!(found.iter().all(|record| before.contains(record) && record.0 >= 30));
        assert!(
            latest(&before).iter().filter(|record| record.0 >= 30).all(|record| found.contains(record)),
            "{last:?}"
        );
        assert!(image.names().iter().all(|name| !name.ends_with(".cleaned")), "{last:?}: {:?}", image.names());
        let (again, recovered) = image.open(Recovery { log_start_offset: 30, ..crashed() });
        assert_eq!((recovered.reason, records(&again)), (None, found));
    }
    panic!("it never ended");
}

fn crashed() -> Recovery {
    Recovery { clean: false, recovery_point: 0, log_start_offset: 0, refuse_damage: false }
}

#[test]
fn readers_find_every_newest_record_while_segments_are_swapped() {
    let scratch = Scratch::with(LogOptions { segment_bytes: 4_000, min_cleanable_dirty_ratio: 0.0, ..options() });
    let log = scratch.create();
    let done = AtomicBool::new(false);
    const KEYS: usize = 10;
    thread::scope(|scope| {
        let (log, done) = (&log, &done);
        scope.spawn(move || {
            for n in 0..6_000 {
                append(log, keyed(&[(&(n % KEYS).to_string(), Some(&n.to_string()))]));
                if n % 50 == 0 {
                    log.sync().unwrap();
                    compact(log);
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        for bytes_max in [200, 5_000] {
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let end = log.log_end_offset();
                    let (mut next, mut newest) = (0, BTreeMap::new());
                    // To the newest end: what was there at the first may have made room for what came since.
                    while next < log.log_end_offset() {
                        let fetched = log.read(next, bytes_max, Offset::MAX, true).unwrap();
                        assert!(fetched.next_offset > next, "nothing at {next} of {end}");
                        for (offset, key, value) in records_of(&fetched.chunks.concat()) {
                            assert_eq!(value.unwrap(), offset.to_string());
                            newest.insert(key.unwrap(), offset);
                        }
                        next = fetched.next_offset;
                    }
                    assert!(newest.values().all(|offset| *offset >= end - KEYS as i64), "{newest:?} of {end}");
                }
            });
        }
    });
}

/// A log on the simulated disk, of which some was compacted and more can be.
fn prepared(disk: &SimulatedDisk) -> (PartitionLog, Vec<Record>) {
    let id = TopicId::from_uuid("00000000-0000-0000-0000-000000000001".parse().unwrap());
    let log = PartitionLog::create(&folder(disk), id, crash_options(), LogBudget::new(0)).unwrap();
    let fill = |from: usize, to: usize| {
        for n in from..to {
            append(&log, keyed(&[(&(n % 5).to_string(), Some(&n.to_string())), (&format!("only {n}"), Some("x"))]));
        }
        roll(&log);
    };
    fill(0, 30);
    compact(&log);
    fill(30, 60);
    let before = records(&log);
    (log, before)
}

fn crash_options() -> LogOptions {
    LogOptions { segment_bytes: 700, ..options() }
}

fn folder(disk: &SimulatedDisk) -> std::path::PathBuf {
    disk.root().join("topic-0")
}

fn reopen(dir: &Path) -> PartitionLog {
    let (log, recovered) = PartitionLog::open(dir, crash_options(), LogBudget::new(0), crashed(), NOW).unwrap();
    assert_eq!(recovered.reason, None);
    log
}

#[test]
fn a_crash_at_any_call_to_the_disk_leaves_each_segment_old_or_new() {
    for calls in 0.. {
        let disk = SimulatedDisk::new(calls);
        let (log, before) = prepared(&disk);
        disk.go_off_after(calls);
        let mut compaction = log.begin_compaction(NOW, Offset::MAX, KEYS_BYTES_MAX).ok().flatten();
        while let Some(running) = &mut compaction
            && let Ok(Step::More(_)) = log.compaction_step(running)
        {}
        let was_off = disk.is_off();
        disk.go_off();
        drop(log);
        disk.restart(if calls % 2 == 0 { Crash::PowerCut } else { Crash::Kill });
        // A crash during the start after it, too.
        disk.go_off_after(calls % 17);
        let _ = PartitionLog::open(&folder(&disk), crash_options(), LogBudget::new(0), crashed(), NOW);
        disk.restart(if calls % 3 == 0 { Crash::PowerCut } else { Crash::Kill });

        let log = reopen(&folder(&disk));
        let (found, least) = (records(&log), latest(&before));
        assert!(found.is_sorted_by(|a, b| a.0 < b.0), "after {calls} calls: {found:?}");
        assert!(found.iter().all(|record| before.contains(record)), "after {calls} calls");
        assert!(least.iter().all(|record| found.contains(record)), "after {calls} calls: {found:?}");
        // It can be done again.
        compact(&log);
        assert_eq!(records(&log), least, "after {calls} calls");
        if !was_off {
            assert!(calls > 60, "interrupted {calls} times");
            return;
        }
    }
}

#[test]
fn a_full_disk_puts_a_compaction_off_and_poisons_nothing() {
    let disk = SimulatedDisk::new(1);
    let (log, before) = prepared(&disk);
    let mut ended_well = 0;
    for bytes in [0, 100, 400, 1_000, 3_000, 1 << 20] {
        disk.set_capacity_bytes(Some(disk.used_bytes() + bytes));
        let Some(mut compaction) = log.begin_compaction(NOW, Offset::MAX, KEYS_BYTES_MAX).unwrap() else { continue };
        let last = loop {
            match log.compaction_step(&mut compaction) {
                Ok(Step::More(_)) => {}
                last => break last,
            }
        };
        ended_well += u32::from(last.is_ok());
        assert_eq!(log.poisoned(), None, "with {bytes} bytes free");
        let found = records(&log);
        assert!(latest(&before).iter().all(|record| found.contains(record)), "with {bytes} bytes free");
    }
    assert_eq!(ended_well, 1);
    assert_eq!(records(&log), latest(&before));
    assert_eq!(records(&reopen(&folder(&disk))), latest(&before));
}

/// So many steps of compactions, one after the other, with less memory than some keys take.
pub(crate) fn take_steps(log: &PartitionLog, compaction: &mut Option<Compaction>, now_ms: i64, steps: usize) {
    for _ in 0..steps {
        if compaction.is_none() {
            *compaction = log.begin_compaction(now_ms, Offset::MAX, 0).unwrap();
        }
        let Some(running) = compaction else { break };
        if !matches!(log.compaction_step(running).unwrap(), Step::More(_)) {
            *compaction = None;
        }
    }
}

/// What happens to a log in between.
#[derive(Debug, Clone)]
enum Event {
    Append(Vec<(u8, bool)>, usize),
    Roll,
    Steps(usize),
    Trim(u8),
    Retention,
    Reopen { clean: bool },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (proptest::collection::vec((0..8u8, proptest::bool::weighted(0.8)), 1..5), 0..5usize)
            .prop_map(|(records, codec)| Event::Append(records, codec)),
        2 => Just(Event::Roll),
        5 => (1..20usize).prop_map(Event::Steps),
        1 => any::<u8>().prop_map(Event::Trim),
        1 => Just(Event::Retention),
        1 => any::<bool>().prop_map(|clean| Event::Reopen { clean }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_in_between_the_newest_of_each_key_is_there(events in proptest::collection::vec(event(), 1..80)) {
        let scratch = Scratch::with(LogOptions { delete_retention_ms: 2_000, segment_bytes: 400, ..options() });
        let mut log = scratch.create();
        let (mut sent, mut log_start): (Vec<Record>, Offset) = (Vec::new(), 0);
        let mut compaction = None;
        for (round, event) in events.into_iter().enumerate() {
            let now_ms = NOW + round as i64 * 300;
            match event {
                Event::Append(keys, codec) => {
                    let mut values = Vec::new();
                    for (key, has_value) in keys {
                        let offset = sent.len() as Offset;
                        let value = has_value.then(|| offset.to_string());
                        sent.push((offset, Some(key.to_string()), value.clone()));
                        values.push((key.to_string(), value));
                    }
                    let records: Vec<_> = values.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
                    let options = BatchOptions { compression: Compression::ALL[codec], ..BatchOptions::default() };
                    log.append(built(options, now_ms, &records), 0, now_ms).unwrap();
                }
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
                Event::Retention => {
                    log.set_options(LogOptions { retention_ms: 10_000, ..scratch.options.clone() });
                    log.enforce_retention(now_ms, Offset::MAX).unwrap();
                    log.delete_gone(log.log_start_offset()).unwrap();
                    log_start = log.log_start_offset();
                    log.set_options(scratch.options.clone());
                }
                Event::Reopen { clean } => {
                    compaction = None;
                    let recovery_point = if clean { log.close(NOW).unwrap() } else { log.sync().unwrap() / 2 };
                    drop(log);
                    let recovery = Recovery { clean, recovery_point, log_start_offset: log_start, refuse_damage: false };
                    let (opened, recovered) = scratch.open(recovery);
                    prop_assert_eq!(recovered.reason, None);
                    log = opened;
                }
            }
            let found = records(&log);
            prop_assert!(found.is_sorted_by(|a, b| a.0 < b.0));
            for record in &found {
                prop_assert_eq!(&sent[record.0 as usize], record);
            }
            for record in latest(&sent).iter().filter(|(offset, _, value)| *offset >= log_start && value.is_some()) {
                prop_assert!(found.contains(record), "{:?} is missing in {:?}", record, found);
            }
        }
        let _ = Arc::new(log);
    }
}
