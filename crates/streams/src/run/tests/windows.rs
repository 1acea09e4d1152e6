//! When windows close, what is late, and what they cost.

use super::support::{event, open, plan};
use crate::plan::{Operator, StreamPlan};
use crate::run::QueryState;

const PER_NAME: &str = "SELECT name, window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), \
    INTERVAL '10' SECOND)) GROUP BY name, window_start, window_end";

fn result(name: &str, window: &str, n: u64) -> String {
    format!(r#"{{"name":"{name}","window_start":"1970-01-01T00:00:{window}.000","n":{n}}}"#)
}

#[test]
fn a_window_leaves_when_its_last_partition_has_passed_it_sorted_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 2);
    node.launch(1, "counts", plan("counts", 1, &[], PER_NAME));
    node.produce("events", 0, &[event(1, "b", 1.0, 1000), event(2, "a", 1.0, 2000), event(3, "x", 1.0, 10_998)]);
    node.produce("events", 1, &[event(4, "b", 1.0, 9_999)]);
    let status = node.wait_rows_in("counts", 4);
    assert_eq!(status.watermark_ms, Some(8_999));
    assert_eq!(status.watermark_held_by, Some(("events".to_owned(), 1)));
    assert_eq!(status.open_windows, 2);
    assert_eq!(node.values("counts"), [""; 0]);
    // The watermark 9,999 ms is the end of the first window less 1 ms, but partition 0 is at 9,998 still.
    node.produce("events", 1, &[event(5, "c", 1.0, 10_999)]);
    node.wait_rows_in("counts", 5);
    assert_eq!(node.values("counts"), [""; 0]);
    node.produce("events", 0, &[event(6, "d", 1.0, 10_999)]);
    node.wait_rows_in("counts", 6);
    assert_eq!(node.values("counts"), [result("a", "00", 1), result("b", "00", 2)]);
    // The greatest timestamp of the window's records: the second of the first batch, 1001.
    assert!(node.records("counts")[0].iter().all(|(timestamp, _, _)| *timestamp == 1001));
    node.stop();
}

#[test]
fn a_row_behind_its_own_partitions_watermark_is_late_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 2);
    node.launch(1, "counts", plan("counts", 1, &[], PER_NAME));
    // Late by partition 0's watermark, although partition 1 keeps the window open.
    node.produce("events", 0, &[event(1, "a", 1.0, 30_000), event(2, "a", 1.0, 5_000), event(3, "a", 1.0, 28_000)]);
    let status = node.wait_rows_in("counts", 3);
    assert_eq!(status.rows_late, 1);
    node.produce("events", 1, &[event(4, "a", 1.0, 5_000), event(5, "a", 1.0, 50_000)]);
    node.produce("events", 0, &[event(6, "a", 1.0, 31_000)]);
    node.wait_rows_in("counts", 6);
    assert_eq!(node.values("counts"), [result("a", "00", 1), result("a", "20", 1)]);
    node.stop();
}

#[test]
fn an_idle_partition_does_not_hold_the_windows_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |options| options.idle_timeout_ms = 300);
    node.create("events", 3);
    node.launch(1, "counts", plan("counts", 1, &[], PER_NAME));
    node.produce("events", 0, &[event(1, "a", 1.0, 5_000), event(2, "a", 1.0, 30_000)]);
    node.wait("counts", "a closed window", |status| status.rows_out == 1);
    let status = node.wait("counts", "rest", |status| status.partitions.iter().all(|partition| partition.idle));
    assert_eq!(node.values("counts"), [result("a", "00", 1)]);
    // Once nothing can come of waiting any more, it sleeps.
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(node.status("counts").steps, status.steps);
    // A partition that comes back late finds its window closed.
    node.produce("events", 2, &[event(3, "a", 1.0, 6_000), event(4, "a", 1.0, 31_000)]);
    assert_eq!(node.wait_rows_in("counts", 4).rows_late, 1);
    node.stop();
}

