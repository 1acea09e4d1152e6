//! What a backup of a running node gets of a log.

use std::path::{Path, PathBuf};

use millpond_log::{FrozenLog, LogOptions, Recovery};
use millpond_types::Offset;

use crate::scratch::{NOW, Scratch, append, batch_at, offsets, read_all};

/// Segments of two or three batches.
fn options() -> LogOptions {
    LogOptions { segment_bytes: 400, index_interval_bytes: 100, retention_ms: -1, ..LogOptions::default() }
}

/// A folder on the same file system.
fn beside(scratch: &Scratch) -> PathBuf {
    let into = scratch.dir().with_file_name("frozen");
    millpond_disk::create_dir(&into).unwrap();
    into
}

/// The frozen files in a folder of their own, as far as they are wanted.
fn restored(from: &Path, frozen: &FrozenLog) -> Scratch {
    let copy = Scratch::with(options());
    millpond_disk::create_dir_all(&copy.dir()).unwrap();
    for file in &frozen.files {
        let bytes = std::fs::read(from.join(&file.name)).unwrap();
        let wanted = usize::try_from(file.bytes).unwrap().min(bytes.len());
        assert!(wanted as u64 >= file.bytes_settled, "{file:?}");
        std::fs::write(copy.dir().join(&file.name), &bytes[..wanted]).unwrap();
    }
    copy
}

fn recovery(frozen: &FrozenLog) -> Recovery {
    Recovery {
        clean: false,
        recovery_point: frozen.recovery_point,
        log_start_offset: frozen.log_start_offset,
        refuse_damage: false,
    }
}

#[test]
fn a_log_is_frozen_up_to_any_batch_while_it_goes_on() {
    for synced in [false, true] {
        for end in (0..=40).step_by(2) {
            let scratch = Scratch::with(options());
            let log = scratch.create();
            for n in 0..15i64 {
                append(&log, batch_at(NOW + n, 2, &[1; 30]));
            }
            if synced {
                log.sync().unwrap();
                log.checkpoint().unwrap();
            }
            for n in 15..20i64 {
                append(&log, batch_at(NOW + n, 2, &[1; 30]));
            }
            let into = beside(&scratch);
            let frozen = log.freeze(&into, end, end).unwrap();
            // More comes, and all of it goes.
            for n in 20..30i64 {
                append(&log, batch_at(NOW + n, 2, &[2; 30]));
            }
            log.sync().unwrap();
            log.advance_log_start(60).unwrap();
            log.delete_gone(60).unwrap();
            log.purge_deleted(NOW).unwrap();
            log.purge_deleted(NOW + 1_000_000).unwrap();
            let copy = restored(&into, &frozen);
            let (reopened, recovered) = copy.open(recovery(&frozen));
            assert_eq!((recovered.reason, recovered.truncated_bytes), (None, 0), "frozen at {end}");
            let expected: Vec<(Offset, Offset)> = (0..end / 2).map(|n| (2 * n, 2 * n + 1)).collect();
            assert_eq!(offsets(&read_all(&reopened, 1 << 20)), expected, "frozen at {end}");
            assert_eq!(append(&reopened, batch_at(NOW, 1, &[3; 10])).base_offset, end);
            assert!(recovered.bytes_verified < 1_000 || !synced, "finished segments are not read again");
        }
    }
}

#[test]
fn what_is_cut_and_written_again_meanwhile_is_cut_in_the_copy_too() {
    for settled in (0..=40).step_by(2) {
        let scratch = Scratch::with(options());
        let log = scratch.create();
        for n in 0..20i64 {
            append(&log, batch_at(NOW + n, 2, &[1; 30]));
        }
        log.sync().unwrap();
        let into = beside(&scratch);
        let frozen = log.freeze(&into, 40, settled).unwrap();
        assert!(frozen.recovery_point <= settled);
        log.truncate_to(settled).unwrap();
        // At once, or with something else in the place of what was there.
        for copy in 0..2 {
            if copy == 1 {
                for n in 0..20i64 {
                    append(&log, batch_at(NOW + n, 1, &[2; 70]));
                }
                log.sync().unwrap();
            }
            let copy = restored(&into, &frozen);
            let (reopened, _) = copy.open(recovery(&frozen));
            assert!(reopened.log_end_offset() >= settled, "settled at {settled}");
            reopened.truncate_to(settled).unwrap();
            let expected: Vec<(Offset, Offset)> = (0..settled / 2).map(|n| (2 * n, 2 * n + 1)).collect();
            assert_eq!(offsets(&read_all(&reopened, 1 << 20)), expected, "settled at {settled}");
        }
    }
}

#[test]
fn a_log_whose_disk_failed_is_not_frozen() {
    let scratch = Scratch::new();
    let log = scratch.create();
    log.poison("for this test".to_owned());
    let into = beside(&scratch);
    assert!(log.freeze(&into, 0, 0).unwrap_err().to_string().contains("for this test"));
    assert!(millpond_disk::list(&into).unwrap().is_empty());
}
