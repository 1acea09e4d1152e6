//! Transactions: who may write and end them, what readers of committed records see, and that no crash, cut or deletion
//! changes it.

use millpond_log::{
    AbortedTransaction, AppendError, LogOptions, OPEN_TRANSACTIONS_MAX, PRODUCERS_MAX, PartitionLog, ReadError,
    Recovery,
};
use millpond_records::{TransactionMarker, batches};
use millpond_types::Offset;

use crate::committed::{Abort, Commit, check_committed, consumed, end, marker, transactional};
use crate::scratch::{NOW, Scratch, append, base_of, batch, flip_bit, produced, read_all};

/// Segments of a handful of batches.
fn small_segments() -> LogOptions {
    LogOptions { segment_bytes: 500, index_interval_bytes: 100, retention_ms: -1, ..LogOptions::default() }
}

/// One step of a history of producers 1 to 4 that interleave, commit, abort, and leave something open.
fn step(log: &PartitionLog, n: usize) {
    match n {
        0 => append(log, batch(2, b"plain")),
        1 => append(log, transactional((1, 0, 0), 2)),
        2 => append(log, transactional((2, 0, 0), 1)),
        3 => append(log, batch(1, b"plain")),
        4 => append(log, transactional((1, 0, 2), 1)),
        5 => end(log, (1, 0), Abort),
        6 => append(log, transactional((1, 0, 3), 1)),
        7 => end(log, (2, 0), Commit),
        8 => append(log, transactional((3, 0, 0), 3)),
        9 => end(log, (1, 0), Abort),
        10 => append(log, produced((4, 0, 0), 1)),
        11 => end(log, (4, 0), Abort), // Without a transaction.
        12 => append(log, transactional((2, 0, 1), 1)),
        13 => append(log, transactional((3, 0, 3), 1)),
        14 => end(log, (2, 1), Abort), // With a new epoch.
        15 => append(log, transactional((2, 1, 0), 1)),
        16 => end(log, (3, 0), Abort),
        17 => append(log, batch(3, b"plain")),
        18 => end(log, (2, 1), Commit),
        _ => append(log, transactional((5, 0, 0), 2)),
    };
}

const STEPS: usize = 20;

fn history(log: &PartitionLog) {
    (0..STEPS).for_each(|n| step(log, n));
}

/// For readers who see everything that is there.
fn check_end(log: &PartitionLog, what: &str) {
    check_committed(log, log.log_end_offset(), what);
}

#[test]
fn every_step_of_interleaved_transactions_shows_what_is_committed_and_nothing_else() {
    for options in [LogOptions { retention_ms: -1, ..LogOptions::default() }, small_segments()] {
        for tail_bytes_max in [0, 1 << 20] {
            // So many steps what is seen stays behind what is appended.
            for lag in 0..8 {
                let scratch = Scratch::with(LogOptions { tail_bytes_max, ..options.clone() });
                let log = scratch.create();
                let mut ends = vec![0; lag];
                for n in 0..STEPS + lag {
                    if n < STEPS {
                        step(&log, n);
                    }
                    ends.push(log.log_end_offset());
                    check_committed(&log, ends[n], &format!("step {n}, {lag} behind"));
                }
            }
        }
    }
}

#[test]
fn the_last_stable_offset_waits_for_the_oldest_transaction_and_for_its_marker_to_be_seen() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, batch(3, b"v"));
    assert_eq!(log.last_stable_offset(3), 3);
    append(&log, transactional((1, 0, 0), 2)); // 3 and 4
    append(&log, transactional((2, 0, 0), 2)); // 5 and 6
    append(&log, batch(1, b"v")); // 7
    assert_eq!((log.last_stable_offset(2), log.last_stable_offset(8)), (2, 3));
    end(&log, (1, 0), Commit); // 8
    assert_eq!(log.last_stable_offset(8), 3, "the marker is not seen yet");
    assert_eq!(log.last_stable_offset(9), 5);
    end(&log, (2, 0), Abort); // 9
    assert_eq!((log.last_stable_offset(9), log.last_stable_offset(10)), (5, 10));
    assert_eq!(consumed(&log, 10, 1 << 20), [0, 3, 7]);
    let aborted = log.aborted_transactions(0, 10).unwrap();
    let expected = AbortedTransaction { producer_id: 2, first_offset: 5, last_offset: 9, last_stable_offset: 10 };
    assert_eq!(aborted.iter().copied().collect::<Vec<_>>(), [expected]);
    assert!(log.aborted_transactions(0, 5).unwrap().is_empty());
    assert!(log.aborted_transactions(4, 4).unwrap().is_empty());
}