#[test]
fn a_window_without_groups_gives_one_row_and_an_empty_one_none() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 1);
    let select = "SELECT window_start, COUNT(*) AS n, SUM(price) AS total FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), \
        INTERVAL '10' SECOND)) WHERE name <> 'none' GROUP BY window_start, window_end";
    node.launch(1, "totals", plan("totals", 1, &[], select));
    let rows = [
        event(1, "a", 1.5, 1_000),
        event(2, "b", 2.0, 2_000),
        event(3, "none", 9.0, 12_000),
        event(4, "a", 1.0, 40_000),
    ];
    node.produce("events", 0, &rows);
    assert_eq!(node.wait_rows_in("totals", 4).rows_filtered, 1);
    assert_eq!(node.values("totals"), [r#"{"window_start":"1970-01-01T00:00:00.000","n":2,"total":3.5}"#]);
    node.stop();
}

#[test]
fn windows_over_windows_close_in_the_same_step() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 1);
    let inner = "SELECT name, window_start, window_end, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), \
        INTERVAL '10' SECOND)) GROUP BY name, window_start, window_end";
    let outer = "SELECT window_start, window_end, COUNT(*) AS names FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), \
        INTERVAL '10' SECOND)) GROUP BY window_start, window_end";
    // The planner has no statement for it yet, the operators do it: the groups of the windows below are counted.
    let (inner, mut both) = (plan("names", 1, &[], inner), plan("names", 1, &[], outer));
    let schema = inner.root.schema(&inner.sources).clone();
    put_below(
        &mut both.root,
        &inner.root,
        schema.index_of("window_start").unwrap(),
        schema.index_of("window_end").unwrap(),
    );
    node.launch(1, "names", StreamPlan { sources: inner.sources, ..both });
    let rows =
        [event(1, "a", 1.0, 1_000), event(2, "b", 1.0, 2_000), event(3, "a", 1.0, 3_000), event(4, "c", 1.0, 40_000)];
    node.produce("events", 0, &rows);
    node.wait_rows_in("names", 4);
    let window = r#""window_start":"1970-01-01T00:00:00.000","window_end":"1970-01-01T00:00:10.000""#;
    assert_eq!(node.values("names"), [format!("{{{window},\"names\":2}}")]);
    node.stop();
}

/// Lets the window aggregation of `operator` read `input` instead.
fn put_below(operator: &mut Operator, input: &Operator, window_start: usize, window_end: usize) {
    match operator {
        Operator::Calc(calc) => put_below(&mut calc.input, input, window_start, window_end),
        Operator::WindowAggregate(aggregate) => {
            *aggregate.input = input.clone();
            (aggregate.window_start, aggregate.window_end) = (window_start, window_end);
        }
        other => panic!("no window aggregation in {other:?}"),
    }
}

#[test]
fn a_query_whose_windows_outgrow_its_memory_fails_alone_and_says_what_bounds_them() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |options| {
        options.query_memory_bytes_max = 400_000;
        options.step_rows_max = 500;
    });
    node.create("events", 1);
    node.launch(1, "counts", plan("counts", 1, &[], PER_NAME));
    node.launch(2, "copies", plan("copies", 1, &[], "SELECT id FROM events"));
    for round in 0..40 {
        let rows: Vec<String> = (0..500).map(|n| event(n, &format!("name {round} {n}"), 1.0, 1_000)).collect();
        node.produce("events", 0, &rows);
    }
    let error = node.wait_failed("counts");
    for word in ["query_memory_bytes_max = 400000", "1 open windows", "window aggregation", "fewer groups"] {
        assert!(error.contains(word), "`{word}` is missing in: {error}");
    }
    node.wait_rows_in("copies", 20_000);
    assert_eq!(node.status("copies").state, QueryState::Running);
    node.stop();
}

#[test]
fn a_query_whose_expressions_make_too_much_of_a_row_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |options| options.query_memory_bytes_max = 32 << 20);
    node.create("events", 1);
    // 4,000 rows of a megabyte would be 4 GB; in one piece they overflow a column, and its halves do not.
    node.launch(
        1,
        "large",
        plan("large", 1, &[], "SELECT length(repeat(name, 1000000)) AS n, repeat(name, 1000000) AS r FROM events"),
    );
    let windows = "SELECT window_end, array_agg(repeat(name, 1000000)) AS all_of_it \
                   FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end";
    node.launch(2, "windows", plan("windows", 1, &[], windows));
    node.launch(3, "copies", plan("copies", 1, &[], "SELECT id, name || '!' AS name FROM events"));
    let rows: Vec<String> = (0..4_000).map(|n| event(n, "x", 1.0, 1_000)).collect();
    node.produce("events", 0, &rows);
    for name in ["large", "windows"] {
        let error = node.wait_failed(name);
        assert!(error.contains("query_memory_bytes_max = 33554432"), "{name}: {error}");
    }
    node.wait_rows_in("copies", 4_000);
    assert_eq!(node.status("copies").state, QueryState::Running);
    node.stop();
    // Of this test's process, whatever else it runs; without a bound it is 4 GB.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kb: u64 = peak.trim().trim_end_matches("kB").trim().parse().unwrap();
    assert!(peak_kb < 1_500_000, "{peak_kb} kB");
}

