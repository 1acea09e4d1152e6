//! Batches that producers send again, leave out, or send from the past.

use millpond_log::{AppendError, PRODUCERS_MAX, PartitionLog};

use crate::scratch::{NOW, Scratch, append, batch, produced};

fn sequence_error(log: &PartitionLog, producer: (i64, i16, i32)) -> AppendError {
    log.append(produced(producer, 2), 0, NOW).unwrap_err()
}

#[test]
fn a_batch_sent_again_answers_the_first_offset_and_writes_nothing() {
    let scratch = Scratch::new();
    let log = scratch.create();
    for n in 0..5 {
        append(&log, produced((7, 0, n * 2), 2));
    }
    let (end, size) = (log.log_end_offset(), log.size_bytes());
    for n in 0..5 {
        let again = append(&log, produced((7, 0, n * 2), 2));
        assert!(again.duplicate);
        assert_eq!((again.base_offset, again.last_offset), (i64::from(n) * 2, i64::from(n) * 2 + 1));
    }
    assert_eq!((log.log_end_offset(), log.size_bytes()), (end, size));
    append(&log, produced((7, 0, 10), 2));
    // The first is no longer among the last five.
    assert!(matches!(sequence_error(&log, (7, 0, 0)), AppendError::OutOfOrderSequence { last_sequence: 11, .. }));
}

#[test]
fn gaps_old_epochs_and_wrong_starts_are_refused_and_new_epochs_accepted() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, produced((7, 3, 40), 2)); // Nothing is known of it: any sequence will do.
    assert!(matches!(sequence_error(&log, (7, 3, 43)), AppendError::OutOfOrderSequence { found: 43, .. }));
    assert!(matches!(sequence_error(&log, (7, 3, 41)), AppendError::OutOfOrderSequence { .. }));
    assert!(matches!(sequence_error(&log, (7, 2, 42)), AppendError::InvalidProducerEpoch { found: 2, current: 3, .. }));
    assert!(matches!(sequence_error(&log, (7, 4, 42)), AppendError::OutOfOrderSequence { last_sequence: -1, .. }));
    assert!(!append(&log, produced((7, 4, 0), 2)).duplicate);
    assert!(!append(&log, produced((7, 4, 2), 2)).duplicate);
    assert!(!append(&log, produced((8, 0, 0), 2)).duplicate, "another producer is another matter");
    assert!(!append(&log, batch(1, b"no producer")).duplicate);
    assert_eq!(log.log_end_offset(), 9);
}

#[test]
fn sequences_wrap_around_after_the_largest() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, produced((7, 0, i32::MAX - 1), 4));
    assert!(append(&log, produced((7, 0, i32::MAX - 1), 4)).duplicate);
    assert!(matches!(sequence_error(&log, (7, 0, 0)), AppendError::OutOfOrderSequence { last_sequence: 1, .. }));
    assert!(!append(&log, produced((7, 0, 2), 2)).duplicate);
    append(&log, produced((8, 0, i32::MAX), 1));
    assert!(!append(&log, produced((8, 0, 0), 1)).duplicate);
}

#[test]
fn all_five_batches_are_known_after_every_kind_of_restart() {
    let scratch = Scratch::new();
    let log = scratch.create();
    for n in 0..8 {
        append(&log, produced((7, 1, n * 2), 2));
    }
    let check = |log: &PartitionLog, what: &str| {
        for n in 3..8 {
            let again = append(log, produced((7, 1, n * 2), 2));
            assert!(again.duplicate && again.base_offset == i64::from(n) * 2, "{what} {n}");
        }
        assert!(matches!(sequence_error(log, (7, 1, 17)), AppendError::OutOfOrderSequence { .. }), "{what}");
        let active = log.active_producers();
        assert_eq!((active[0].producer_id, active[0].producer_epoch, active[0].last_sequence), (7, 1, 15), "{what}");
    };
    check(&log, "before");
    let crashed = scratch.crash_image();
    check(&crashed.open_crashed(0).0, "after a crash, from the batches");
    log.checkpoint().unwrap();
    let crashed = scratch.crash_image();
    check(&crashed.open_crashed(16).0, "after a crash, from the checkpoint's snapshot");
    let damaged = scratch.crash_image();
    std::fs::write(damaged.dir().join("00000000000000000016.snapshot"), b"what?").unwrap();
    check(&damaged.open_crashed(16).0, "after a crash, with a damaged snapshot");
    let end = log.close(NOW).unwrap();
    check(&scratch.open_clean(end), "after a clean stop");
}

#[test]
fn a_snapshot_and_the_batches_after_it_make_one_state() {
    let mut scratch = Scratch::new();
    scratch.options.segment_bytes = 600;
    let log = scratch.create();
    for n in 0..30 {
        append(&log, produced((n % 3, 0, (n / 3) as i32), 1));
        if n == 14 {
            log.sync().unwrap();
        }
    }
    assert!(scratch.names().iter().any(|name| name.ends_with(".snapshot")));
    let image = scratch.crash_image();
    let (reopened, _) = image.open_crashed(15);
    assert_eq!(reopened.active_producers().len(), 3);
    for (before, after) in log.active_producers().iter().zip(reopened.active_producers()) {
        assert_eq!(
            (before.producer_id, before.last_sequence, before.last_offset),
            (after.producer_id, 9, after.last_offset)
        );
    }
}

#[test]
fn producers_that_are_silent_for_long_are_forgotten() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, produced((7, 0, 5), 2));
    log.append(produced((8, 0, 5), 2), 0, NOW + 1000).unwrap();
    log.expire_producers(NOW + scratch.options.producer_id_expiration_ms);
    assert_eq!(log.active_producers().iter().map(|p| p.producer_id).collect::<Vec<_>>(), [8]);
    assert!(!append(&log, produced((7, 0, 100), 2)).duplicate);
}

#[test]
fn only_so_many_producers_are_remembered_the_latest_ones() {
    let scratch = Scratch::new();
    let log = scratch.create();
    for id in 0..PRODUCERS_MAX as i64 + 100 {
        log.append(produced((id, 0, 0), 1), 0, NOW + id).unwrap();
    }
    let active = log.active_producers();
    assert!(active.len() <= PRODUCERS_MAX && active.len() > PRODUCERS_MAX / 2);
    assert_eq!(active.last().unwrap().producer_id, PRODUCERS_MAX as i64 + 99);
}