#[test]
fn old_epochs_old_coordinators_and_batches_outside_the_transaction_are_refused() {
    let scratch = Scratch::new();
    let log = scratch.create();
    let end_with = |producer_epoch, coordinator_epoch| {
        let marker = TransactionMarker { coordinator_epoch, ..marker((7, producer_epoch), Commit) };
        log.append_marker(&marker, 0, NOW)
    };
    append(&log, transactional((7, 3, 0), 1));
    let error = log.append(produced((7, 3, 1), 1), 0, NOW).unwrap_err();
    assert!(matches!(error, AppendError::TransactionOpen { producer_id: 7, first_offset: 0 }), "{error}");
    let error = end_with(2, 5).unwrap_err();
    assert!(matches!(error, AppendError::InvalidProducerEpoch { found: 2, current: 3, .. }), "{error}");
    end_with(3, 5).unwrap();
    let error = end_with(3, 4).unwrap_err();
    assert!(matches!(error, AppendError::CoordinatorFenced { producer_id: 7, found: 4, current: 5 }), "{error}");
    end_with(3, 5).unwrap(); // A marker that the coordinator sends again.
    append(&log, produced((7, 3, 1), 1));
    // The coordinator raises the epoch: the zombie is fenced, and the sequence begins anew.
    end_with(4, 6).unwrap();
    let error = log.append(transactional((7, 3, 2), 1), 0, NOW).unwrap_err();
    assert!(matches!(error, AppendError::InvalidProducerEpoch { found: 3, current: 4, .. }), "{error}");
    let error = log.append(transactional((7, 4, 2), 1), 0, NOW).unwrap_err();
    assert!(matches!(error, AppendError::OutOfOrderSequence { last_sequence: -1, found: 2, .. }), "{error}");
    append(&log, transactional((7, 4, 0), 1));
    assert!(append(&log, transactional((7, 4, 0), 1)).duplicate);

    let control = bytes::BytesMut::from(&marker((7, 4), Abort).build(NOW)[..]);
    assert!(matches!(log.append(control, 0, NOW), Err(AppendError::ControlBatch)));
    for nobody in [(-1, 0), (7, -1)] {
        assert!(matches!(log.append_marker(&marker(nobody, Abort), 0, NOW), Err(AppendError::Invalid(_))));
    }
    let active = &log.active_producers()[0];
    assert_eq!((active.coordinator_epoch, active.open_transaction), (6, Some(5)));
    check_end(&log, "at the end");
}

#[test]
fn a_marker_for_a_producer_that_is_not_known_is_written_and_changes_nothing_for_readers() {
    let scratch = Scratch::new();
    let log = scratch.create();
    end(&log, (9, 4), Abort);
    append(&log, batch(1, b"v"));
    let check = |log: &PartitionLog| {
        check_end(log, "a lone marker");
        assert!(log.aborted_transactions(0, 2).unwrap().is_empty());
        let active = &log.active_producers()[0];
        assert_eq!((active.producer_epoch, active.last_sequence, active.last_offset), (4, -1, -1));
        assert_eq!((active.coordinator_epoch, active.open_transaction), (0, None));
        let error = log.append(transactional((9, 3, 0), 1), 0, NOW).unwrap_err();
        assert!(matches!(error, AppendError::InvalidProducerEpoch { current: 4, .. }), "{error}");
    };
    check(&log);
    check(&scratch.crash_image().open_crashed(0).0);
    let recovery_point = log.close(NOW).unwrap();
    check(&scratch.open_clean(recovery_point));
}

