//! Whatever crashes when: every result once, and the same as without a crash.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::support::{Node, Records, copy, event, open, plan};
use crate::plan::StreamPlan;
use crate::run::{CrashPoint, CrashPoints, RunnerOptions};

const PARTITIONS: i32 = 3;
const ROWS_PER_PARTITION: i64 = 400;
const ROWS: u64 = (PARTITIONS as u64) * (ROWS_PER_PARTITION as u64);

const WINDOWS: &str = "SELECT name, window_start, window_end, COUNT(*) AS n, SUM(price) AS total, AVG(price) AS mean, \
    MIN(price) AS least, COUNT(DISTINCT name) AS names, COUNT(DISTINCT id) FILTER (WHERE price > 3) AS ids, MAX(name) AS last \
    FROM TABLE(HOP(TABLE events, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)) \
    GROUP BY name, window_start, window_end HAVING COUNT(*) > 1";
const ROWS_QUERY: &str = "SELECT id, name, 100 / id AS share FROM events WHERE price > 1";

/// Rows of one partition: time goes on with jitter, some are late, some are garbage, some cannot be computed.
fn rows(partition: i32) -> Vec<String> {
    let mut seed = 7 + i64::from(partition);
    let mut random = move |below: i64| {
        seed = (seed * 1_103_515_245 + 12_345) & 0x7fff_ffff;
        (seed >> 8) % below
    };
    let row = |number: i64| match random(40) {
        0 => "no JSON".to_owned(),
        1 => event(0, "zero", 5.5, number * 100),
        2 => event(number, "late", 5.5, number * 50),
        _ => event(
            1 + random(50),
            ["ann", "bob", "cyd"][random(3) as usize],
            random(100) as f64 / 7.0,
            number * 100 + random(900),
        ),
    };
    (0..ROWS_PER_PARTITION).map(row).collect()
}

fn fill(node: &Node) {
    node.create("events", PARTITIONS);
    for partition in 0..PARTITIONS {
        for batch in rows(partition).chunks(7) {
            node.produce("events", partition, batch);
        }
    }
}

fn small_steps(options: &mut RunnerOptions) {
    options.step_rows_max = 40;
    options.checkpoint_interval_ms = 1;
}

fn everything(node: &Node, name: &str) -> (Vec<Records>, Vec<Records>) {
    (node.records(name), node.records(&format!("{name}.errors")))
}

/// Runs the query without a crash, but keeps an image of the disk at each crash point, early, in the middle and late;
/// then goes on from each image, and must come to the same.
fn check_crashes(plan: &StreamPlan, name: &str, points: &[CrashPoint]) {
    let dir = tempfile::tempdir().unwrap();
    let images: Arc<Mutex<Vec<(CrashPoint, usize, std::path::PathBuf)>>> = Arc::default();
    let hits: Mutex<HashMap<String, usize>> = Mutex::default();
    let (source, kept, root) = (dir.path().join("calm"), images.clone(), dir.path().to_owned());
    let from = source.clone();
    let hook = move |point: CrashPoint| {
        let mut hits = hits.lock().unwrap();
        let hit = hits.entry(format!("{point:?}")).or_default();
        *hit += 1;
        if [1, 2, 4, 11].contains(hit) {
            let image = root.join(format!("{point:?}-{hit}"));
            copy(&from, &image);
            kept.lock().unwrap().push((point, *hit, image));
        }
        false
    };
    let calm = open(&source, |options| {
        small_steps(options);
        options.crash_points = CrashPoints::with_hook(Arc::new(hook));
    });
    fill(&calm);
    calm.launch(1, name, plan.clone());
    let status = calm.wait_rows_in(name, ROWS);
    let expected = everything(&calm, name);
    assert!(
        expected.0.iter().all(|records| records.len() > 5),
        "{:?}",
        expected.0.iter().map(Vec::len).collect::<Vec<_>>()
    );
    assert!(!expected.1[0].is_empty());
    calm.stop();

    let images = std::mem::take(&mut *images.lock().unwrap());
    for point in points {
        let count = images.iter().filter(|(at, _, _)| at == point).count();
        // Checkpoints are taken by the clock, so there may be few.
        let expected = if matches!(point, CrashPoint::CheckpointDue | CrashPoint::CheckpointWritten) { 1 } else { 3 };
        assert!(count >= expected, "{point:?} was reached {count} times");
    }
    for (point, hit, image) in images {
        let node = open(&image, small_steps);
        node.launch(1, name, plan.clone());
        let again = node.wait_rows_in(name, ROWS);
        assert_eq!(everything(&node, name), expected, "after a crash at {point:?}, time {hit}");
        let counters = |s: &crate::run::QueryStatus| (s.rows_out, s.rows_late, s.rows_failed, s.rows_filtered);
        assert_eq!(counters(&again), counters(&status), "after a crash at {point:?}, time {hit}");
        node.stop();
    }
}