#[test]
fn lists_that_are_cut_into_pieces_count_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |options| options.query_memory_bytes_max = 1_500_000);
    node.create("nested", 1);
    node.launch(1, "tags", plan("tags", 1, &[], "SELECT payload.tags AS tags FROM nested"));
    // 480 KB of numbers in one step, of which five pieces and more are made.
    let tags = (0..20).map(|_| "7").collect::<Vec<_>>().join(",");
    let rows: Vec<String> = (0..3_000).map(|_| format!(r#"{{"name":"x","payload":{{"tags":[{tags}]}}}}"#)).collect();
    node.produce("nested", 0, &rows);
    assert_eq!(node.wait_rows_in("tags", 3_000).rows_out, 3_000);
    assert_eq!(node.values("tags")[2_999], format!(r#"{{"tags":[{tags}]}}"#));
    node.stop();
}

#[test]
fn text_within_a_struct_counts() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |options| options.query_memory_bytes_max = 32 << 20);
    node.create("nested", 1);
    let select = "SELECT named_struct('a', repeat(name, 1000000)) AS s FROM nested";
    node.launch(1, "large", plan("large", 1, &[], select));
    node.produce("nested", 0, &(0..400).map(|_| r#"{"name":"x"}"#.to_owned()).collect::<Vec<_>>());
    let error = node.wait_failed("large");
    assert!(error.contains("query_memory_bytes_max = 33554432"), "{error}");
    node.stop();
}

#[test]
fn what_is_made_of_many_windows_in_one_step_counts_together() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |options| options.query_memory_bytes_max = 32 << 20);
    node.create("events", 1);
    let select = "SELECT window_end, repeat(MAX(name), 1000000) AS r FROM TABLE(TUMBLE(TABLE events, \
                  DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end";
    node.launch(1, "large", plan("large", 1, &[], select));
    node.produce("events", 0, &(0..100).map(|n| event(n, "x", 1.0, n * 3_600_000)).collect::<Vec<_>>());
    let error = node.wait_failed("large");
    assert!(error.contains("query_memory_bytes_max = 33554432"), "{error}");
    node.stop();
}

#[test]
fn what_is_filtered_out_again_does_not_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |options| options.query_memory_bytes_max = 32 << 20);
    node.create("events", 1);
    // One projection over another, which the planner would make one of: 100 MB, of which all but the first rows go.
    let inner = plan("lengths", 1, &[], "SELECT id, repeat(name, 100000) AS name FROM events");
    let mut outer = plan("lengths", 1, &[], "SELECT length(name) AS n FROM events WHERE id < 10");
    let Operator::Calc(calc) = &mut outer.root else { panic!("no projection: {:?}", outer.root) };
    *calc.input = inner.root;
    node.launch(1, "lengths", StreamPlan { sources: inner.sources, ..outer });
    node.produce("events", 0, &(0..1_000).map(|n| event(n, "x", 1.0, 1_000)).collect::<Vec<_>>());
    assert_eq!(node.wait_rows_in("lengths", 1_000).rows_filtered, 990);
    assert_eq!(node.values("lengths"), [r#"{"n":100000}"#; 10]);
    node.stop();
}

#[test]
fn windows_are_bounded_while_one_row_fills_them() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |options| options.query_memory_bytes_max = 1_000_000);
    node.create("events", 1);
    let select = "SELECT window_end, array_agg(repeat(name, 10000)) AS names FROM TABLE(HOP(TABLE events, \
                  DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '12' HOUR)) GROUP BY window_start, window_end";
    node.launch(1, "names", plan("names", 1, &[], select));
    node.produce("events", 0, &[event(1, "x", 1.0, 1_000)]);
    let error = node.wait_failed("names");
    assert!(error.contains("query_memory_bytes_max = 1000000"), "{error}");
    let windows: usize = error.split(' ').next().unwrap().parse().unwrap();
    assert!(windows < 200, "the row falls into 720 windows: {error}");
    node.stop();
}

#[test]
fn a_union_keeps_the_rows_of_both_sides_each_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path(), |_| {});
    node.create("events", 1);
    let select = "SELECT id FROM events WHERE id < 3 UNION ALL SELECT -id AS id FROM events WHERE id >= 3";
    node.launch(1, "both", plan("both", 1, &[], select));
    let rows =
        [event(1, "a", 1.0, 1_000), event(3, "a", 1.0, 2_000), event(2, "a", 1.0, 3_000), event(4, "c", 1.0, 40_000)];
    node.produce("events", 0, &rows);
    // The topic is read twice.
    node.wait_rows_in("both", 8);
    assert_eq!(node.values("both"), [r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":-3}"#, r#"{"id":-4}"#]);
    node.stop();
}
