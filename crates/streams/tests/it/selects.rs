//! One-time SELECTs and their rows.

use std::time::Duration;

use futures::StreamExt;
use millpond_streams::{ExecuteOptions, StatementResult};

use crate::support::{Node, node_with_data};

/// Statement, then its rows.
const SELECTS: &[(&str, &[&str])] = &[
    ("SELECT 1 + 1 AS two", &[r#"{"two":2}"#]),
    (
        "SELECT carrier, dep_delay FROM flights",
        &[
            r#"{"carrier":"AA","dep_delay":5}"#,
            r#"{"carrier":"UA","dep_delay":null}"#,
            r#"{"carrier":"AA","dep_delay":-3}"#,
        ],
    ),
    (
        "SELECT * FROM flights LIMIT 1;",
        &[
            r#"{"carrier":"AA","dep_delay":5,"time":"2013-01-01T05:00:00.000","origin":{"airPort":"JFK","gate":1},"tailNum":"N1"}"#,
        ],
    ),
    // Metadata columns are there by name, and not by `*`.
    (
        "SELECT carrier, partition, offset FROM flights",
        &[
            r#"{"carrier":"AA","partition":0,"offset":0}"#,
            r#"{"carrier":"UA","partition":0,"offset":1}"#,
            r#"{"carrier":"AA","partition":1,"offset":0}"#,
        ],
    ),
    ("SELECT *, partition FROM (SELECT carrier, partition FROM flights) AS f WHERE f.partition = 1", &[]),
    (
        "SELECT f.partition, f.* EXCEPT (`time`, origin, tailNum) FROM flights f WHERE offset = 1",
        &[r#"{"partition":0,"carrier":"UA","dep_delay":null}"#],
    ),
    (
        "SELECT timestamp, key FROM flights WHERE partition = 1",
        &[r#"{"timestamp":"1970-01-01T00:00:01.000","key":null}"#],
    ),
    // Case: exact first, then the only one that fits.
    ("SELECT CARRIER, TAILNUM AS t FROM FLIGHTS WHERE flights.PARTITION = 1", &[r#"{"carrier":"AA","t":"N3"}"#]),
    ("SELECT F.Carrier FROM flights f WHERE F.offset = 1", &[r#"{"carrier":"UA"}"#]),
    ("SELECT origin.airport, `origin`.\"gate\" AS g FROM flights WHERE partition = 1", &[r#"{"airport":"LGA","g":3}"#]),
    ("SELECT flights.ORIGIN.AIRPORT FROM flights WHERE partition = 1", &[r#"{"AIRPORT":"LGA"}"#]),
    (
        "WITH Delayed AS (SELECT * FROM flights WHERE dep_delay > 0) SELECT carrier FROM delayed",
        &[r#"{"carrier":"AA"}"#],
    ),
    // What registered queries cannot do.
    (
        "SELECT carrier, count(*) AS n FROM flights GROUP BY carrier ORDER BY n DESC",
        &[r#"{"carrier":"AA","n":2}"#, r#"{"carrier":"UA","n":1}"#],
    ),
    ("SELECT a.carrier FROM flights a JOIN flights b ON a.dep_delay = b.dep_delay + 8", &[r#"{"carrier":"AA"}"#]),
    ("SELECT DISTINCT carrier FROM flights ORDER BY carrier", &[r#"{"carrier":"AA"}"#, r#"{"carrier":"UA"}"#]),
    ("SELECT count(*) FROM flights", &[r#"{"count(*)":3}"#]),
    ("SELECT carrier FROM flights WHERE dep_delay = (SELECT max(dep_delay) FROM flights)", &[r#"{"carrier":"AA"}"#]),
    ("SELECT now() > TIMESTAMP '2020-01-01 00:00:00' AS later", &[r#"{"later":true}"#]),
    // Windows over a topic that nobody declared: nothing is late.
    (
        "SELECT window_start, count(*) AS n FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(`time`), INTERVAL '1' HOUR)) GROUP BY window_start ORDER BY window_start",
        &[r#"{"window_start":"2013-01-01T05:00:00.000","n":2}"#, r#"{"window_start":"2013-01-01T06:00:00.000","n":1}"#],
    ),
    (
        "SELECT carrier, window_start, window_end, window_time FROM TUMBLE(flights, `time`, INTERVAL '1' HOUR) WHERE partition = 1",
        &[
            r#"{"carrier":"AA","window_start":"2013-01-01T06:00:00.000","window_end":"2013-01-01T07:00:00.000","window_time":"2013-01-01T06:59:59.999"}"#,
        ],
    ),
    (
        "SELECT window_start FROM TABLE(HOP(SIZE => INTERVAL '1' HOUR, SLIDE => INTERVAL '30' MINUTE, TIMECOL => DESCRIPTOR(`time`), DATA => TABLE flights)) WHERE partition = 1",
        &[r#"{"window_start":"2013-01-01T05:30:00.000"}"#, r#"{"window_start":"2013-01-01T06:00:00.000"}"#],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_select_gives_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let mut wrong = Vec::new();
    for (statement, expected) in SELECTS {
        // The one with the ambiguous `*, partition` is refused; it stands for the rule.
        if statement.starts_with("SELECT *, partition FROM (") {
            assert!(node.error(statement).await.contains("called `partition`"));
            continue;
        }
        match node.run(statement).await {
            Ok(rows) if rows == *expected => {}
            Ok(rows) => {
                wrong.push(format!("{statement}\n  gives    {}\n  expected {}\n", rows.join(" "), expected.join(" ")))
            }
            Err(error) => wrong.push(format!("{statement}\n  is refused: {error}\n")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    node.stop().await;
}

/// Bids at these seconds.
async fn bids_at(node: &Node, seconds: &[u32]) {
    let values: Vec<String> = seconds
        .iter()
        .map(|second| {
            let price = second * 10;
            format!(r#"{{"auction":1,"bidder":2,"price":{price},"channel":"c","dateTime":"2026-01-01T00:00:{second:02}.000"}}"#)
        })
        .collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    node.produce("bids", 0, &values).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_late_for_their_window_are_left_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    // At 13 the watermark is 11: the window [0, 10) is over, and the bid at 9 is late; the one at 12 is not.
    bids_at(&node, &[1, 13, 9, 12]).await;
    let sql = "SELECT window_start, count(*) AS n, max(price) AS top FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime), \
               INTERVAL '10' SECOND)) GROUP BY window_start, window_end ORDER BY window_start";
    let expected = [
        r#"{"window_start":"2026-01-01T00:00:00.000","n":1,"top":10}"#,
        r#"{"window_start":"2026-01-01T00:00:10.000","n":2,"top":130}"#,
    ];
    assert_eq!(node.run(sql).await.unwrap(), expected);
    // Through sub queries and filters as well.
    let nested = "WITH b AS (SELECT price, dateTime AS t FROM bids WHERE price > 0) SELECT window_start, count(*) AS n, \
                  max(price) AS top FROM TABLE(TUMBLE(TABLE b, DESCRIPTOR(t), INTERVAL '10' SECOND)) AS w \
                  GROUP BY window_start, window_end ORDER BY window_start";
    assert_eq!(node.run(nested).await.unwrap(), expected);
    // Rows in windows that nobody aggregates are all there.
    let rows = node
        .run("SELECT window_start FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))")
        .await
        .unwrap();
    assert_eq!(rows.len(), 4);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_decoded_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    bids_at(&node, &[1]).await;
    node.produce("bids", 0, &["not json", r#"{"price":"expensive","dateTime":"2026-01-01T00:00:02.000"}"#]).await;
    assert_eq!(
        node.run("SELECT price FROM bids").await.unwrap(),
        [r#"{"price":10}"#, "2 records could not be decoded and were left out"]
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_gets_rows_that_come_later_and_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    bids_at(&node, &[1, 2]).await;
    let options = ExecuteOptions { follow: true, ..ExecuteOptions::default() };
    let result = node.engine.execute("SELECT price FROM bids WHERE price > 10", options).await.unwrap();
    let StatementResult::Rows { mut rows, .. } = result else { panic!("rows") };
    let mut seen = 0;
    let mut next = 3;
    while seen < 5 {
        tokio::select! {
            batch = rows.next() => seen += batch.unwrap().unwrap().num_rows(),
            () = tokio::time::sleep(Duration::from_millis(20)) => { bids_at(&node, &[next]).await; next += 1; }
        }
    }
    drop(rows);
    let refused = node
        .run_with("SELECT count(*) AS n FROM bids", ExecuteOptions { follow: true, ..ExecuteOptions::default() })
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a SELECT that is followed cannot have an aggregation; register it with CREATE MATERIALIZED STREAM, and follow that stream"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_select_without_an_end_is_ended_by_its_limits() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    bids_at(&node, &(0..60).collect::<Vec<_>>()).await;
    let refused = node.run("SELECT count(*) AS n FROM bids a, bids b").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a join needs a condition that compares its two sides; write JOIN … ON a.x = b.y; CROSS JOIN is not supported"
    );
    // Joins that give billions of rows: the reader goes away, and the next SELECT has its place.
    let cross = "SELECT a.price AS p FROM bids a JOIN bids b ON a.price + b.price >= 0 JOIN bids c ON b.price + c.price >= 0 \
                 JOIN bids d ON c.price + d.price >= 0 JOIN bids e ON d.price + e.price >= 0 JOIN bids f ON e.price + f.price >= 0";
    for _ in 0..20 {
        let result = node.engine.execute(cross, ExecuteOptions::default()).await.unwrap();
        let StatementResult::Rows { mut rows, .. } = result else { panic!("rows") };
        drop(tokio::time::timeout(Duration::from_millis(20), rows.next()).await);
        drop(rows);
        for _ in 0..200 {
            // Until the one that was left has ended.
            if node.run("SELECT 1 AS one").await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // So is one that wants all the memory.
    let error = node
        .run(
            "SELECT array_agg(a.channel || b.channel || repeat('x', 1000)) AS x FROM bids a JOIN bids b ON a.price + b.price >= 0 \
             JOIN bids c ON b.price + c.price >= 0 JOIN bids d ON c.price + d.price >= 0",
        )
        .await
        .unwrap_err();
    assert!(error.to_string().to_lowercase().contains("memory") || error.to_string().contains("allocate"), "{error}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_limit_ends_a_select() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let options = ExecuteOptions { row_limit: Some(2), ..ExecuteOptions::default() };
    assert_eq!(node.run_with("SELECT carrier FROM flights", options).await.unwrap().len(), 2);
    node.stop().await;
}
