//! Registered streams: rows that come in, queries that take steps, and what their topics must hold.
//!
//! - `queries` has the statements, planned once a process.
//! - `node` is the runner of a node that runs, and the turns of its queries, in the middle of which others go on.
//! - `clients` register queries, send rows and read results.
//! - `checks` compares: what was shown stays as it was, and at the end all is there that a calm node (`calm`) gives, which
//!   reads the same input from one end to the other without a crash.
//!
//! A part of the seeds has streams ([`Streams::of_seed`]): a step costs several times what a produce does.

pub(crate) mod calm;
pub(crate) mod checks;
pub(crate) mod clients;
pub(crate) mod node;
pub(crate) mod queries;

use std::collections::{BTreeMap, BTreeSet};

use millpond_disk::Random;
use millpond_streams::run::StepLogLimits;
use millpond_types::Offset;

/// One of so many seeds has streams.
const SEEDS_PER_STREAMS: u64 = 4;
/// Longer than any simulation.
const NEVER_MS: i64 = i64::MAX / 4;

/// How the seed wants queries to run.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) step_rows_max: usize,
    pub(crate) checkpoint_interval_ms: i64,
    pub(crate) idle_timeout_ms: i64,
    pub(crate) step_log: StepLogLimits,
}

impl Setup {
    /// Large steps, no idle partitions.
    pub(crate) fn calm() -> Setup {
        Setup {
            step_rows_max: 1_000,
            checkpoint_interval_ms: 5_000,
            idle_timeout_ms: NEVER_MS,
            step_log: StepLogLimits::default(),
        }
    }

    /// Whether a partition may be called idle, so that what is late depends on the steps.
    pub(crate) fn has_idle_partitions(&self) -> bool {
        self.idle_timeout_ms < NEVER_MS
    }
}

/// A record as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
}

/// What was shown of a partition that a query writes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    pub(crate) rows: BTreeMap<Offset, Row>,
    pub(crate) end: Offset,
}

/// What the clients know of streams.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(crate) setup: Setup,
    /// Queries that are to be registered, by place in [`queries::all`].
    pub(crate) wanted: Vec<usize>,
    /// Queries whose registration was begun; they run after each start.
    pub(crate) registered: Vec<usize>,
    /// By topic and partition.
    pub(crate) shown: BTreeMap<(String, i32), Shown>,
    /// Stands in every row.
    pub(crate) next_row: i64,
    /// Whether something happened since the start for which a query may fail.
    pub(crate) may_fail: bool,
    /// Nobody sends rows any more.
    pub(crate) is_over: bool,
    /// Queries that have recovered since the start: what they show is what they have ever shown, and more.
    pub(crate) recovered: BTreeSet<String>,
    /// Partitions that were read from one end to the other since then.
    pub(crate) looked_at: BTreeSet<(String, i32)>,
}

impl Streams {
    /// The streams of this seed, if it has any.
    pub(crate) fn of_seed(seed: u64) -> Option<Streams> {
        // Of its own, so that seeds without streams are what they were.
        let mut random = Random::new(seed ^ 0x5354_5245_414D_5300);
        if random.below(SEEDS_PER_STREAMS) > 0 {
            return None;
        }
        let count = queries::all().len();
        let first = random.index(count);
        let mut wanted: Vec<usize> = (0..count).filter(|place| *place == first || random.below(3) == 0).collect();
        let turn_at = random.index(wanted.len());
        wanted.rotate_left(turn_at);
        if wanted.contains(&queries::CHAINED) {
            // Last of all: what it reads must be there. The end comes first.
            wanted.retain(|place| *place != queries::CHAINED && *place != queries::READ_BY_CHAINED);
            wanted.insert(0, queries::READ_BY_CHAINED);
            wanted.insert(0, queries::CHAINED);
        }
        let setup = Setup {
            step_rows_max: 1 + random.index(30),
            checkpoint_interval_ms: random.below(4_000) as i64,
            idle_timeout_ms: if random.below(4) == 0 { 3_000 } else { NEVER_MS },
            step_log: StepLogLimits {
                trim_every_records: 2 + random.index(30),
                carry_distance_records: 4 + random.below(40) as i64,
            },
        };
        Some(Streams {
            setup,
            wanted,
            registered: Vec::new(),
            shown: BTreeMap::new(),
            next_row: 0,
            may_fail: false,
            is_over: false,
            recovered: BTreeSet::new(),
            looked_at: BTreeSet::new(),
        })
    }
}
