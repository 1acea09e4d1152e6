//! What the stories have in common: a node with a runner, a stream `events`, and queries over it as SQL.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ident, lit};
use millpond_broker::{Acks, Broker, BrokerOptions, ClientContext, Clock, NewTopicRequest, ProducePartition};
use millpond_metadata::Actor;
use millpond_records::{BatchBuilder, BatchOptions, batches};

use crate::plan::{ColumnOrigin, Format, SinkPlan, SourceColumn, StartPosition, StreamPlan};
use crate::run::{QueryId, QuerySpec, QueryState, QueryStatus, Runner, RunnerOptions};
use crate::sql::definition::{StreamDefinition, StreamOrigin, WatermarkDefinition};
use crate::sql::error::SqlResult;
use crate::sql::names::Streams;
use crate::sql::parser::parse;
use crate::sql::planner::plan_query;
use crate::sql::session::Session;
use crate::sql::statement::Statement;
use crate::sql::stream_plan::operators;

/// Long enough for a machine that is busy; nothing waits so long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Timestamp, key and value of a record, by offset from 0.
pub(in crate::run) type Records = Vec<(i64, Option<String>, Option<String>)>;

pub(in crate::run) struct Node {
    pub(in crate::run) broker: Arc<Broker>,
    pub(in crate::run) runner: Arc<Runner>,
    pub(in crate::run) runtime: tokio::runtime::Runtime,
}

/// A node on the folder `dir`, whose partitions are never idle unless `tune` says so.
pub(in crate::run) fn open(dir: &Path, tune: impl FnOnce(&mut RunnerOptions)) -> Node {
    let broker =
        Broker::open(BrokerOptions { clock: Clock::system(), ..BrokerOptions::new(dir.join("node")) }).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut options = RunnerOptions::new(dir.join("node/state"));
    options.idle_timeout_ms = 3_600_000;
    tune(&mut options);
    let runner = Runner::start(broker.clone(), options, runtime.handle().clone()).unwrap();
    Node { broker, runner, runtime }
}

/// One record of `events`.
pub(in crate::run) fn event(id: i64, name: &str, price: f64, ts: i64) -> String {
    format!(r#"{{"id":{id},"name":"{name}","price":{price:?},"ts":{ts}}}"#)
}

/// The streams `events (id BIGINT, name STRING, price DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1'
/// SECOND)` and `nested (name STRING, payload ROW<tags ARRAY<BIGINT>>)`, whose text has the type that inference gives it.
struct Events;

impl Streams for Events {
    fn names(&self) -> Vec<String> {
        vec!["events".to_owned(), "nested".to_owned()]
    }

    fn find(&self, name: &str) -> SqlResult<Option<Arc<StreamDefinition>>> {
        let column = |name: &str, data_type: DataType| SourceColumn {
            name: name.to_owned(),
            data_type,
            origin: ColumnOrigin::Value { field: name.to_owned() },
        };
        let second = ScalarValue::new_interval_mdn(0, 0, 1_000_000_000);
        let tags = Field::new("tags", DataType::new_list(DataType::Int64, true), true);
        let (columns, watermark) = match name {
            "events" => (
                vec![
                    column("id", DataType::Int64),
                    column("name", DataType::Utf8),
                    column("price", DataType::Float64),
                    column("ts", DataType::Timestamp(TimeUnit::Millisecond, None)),
                ],
                Some(WatermarkDefinition {
                    time_column: 3,
                    expression: ident("ts") - lit(second),
                    text: "ts - INTERVAL '1' SECOND".to_owned(),
                }),
            ),
            "nested" => {
                (vec![column("name", DataType::Utf8View), column("payload", DataType::Struct(vec![tags].into()))], None)
            }
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(StreamDefinition {
            name: name.to_owned(),
            topic: name.parse().unwrap(),
            format: Format::Json,
            columns,
            watermark,
            origin: StreamOrigin::Declared,
        })))
    }
}

/// The plan of a SELECT over `events` or `nested`.
pub(in crate::run) fn plan(name: &str, partition_count: i32, key: &[&str], select: &str) -> StreamPlan {
    let session = Session::new();
    let statement = parse(&format!("CREATE MATERIALIZED STREAM {name} AS {select}")).unwrap();
    let Statement::CreateMaterialized(create) = statement else { panic!("not a query: {select}") };
    let planned = plan_query(&session, &Events, &create.query).unwrap_or_else(|error| panic!("{select}: {error}"));
    let operators = operators(&session, &planned).unwrap_or_else(|error| panic!("{select}: {error}"));
    let key_columns = key.iter().map(|column| operators.schema.index_of(column).unwrap()).collect();
    let sink = SinkPlan { topic: name.parse().unwrap(), partition_count, key_columns, start: StartPosition::Earliest };
    StreamPlan { sources: operators.sources, root: operators.root, sink }
}

