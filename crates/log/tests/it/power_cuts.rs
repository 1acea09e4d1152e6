//! Indexes over power cuts: a simulated disk goes off at any call and loses what was not synced. What the indexes of transactions and
//! of times say must fit what is left of the log, and the test must notice if their syncs are left out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use millpond_disk::{Crash, Operation, Permit, Random, SimulatedDisk};
use millpond_log::{LogBudget, LogOptions, PartitionLog, Recovery};
use millpond_records::batches;
use millpond_types::{Offset, TopicId};

use crate::committed::{Abort, Commit, check_committed, marker, transactional};
use crate::scratch::{NOW, batch_at, read_all};

const SEEDS: u64 = 1000;
/// Crashes of a log.
const LIVES: usize = 4;
const PRODUCERS: u64 = 3;

struct Life<'a> {
    log: PartitionLog,
    random: &'a mut Random,
    /// What a checkpoint file would say.
    recovery_point: Offset,
    sequences: [i32; PRODUCERS as usize],
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 700, index_interval_bytes: 200, retention_ms: -1, ..LogOptions::default() }
}

impl Life<'_> {
    /// Does something; `false` when the disk is off.
    fn step(&mut self) -> bool {
        let id = self.random.below(PRODUCERS);
        match self.random.below(12) {
            0 => self.log.append(batch_at(NOW + self.random.below(100_000) as i64, 1, b"plain"), 0, NOW).is_ok(),
            1..=4 => {
                let sequence = self.sequences[id as usize] + 1;
                let appended = self.log.append(transactional((id as i64, 0, sequence), 1), 0, NOW).is_ok();
                self.sequences[id as usize] += i32::from(appended);
                appended
            }
            5..=8 => {
                let result = if self.random.below(3) == 0 { Commit } else { Abort };
                self.log.append_marker(&marker((id as i64, 0), result), 0, NOW).is_ok()
            }
            9 => self.log.sync().is_ok(),
            10 => self.log.checkpoint().is_ok(),
            _ => {
                self.recovery_point = self.log.recovery_point();
                true
            }
        }
    }
}

/// What the time index takes for the newest record is the newest.
fn check_newest(log: &PartitionLog, what: &str) {
    let bytes = read_all(log, 10_000);
    let newest = batches(&bytes).map(|batch| batch.unwrap().header.max_timestamp).max();
    let found = log.max_timestamp(Offset::MAX).unwrap().map(|(_, timestamp)| timestamp);
    assert_eq!(found, newest, "{what}");
}

fn run(seed: u64, leave_out: fn(Operation, &str) -> bool) {
    let disk = SimulatedDisk::new(seed);
    let mut random = Random::new(seed);
    let dir = disk.root().join("topic-0");
    disk.watch(move |operation, path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if leave_out(operation, name) { Permit::Pretend } else { Permit::Do }
    });
    let id = TopicId::from_uuid("00000000-0000-0000-0000-000000000001".parse().unwrap());
    let mut log = PartitionLog::create(&dir, id, options(), LogBudget::new(1 << 20)).unwrap();
    let mut recovery_point = 0;
    for life in 0..LIVES {
        let known = log.active_producers();
        let last = |id| known.iter().find(|p| p.producer_id == id as i64).map_or(-1, |p| p.last_sequence);
        let sequences = std::array::from_fn(last);
        disk.go_off_after(random.below(400));
        let mut living = Life { log, random: &mut random, recovery_point, sequences };
        let steps = 60;
        let closed = (0..steps).all(|_| living.step()).then(|| living.log.close(NOW).ok()).flatten();
        let durable = living.log.durable_end_offset();
        recovery_point = closed.unwrap_or(living.recovery_point);
        drop(living);
        disk.restart(if random.below(4) == 0 { Crash::Kill } else { Crash::PowerCut });
        let recovery = Recovery { clean: closed.is_some(), recovery_point, log_start_offset: 0, refuse_damage: false };
        let (opened, _) = PartitionLog::open(&dir, options(), LogBudget::new(1 << 20), recovery, NOW).unwrap();
        assert!(opened.log_end_offset() >= durable, "seed {seed}, life {life}");
        check_committed(&opened, opened.log_end_offset(), &format!("seed {seed}, life {life}"));
        check_newest(&opened, &format!("seed {seed}, life {life}"));
        if random.coin() {
            // As a node does when it has started.
            recovery_point = opened.recovery_point();
        }
        log = opened;
    }
}

#[test]
fn no_power_cut_makes_aborted_records_committed_or_the_other_way_round_or_times_unknown() {
    (0..SEEDS).for_each(|seed| run(seed, |_, _| false));
}

/// Whether any seed notices that a sync is left out.
fn is_noticed(leave_out: fn(Operation, &str) -> bool) -> bool {
    (0..SEEDS).any(|seed| catch_unwind(AssertUnwindSafe(|| run(seed, leave_out))).is_err())
}

#[test]
fn a_transaction_index_that_is_not_synced_before_the_snapshot_is_noticed() {
    assert!(is_noticed(|operation, name| operation == Operation::Sync && name.ends_with(".txnindex")));
}
