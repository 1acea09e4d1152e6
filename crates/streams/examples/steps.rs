//! How many rows a second go through a filter and a tumbling count, from JSON in a topic to a topic, and how long a
//! record takes to become a result: `cargo run --release -p millpond-streams --example steps [million rows]`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use millpond_broker::{
    Acks, Broker, BrokerOptions, ClientContext, NewTopicRequest, Partition, ProducePartition, Waiter,
};
use millpond_records::{BatchBuilder, BatchOptions};
use millpond_streams::run::QueryStatus;
use millpond_streams::{Engine, EngineOptions, ExecuteOptions};

const BATCH_ROWS: i64 = 1_000;

struct Node {
    broker: Arc<Broker>,
    engine: Arc<Engine>,
}

impl Node {
    async fn produce(&self, topic: &Arc<Partition>, rows: std::ops::Range<i64>) {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for row in rows {
            batch.push(row, None, Some(bid(row).as_bytes()), &[]);
        }
        let request = ProducePartition {
            partition: topic.clone(),
            batch: BytesMut::from(batch.build().as_slice()),
            acks: Acks::All,
            client: ClientContext::default(),
            timeout_ms: 60_000,
        };
        self.broker.produce(request).await.expect("the rows are taken");
    }

    fn status(&self, stream: &str) -> QueryStatus {
        let found = self.engine.streams().into_iter().find(|info| info.name == stream);
        found.and_then(|info| info.status).expect("the stream has a status")
    }

    async fn execute(&self, sql: &str) {
        if let Err(error) = self.engine.execute(sql, ExecuteOptions::default()).await {
            panic!("{sql}: {error}");
        }
    }

    /// Registers a query over what is there and waits until it has read it.
    async fn measure(&self, stream: &str, select: &str, rows: i64) -> String {
        let (started, cpu) = (Instant::now(), cpu_seconds());
        self.execute(&format!("CREATE MATERIALIZED STREAM {stream} AS {select}")).await;
        while (self.status(stream).rows_in as i64) < rows {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let status = self.status(stream);
        format!(
            "{stream}: {:.0} rows/s, {:.0} rows per CPU second, {} steps, {} rows out",
            rows as f64 / took,
            rows as f64 / cpu,
            status.steps,
            status.rows_out
        )
    }
}

/// A bid as Nexmark's generator makes them, 245 bytes or so.
fn bid(row: i64) -> String {
    let filler = "x".repeat(90);
    format!(
        r#"{{"auction":{},"bidder":{},"price":{},"channel":"channel-{}","url":"https://www.nexmark.com/{}/item.htm","dateTime":{},"extra":"{filler}"}}"#,
        1_000 + row % 500,
        row % 10_000,
        row * 7_919 % 10_000,
        row % 50,
        row % 977,
        1_700_000_000_000 + row / 10,
    )
}

/// What the process has used so far; fields 14 and 15 of proc(5)'s stat are ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::main]
async fn main() {
    let millions: i64 = std::env::args().nth(1).map_or(1, |text| text.parse().expect("millions of rows"));
    let rows = millions * 1_000_000;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let broker = Broker::open(BrokerOptions::new(dir.path().join("data"))).expect("the broker opens");
    let engine =
        Engine::start(broker.clone(), EngineOptions::new(dir.path().join("state"))).await.expect("the engine starts");
    let node = Node { broker, engine };
    for topic in ["bids", "paced"] {
        let request = NewTopicRequest { partitions: 1, ..NewTopicRequest::new(topic) };
        node.broker.create_topic(request, false).await.expect("the topic is made");
        node.execute(&format!(
            "CREATE STREAM {topic}_in (auction BIGINT, price BIGINT, dateTime TIMESTAMP(3), WATERMARK FOR dateTime AS dateTime - \
             INTERVAL '4' SECOND) WITH (topic = '{topic}', format = 'json')"
        ))
        .await;
    }
    let bids = node.broker.partition("bids", 0).expect("the partition is there");
    for first in (0..rows).step_by(BATCH_ROWS as usize) {
        node.produce(&bids, first..first + BATCH_ROWS).await;
    }
    let mut report = Vec::new();
    report.push(node.measure("filtered", "SELECT auction, price FROM bids_in WHERE price > 9000", rows).await);
    report.push(node.measure("copied", "SELECT auction, price FROM bids_in", rows).await);
    let count = "SELECT auction, window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE bids_in, DESCRIPTOR(dateTime), \
                 INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end";
    report.push(node.measure("counted", count, rows).await);

    // 10,000 rows a second in batches of 10, each followed to its result.
    node.execute("CREATE MATERIALIZED STREAM shown AS SELECT auction FROM paced_in").await;
    let paced = node.broker.partition("paced", 0).expect("the partition is there");
    let shown = node.broker.partition("shown", 0).expect("the partition is there");
    let mut latencies = Vec::new();
    let begin = Instant::now();
    for round in 0..3_000i64 {
        tokio::time::sleep_until((begin + Duration::from_millis(round as u64)).into()).await;
        let sent = Instant::now();
        node.produce(&paced, 10 * round..10 * round + 10).await;
        let waiter = Waiter::new();
        loop {
            shown.watch(&waiter);
            if shown.visible_end() >= 10 * (round + 1) {
                break;
            }
            waiter.notified().await;
        }
        latencies.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
    let rate = 30_000.0 / begin.elapsed().as_secs_f64();
    report.push(format!(
        "record to result at {rate:.0} rows/s: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
        at(0.5),
        at(0.99),
        at(0.999)
    ));
    tracing::info!("done");
    std::io::Write::write_all(&mut std::io::stdout(), (report.join("\n") + "\n").as_bytes()).expect("stdout is open");
    node.engine.shutdown().await;
    node.broker.shutdown().await.expect("the broker stops");
}