#[test]
fn a_crash_after_any_step_leaves_the_transactions_as_they_were() {
    for options in [LogOptions { retention_ms: -1, ..LogOptions::default() }, small_segments()] {
        // Before which step a checkpoint is made, and before which the log is synced.
        for (checkpoint, sync) in [(99, 99), (0, 99), (4, 7), (6, 6), (10, 15), (13, 17), (99, 9), (16, 18)] {
            let scratch = Scratch::with(options.clone());
            let log = scratch.create();
            for n in 0..STEPS {
                if n == checkpoint {
                    log.checkpoint().unwrap();
                }
                if n == sync {
                    log.sync().unwrap();
                }
                step(&log, n);
                let what = format!("step {n}, checkpoint {checkpoint}, sync {sync}");
                for recovery_point in [0, log.recovery_point() / 2, log.recovery_point()] {
                    let image = scratch.crash_image();
                    let (opened, recovered) = image.open_crashed(recovery_point);
                    assert_eq!(recovered.truncated_bytes, 0);
                    check_end(&opened, &format!("{what}, recovery point {recovery_point}"));
                    let open = |log: &PartitionLog| -> Vec<_> {
                        log.active_producers().iter().map(|p| (p.producer_id, p.open_transaction)).collect()
                    };
                    assert_eq!(open(&opened), open(&log), "{what}");
                    // And on, to a second crash, and to a clean stop.
                    (n + 1..STEPS).for_each(|n| step(&opened, n));
                    check_end(&opened, &format!("{what}, gone on"));
                    let second = image.crash_image();
                    let (again, _) = second.open_crashed(opened.recovery_point());
                    check_end(&again, &format!("{what}, a second crash"));
                    let recovery_point = again.close(NOW).unwrap();
                    check_end(&second.open_clean(recovery_point), &format!("{what}, closed"));
                }
            }
        }
    }
}

#[test]
fn a_crash_that_takes_the_end_of_the_log_opens_the_transactions_that_had_ended_there() {
    for options in [LogOptions { retention_ms: -1, ..LogOptions::default() }, small_segments()] {
        let scratch = Scratch::with(options);
        let log = scratch.create();
        history(&log);
        // Written without a sync, so it may be on the disk though the batches are not.
        log.checkpoint().unwrap();
        let last = scratch.logs().pop().unwrap();
        let bytes = std::fs::read(&last).unwrap();
        let mut len = 0;
        for batch in batches(&bytes).map(Result::unwrap) {
            let image = scratch.crash_image();
            std::fs::write(image.dir().join(last.file_name().unwrap()), &bytes[..len]).unwrap();
            let (opened, _) = image.open_crashed(0);
            assert_eq!(opened.log_end_offset(), batch.header.base_offset);
            check_end(&opened, &format!("cut at {len}"));
            let recovery_point = opened.close(NOW).unwrap();
            check_end(&image.open_clean(recovery_point), &format!("cut at {len} and closed"));
            len += batch.bytes.len();
        }
    }
}

#[test]
fn a_log_cut_anywhere_goes_on_as_if_the_rest_had_never_been() {
    let other = Scratch::with(small_segments());
    let reference = other.create();
    let mut ends = vec![0];
    for n in 0..STEPS {
        step(&reference, n);
        ends.push(reference.log_end_offset());
    }
    let expected = read_all(&reference, 1 << 20);
    for cut in 0..=STEPS {
        for checkpoint in [false, true] {
            let scratch = Scratch::with(small_segments());
            let log = scratch.create();
            history(&log);
            if checkpoint {
                log.checkpoint().unwrap();
            }
            assert_eq!(log.truncate_to(ends[cut]).unwrap(), ends[cut]);
            check_end(&log, &format!("cut before step {cut}"));
            check_end(&scratch.crash_image().open_crashed(0).0, &format!("cut before step {cut}, crashed"));
            (cut..STEPS).for_each(|n| step(&log, n));
            assert_eq!(read_all(&log, 1 << 20), expected);
            check_end(&log, &format!("cut before step {cut}, gone on"));
            log.checkpoint().unwrap();
            check_end(
                &scratch.crash_image().open_crashed(ends[STEPS]).0,
                &format!("cut before step {cut}, gone on, crashed"),
            );
        }
    }
}

