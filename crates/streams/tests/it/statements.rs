//! Statements that are right, from end to end.

use crate::support::{Node, node_with_data};

const MINUTES: &str = "CREATE MATERIALIZED STREAM tens WITH (key = 'auction') AS SELECT auction, window_end, COUNT(*) AS n \
                       FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)) \
                       GROUP BY auction, window_start, window_end";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_writes_its_rows_to_a_topic_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let done = node
        .run("CREATE MATERIALIZED STREAM delayed AS SELECT carrier, dep_delay * 2 AS twice FROM flights WHERE dep_delay > 0")
        .await
        .unwrap();
    assert_eq!(done, ["the stream `delayed` runs; its results are in the topic `delayed`"]);
    assert_eq!(node.values("delayed", 1).await, [r#"{"carrier":"AA","twice":10}"#]);
    // The stream is a stream like others.
    assert_eq!(node.run("SELECT twice FROM delayed").await.unwrap(), [r#"{"twice":10}"#]);
    let error = node.send("delayed", 0, &[(None, Some(b"{}"))]).await.unwrap_err();
    assert_eq!(error.to_string(), "the topic 'delayed' is written by the stream 'delayed' alone");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_is_written_when_it_is_over_and_equals_the_one_time_select() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    node.run(MINUTES).await.unwrap();
    let bid = |second: u32| format!(r#"{{"auction":7,"price":1,"dateTime":"2026-01-01T00:00:{second:02}"}}"#);
    let bids: Vec<String> = [1, 5, 13, 9, 25].into_iter().map(bid).collect();
    node.produce("bids", 0, &bids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let rows = node.values("tens", 2).await;
    assert_eq!(
        rows,
        [
            r#"{"auction":7,"window_end":"2026-01-01T00:00:10.000","n":2}"#,
            r#"{"auction":7,"window_end":"2026-01-01T00:00:20.000","n":1}"#
        ]
    );
    let select = MINUTES.split_once(" AS ").unwrap().1;
    let once = node.run(&format!("{select} ORDER BY window_end")).await.unwrap();
    // The one-time SELECT has the window that is still open, too.
    assert_eq!(once[..2], rows);
    assert_eq!(once.len(), 3);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_shown_described_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    node.run(MINUTES).await.unwrap();
    let shown = node.run("SHOW STREAMS").await.unwrap();
    assert_eq!(shown.len(), 2);
    assert!(shown[0].starts_with(r#"{"name":"bids","kind":"declared","topic":"bids","state":null"#), "{}", shown[0]);
    assert!(shown[1].starts_with(r#"{"name":"tens","kind":"materialized","topic":"tens","state":"#), "{}", shown[1]);
    assert_eq!(
        node.run("DESCRIBE STREAM bids").await.unwrap()[3..],
        [
            r#"{"column":"channel","type":"VARCHAR","comes_from":"value"}"#,
            r#"{"column":"dateTime","type":"TIMESTAMP(3)","comes_from":"value; event time, watermark dateTime - INTERVAL '2' SECOND"}"#
        ]
    );
    assert_eq!(
        node.run("DESCRIBE Flights").await.unwrap()[3],
        r#"{"column":"origin","type":"ROW<airPort VARCHAR, gate BIGINT>","comes_from":"value"}"#
    );
    assert_eq!(node.run("DESCRIBE tens").await.unwrap().len(), 3);
    let explained = node.run(&format!("EXPLAIN {}", MINUTES.replace("tens", "other"))).await.unwrap();
    let head = |line: &String| {
        line.trim_start_matches(r#"{"plan":""#).trim().split([':', '(']).next().unwrap_or("").to_owned()
    };
    let heads: Vec<String> = explained.iter().map(head).collect();
    assert_eq!(heads.first().map(String::as_str), Some("Sink"));
    for operator in ["WindowAggregate", "Window", "Source"] {
        assert!(heads.iter().any(|head| head == operator), "{explained:?}");
    }
    assert!(
        node.run("EXPLAIN SELECT count(*) AS n FROM flights").await.unwrap()[0].contains("as a registered query: ")
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_stream_takes_its_topic_with_it_unless_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    node.run("CREATE MATERIALIZED STREAM a AS SELECT carrier, dep_delay FROM flights").await.unwrap();
    node.run("CREATE MATERIALIZED STREAM b AS SELECT carrier FROM a WHERE dep_delay > 0").await.unwrap();
    assert_eq!(node.values("b", 1).await, [r#"{"carrier":"AA"}"#]);
    assert_eq!(
        node.error("DROP STREAM a").await,
        "line 1, column 13: the stream `a` is read by `b`; drop the readers first"
    );
    assert_eq!(node.run("DROP STREAM b").await.unwrap(), ["the stream `b` and its topic `b` are dropped"]);
    assert_eq!(node.run("DROP MATERIALIZED STREAM A").await.unwrap(), ["the stream `a` and its topic `a` are dropped"]);
    assert!(node.broker.topic("a").is_none() && node.broker.topic("b").is_none());
    assert_eq!(node.run("DROP STREAM IF EXISTS a").await.unwrap(), ["there is no stream `a`"]);
    // The names are free again.
    node.run("CREATE MATERIALIZED STREAM a AS SELECT tailNum FROM flights WHERE dep_delay > 0").await.unwrap();
    assert_eq!(node.values("a", 1).await, [r#"{"tailNum":"N1"}"#]);
    assert_eq!(node.run("DROP STREAM bids").await.unwrap(), ["the stream `bids` is dropped; its topic `bids` stays"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_of_every_stateless_form_run() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    let cases: &[(&str, usize, &str)] = &[
        (
            "SELECT * FROM flights WHERE partition = 1",
            1,
            r#"{"carrier":"AA","dep_delay":-3,"time":"2013-01-01T06:00:00.000","origin":{"airPort":"LGA","gate":3},"tailNum":"N3"}"#,
        ),
        (
            "SELECT carrier, partition, offset FROM flights WHERE partition = 1",
            1,
            r#"{"carrier":"AA","partition":1,"offset":0}"#,
        ),
        (
            "SELECT upper(origin.airport) AS airport, CASE WHEN dep_delay > 0 THEN 'late' ELSE 'fine' END AS how FROM flights WHERE Partition = 1",
            1,
            r#"{"airport":"LGA","how":"fine"}"#,
        ),
        (
            "SELECT carrier FROM flights WHERE partition = 1 UNION ALL SELECT tailNum FROM flights WHERE partition = 7",
            1,
            r#"{"carrier":"AA"}"#,
        ),
        (
            "WITH x AS (SELECT carrier AS c, dep_delay FROM flights) SELECT c FROM (SELECT * FROM x WHERE dep_delay < 0) AS y",
            1,
            r#"{"c":"AA"}"#,
        ),
        (
            "SELECT COALESCE(dep_delay, 0) + 0.5 AS d, CAST(dep_delay AS STRING) AS s FROM flights WHERE partition = 1",
            1,
            r#"{"d":-2.5,"s":"-3"}"#,
        ),
    ];
    for (place, (query, count, row)) in cases.iter().enumerate() {
        let name = format!("s{place}");
        node.run(&format!("CREATE MATERIALIZED VIEW {name} AS {query}"))
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(node.values(&name, *count).await, [*row], "{query}");
        assert_eq!(node.run(query).await.unwrap(), [*row], "{query}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_stream_has_the_columns_of_its_records_and_makes_its_topic() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    node.run("CREATE STREAM departures (WATERMARK FOR `time` AS `time` - INTERVAL '1' HOUR) WITH (topic = 'flights')")
        .await
        .unwrap();
    assert_eq!(node.run("DESCRIBE departures").await.unwrap().len(), 5);
    node.run("CREATE STREAM made (k STRING METADATA FROM 'key', a INT, part INT METADATA FROM 'partition' VIRTUAL) WITH ('partitions' = 3)")
        .await
        .unwrap();
    assert_eq!(node.broker.topic("made").map(|topic| topic.partition_count), Some(3));
    node.send("made", 2, &[(Some("the key"), Some(br#"{"a":1}"#))]).await.unwrap();
    assert_eq!(node.run("SELECT * FROM made").await.unwrap(), [r#"{"k":"the key","a":1,"part":2}"#]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_streams_is_published_and_withdrawn() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    node.run("CREATE MATERIALIZED STREAM a AS SELECT carrier FROM flights").await.unwrap();
    let newest = |node: &Node, name: &str| {
        node.records("_millpond_streams", 0)
            .into_iter()
            .rev()
            .find(|(key, _)| key.as_deref() == Some(name))
            .map(|(_, value)| value)
    };
    wait_until(|| {
        newest(&node, "a")
            .flatten()
            .is_some_and(|value| value.contains(r#""rows_in":3"#) && value.contains(r#""state":"RUNNING""#))
    })
    .await;
    node.run("DROP STREAM a").await.unwrap();
    wait_until(|| newest(&node, "a") == Some(None)).await;
    // Nobody else writes there.
    let error = node.send("_millpond_streams", 0, &[(Some("a"), Some(b"{}"))]).await.unwrap_err();
    assert_eq!(error.to_string(), "the topic '_millpond_streams' is internal: only the node writes it");
    node.stop().await;
}

async fn wait_until(condition: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "it did not come");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
