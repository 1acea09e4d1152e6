//! What is deleted, when, and what is kept.

use millpond_log::{LogError, LogOptions, Recovery};
use millpond_types::Offset;

use crate::scratch::{NOW, Scratch, append, batch, batch_at, offsets, produced, read_all};

/// Segments of ten batches of 100 bytes.
fn options() -> LogOptions {
    LogOptions { segment_bytes: 1000, retention_ms: -1, file_delete_delay_ms: 1000, ..LogOptions::default() }
}

fn filled(scratch: &Scratch, batches: i64) -> millpond_log::PartitionLog {
    let log = scratch.create();
    for n in 0..batches {
        append(&log, batch_at(NOW + n, 1, &[0; 32]));
    }
    log.sync().unwrap();
    log
}

#[test]
fn the_oldest_segments_go_while_the_rest_is_large_enough() {
    let scratch = Scratch::with(LogOptions { retention_bytes: 2500, ..options() });
    let log = filled(&scratch, 45);
    assert_eq!(log.enforce_retention(NOW, Offset::MAX).unwrap(), 2);
    assert_eq!((log.log_start_offset(), log.size_bytes()), (20, 2500));
    assert_eq!(offsets(&read_all(&log, 1 << 20)).len(), 25);
    assert!(log.read(19, 1, Offset::MAX, true).is_err());
    assert_eq!(log.enforce_retention(NOW, Offset::MAX).unwrap(), 0);
}

#[test]
fn segments_go_when_their_newest_record_is_too_old_the_active_one_too() {
    let scratch = Scratch::with(LogOptions { retention_ms: 100, ..options() });
    let log = filled(&scratch, 45);
    assert_eq!(log.enforce_retention(NOW + 100 + 9, Offset::MAX).unwrap(), 0, "the first segment's last is 100 ms old");
    assert_eq!(log.enforce_retention(NOW + 100 + 10, Offset::MAX).unwrap(), 1);
    assert_eq!(log.enforce_retention(NOW + 1000, 37).unwrap(), 2, "whoever reads at 37 keeps 30 to 39");
    assert_eq!(log.log_start_offset(), 30);
    assert_eq!(log.enforce_retention(NOW + 1000, Offset::MAX).unwrap(), 2);
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.size_bytes()), (45, 45, 0));
    assert_eq!(append(&log, batch(1, b"next")).base_offset, 45);
    assert_eq!(log.enforce_retention(NOW, Offset::MAX).unwrap(), 0);
}

#[test]
fn what_was_not_synced_is_not_deleted() {
    let scratch = Scratch::with(LogOptions { retention_ms: 100, ..options() });
    let log = scratch.create();
    for n in 0..25 {
        append(&log, batch_at(NOW + n, 1, &[0; 32]));
    }
    assert_eq!(log.enforce_retention(NOW + 1000, Offset::MAX).unwrap(), 0);
    log.sync().unwrap();
    assert_eq!(log.enforce_retention(NOW + 1000, Offset::MAX).unwrap(), 3);
}

#[test]
fn without_timestamps_the_files_age_counts() {
    let scratch = Scratch::with(LogOptions { retention_ms: 100_000, ..options() });
    let log = scratch.create();
    for _ in 0..15 {
        append(&log, batch_at(-1, 1, &[0; 32]));
    }
    log.sync().unwrap();
    // The file was written just now, which is after NOW.
    assert_eq!(log.enforce_retention(NOW, Offset::MAX).unwrap(), 0);
    assert_eq!(log.enforce_retention(i64::MAX, Offset::MAX).unwrap(), 2);
}

#[test]
fn files_of_deleted_segments_stay_for_the_delay_or_until_the_next_start() {
    let scratch = Scratch::with(LogOptions { retention_bytes: 0, ..options() });
    let log = filled(&scratch, 25);
    log.enforce_retention(NOW, Offset::MAX).unwrap();
    log.delete_gone(log.log_start_offset()).unwrap();
    let deleted = |scratch: &Scratch| scratch.names().iter().filter(|name| name.ends_with(".deleted")).count();
    assert!(deleted(&scratch) >= 6);
    assert_eq!(log.purge_deleted(NOW).unwrap(), 0);
    assert_eq!(log.purge_deleted(NOW + 999).unwrap(), 0);
    let crashed = scratch.crash_image();
    assert!(log.purge_deleted(NOW + 1000).unwrap() >= 6);
    assert_eq!(deleted(&scratch), 0);
    drop(crashed.open_crashed(0));
    assert_eq!(deleted(&crashed), 0);
}

#[test]
fn a_file_that_cannot_be_removed_keeps_no_other_and_is_tried_again() {
    let scratch = Scratch::with(LogOptions { retention_bytes: 0, ..options() });
    let log = filled(&scratch, 25);
    log.enforce_retention(NOW, Offset::MAX).unwrap();
    log.delete_gone(log.log_start_offset()).unwrap();
    let deleted = || scratch.names().into_iter().filter(|name| name.ends_with(".deleted")).collect::<Vec<_>>();
    log.purge_deleted(NOW).unwrap();
    // A folder is not removed as a file is.
    let first = deleted().into_iter().min().unwrap();
    let path = log.dir().join(&first);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let error = log.purge_deleted(NOW + 1000).unwrap_err().to_string();
    assert!(error.contains(&first), "{error}");
    assert_eq!(deleted(), [first]);
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    assert_eq!(log.purge_deleted(NOW + 1001).unwrap(), 1);
    assert!(deleted().is_empty());
}

