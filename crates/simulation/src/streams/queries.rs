//! The queries there are, planned once a process: planning takes longer than a whole simulation.

use std::sync::{Arc, OnceLock};

use millpond_broker::{Broker, BrokerOptions};
use millpond_disk::SimulatedDisk;
use millpond_streams::plan::StreamPlan;
use millpond_streams::plan_streams;

/// What is read: topic and partitions.
pub(crate) const INPUTS: [(&str, i32); 2] = [("in_one", 1), ("in_many", 3)];
/// So begin the names of what queries write.
pub(crate) const OUTPUT_PREFIX: &str = "out_";

const COLUMNS: &str =
    "(id BIGINT, name STRING, amount BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)";

/// Where a result stands among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// It follows from the input: its bytes are the same in any run.
    Fixed,
    /// As the steps came to read the partitions; the results are the same.
    OfSteps,
}

/// A query.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) name: String,
    pub(crate) plan: StreamPlan,
    pub(crate) order: Order,
    /// Whether it has windows over several partitions: with idle ones, what is late depends on the steps.
    pub(crate) waits_for_partitions: bool,
}

impl Query {
    /// The topics that it writes.
    pub(crate) fn outputs(&self) -> [String; 2] {
        [self.name.clone(), format!("{}.errors", self.name)]
    }
}

/// The query that reads what another one writes, and that one; places in [`all`].
pub(crate) const CHAINED: usize = 4;
pub(crate) const READ_BY_CHAINED: usize = 0;

/// All queries.
pub(crate) fn all() -> &'static [Query] {
    static ALL: OnceLock<Vec<Query>> = OnceLock::new();
    ALL.get_or_init(plan)
}

/// Whether a topic belongs to a stream.
pub(crate) fn is_of_streams(topic: &str) -> bool {
    topic.starts_with(OUTPUT_PREFIX) || INPUTS.iter().any(|(input, _)| *input == topic)
}

fn plan() -> Vec<Query> {
    let sums = |from: &str| {
        format!(
            "SELECT name, window_start, window_end, COUNT(*) AS n, SUM(amount) AS total, MAX(id) AS last FROM TABLE(TUMBLE(TABLE {from}, \
             DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY name, window_start, window_end"
        )
    };
    let mut statements: Vec<String> =
        INPUTS.iter().map(|(input, _)| format!("CREATE STREAM {input} {COLUMNS}")).collect();
    let rows_of_one = "SELECT id, name, amount * 3 AS triple, 100 / amount AS share FROM in_one WHERE amount < 15";
    let rows_of_many = "SELECT id, name, amount FROM in_many WHERE amount % 4 > 0";
    let chained = "SELECT name, triple + 1 AS next FROM out_rows_of_one WHERE triple > 12";
    let (of_one, of_many) = (sums("in_one"), sums("in_many"));
    let queries: [(&str, &str, &str, Order, bool); 5] = [
        ("out_rows_of_one", "WITH (partitions = 2, key = 'name')", rows_of_one, Order::Fixed, false),
        ("out_sums_of_one", "", &of_one, Order::Fixed, false),
        ("out_rows_of_many", "", rows_of_many, Order::OfSteps, false),
        ("out_sums_of_many", "WITH (partitions = 2, key = 'name')", &of_many, Order::Fixed, true),
        // Over what another query writes, which is shown step by step.
        ("out_chained", "", chained, Order::OfSteps, false),
    ];
    for (name, options, select, ..) in &queries {
        statements.push(format!("CREATE MATERIALIZED STREAM {name} {options} AS {select}"));
    }
    let texts: Vec<&str> = statements.iter().map(String::as_str).collect();
    let disk = SimulatedDisk::new(0);
    let opened = Broker::open_driven(BrokerOptions::new(disk.root().join("planning")));
    let (broker, _driver): (Arc<Broker>, _) = opened.unwrap_or_else(|error| panic!("a node to plan on: {error}"));
    let plans = plan_streams(&broker, &texts).unwrap_or_else(|error| panic!("the simulation's queries: {error}"));
    plans
        .into_iter()
        .zip(queries)
        .map(|((name, plan), (_, _, _, order, waits_for_partitions))| Query { name, plan, order, waits_for_partitions })
        .collect()
}