#[test]
fn what_the_journal_puts_back_begins_and_ends_transactions_as_before() {
    for cut in 0..STEPS {
        let scratch = Scratch::with(LogOptions { journal_bytes_max: 1 << 20, ..small_segments() });
        let log = scratch.create();
        (0..cut).for_each(|n| step(&log, n));
        log.checkpoint().unwrap();
        log.sync().unwrap();
        let image = scratch.crash_image();
        let recovery_point = log.recovery_point();
        (cut..STEPS).for_each(|n| step(&log, n));
        let journaled = log.take_fresh().unwrap().batches.concat();
        let (opened, _) = image.open_crashed(recovery_point);
        assert_eq!(opened.restore(&journaled, NOW).unwrap(), journaled.len() as u64);
        assert_eq!(read_all(&opened, 1 << 20), read_all(&log, 1 << 20));
        assert_eq!(opened.active_producers(), log.active_producers());
        check_end(&opened, &format!("put back from step {cut} on"));
        opened.checkpoint().unwrap();
        check_end(&image.crash_image().open_crashed(opened.recovery_point()).0, &format!("and crashed, {cut}"));
    }
}

#[test]
fn transactions_whose_marker_was_cut_off_are_open_for_who_had_not_seen_it() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, transactional((1, 0, 0), 1));
    append(&log, transactional((2, 0, 0), 1));
    end(&log, (1, 0), Abort); // 2
    end(&log, (2, 0), Commit); // 3
    assert_eq!(log.last_stable_offset(2), 0);
    assert_eq!(log.truncate_to(3).unwrap(), 3);
    assert_eq!((log.last_stable_offset(2), log.last_stable_offset(3)), (0, 1));
    end(&log, (2, 0), Abort);
    assert_eq!(log.last_stable_offset(4), 4);
    assert_eq!(consumed(&log, 4, 1), [0; 0]);
}

#[test]
fn what_retention_deletes_takes_its_transactions_along_and_leaves_the_others() {
    let total = {
        let scratch = Scratch::with(small_segments());
        let log = scratch.create();
        history(&log);
        log.log_end_offset()
    };
    for start in 0..=total {
        let scratch = Scratch::with(small_segments());
        let log = scratch.create();
        history(&log);
        log.sync().unwrap();
        log.advance_log_start(start).unwrap();
        log.delete_gone(start).unwrap();
        check_end(&log, &format!("from {start}"));
        if start > 0 {
            let error = log.aborted_transactions(start - 1, total).unwrap_err();
            assert!(matches!(error, ReadError::OutOfRange { .. }), "{error}");
        }
        for without_snapshots in [false, true] {
            let image = scratch.crash_image();
            for name in image.names() {
                let deleted = name.ends_with(".deleted");
                if deleted || (without_snapshots && name.ends_with(".snapshot")) {
                    std::fs::remove_file(image.dir().join(name)).unwrap();
                }
            }
            let recovery =
                Recovery { clean: false, recovery_point: total, log_start_offset: start, refuse_damage: false };
            check_end(&image.open(recovery).0, &format!("from {start}, crashed, {without_snapshots}"));
        }
        log.purge_deleted(NOW).unwrap();
        log.purge_deleted(NOW + 1_000_000).unwrap();
        let bases: Vec<Offset> = scratch.logs().iter().map(|path| base_of(path)).collect();
        for name in scratch.names().iter().filter(|name| name.contains(".txnindex")) {
            assert!(bases.contains(&name[..20].parse().unwrap()), "{name} is left behind");
        }
        let recovery_point = log.close(NOW).unwrap();
        let recovery = Recovery { clean: true, recovery_point, log_start_offset: start, refuse_damage: false };
        check_end(&scratch.open(recovery).0, &format!("from {start}, closed"));
    }
}

