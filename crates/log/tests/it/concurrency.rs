//! Appending, syncing, reading, checkpoints and clean-ups at the same time.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use millpond_log::{LogOptions, ReadError};
use millpond_records::{batches, verify_crc};
use millpond_types::Offset;

use crate::scratch::{NOW, Scratch, append, batch, joined, offsets, read_all};

const APPENDERS: usize = 3;
const BATCHES_EACH: usize = 2000;

#[test]
fn readers_see_every_batch_whole_and_in_order_while_it_is_written_synced_and_rolled() {
    for tail_bytes_max in [0, 3000, 1 << 20] {
        let scratch = Scratch::with(LogOptions {
            segment_bytes: 20_000,
            retention_ms: -1,
            tail_bytes_max,
            ..LogOptions::default()
        });
        let log = scratch.create();
        let done = AtomicBool::new(false);
        let synced = AtomicI64::new(0);
        let end = (APPENDERS * BATCHES_EACH * 2) as Offset;
        thread::scope(|scope| {
            let appenders: Vec<_> = (0..APPENDERS)
                .map(|n| {
                    let (log, synced) = (&log, &synced);
                    scope.spawn(move || {
                        for i in 0..BATCHES_EACH {
                            let appended = append(log, batch(2, &vec![n as u8; i % 300]));
                            if i % 16 == 0 {
                                let durable = log.sync().unwrap();
                                assert!(durable > appended.last_offset, "a sync covers what came before it");
                                synced.fetch_max(durable, Ordering::SeqCst);
                                assert!(log.durable_end_offset() >= synced.load(Ordering::SeqCst));
                            }
                        }
                    })
                })
                .collect();
            for bytes_max in [700, 20_000] {
                let (log, done) = (&log, &done);
                scope.spawn(move || {
                    let mut next = 0;
                    while next < end {
                        let all_written = done.load(Ordering::SeqCst);
                        let fetched = log.read(next, bytes_max, Offset::MAX, true).unwrap();
                        let bytes = joined(&fetched);
                        for batch in batches(&bytes) {
                            let batch = batch.unwrap();
                            assert_eq!(batch.header.base_offset, next);
                            verify_crc(batch.bytes).unwrap();
                            next = batch.header.next_offset();
                        }
                        assert_eq!(next, fetched.next_offset);
                        assert!(!(fetched.is_empty() && all_written), "nothing at {next} of {end}");
                    }
                });
            }
            let (log, done) = (&log, &done);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    log.checkpoint().unwrap();
                    let middle = log.log_end_offset() / 2;
                    if middle > 0 {
                        log.offset_for_timestamp(NOW, middle).unwrap();
                        log.max_timestamp(middle).unwrap();
                    }
                }
            });
            appenders.into_iter().for_each(|appender| appender.join().unwrap());
            done.store(true, Ordering::SeqCst);
        });
        assert_eq!(log.sync().unwrap(), end);
        let all = read_all(&log, 10_000);
        assert_eq!(offsets(&all).len(), APPENDERS * BATCHES_EACH);
        let image = scratch.crash_image();
        let (reopened, recovered) = image.open_crashed(0);
        assert_eq!((reopened.log_end_offset(), recovered.truncated_bytes), (end, 0));
        assert_eq!(read_all(&reopened, 10_000), all);
    }
}

#[test]
fn readers_of_segments_that_are_being_deleted_read_them_or_are_told() {
    let scratch = Scratch::with(LogOptions {
        segment_bytes: 2000,
        retention_ms: -1,
        retention_bytes: 6000,
        file_delete_delay_ms: 0,
        tail_bytes_max: 0,
        ..LogOptions::default()
    });
    let log = scratch.create();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..2i64 {
            let (log, done) = (&log, &done);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let from = log.log_start_offset() + reader;
                    match log.read(from, 5000, Offset::MAX, true) {
                        Ok(fetched) if !fetched.is_empty() => {
                            let first = offsets(&joined(&fetched))[0];
                            assert!(first.0 <= from && from <= first.1);
                        }
                        Ok(_) | Err(ReadError::OutOfRange { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    log.offset_for_timestamp(NOW, Offset::MAX).unwrap();
                }
            });
        }
        for n in 0..3000 {
            append(&log, batch(2, &[1; 100]));
            if n % 10 == 0 {
                log.sync().unwrap();
                log.enforce_retention(NOW, Offset::MAX).unwrap();
                log.purge_deleted(NOW).unwrap();
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(log.segments().len() < 10);
    assert_eq!(log.log_end_offset(), 6000);
}
