//! Streams registered by producing to `_millpond_sql`, with a Kafka client alone.

use crate::harness::{DataFolder, Node, wait_for};

const DECLARE: &str = "CREATE STREAM flights (carrier STRING, delay BIGINT, departure TIMESTAMP(3), \
    WATERMARK FOR departure AS departure - INTERVAL '5' SECOND) WITH (topic = 'flights', format = 'json')";

const PER_HOUR: &str = "CREATE MATERIALIZED STREAM per_hour AS SELECT carrier, window_start, window_end, COUNT(*) AS n, \
    SUM(delay) AS delay FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(departure), INTERVAL '1' HOUR)) \
    GROUP BY carrier, window_start, window_end";

fn register(node: &Node, statement: &str) {
    node.produce("_millpond_sql", &[statement]);
}

/// A flight a minute: carrier A and B in turn, delays 0, 1, 2 …
fn flights(range: std::ops::Range<usize>) -> Vec<String> {
    range
        .map(|minute| {
            let (day, hour) = (1 + minute / 1440, minute / 60 % 24);
            let carrier = if minute % 2 == 0 { "A" } else { "B" };
            format!(
                r#"{{"carrier":"{carrier}","delay":{minute},"departure":"2026-01-{day:02}T{hour:02}:{:02}:00.000"}}"#,
                minute % 60
            )
        })
        .collect()
}

/// What `per_hour` gives for the first `hours` hours.
fn hourly(hours: usize) -> Vec<String> {
    (0..hours)
        .flat_map(|hour| {
            ["A", "B"].into_iter().enumerate().map(move |(place, carrier)| {
                let delay: usize = (0..60).filter(|minute| minute % 2 == place).map(|minute| hour * 60 + minute).sum();
                let time = |hour: usize| format!("2026-01-{:02}T{:02}:00:00.000", 1 + hour / 24, hour % 24);
                format!(
                    r#"{{"carrier":"{carrier}","window_start":"{}","window_end":"{}","n":30,"delay":{delay}}}"#,
                    time(hour),
                    time(hour + 1)
                )
            })
        })
        .collect()
}

#[test]
fn a_stream_is_registered_by_a_record_and_its_results_are_a_topic() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("flights", &flights(0..100));
    register(&node, "CREATE MATERIALIZED STREAM late AS SELECT carrier, delay FROM flights WHERE delay >= 95");
    let expected: Vec<String> = (95..100)
        .map(|delay| format!(r#"{{"carrier":"{}","delay":{delay}}}"#, if delay % 2 == 0 { "A" } else { "B" }))
        .collect();
    assert_eq!(node.consume_at_least("late", 5), expected);
    node.produce("flights", &flights(100..101));
    assert_eq!(node.consume_at_least("late", 6)[5], r#"{"carrier":"A","delay":100}"#);
    node.stop();
}

#[test]
fn a_wrong_statement_is_refused_and_explained() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("flights", &flights(0..10));
    let wrong = "CREATE MATERIALIZED STREAM late AS SELECT carier FROM flights";
    let output = node.try_produce("_millpond_sql", &[wrong]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("failed to validate record"), "{said}");
    let answers = node.consume_at_least("_millpond_answers", 1);
    assert!(answers[0].contains("carier") && answers[0].contains("did you mean"), "{answers:?}");
    assert_eq!(node.consume("_millpond_sql"), Vec::<String>::new());
    node.produce("flights", &flights(10..11));
    node.stop();
}

#[test]
fn answers_hold_the_rows_of_small_queries() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("flights", &flights(0..3));
    register(&node, "SELECT SUM(delay) AS total FROM flights");
    let answers = node.consume_at_least("_millpond_answers", 1);
    assert!(answers[0].contains(r#""rows":[{"total":3}]"#), "{answers:?}");
    node.stop();
}

#[test]
fn a_streams_topic_is_written_by_its_stream_alone() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("flights", &flights(0..3));
    register(&node, "CREATE MATERIALIZED STREAM late AS SELECT delay FROM flights");
    node.consume_at_least("late", 3);
    let output = node.try_produce("late", &["{}"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.to_lowercase().contains("policy"), "{said}");
    assert_eq!(node.consume("late").len(), 3);
    node.stop();
}

#[test]
fn windows_are_counted_once_whatever_crashes() {
    let data = DataFolder::new();
    let node = data.serve();
    register(&node, DECLARE);
    register(&node, PER_HOUR);
    node.produce("flights", &flights(0..301));
    // The last window that is over ended at minute 300 minus nothing: its end must lie 5 seconds before the last flight.
    assert_eq!(node.consume_at_least("per_hour", 8), hourly(4));
    node.kill();
    let node = data.serve();
    node.produce("flights", &flights(301..500));
    assert_eq!(node.consume_at_least("per_hour", 16), hourly(8));
    node.kill();
    let node = data.serve();
    node.stop();
    let node = data.serve();
    node.produce("flights", &flights(500..700));
    assert_eq!(node.consume_at_least("per_hour", 22), hourly(11));
    node.stop();
}

#[test]
fn the_same_query_at_once_gives_the_same_rows() {
    let data = DataFolder::new();
    let node = data.serve();
    register(&node, DECLARE);
    register(&node, PER_HOUR);
    node.produce("flights", &flights(0..1000));
    let mut registered = node.consume_at_least("per_hour", 32);
    let query = PER_HOUR.split_once(" AS ").expect("a query").1;
    // At once, every window is complete at the end of the input: the last one is more than what was registered gives.
    let mut at_once = node.rows(&format!("{query} HAVING window_end <= TIMESTAMP '2026-01-01 16:00:00'"));
    registered.sort();
    at_once.sort();
    assert_eq!(at_once, registered);
    node.stop();
}

#[test]
fn records_that_cannot_be_decoded_go_to_the_errors_topic() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("flights", &flights(0..3));
    register(&node, "CREATE MATERIALIZED STREAM late AS SELECT carrier, delay FROM flights");
    node.consume_at_least("late", 3);
    node.produce(
        "flights",
        &["no JSON".to_owned(), r#"{"carrier":"A","delay":"x"}"#.to_owned(), flights(3..4)[0].clone()],
    );
    assert_eq!(node.consume_at_least("late", 4).len(), 4);
    let errors = node.consume_at_least("late.errors", 2);
    assert!(errors[0].contains("invalid JSON at byte 0") && errors[1].contains("delay"), "{errors:?}");
    node.stop();
}

#[test]
fn streams_are_shown_dropped_and_made_again() {
    let data = DataFolder::new();
    let node = data.serve();
    node.produce("flights", &flights(0..3));
    register(&node, "CREATE MATERIALIZED STREAM late AS SELECT delay FROM flights");
    node.consume_at_least("late", 3);
    assert!(node.rows("SHOW STREAMS").iter().any(|row| row.contains("late")));
    register(&node, "DROP STREAM late");
    wait_for("end of the stream", || {
        let rows = node.rows("SHOW STREAMS");
        if rows.iter().any(|row| row.contains("\"late\"")) { Err(format!("{rows:?}")) } else { Ok(()) }
    });
    register(&node, "CREATE MATERIALIZED STREAM late AS SELECT delay + 1 AS delay FROM flights");
    let expected = ["{\"delay\":1}", "{\"delay\":2}", "{\"delay\":3}"];
    assert_eq!(node.consume_at_least("late", 3), expected);
    node.stop();
    let node = data.serve();
    assert_eq!(node.consume_at_least("late", 3), expected);
    node.stop();
}