#[test]
fn delete_records_moves_the_start_into_a_segment_and_over_restarts() {
    let scratch = Scratch::with(options());
    let log = filled(&scratch, 45);
    assert_eq!(log.advance_log_start(13).unwrap(), 13);
    assert_eq!(log.advance_log_start(5).unwrap(), 13);
    assert_eq!(log.segments().len(), 4);
    assert!(log.read(12, 1, Offset::MAX, true).is_err());
    assert_eq!(log.read(13, 1, Offset::MAX, true).unwrap().base_offset, 13);
    assert!(matches!(log.advance_log_start(46), Err(LogError::OutOfRange { offset: 46, log_start: 13, log_end: 45 })));
    assert_eq!(log.leader_epoch_end(0), Some((0, 45)));

    let crashed = scratch.crash_image();
    let (reopened, _) =
        crashed.open(Recovery { clean: false, recovery_point: 45, log_start_offset: 13, refuse_damage: false });
    assert_eq!((reopened.log_start_offset(), reopened.log_end_offset()), (13, 45));

    assert_eq!(log.advance_log_start(45).unwrap(), 45);
    let end = log.close(NOW).unwrap();
    let (reopened, _) =
        scratch.open(Recovery { clean: true, recovery_point: end, log_start_offset: 45, refuse_damage: false });
    assert_eq!((reopened.log_start_offset(), reopened.log_end_offset()), (45, 45));
}

#[test]
fn segments_roll_by_size_time_index_and_distance() {
    let roll = |options: LogOptions, timestamps: &[i64]| {
        let scratch = Scratch::with(LogOptions { retention_ms: -1, ..options });
        let log = scratch.create();
        for timestamp in timestamps {
            log.append(batch_at(*timestamp, 1, &[0; 32]), 0, NOW).unwrap();
        }
        log.segments().iter().map(|segment| segment.base_offset).collect::<Vec<_>>()
    };
    let base = LogOptions::default();
    assert_eq!(roll(base.clone(), &[NOW; 5]), [0]);
    assert_eq!(roll(LogOptions { segment_bytes: 200, ..base.clone() }, &[NOW; 5]), [0, 2, 4]);
    assert_eq!(roll(LogOptions { segment_bytes: 10, ..base.clone() }, &[NOW; 3]), [0, 1, 2], "a batch may be larger");
    let times = [NOW, NOW + 50, NOW + 101, NOW + 102];
    assert_eq!(roll(LogOptions { segment_ms: 100, ..base.clone() }, &times), [0, 2]);
    // With an entry for each batch but the first, 16 bytes of index take two; the time index 12 bytes of one.
    let full = LogOptions { index_interval_bytes: 0, index_bytes_max: 24, ..base };
    assert_eq!(roll(full, &[NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 4]), [0, 3]);
}

#[test]
fn an_idle_segment_rolls_when_it_is_due_also_after_a_restart() {
    let scratch = Scratch::with(LogOptions { segment_ms: 100, ..options() });
    let log = scratch.create();
    assert!(!log.roll_if_due(NOW + 1000).unwrap(), "an empty one never");
    append(&log, batch(1, b"v"));
    assert!(!log.roll_if_due(NOW + 100).unwrap());
    let end = log.close(NOW).unwrap();
    let log = scratch.open_clean(end);
    assert!(log.roll_if_due(NOW + 101).unwrap());
    assert!(!log.roll_if_due(NOW + 1000).unwrap());
    log.sync().unwrap();
    assert_eq!(log.segments().len(), 2);
    let image = scratch.crash_image();
    let (reopened, recovered) = image.open_crashed(1);
    assert_eq!((reopened.log_end_offset(), recovered.truncated_bytes), (1, 0));
}

#[test]
fn producers_are_known_after_a_crash_although_all_they_wrote_was_deleted() {
    let scratch = Scratch::with(LogOptions { retention_ms: 100, ..options() });
    let log = scratch.create();
    append(&log, produced((7, 0, 0), 2));
    log.sync().unwrap();
    assert_eq!(log.enforce_retention(NOW + 1000, Offset::MAX).unwrap(), 1);
    log.sync().unwrap();
    let crashed = scratch.crash_image();
    let (reopened, _) =
        crashed.open(Recovery { clean: false, recovery_point: 2, log_start_offset: 2, refuse_damage: false });
    let again = append(&reopened, produced((7, 0, 0), 2));
    assert!(again.duplicate && again.base_offset == 0);
}

#[test]
fn of_what_was_deleted_nothing_comes_back_whatever_files_a_power_cut_leaves() {
    for left in 0..8_u32 {
        let scratch = Scratch::with(LogOptions { retention_bytes: 0, ..options() });
        let log = filled(&scratch, 25);
        let start = log.log_end_offset();
        assert!(log.enforce_retention(NOW, Offset::MAX).unwrap() >= 3);
        append(&log, batch_at(NOW, 1, &[0; 32]));
        let end = log.sync().unwrap();
        assert_eq!((log.log_start_offset(), end), (start, start + 1));
        let names: Vec<String> = scratch.names().into_iter().filter(|name| name.ends_with(".log")).collect();
        let crashed = scratch.crash_image();
        // Of the first three any may be renamed already.
        for (place, name) in names.iter().take(3).enumerate() {
            if left & (1 << place) != 0 {
                std::fs::remove_file(crashed.dir().join(name)).unwrap();
            }
        }
        let recovery = Recovery { clean: false, recovery_point: 0, log_start_offset: start, refuse_damage: false };
        let (opened, _) = crashed.open(recovery);
        assert_eq!((opened.log_start_offset(), opened.log_end_offset()), (start, end), "{left:b}");
        append(&opened, batch_at(NOW, 1, &[0; 32]));
        assert_eq!(opened.log_end_offset(), end + 1);
    }
}