impl Node {
    pub(in crate::run) fn create(&self, topic: &str, partitions: i32) {
        let request = NewTopicRequest { partitions, ..NewTopicRequest::new(topic) };
        self.runtime.block_on(self.broker.create_topic(request, false)).unwrap();
    }

    /// Produces values to a partition; a record's timestamp is 1000 + its offset.
    pub(in crate::run) fn produce(&self, topic: &str, partition: i32, values: &[String]) {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        let end = self.broker.partition(topic, partition).unwrap().end();
        for (offset, value) in (end..).zip(values) {
            batch.push(1000 + offset, Some(b"a key"), Some(value.as_bytes()), &[]);
        }
        let request = ProducePartition {
            partition: self.broker.partition(topic, partition).unwrap(),
            batch: bytes::BytesMut::from(&batch.build()[..]),
            acks: Acks::All,
            client: ClientContext::default(),
            timeout_ms: 60_000,
        };
        self.runtime.block_on(self.broker.produce(request)).unwrap();
    }

    pub(in crate::run) fn launch(&self, id: u64, name: &str, plan: StreamPlan) {
        self.launch_paused(id, name, plan, false);
    }

    pub(in crate::run) fn launch_paused(&self, id: u64, name: &str, plan: StreamPlan, paused: bool) {
        let spec = QuerySpec { name: name.to_owned(), id: QueryId(id), plan, paused };
        self.runtime.block_on(self.runner.launch(spec)).unwrap();
    }

    pub(in crate::run) fn status(&self, name: &str) -> QueryStatus {
        self.runner.status(name).unwrap()
    }

    /// Waits until the query's status is as wanted.
    pub(in crate::run) fn wait(&self, name: &str, what: &str, wanted: impl Fn(&QueryStatus) -> bool) -> QueryStatus {
        let since = Instant::now();
        loop {
            let status = self.status(name);
            if wanted(&status) {
                return status;
            }
            assert!(since.elapsed() < PATIENCE, "{name} never came to {what}: {status:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the query has read `rows` records.
    pub(in crate::run) fn wait_rows_in(&self, name: &str, rows: u64) -> QueryStatus {
        self.wait(name, &format!("{rows} rows"), |status| {
            assert_ne!(status.state, QueryState::Failed, "{:?}", status.error);
            assert!(status.rows_in <= rows, "{} of {rows} rows", status.rows_in);
            status.rows_in == rows
        })
    }

    pub(in crate::run) fn wait_failed(&self, name: &str) -> String {
        self.wait(name, "its end", |status| status.state == QueryState::Failed).error.unwrap()
    }

    /// What a reader sees of a topic, by partition.
    pub(in crate::run) fn records(&self, topic: &str) -> Vec<Records> {
        read_all(&self.broker, topic)
    }

    /// The values of all partitions of a topic, one partition after the other.
    pub(in crate::run) fn values(&self, topic: &str) -> Vec<String> {
        self.records(topic).into_iter().flatten().map(|(_, _, value)| value.unwrap()).collect()
    }

    pub(in crate::run) fn delete(&self, topic: &str) {
        self.runtime.block_on(self.broker.delete_topic(topic, Actor::Node)).unwrap();
    }

    /// A clean stop.
    pub(in crate::run) fn stop(self) {
        self.runtime.block_on(self.runner.shutdown());
        self.runtime.block_on(self.broker.shutdown()).unwrap();
    }
}

/// What a reader sees of a topic, by partition.
pub(in crate::run) fn read_all(broker: &Broker, topic: &str) -> Vec<Records> {
    let Some(image) = broker.topic(topic) else { return Vec::new() };
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    let read = |index| {
        let partition = broker.partition(topic, index).unwrap();
        let mut found: Records = Vec::new();
        while (found.len() as i64) < partition.visible_end() {
            let fetched = partition.read(found.len() as i64, 1 << 20, true).unwrap();
            for batch in fetched.chunks.iter().flat_map(|chunk| batches(chunk)) {
                let mut records = batch.unwrap().records(1 << 20).unwrap();
                let next = found.len() as i64;
                records
                    .for_each(|record| {
                        if record.offset >= next {
                            assert_eq!(record.offset, found.len() as i64, "no gap and nothing twice");
                            found.push((record.timestamp, text(record.key), text(record.value)));
                        }
                    })
                    .unwrap();
            }
        }
        found
    };
    (0..image.partition_count).map(read).collect()
}

/// Copies a folder, as the disk would be found after the process died. The node goes on meanwhile, and may rename a
/// file of its own between the look and the copy: then that was no moment at which it could have died.
pub(in crate::run) fn copy(from: &Path, to: &Path) {
    for _ in 0..100 {
        match try_copy(from, to) {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::fs::remove_dir_all(to).unwrap(),
            Err(error) => panic!("{}: {error}", from.display()),
        }
    }
    panic!("{} never stood still", from.display());
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            try_copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
