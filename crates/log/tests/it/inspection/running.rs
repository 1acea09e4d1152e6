//! A log that is being written, rolled, trimmed, cut and compacted while its files are read.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use millpond_log::Step;

use super::*;

#[test]
fn what_comes_and_goes_while_the_node_writes_is_not_told() {
    let (scratch, end) = written_and_closed(30);
    let path = scratch.logs().pop().unwrap();
    let sound = std::fs::read(&path).unwrap();
    let looks = Cell::new(0);
    let claims = || open(end);
    // The first look comes upon a write of the batch that is only half done.
    let check = |heals: bool| {
        edit(&path, |bytes| bytes[80..].fill(0xaa));
        looks.set(0);
        let pause = || {
            looks.set(looks.get() + 1);
            if heals {
                std::fs::write(&path, &sound).unwrap();
            }
        };
        let watch = Watch { claims: &claims, pause: &pause, progress: &|_| {} };
        verify(&scratch.dir(), &watch).unwrap().unwrap().findings.len()
    };
    assert_eq!((check(true), looks.get()), (0, 1));
    assert_eq!((check(false), looks.get()), (1, 3), "looked at again and again, and there still");
}

#[test]
fn a_folder_that_is_gone_is_none_and_files_that_vanish_are_no_findings() {
    let (scratch, end) = written_and_closed(40);
    let gone = PathBuf::from("/nowhere/t-0");
    let watch = Watch { claims: &|| open(0), pause: &|| {}, progress: &|_| {} };
    assert_eq!(verify(&gone, &watch).unwrap(), None);
    assert_eq!(summarize(&gone).unwrap(), None);
    // Retention takes the oldest segments while the first one is read.
    let logs = scratch.logs();
    let start = Cell::new(0);
    let claims = || Claims { log_start: Some(start.get()), ..open(end) };
    let progress = |_| {
        for log in &logs[..3] {
            let _ = std::fs::rename(log, log.with_extension("log.deleted"));
        }
        start.set(base_of(&logs[3]));
    };
    let watch = Watch { claims: &claims, pause: &|| {}, progress: &progress };
    assert_eq!(verify(&scratch.dir(), &watch).unwrap().unwrap().findings, []);
}

/// Some of everything that a node does to a log.
fn work(log: &PartitionLog, rounds: u64) {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        // Marsaglia's xorshift.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut sequence = 0;
    for round in 0..rounds {
        let count = 1 + next(4) as usize;
        let producer = (next(3) == 0).then_some((7, 0, sequence));
        sequence += if producer.is_some() { count as i32 } else { 0 };
        let compression = Compression::ALL[next(5) as usize];
        let mut builder = BatchBuilder::new(BatchOptions { producer, compression, ..BatchOptions::default() });
        for _ in 0..count {
            let key = format!("key {}", next(20));
            builder.push(NOW + next(1000) as i64, Some(key.as_bytes()), Some(&vec![7; next(200) as usize]), &[]);
        }
        let epoch = (round / 1000) as i32;
        log.append(bytes::BytesMut::from(&builder.build()[..]), epoch, NOW).unwrap();
        match next(40) {
            0 => drop(log.checkpoint().unwrap()),
            1 => {
                let start = log.log_start_offset();
                let start = log.advance_log_start(start + (log.log_end_offset() - start) / 2).unwrap();
                log.delete_gone(start).unwrap();
                log.purge_deleted(NOW).unwrap();
            }
            2 => {
                // As a stream does with what it has not committed. Its producer begins anew.
                let end = log.log_end_offset() - next(5) as i64;
                log.truncate_to(end.max(log.log_start_offset())).unwrap();
                sequence = log.active_producers().first().map_or(0, |producer| producer.last_sequence + 1);
            }
            3 => {
                log.sync().unwrap();
                if let Some(mut compaction) = log.begin_compaction(NOW, Offset::MAX, 1 << 20).unwrap() {
                    while matches!(log.compaction_step(&mut compaction).unwrap(), Step::More(_)) {}
                }
            }
            4..8 => drop(log.sync().unwrap()),
            _ => {}
        }
    }
}

#[test]
fn while_a_node_does_all_that_nodes_do_nothing_is_told() {
    let options = LogOptions { compact: true, file_delete_delay_ms: 0, segment_bytes: 8_000, ..small_segments() };
    let scratch = Scratch::with(options);
    let log = scratch.create();
    let is_done = AtomicBool::new(false);
    let claims = || Claims { log_start: Some(log.log_start_offset()), ..open(log.recovery_point()) };
    let looks = thread::scope(|scope| {
        scope.spawn(|| {
            work(&log, 20_000);
            is_done.store(true, Ordering::SeqCst);
        });
        let mut looks = 0;
        while !is_done.load(Ordering::SeqCst) {
            let pause = || thread::sleep(Duration::from_millis(10));
            let watch = Watch { claims: &claims, pause: &pause, progress: &|_| {} };
            let found = verify(&scratch.dir(), &watch).unwrap().unwrap();
            assert!(found.findings.is_empty(), "{:#?}", found.findings);
            summarize(&scratch.dir()).unwrap().unwrap();
            looks += 1;
        }
        looks
    });
    assert!(looks > 10, "{looks} looks");
    let end = log.close(NOW).unwrap();
    check_sound(&scratch.dir(), &Claims { log_start: Some(log.log_start_offset()), ..closed(end) }, "closed");
}