#[test]
fn indexes_are_written_only_where_something_was_aborted_and_missing_or_damaged_ones_are_built_anew() {
    let scratch = Scratch::with(small_segments());
    let log = scratch.create();
    history(&log);
    let recovery_point = log.close(NOW).unwrap();
    drop(log);
    let indexes: Vec<String> = scratch.names().into_iter().filter(|name| name.ends_with(".txnindex")).collect();
    assert!(indexes.len() > 1 && indexes.len() < scratch.logs().len(), "{indexes:?}");
    assert_eq!(indexes.iter().map(|name| scratch.dir().join(name).metadata().unwrap().len()).sum::<u64>(), 4 * 34);
    for name in &indexes {
        let len = std::fs::read(scratch.dir().join(name)).unwrap().len();
        for damage in 0..3 {
            let image = scratch.crash_image();
            let path = image.dir().join(name);
            match damage {
                0 => std::fs::write(&path, vec![0; len]).unwrap(),
                1 => std::fs::write(&path, vec![1; len - 3]).unwrap(),
                _ => flip_bit(&path, 18, 7), // The last offset is negative.
            }
            for clean in [true, false] {
                let (log, recovered) =
                    image.open(Recovery { clean, recovery_point, log_start_offset: 0, refuse_damage: false });
                assert_eq!((log.log_end_offset(), recovered.truncated_bytes), (recovery_point, 0));
                check_end(&log, &format!("{name}, damage {damage}, clean {clean}"));
            }
        }
    }
    // One that is lost while the log is open.
    let log = scratch.open_clean(recovery_point);
    let lost = indexes.iter().find(|name| base_of(name.as_ref()) < log.segments().last().unwrap().base_offset).unwrap();
    let before = std::fs::read(scratch.dir().join(lost)).unwrap();
    std::fs::remove_file(scratch.dir().join(lost)).unwrap();
    check_end(&log, "lost while it was open");
    assert_eq!(std::fs::read(scratch.dir().join(lost)).unwrap(), before);
}

#[test]
fn open_transactions_are_neither_forgotten_nor_expired() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, transactional((1, 0, 0), 1));
    for id in 0..PRODUCERS_MAX as i64 + 100 {
        log.append(produced((id + 10, 0, 0), 1), 0, NOW + id).unwrap();
    }
    log.expire_producers(NOW + 10 * scratch.options.producer_id_expiration_ms);
    let open: Vec<_> = log.active_producers().iter().map(|p| (p.producer_id, p.open_transaction)).collect();
    assert_eq!(open, [(1, Some(0))]);
    let recovery_point = log.close(NOW + 10 * scratch.options.producer_id_expiration_ms).unwrap();
    let log = scratch.open_clean(recovery_point);
    assert_eq!(log.last_stable_offset(recovery_point), 0);
    end(&log, (1, 0), Abort);
    assert_eq!(log.last_stable_offset(recovery_point + 1), recovery_point + 1);
    assert_eq!(log.aborted_transactions(0, 1).unwrap().iter().len(), 1);
    // Its marker counts as a sign of life.
    log.expire_producers(NOW + scratch.options.producer_id_expiration_ms - 1);
    assert_eq!(log.active_producers().len(), 1);
    log.expire_producers(NOW + scratch.options.producer_id_expiration_ms);
    assert_eq!(log.active_producers().len(), 0);
}

