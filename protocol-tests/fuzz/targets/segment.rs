//! The files of a partition, as a crash, a bad disk or another program left them. Invariants: opening never panics; what
//! is served after it reads back whole; the log takes the next batch; and a second opening finds the same.
#![no_main]

use std::fs;
use std::path::Path;

use bytes::BytesMut;
use millpond_log::{LogOptions, PartitionLog, Recovery, LogBudget};
use millpond_records::{BatchBuilder, BatchOptions, HEADER_LEN, batches, crc32c};
use millpond_types::TopicId;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("fuzz-0");
    let budget = || LogBudget::new(1 << 20);
    let log = PartitionLog::create(&dir, TopicId::ZERO, LogOptions::default(), budget()).expect("a new log");
    for value in ["one", "two", "three"] {
        append(&log, value);
    }
    log.sync().expect("a sync");
    if choice & 1 == 1 {
        log.close(0).expect("a clean close");
    }
    drop(log);
    // One of the files becomes what the fuzzer says.
    let name = ["log", "index", "timeindex", "snapshot"][usize::from(choice >> 1 & 3)];
    let file = dir.join(format!("{:020}.{name}", if name == "snapshot" { 3 } else { 0 }));
    let content = if name == "log" && choice & 8 == 8 { with_valid_frame(bytes) } else { bytes.to_vec() };
    fs::write(file, content).expect("a file is written");

    // Clean is only what was closed; a lie about that is not what a node tells its logs.
    let recovery = Recovery { clean: choice & 1 == 1 && name != "log", recovery_point: 0, log_start_offset: 0, refuse_damage: false };
    let Some(end) = open_and_use(&dir, recovery, budget()) else { return };
    let again = Recovery { clean: false, recovery_point: 0, log_start_offset: 0, refuse_damage: false };
    assert_eq!(open_and_use(&dir, again, budget()), Some(end + 1), "the appended batch is there at the next start");
});

fn append(log: &PartitionLog, value: &str) {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.push(1, None, Some(value.as_bytes()), &[]);
    log.append(BytesMut::from(batch.build().as_slice()), 0, 1).expect("a log that opened takes a batch");
}

/// Opens, reads everything, appends a batch; the end before the append.
fn open_and_use(dir: &Path, recovery: Recovery, budget: std::sync::Arc<LogBudget>) -> Option<i64> {
    let (log, _) = PartitionLog::open(dir, LogOptions::default(), budget, recovery, 1).ok()?;
    let (mut at, end) = (log.log_start_offset(), log.log_end_offset());
    while at < end {
        let read = log.read(at, 1 << 20, end, true).expect("what is said to be there can be read");
        let before = at;
        for chunk in &read.chunks {
            for batch in batches(chunk) {
                at = batch.expect("what was verified is a batch").header.next_offset();
            }
        }
        assert!(at > before, "a read at {before} of {end} brought nothing");
    }
    let _ = log.offset_for_timestamp(1, end);
    append(&log, "next");
    log.sync().expect("a sync");
    Some(end)
}

/// A length and a checksum that fit, so that recovery gets to the rest.
fn with_valid_frame(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= HEADER_LEN {
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}
