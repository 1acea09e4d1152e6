//! How fast is a compaction, and how much memory does it take?
//!
//! `cargo run --release --package millpond-log --example compaction -- FOLDER RECORDS KEYS VALUE_BYTES [KEYS_BYTES_MAX]`
//!
//! Writes that many records with random keys among so many into a log in FOLDER, compacts it until nothing is dirty, and prints bytes,
//! seconds and CPU seconds of each compaction, and the greatest memory that the process had.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::path::Path;
use std::time::Instant;

use bytes::BytesMut;
use millpond_log::{LogBudget, LogOptions, PartitionLog, Step};
use millpond_records::{BatchBuilder, BatchOptions};
use millpond_types::{Offset, TopicId};

const RECORDS_A_BATCH: usize = 100;
const NOW_MS: i64 = 1_700_000_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| arguments[place].parse::<usize>().unwrap();
    let (records, keys, value_bytes) = (number(1), number(2), number(3));
    let keys_bytes_max = arguments.get(4).map_or(56 << 20, |bytes| bytes.parse().unwrap());
    let dir = Path::new(&arguments[0]).join("bench-0");
    let options = LogOptions { compact: true, retention_ms: -1, tail_bytes_max: 0, ..LogOptions::default() };
    let id = TopicId::from_uuid("00000000-0000-0000-0000-000000000001".parse().unwrap());
    let log = PartitionLog::create(&dir, id, options, LogBudget::new(0)).unwrap();
    let mut random = 88_172_645_463_325_252u64;
    let value = vec![b'v'; value_bytes];
    for _ in 0..records / RECORDS_A_BATCH {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for _ in 0..RECORDS_A_BATCH {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            batch.push(NOW_MS, Some(format!("key-{}", random % keys as u64).as_bytes()), Some(&value), &[]);
        }
        log.append(BytesMut::from(&batch.build()[..]), 0, NOW_MS).unwrap();
    }
    log.roll_if_due(i64::MAX).unwrap();
    log.sync().unwrap();
    println!("written: {} MB, memory so far {} MB", log.size_bytes() / 1_000_000, peak_memory_kb() / 1000);
    for number in 1.. {
        let (before, begun, cpu) = (log.size_bytes(), Instant::now(), cpu_seconds());
        let Some(mut compaction) = log.begin_compaction(NOW_MS, Offset::MAX, keys_bytes_max).unwrap() else { break };
        let compacted = loop {
            if let Step::Done(compacted) = log.compaction_step(&mut compaction).unwrap() {
                break compacted;
            }
        };
        let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        println!(
            "compaction {number}: log {} → {} MB, {} keys, read {} MB, written {} MB, {seconds:.1} s, {cpu:.1} CPU s, {:.0} MB of log a CPU second, memory {} MB",
            before / 1_000_000,
            log.size_bytes() / 1_000_000,
            compacted.keys,
            compacted.bytes_read / 1_000_000,
            compacted.bytes_written / 1_000_000,
            before as f64 / 1e6 / cpu,
            peak_memory_kb() / 1000
        );
    }
}

fn status(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
}

fn peak_memory_kb() -> u64 {
    status("VmHWM:").trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// User and system time of the process, in hundredths as the kernel counts them.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