#[test]
fn only_so_many_transactions_are_open_at_a_time() {
    let scratch = Scratch::new();
    let log = scratch.create();
    for id in 0..OPEN_TRANSACTIONS_MAX as i64 {
        append(&log, transactional((id, 0, 0), 1));
    }
    let error = log.append(transactional((-1 + (1 << 40), 0, 0), 1), 0, NOW).unwrap_err();
    assert!(matches!(error, AppendError::TooManyTransactions { .. }) && error.to_string().contains("4000"), "{error}");
    append(&log, transactional((5, 0, 1), 1)); // One that is open goes on.
    append(&log, batch(1, b"v"));
    end(&log, (3, 0), Abort);
    append(&log, transactional((1 << 40, 0, 0), 1));
    check_end(&log, "full");
}

#[test]
fn a_full_transaction_index_begins_a_new_segment() {
    let scratch = Scratch::with(LogOptions { index_bytes_max: 4 * 34, retention_ms: -1, ..LogOptions::default() });
    let log = scratch.create();
    for n in 0..10 {
        append(&log, transactional((1, 0, n), 1));
        end(&log, (1, 0), Abort);
    }
    assert_eq!(log.segments().len(), 3);
    log.sync().unwrap();
    let lengths: Vec<u64> = scratch
        .names()
        .iter()
        .filter(|name| name.ends_with(".txnindex"))
        .map(|name| scratch.dir().join(name).metadata().unwrap().len())
        .collect();
    assert_eq!(lengths, [4 * 34, 4 * 34], "that of the active segment is in memory");
    check_end(&log, "three segments");
}

#[test]
fn the_files_are_those_that_kafka_writes() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, transactional((7, 2, 0), 2)); // 0 and 1
    append(&log, transactional((8, 0, 5), 1)); // 2
    log.append_marker(&TransactionMarker { coordinator_epoch: 9, ..marker((7, 3), Abort) }, 0, NOW + 5).unwrap(); // 3
    log.checkpoint().unwrap();
    let read = |name: &str| std::fs::read(scratch.dir().join(name)).unwrap();
    let index = [&[0, 0][..], &7i64.to_be_bytes(), &0i64.to_be_bytes(), &3i64.to_be_bytes(), &2i64.to_be_bytes()];
    assert_eq!(read("00000000000000000000.txnindex"), index.concat());
    let entry = |id: i64, epoch: i16, sequence: i32, last: i64, time: i64, coordinator: i32, first: i64| {
        let numbers = [&id.to_be_bytes()[..], &epoch.to_be_bytes(), &sequence.to_be_bytes(), &last.to_be_bytes()];
        let times = [&0i32.to_be_bytes()[..], &time.to_be_bytes(), &coordinator.to_be_bytes(), &first.to_be_bytes()];
        [numbers.concat(), times.concat()].concat()
    };
    let entries = [entry(7, 3, -1, -1, NOW + 5, 9, -1), entry(8, 0, 5, 2, NOW, -1, 2)].concat();
    let covered = [&2u32.to_be_bytes()[..], &entries].concat();
    let snapshot = [&[0, 1][..], &millpond_records::crc32c(&covered).to_be_bytes(), &covered].concat();
    assert_eq!(read("00000000000000000004.snapshot"), snapshot);
}

#[test]
fn a_marker_that_cannot_be_read_leaves_its_transaction_open() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, transactional((1, 0, 0), 1));
    let at = log.size_bytes() as usize;
    end(&log, (1, 0), Commit);
    append(&log, batch(1, b"v"));
    drop(log);
    // A marker of another version of ours that nobody knows: the key's version is negative, and the checksum is right.
    let path = scratch.logs().pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at + 66] = 0xff;
    let len = batches(&bytes[at..]).next().unwrap().unwrap().bytes.len();
    let crc = millpond_records::crc32c(&bytes[at + 21..at + len]);
    bytes[at + 17..at + 21].copy_from_slice(&crc.to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
    let (log, recovered) = scratch.open_crashed(0);
    assert_eq!((recovered.truncated_bytes, log.log_end_offset()), (0, 3));
    assert_eq!(log.last_stable_offset(3), 0, "nothing is shown of which nobody knows whether it counts");
}
