//! The streams of a node that runs: its runner, and the turns of its queries.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use millpond_broker::{Broker, Driver, Partition};
use millpond_disk::SimulatedDisk;
use millpond_streams::run::{
    CrashHook, CrashPoint, CrashPoints, QueryId, QuerySpec, Runner, RunnerDriver, RunnerOptions, SyncHook,
};

use super::Setup;
use super::queries;
use crate::mutation::StepPhase;
use crate::node::at_once;
use crate::world::Shared;

/// Turns inside of turns, at most.
const DEPTH_MAX: usize = 2;

/// The queries of a node that runs.
pub(crate) struct NodeStreams {
    pub(crate) runner: Arc<Runner>,
    pub(crate) turns: RunnerDriver,
    /// Nobody has turns any more, except for the last checkpoints.
    stopping: AtomicBool,
}

impl fmt::Debug for NodeStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeStreams").field("turns", &self.turns).finish_non_exhaustive()
    }
}

/// The runner's options as the seed wants them.
pub(crate) fn options(setup: &Setup, disk: &SimulatedDisk, crash_points: CrashPoints) -> RunnerOptions {
    RunnerOptions {
        step_rows_max: setup.step_rows_max,
        checkpoint_interval_ms: setup.checkpoint_interval_ms,
        idle_timeout_ms: setup.idle_timeout_ms,
        step_log: setup.step_log,
        crash_points,
        ..RunnerOptions::new(disk.root().join("data/state"))
    }
}

impl NodeStreams {
    pub(crate) fn new(runner: Arc<Runner>, turns: RunnerDriver) -> NodeStreams {
        NodeStreams { runner, turns, stopping: AtomicBool::new(false) }
    }

    /// Takes the last checkpoints.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        at_once(self.runner.shutdown());
    }

    /// Makes the runner of a node that has just started. In the middle of its queries' turns others go on.
    pub(crate) fn start(
        broker: &Arc<Broker>,
        driver: &Arc<Driver>,
        setup: &Setup,
        disk: &SimulatedDisk,
        shared: &Shared,
    ) -> Arc<NodeStreams> {
        let inside: Arc<OnceLock<Weak<NodeStreams>>> = Arc::default();
        let depth = AtomicUsize::new(0);
        let (others, around, syncs) = (inside.clone(), shared.clone(), driver.clone());
        let sync: SyncHook = Arc::new(move |_: &Partition| {
            let streams = others.get().and_then(Weak::upgrade);
            if let Some(streams) = streams.filter(|_| depth.load(Ordering::SeqCst) < DEPTH_MAX) {
                depth.fetch_add(1, Ordering::SeqCst);
                around.in_the_middle_of_a_step(&streams, &syncs);
                depth.fetch_sub(1, Ordering::SeqCst);
            }
            around.sync_for_query(&syncs);
        });
        let phases = shared.clone();
        let hook: CrashHook = Arc::new(move |point: CrashPoint| {
            phases.enter_step(match point {
                CrashPoint::OutputAppended => StepPhase::OutputWaits,
                CrashPoint::StepAppended => StepPhase::RecordWaits,
                _ => StepPhase::Elsewhere,
            });
            false
        });
        let options = options(setup, disk, CrashPoints::with_hook(hook));
        let (runner, turns) = Runner::open_driven(broker.clone(), options, sync);
        let streams = Arc::new(NodeStreams::new(runner, turns));
        // Nobody set it before.
        let _ = inside.set(Arc::downgrade(&streams));
        streams
    }

    /// Has a query run.
    pub(crate) fn launch(&self, place: usize) -> Result<(), String> {
        let Some(query) = queries::all().get(place) else { return Ok(()) };
        let spec =
            QuerySpec { name: query.name.clone(), id: QueryId(place as u64), plan: query.plan.clone(), paused: false };
        at_once(self.runner.launch(spec)).map_err(|error| format!("{}: {error}", query.name))
    }

    /// Has all queries run that are registered, as a start does.
    pub(crate) fn launch_all(&self, registered: &[usize]) -> Result<(), String> {
        registered.iter().try_for_each(|place| self.launch(*place))?;
        let live: Vec<QueryId> = registered.iter().map(|place| QueryId(*place as u64)).collect();
        at_once(self.runner.forget_others(&live)).map_err(|error| error.to_string())
    }
}

impl Shared {
    /// A query waits for the disk: clients go on, and other queries.
    fn in_the_middle_of_a_step(&self, streams: &NodeStreams, driver: &Driver) {
        loop {
            let choice = self.world.lock().random.below(8);
            match choice {
                0 => self.world.lock().send_rows(),
                1 if !streams.stopping.load(Ordering::SeqCst) => {
                    let step = self.step();
                    self.query_turn(streams);
                    self.enter_step(step);
                }
                2 => self.world.lock().look_at_results(),
                3 => drop(driver.behind_next()),
                _ => return,
            }
        }
    }

    /// Syncs in some order, until nothing more is to be synced.
    fn sync_for_query(&self, driver: &Driver) {
        loop {
            let first = self.world.lock().random.coin();
            let done = if first {
                driver.journal_round() || driver.sync_next()
            } else {
                driver.sync_next() || driver.journal_round()
            };
            if !done {
                return;
            }
        }
    }

    /// Some query that wants a turn has one.
    pub(crate) fn query_turn(&self, streams: &NodeStreams) {
        streams.turns.wake();
        let waiting = streams.turns.waiting();
        let place = self.world.lock().random.index(waiting);
        let Some(name) = streams.turns.turn(place) else { return };
        self.enter_step(StepPhase::Elsewhere);
        self.world.lock().check_query(streams, &name);
    }
}
