//! A node with streams in a temporary folder.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::StreamExt;
use millpond_broker::{Acks, Broker, BrokerOptions, ClientContext, NewTopicRequest, ProduceError, ProducePartition};
use millpond_formats::JsonEncoder;
use millpond_records::{BatchBuilder, BatchOptions, batches};
use millpond_streams::{Engine, EngineOptions, ExecuteOptions, StatementError, StatementResult};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running node.
pub(crate) struct Node {
    pub(crate) broker: Arc<Broker>,
    pub(crate) engine: Arc<Engine>,
}

impl Node {
    /// Starts a node over `dir`, which may hold what an earlier one left.
    pub(crate) async fn start(dir: &Path) -> Node {
        let broker = Broker::open(BrokerOptions::new(dir.join("data"))).expect("the broker opens");
        let options = EngineOptions { status_interval_ms: 50, ..EngineOptions::new(dir.join("state")) };
        let engine = Engine::start(broker.clone(), options).await.expect("the engine starts");
        Node { broker, engine }
    }

    /// Stops it cleanly.
    pub(crate) async fn stop(self) {
        self.engine.shutdown().await;
        drop(self.engine);
        self.broker.shutdown().await.expect("the broker stops");
    }

    /// Makes a topic.
    pub(crate) async fn topic(&self, name: &str, partitions: i32) {
        let request = NewTopicRequest { partitions, ..NewTopicRequest::new(name) };
        self.broker.create_topic(request, false).await.expect("the topic is made");
    }

    /// Produces values to a partition, as one batch.
    pub(crate) async fn produce(&self, topic: &str, partition: i32, values: &[&str]) {
        let records: Vec<(Option<&str>, Option<&[u8]>)> =
            values.iter().map(|value| (None, Some(value.as_bytes()))).collect();
        self.send(topic, partition, &records).await.expect("the records are taken");
    }

    /// Produces records of key and value as one batch; the timestamps are 1000, 1001, …
    pub(crate) async fn send(
        &self,
        topic: &str,
        partition: i32,
        records: &[(Option<&str>, Option<&[u8]>)],
    ) -> Result<(), ProduceError> {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for (place, (key, value)) in records.iter().enumerate() {
            batch.push(1_000 + place as i64, key.map(str::as_bytes), *value, &[("h", Some(b"x"))]);
        }
        let request = ProducePartition {
            partition: self.broker.partition(topic, partition).expect("the partition is there"),
            batch: BytesMut::from(batch.build().as_slice()),
            acks: Acks::All,
            client: ClientContext { client_id: "test".into(), principal: "User:test".into(), host: "localhost".into() },
            timeout_ms: 30_000,
        };
        self.broker.produce(request).await.map(drop)
    }

    /// The rows of a statement as JSON, or its message.
    pub(crate) async fn run(&self, sql: &str) -> Result<Vec<String>, StatementError> {
        self.run_with(sql, ExecuteOptions::default()).await
    }

    pub(crate) async fn run_with(&self, sql: &str, options: ExecuteOptions) -> Result<Vec<String>, StatementError> {
        match self.engine.execute(sql, options).await? {
            StatementResult::Done { message } => Ok(vec![message]),
            StatementResult::Rows { schema, mut rows, notes } => {
                let mut encoder = JsonEncoder::new(&schema).expect("the result has a JSON form");
                let mut lines = Vec::new();
                while let Some(batch) = rows.next().await {
                    let batch = batch?;
                    for row in 0..batch.num_rows() {
                        let mut text = Vec::new();
                        encoder.encode(&batch, row, &mut text);
                        lines.push(String::from_utf8(text).expect("JSON is text"));
                    }
                }
                lines.extend(notes.lines());
                Ok(lines)
            }
        }
    }

    /// The error of a statement that must be wrong.
    pub(crate) async fn error(&self, sql: &str) -> String {
        match self.run(sql).await {
            Ok(rows) => panic!("{sql}\nis not refused, but gives {rows:?}"),
            Err(error) => error.to_string(),
        }
    }

    /// The visible records of a partition: key and value as text.
    pub(crate) fn records(&self, topic: &str, partition: i32) -> Vec<(Option<String>, Option<String>)> {
        let Some(partition) = self.broker.partition(topic, partition) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut from = partition.log_start();
        while from < partition.visible_end() {
            let fetched = partition.read(from, 1 << 20, true).expect("the topic is read");
            if fetched.is_empty() {
                break;
            }
            for chunk in &fetched.chunks {
                for batch in batches(chunk) {
                    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                    let batch = batch.expect("a good batch");
                    let mut records = batch.records(1 << 26).expect("good records");
                    records
                        .for_each(|record| found.push((text(record.key), text(record.value))))
                        .expect("good records");
                }
            }
            from = fetched.next_offset;
        }
        found
    }

    /// The values of a topic with one partition, once there are at least `count`.
    pub(crate) async fn values(&self, topic: &str, count: usize) -> Vec<String> {
        let began = Instant::now();
        loop {
            let values: Vec<String> = self.records(topic, 0).into_iter().filter_map(|(_, value)| value).collect();
            if values.len() >= count {
                return values;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "`{topic}` has {values:?}, and {count} were expected; {:?}",
                self.engine.streams()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A node with the topics that most tests read: `flights` (undeclared), `bids` (declared with a watermark).
pub(crate) async fn node_with_data(dir: &Path) -> Node {
    let node = Node::start(dir).await;
    node.topic("flights", 2).await;
    node.produce(
        "flights",
        0,
        &[
            r#"{"carrier":"AA","dep_delay":5,"time":"2013-01-01T05:00:00.000","origin":{"airPort":"JFK","gate":1},"tailNum":"N1"}"#,
            r#"{"carrier":"UA","dep_delay":null,"time":"2013-01-01T05:10:00.000","origin":{"airPort":"EWR","gate":2},"tailNum":"N2"}"#,
        ],
    )
    .await;
    node.produce(
        "flights",
        1,
        &[r#"{"carrier":"AA","dep_delay":-3,"time":"2013-01-01T06:00:00.000","origin":{"airPort":"LGA","gate":3},"tailNum":"N3"}"#],
    )
    .await;
    node.topic("bids", 1).await;
    node.run(
        "CREATE STREAM bids (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, dateTime TIMESTAMP(3), \
         WATERMARK FOR dateTime AS dateTime - INTERVAL '2' SECOND)",
    )
    .await
    .expect("bids is declared");
    node
}