#[test]
fn a_crash_at_any_point_of_a_step_changes_no_byte_of_windows() {
    use CrashPoint::*;
    let points = [OutputAppended, OutputSynced, StepAppended, StepSynced, Revealed, CheckpointDue, CheckpointWritten];
    check_crashes(&plan("per_name", 2, &["name"], WINDOWS), "per_name", &points);
}

#[test]
fn a_crash_at_any_point_of_a_step_changes_no_byte_of_rows() {
    use CrashPoint::*;
    check_crashes(
        &plan("shares", 1, &[], ROWS_QUERY),
        "shares",
        &[OutputAppended, OutputSynced, StepAppended, StepSynced, Revealed],
    );
}

/// These aggregates fold what they are given at a time, and tell how a step's rows were cut.
const PERCENTILES: &str = "SELECT window_end, COUNT(*) AS n, approx_percentile_cont(price, 0.1) AS low, \
    approx_percentile_cont(price, 0.5) AS middle, approx_percentile_cont(price, 0.99) AS high \
    FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end";

#[test]
fn a_step_that_is_taken_again_cuts_its_rows_as_it_did_the_first_time() {
    let dir = tempfile::tempdir().unwrap();
    let (source, image) = (dir.path().join("calm"), dir.path().join("image"));
    let (checkpoints, armed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let hook = {
        let (source, image, checkpoints, armed) = (source.clone(), image.clone(), checkpoints.clone(), armed.clone());
        move |point: CrashPoint| {
            match point {
                CrashPoint::CheckpointWritten => drop(checkpoints.fetch_add(1, Ordering::Relaxed)),
                CrashPoint::StepSynced if armed.swap(false, Ordering::Relaxed) => copy(&source, &image),
                _ => {}
            }
            false
        }
    };
    let calm = open(&source, |options| {
        options.checkpoint_interval_ms = 1;
        options.crash_points = CrashPoints::with_hook(Arc::new(hook));
    });
    calm.create("events", 1);
    calm.launch(1, "percentiles", plan("percentiles", 1, &[], PERCENTILES));
    let rows = |count: i64| -> Vec<String> {
        (0..count).map(|n| event(n, "x", (n * 7_919 % 10_007) as f64 / 7.0, n)).collect()
    };
    // One batch is one step. The first teaches how small the rows are, and a checkpoint follows; the second is taken
    // again.
    calm.produce("events", 0, &rows(2_000));
    calm.wait_rows_in("percentiles", 2_000);
    calm.wait("percentiles", "a checkpoint", |_| checkpoints.load(Ordering::Relaxed) > 0);
    armed.store(true, Ordering::Relaxed);
    calm.produce("events", 0, &rows(4_000));
    calm.wait_rows_in("percentiles", 6_000);
    let end = [event(0, "x", 1.0, 7_200_000)];
    let finish = |node: Node| {
        node.produce("events", 0, &end);
        node.wait_rows_in("percentiles", 6_001);
        let found = everything(&node, "percentiles");
        node.stop();
        found
    };
    let expected = finish(calm);
    assert_eq!(expected.0[0].len(), 1);

    let node = open(&image, |_| {});
    node.launch(1, "percentiles", plan("percentiles", 1, &[], PERCENTILES));
    node.wait_rows_in("percentiles", 6_000);
    assert_eq!(finish(node), expected);
}

/// Launches and then produces, in pieces of `piece` rows, round and round the partitions or one after the other.
fn run_live(
    dir: &Path,
    piece: usize,
    step_rows: usize,
    one_by_one: bool,
    restart_after: Option<usize>,
) -> (Vec<Records>, u64) {
    let tune = |options: &mut RunnerOptions| {
        options.step_rows_max = step_rows;
        options.checkpoint_interval_ms = 3;
    };
    let plan = plan("per_name", 2, &["name"], WINDOWS);
    let mut node = open(dir, tune);
    node.create("events", PARTITIONS);
    node.launch(1, "per_name", plan.clone());
    let mut pieces: Vec<(usize, i32, Vec<String>)> = Vec::new();
    for partition in 0..PARTITIONS {
        pieces.extend(rows(partition).chunks(piece).enumerate().map(|(round, rows)| (round, partition, rows.to_vec())));
    }
    if !one_by_one {
        pieces.sort_by_key(|(round, partition, _)| (*round, *partition));
    }
    for (count, (_, partition, rows)) in pieces.into_iter().enumerate() {
        if restart_after.is_some_and(|after| count % after == after - 1) {
            node.stop();
            node = open(dir, tune);
            node.launch(1, "per_name", plan.clone());
        }
        node.produce("events", partition, &rows);
    }
    let late = node.wait_rows_in("per_name", ROWS).rows_late;
    let found = node.records("per_name");
    node.stop();
    (found, late)
}

#[test]
fn windows_do_not_tell_how_the_partitions_were_interleaved_nor_how_the_steps_were_cut() {
    let dirs = tempfile::tempdir().unwrap();
    let run = |name: &str, piece, step_rows, one_by_one, restart_after| {
        run_live(&dirs.path().join(name), piece, step_rows, one_by_one, restart_after)
    };
    let (expected, late) = run("whole", 1000, 100_000, true, None);
    assert!(late > 0);
    assert!(expected.iter().map(Vec::len).sum::<usize>() > 20);
    assert_eq!(run("small pieces", 13, 100_000, false, None), (expected.clone(), late));
    assert_eq!(run("small steps", 90, 5, false, None), (expected.clone(), late));
    assert_eq!(run("one by one", 50, 64, true, None), (expected.clone(), late));
    assert_eq!(run("restarts", 100, 30, false, Some(3)), (expected, late));
}

#[test]
fn results_stay_whose_step_may_be_on_record_when_the_query_fails() {
    let dir = tempfile::tempdir().unwrap();
    let steps = AtomicUsize::new(0);
    let hook = move |point: CrashPoint| {
        if point == CrashPoint::StepAppended && steps.fetch_add(1, Ordering::Relaxed) == 2 {
            panic!("for this test");
        }
        false
    };
    let node = open(dir.path(), |options| {
        options.step_rows_max = 10;
        options.crash_points = CrashPoints::with_hook(Arc::new(hook));
    });
    node.create("events", 1);
    node.launch(1, "copies", plan("copies", 1, &[], "SELECT id FROM events"));
    for first in [0, 10, 20, 30] {
        node.produce("events", 0, &(first..first + 10).map(|id| event(id, "a", 1.0, id)).collect::<Vec<_>>());
    }
    assert!(node.wait_failed("copies").contains("for this test"));
    node.runner.resume("copies").unwrap();
    node.wait_rows_in("copies", 40);
    let expected: Vec<String> = (0..40).map(|id| format!("{{\"id\":{id}}}")).collect();
    assert_eq!(node.values("copies"), expected);
    node.stop();
}
