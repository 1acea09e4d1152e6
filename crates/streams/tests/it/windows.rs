//! Windowed queries, registered and one-time: the same rows.

use crate::support::{Node, node_with_data};

/// Bids of several auctions over a minute, some of them late, then one that closes all windows.
async fn bids(node: &Node) {
    let mut values = Vec::new();
    for step in 0_u32..240 {
        let second = (step / 4 + (step * 7) % 5).saturating_sub(if step % 17 == 0 { 9 } else { 0 }) % 60;
        let (auction, bidder, price) = (step % 3, step % 11, (step * 37) % 100);
        let channel = ["web", "app", "phone"][(step % 7 % 3) as usize];
        values.push(format!(
            r#"{{"auction":{auction},"bidder":{bidder},"price":{price},"channel":"{channel}","dateTime":"2026-01-01T00:00:{second:02}.500"}}"#
        ));
    }
    for part in values.chunks(50) {
        node.produce("bids", 0, &part.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    node.produce(
        "bids",
        0,
        &[r#"{"auction":9,"bidder":9,"price":9,"channel":"end","dateTime":"2030-01-01T00:00:00.000"}"#],
    )
    .await;
}

const QUERIES: &[&str] = &[
    "SELECT window_start, window_end, count(*) AS n, sum(price) AS s, avg(price) AS a FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)) GROUP BY window_start, window_end",
    "SELECT auction, window_start, max(price) AS top FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(datetime), INTERVAL '10' SECOND)) GROUP BY auction, window_start",
    "SELECT window_end, channel, count(DISTINCT bidder) AS bidders, count(*) FILTER (WHERE price > 50) AS dear FROM TABLE(HOP(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '5' SECOND, INTERVAL '15' SECOND)) GROUP BY channel, window_end HAVING count(*) > 3",
    "WITH dear AS (SELECT upper(channel) AS c, price * 2 AS p, dateTime AS t FROM bids WHERE price > 30) SELECT c, window_start, window_end, sum(p) AS s, count(DISTINCT c) AS one FROM TABLE(TUMBLE(TABLE dear, DESCRIPTOR(t), INTERVAL '20' SECOND)) GROUP BY c, window_start, window_end",
    "SELECT extract(minute FROM window_start) AS m, window_time, string_agg(channel, ',' ORDER BY price, bidder, channel) AS all_of FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '30' SECOND)) GROUP BY window_start, window_end, window_time",
    "SELECT window_start AS w, auction % 2 AS parity, count(*) AS n FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, auction % 2",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_window_gives_the_rows_of_the_one_time_select() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    // Half of them see the bids come, the others find them there.
    for (place, query) in QUERIES.iter().enumerate().filter(|(place, _)| place % 2 == 0) {
        node.run(&format!("CREATE MATERIALIZED STREAM w{place} AS {query}"))
            .await
            .unwrap_or_else(|error| panic!("{query}\n{error}"));
    }
    bids(&node).await;
    for (place, query) in QUERIES.iter().enumerate().filter(|(place, _)| place % 2 == 1) {
        node.run(&format!("CREATE MATERIALIZED STREAM w{place} AS {query}"))
            .await
            .unwrap_or_else(|error| panic!("{query}\n{error}"));
    }
    for (place, query) in QUERIES.iter().enumerate() {
        let once = node.run(query).await.unwrap_or_else(|error| panic!("{query}\n{error}"));
        // The window of the last bid is open in the stream.
        let open = |row: &String| row.contains("2030-") || row.contains("\"END\"");
        let mut expected: Vec<String> = once.into_iter().filter(|row| !open(row)).collect();
        assert!(expected.len() > 1, "{query}: {expected:?}");
        let mut rows = node.values(&format!("w{place}"), expected.len()).await;
        expected.sort();
        rows.sort();
        assert_eq!(rows, expected, "{query}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_reach_beyond_the_years_that_nanoseconds_can_hold() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let times = [
        "0001-01-01T00:00:01.000",
        "0001-01-01T00:00:09.999",
        "1677-01-01T00:00:10.000",
        "1969-12-31T23:59:59.999",
        "9999-12-31T23:59:39.000",
        "9999-12-31T23:59:59.999",
    ];
    let bids = times.map(|time| format!(r#"{{"auction":1,"bidder":2,"price":3,"channel":"c","dateTime":"{time}"}}"#));
    node.produce("bids", 0, &bids.each_ref().map(String::as_str)).await;
    let grouped = "SELECT window_start, window_end, window_time, count(*) AS n FROM TABLE(TUMBLE(TABLE bids, \
                   DESCRIPTOR(dateTime), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, window_time";
    let window = |start: &str, end: &str, time: &str, n: u32| {
        format!(r#"{{"window_start":"{start}","window_end":"{end}","window_time":"{time}","n":{n}}}"#)
    };
    let mut expected = vec![
        window("0001-01-01T00:00:00.000", "0001-01-01T00:00:10.000", "0001-01-01T00:00:09.999", 2),
        window("1677-01-01T00:00:10.000", "1677-01-01T00:00:20.000", "1677-01-01T00:00:19.999", 1),
        window("1969-12-31T23:59:50.000", "1970-01-01T00:00:00.000", "1969-12-31T23:59:59.999", 1),
        window("9999-12-31T23:59:30.000", "9999-12-31T23:59:40.000", "9999-12-31T23:59:39.999", 1),
    ];
    node.run(&format!("CREATE MATERIALIZED STREAM far AS {grouped}")).await.unwrap();
    let mut rows = node.values("far", expected.len()).await;
    rows.sort();
    assert_eq!(rows, expected);
    // The last bid's window is open in the stream, and the SELECT gives it.
    expected.push(window("9999-12-31T23:59:50.000", "+10000-01-01T00:00:00.000", "9999-12-31T23:59:59.999", 1));
    let mut rows = node.run(grouped).await.unwrap();
    rows.sort();
    expected.sort();
    assert_eq!(rows, expected);
    // Also where nothing is aggregated.
    let hops = "SELECT window_start, window_end FROM TABLE(HOP(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '5' SECOND, \
                INTERVAL '10' SECOND)) WHERE offset IN (0, 5)";
    let expected = [
        r#"{"window_start":"0000-12-31T23:59:55.000","window_end":"0001-01-01T00:00:05.000"}"#,
        r#"{"window_start":"0001-01-01T00:00:00.000","window_end":"0001-01-01T00:00:10.000"}"#,
        r#"{"window_start":"9999-12-31T23:59:50.000","window_end":"+10000-01-01T00:00:00.000"}"#,
        r#"{"window_start":"9999-12-31T23:59:55.000","window_end":"+10000-01-01T00:00:05.000"}"#,
    ];
    assert_eq!(node.run(hops).await.unwrap(), expected);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_select_refuses_event_times_whose_windows_could_overflow() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    node.topic("times", 1).await;
    node.run("CREATE STREAM times (ts TIMESTAMP(3))").await.unwrap();
    node.produce("times", 0, &[r#"{"ts":18446744073709551}"#, r#"{"ts":-18446744073709551}"#]).await;
    let sql = "SELECT window_start, count(*) AS n FROM TABLE(TUMBLE(TABLE times, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
               GROUP BY window_start, window_end";
    assert_eq!(node.run(sql).await.unwrap().len(), 2);
    node.produce("times", 0, &[r#"{"ts":18446744073709552}"#]).await;
    let error = node.error(sql).await;
    assert!(error.contains("the event time 18446744073709552 ms is out of range"), "{error}");
    node.stop().await;
}
