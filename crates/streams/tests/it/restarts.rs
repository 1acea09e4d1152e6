//! What comes back after a stop.

use crate::support::{Node, node_with_data};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_come_back_with_the_columns_they_were_registered_with() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_with_data(dir.path()).await;
    node.run("CREATE MATERIALIZED STREAM a AS SELECT carrier, dep_delay AS d FROM flights WHERE dep_delay > 0")
        .await
        .unwrap();
    node.run("CREATE MATERIALIZED STREAM b AS SELECT d FROM a").await.unwrap();
    node.run("CREATE MATERIALIZED STREAM gone AS SELECT d FROM a").await.unwrap();
    node.run("DROP STREAM gone").await.unwrap();
    assert_eq!(node.values("b", 1).await, [r#"{"d":5}"#]);
    node.run("PAUSE STREAM b").await.unwrap();
    let before: Vec<_> =
        node.engine.streams().into_iter().map(|stream| (stream.name, stream.columns, stream.query)).collect();
    node.stop().await;

    let node = Node::start(dir.path()).await;
    let after: Vec<_> =
        node.engine.streams().into_iter().map(|stream| (stream.name, stream.columns, stream.query)).collect();
    assert_eq!(after, before);
    // A field that comes later is not a column of the stream that was registered.
    node.produce("flights", 0, &[r#"{"carrier":"ZZ","dep_delay":70,"new":1}"#]).await;
    assert_eq!(node.values("a", 2).await, [r#"{"carrier":"AA","d":5}"#, r#"{"carrier":"ZZ","d":70}"#]);
    let shown = node.run("SHOW STREAMS").await.unwrap();
    assert!(shown[1].contains(r#""name":"b""#) || shown[2].contains(r#""state":"PAUSED""#), "{shown:?}");
    assert_eq!(node.values("b", 1).await.len(), 1);
    node.run("RESUME STREAM b").await.unwrap();
    assert_eq!(node.values("b", 2).await, [r#"{"d":5}"#, r#"{"d":70}"#]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_streams_starts_and_stops_twice() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let node = Node::start(dir.path()).await;
        assert!(node.engine.streams().is_empty());
        assert_eq!(node.run("SELECT 1 AS one").await.unwrap(), [r#"{"one":1}"#]);
        node.stop().await;
    }
}
