//! Cutting what was not committed.

use millpond_log::{LogError, LogOptions};
use millpond_types::Offset;

use crate::scratch::{NOW, Scratch, append, batch, batch_at, joined, offsets, produced, read_all};

#[test]
fn a_log_can_be_cut_at_every_offset_and_goes_on_as_if_nothing_had_been_there() {
    let options =
        LogOptions { segment_bytes: 700, index_interval_bytes: 100, retention_ms: -1, ..LogOptions::default() };
    for synced in [false, true] {
        for cut in 0..=60 {
            let scratch = Scratch::with(options.clone());
            let log = scratch.create();
            let mut kept = Vec::new();
            for n in 0..30i64 {
                let before = log.log_end_offset();
                append(&log, batch_at(NOW + n, 2, &[1; 30]));
                if before + 2 <= cut {
                    kept.push((before, before + 1));
                }
            }
            if synced {
                log.sync().unwrap();
            }
            let end = log.truncate_to(cut).unwrap();
            assert_eq!(end, cut / 2 * 2, "the batch that holds the offset goes as a whole");
            assert_eq!((log.log_end_offset(), log.durable_end_offset() <= end), (end, true));
            assert_eq!(offsets(&read_all(&log, 1 << 20)), kept, "cut at {cut}");
            let newest = (end > 0).then(|| (end - 1, NOW + end / 2));
            assert_eq!(log.max_timestamp(Offset::MAX).unwrap(), newest, "cut at {cut}");

            for n in 0..10 {
                kept.push((end + n, end + n));
                assert_eq!(append(&log, batch_at(NOW + 100, 1, &[2; 60])).base_offset, end + n);
            }
            assert_eq!(offsets(&read_all(&log, 300)), kept);
            for (base, _) in &kept {
                assert_eq!(log.read(*base, 1, Offset::MAX, true).unwrap().base_offset, *base);
            }
            let image = scratch.crash_image();
            let (reopened, recovered) = image.open_crashed(0);
            assert_eq!(recovered.truncated_bytes, 0, "cut at {cut}");
            assert_eq!(offsets(&read_all(&reopened, 300)), kept);
            log.sync().unwrap();
            assert_eq!(log.durable_end_offset(), end + 10);
        }
    }
}

#[test]
fn a_cut_also_cuts_epochs_producers_and_what_lies_in_memory() {
    let scratch = Scratch::new();
    let log = scratch.create();
    log.append(produced((7, 0, 0), 2), 0, NOW).unwrap();
    log.append(produced((7, 0, 2), 2), 5, NOW).unwrap();
    log.append(produced((8, 0, 0), 2), 5, NOW).unwrap();
    log.checkpoint().unwrap();
    assert_eq!(log.leader_epoch_end(0), Some((0, 2)));
    assert_eq!(log.truncate_to(2).unwrap(), 2);
    assert_eq!((log.leader_epoch_end(0), log.leader_epoch_end(5)), (Some((0, 2)), None));
    assert_eq!(log.active_producers().len(), 1);
    assert!(!log.append(produced((7, 0, 2), 2), 6, NOW).unwrap().duplicate);
    let fetched = log.read(0, 1 << 20, Offset::MAX, true).unwrap();
    assert_eq!(offsets(&joined(&fetched)), [(0, 1), (2, 3)]);
    assert_eq!(log.latest_leader_epoch(), Some(6));
    let image = scratch.crash_image();
    let (reopened, _) = image.open_crashed(0);
    assert_eq!((reopened.leader_epoch_end(0), reopened.latest_leader_epoch()), (Some((0, 2)), Some(6)));
}

#[test]
fn cuts_at_the_end_and_before_the_start() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, batch(10, b"v"));
    append(&log, batch(10, b"v"));
    assert_eq!(log.truncate_to(20).unwrap(), 20);
    assert_eq!(log.truncate_to(99).unwrap(), 20);
    log.advance_log_start(10).unwrap();
    assert!(matches!(log.truncate_to(9), Err(LogError::OutOfRange { .. })));
    assert_eq!(log.truncate_to(10).unwrap(), 10);
    assert_eq!(append(&log, batch(1, b"v")).base_offset, 10);
}
