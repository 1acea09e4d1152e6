//! One simulation.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millpond_broker::{Clock, Ids};
use millpond_disk::{Crash, Faults, Operation, Random, SimulatedDisk};
use millpond_metadata::Settings;
use parking_lot::Mutex;

use crate::backups::{Backup, Making};
use crate::checks::End;
use crate::inspection;
use crate::model::Model;
use crate::mutation::{Mutation, Phase};
use crate::node::{NOW_MS, Node, at_once, settings};
use crate::streams::Streams;
use crate::streams::node::NodeStreams;
use crate::world::{Shared, World};

/// Things that happen between two looks at the files.
const ACTIONS_AN_INSPECTION: usize = 100;

/// Starts that a crash may interrupt, one after the other.
const STARTS_MAX: usize = 8;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What clients and threads do, at most.
    pub actions: usize,
    /// A mistake that is put in.
    pub mutation: Option<Mutation>,
    /// All events and all calls to the disk that change something go to the standard error.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { actions: 250, mutation: None, trace: false }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Batches that were appended.
    pub batches: u64,
    /// Batches that were acknowledged as durable.
    pub acknowledged: u64,
    /// Offsets whose commit was acknowledged.
    pub commits: u64,
    /// Markers that ended transactions, or repeated one.
    pub markers: u64,
    /// Crashes.
    pub crashes: u64,
    /// Turns that queries have taken.
    pub turns: u64,
    /// Results of queries that were read, each once.
    pub results: u64,
    /// Records that compaction took out, of those partitions that are there at the end.
    pub compacted: u64,
    /// Backups that were restored and compared.
    pub backups: u64,
    /// Calls to the disk, and a number that follows from them.
    pub trace: (u64, u64),
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was broken.
    pub violation: String,
    /// What happened before, the oldest first.
    pub events: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for event in &self.events {
            writeln!(f, "  {event}")?;
        }
        write!(f, "seed {}: {}\nagain: make simulate SEED={}", self.seed, self.violation, self.seed)
    }
}

impl std::error::Error for Failure {}

/// Runs the simulation of this seed.
///
/// # Errors
/// The first promise that was broken.
pub fn simulate(seed: u64, options: Options) -> Result<Summary, Box<Failure>> {
    Simulation::new(seed, options).run()
}

/// Runs the simulations of `seeds`, `threads` at a time, each of which is on one thread. Ends after `failures_max` failures.
/// Gives what happened in all those that went well, and the failures; a panic is one.
pub fn simulate_all(
    seeds: Range<u64>,
    options: Options,
    threads: usize,
    failures_max: usize,
) -> (Summary, Vec<Box<Failure>>) {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Summary::default());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failures.lock().len() >= failures_max {
                        break;
                    }
                    let run = catch_unwind(AssertUnwindSafe(|| simulate(seed, options)));
                    let run = run.unwrap_or_else(|_| {
                        let violation = "it ended in a panic, see above".to_owned();
                        Err(Box::new(Failure { seed, violation, events: Vec::new() }))
                    });
                    match run {
                        Ok(summary) => total.lock().add(summary),
                        Err(failure) => failures.lock().push(failure),
                    }
                }
            });
        }
    });
    (total.into_inner(), failures.into_inner())
}

impl Summary {
    fn add(&mut self, other: Summary) {
        self.batches += other.batches;
        self.acknowledged += other.acknowledged;
        self.commits += other.commits;
        self.crashes += other.crashes;
        self.markers += other.markers;
        self.compacted += other.compacted;
        self.turns += other.turns;
        self.results += other.results;
        self.backups += other.backups;
        self.trace.0 += other.trace.0;
        self.trace.1 ^= other.trace.1;
    }
}

struct Simulation {
    seed: u64,
    options: Options,
    shared: Shared,
    disk: Arc<SimulatedDisk>,
    clock: Clock,
    ids: Ids,
    settings: Settings,
    faults: Faults,
    node: Option<Node>,
    /// The disk has a bound.
    is_full: bool,
    /// One that is being read.
    backup: Option<Backup>,
}

impl Simulation {
    fn new(seed: u64, options: Options) -> Simulation {
        let mut random = Random::new(seed);
        let disk = SimulatedDisk::new(random.next_u64());
        let clock = Clock::standing_at(NOW_MS);
        disk.set_now_ms(NOW_MS);
        let settings = settings(&mut random);
        let mut faults = Faults { interrupted: 5_000, short: 20_000, ..Faults::default() };
        if random.below(3) == 0 {
            faults.failed_syncs = random.below(5_000) as u32;
            faults.failed_writes = random.below(5_000) as u32;
        }
        let world = World {
            random,
            broker: None,
            model: Model::default(),
            disk: disk.clone(),
            summary: Summary::default(),
            events: VecDeque::new(),
            violation: None,
            trace: options.trace,
            next_record: 0,
            next_topic: 0,
            streams: Streams::of_seed(seed),
        };
        Simulation {
            seed,
            options,
            shared: Shared::new(world),
            disk,
            clock,
            ids: Ids::seeded(seed),
            settings,
            faults,
            node: None,
            is_full: false,
            backup: None,
        }
    }

    fn run(mut self) -> Result<Summary, Box<Failure>> {
        self.watch();
        self.start(None);
        for number in 0..self.options.actions {
            if self.violation().is_some() {
                break;
            }
            self.act();
            if number % ACTIONS_AN_INSPECTION == 0 {
                self.inspect("while it runs");
            }
            if self.disk.is_off() {
                self.restart();
            } else {
                self.shared.world.lock().settle();
            }
        }
        if self.violation().is_none() {
            // At the end everything must be there once more.
            self.disk.go_off();
            self.restart();
        }
        if let Some(Node { driver, streams: Some(streams), .. }) = &self.node
            && self.violation().is_none()
        {
            self.disk.set_faults(Faults { failed_syncs: 0, failed_writes: 0, ..self.faults });
            self.turn(|| self.shared.finish_streams(streams, driver));
        }
        self.disk.unwatch();
        self.end_node();
        let mut world = self.shared.world.lock();
        world.summary.trace = self.disk.trace();
        let partitions = world.model.topics.values().flat_map(|topic| &topic.partitions);
        world.summary.compacted = partitions.map(|partition| partition.compacted.len() as u64).sum();
        match world.violation.take() {
            None => Ok(world.summary),
            Some(violation) => {
                Err(Box::new(Failure { seed: self.seed, violation, events: world.events.drain(..).collect() }))
            }
        }
    }

    fn violation(&self) -> Option<String> {
        self.shared.world.lock().violation.clone()
    }

    /// Lets clients go on in the middle of syncs, and puts the mistake in.
    fn watch(&self) {
        let (shared, Options { mutation, trace, .. }) = (self.shared.clone(), self.options);
        self.disk.watch(move |operation, path| {
            if trace && !matches!(operation, Operation::Look | Operation::Read) {
                eprintln!("      {operation:?} {}", path.display());
            }
            if operation == Operation::Sync && shared.interleave.load(Ordering::SeqCst) {
                // Whoever has the world is a client; then nobody else comes in between.
                if let Some(mut world) = shared.world.try_lock() {
                    while world.random.below(3) == 0 {
                        world.produce();
                    }
                }
            }
            mutation.map_or(millpond_disk::Permit::Do, |mutation| {
                mutation.permit(shared.phase(), shared.step(), operation, path)
            })
        });
    }

    /// One thing happens.
    fn act(&mut self) {
        let Some(node) = &self.node else { return };
        let driver = node.driver.clone();
        if let Some(streams) = node.streams.clone()
            && self.shared.world.lock().random.coin()
        {
            let mut by_ms = 0;
            self.turn(|| by_ms = self.shared.act_on_streams(&streams, &driver));
            self.clock.advance(by_ms);
            self.disk.set_now_ms(self.clock.now_ms());
            return;
        }
        let choice = self.shared.world.lock().random.below(1_000);
        match choice {
            0..320 => self.shared.world.lock().produce(),
            320..340 => self.back_up(),
            340..380 => self.shared.world.lock().end_transaction(),
            380..440 => self.shared.world.lock().consume(),
            440..600 => self.turn(|| {
                driver.journal_round();
            }),
            600..690 => self.turn(|| {
                driver.sync_next();
            }),
            690..790 => self.turn(|| {
                driver.behind_next();
            }),
            790..840 => self.shared.commit_offset(&driver),
            840..850 => self.shared.check_offsets(&driver, false),
            850..875 => {
                self.shared.enter(Phase::Checkpointing);
                self.turn(|| {
                    driver.checkpoint();
                });
                self.shared.enter(Phase::Running);
            }
            875..890 => {
                let by_ms = self.shared.world.lock().random.below(3_000_000) as i64;
                self.clock.advance(by_ms);
                self.disk.set_now_ms(self.clock.now_ms());
                self.turn(|| {
                    driver.retention();
                });
                self.shared.world.lock().take_note_of_retention();
            }
            890..897 => self.turn(|| driver.purge_deleted()),
            897..925 => {
                let steps = self.shared.world.lock().random.below(40);
                self.turn(|| (0..steps).take_while(|_| driver.compaction_step()).for_each(drop));
            }
            925..937 => self.shared.world.lock().create_topic(),
            937..940 => self.fill_or_empty(),
            940..947 => self.shared.delete_topic(&driver),
            947..955 => self.shared.world.lock().grow_topic(),
            955..965 => self.shared.world.lock().delete_records(),
            965..970 => self.stop_cleanly(),
            970..985 => {
                let calls = self.shared.world.lock().random.below(60);
                self.shared.world.lock().event(format!("the disk goes off after {calls} calls"));
                self.disk.go_off_after(calls);
            }
            _ => self.disk.go_off(),
        }
    }

    /// A backup is begun, or goes on; when all is read, a node is started on it.
    fn back_up(&mut self) {
        let Some(node) = &self.node else { return };
        let Some(mut backup) = self.backup.take() else {
            let begun = Backup::begin(&node.broker, &node.driver, node.streams.as_deref(), &self.shared);
            let fails =
                self.disk.is_off() || self.disk.failed_syncs() > 0 || self.is_full || self.faults.failed_writes > 0;
            let mut world = self.shared.world.lock();
            world.event(format!("a backup: {:?}", begun.as_ref().map(|_| "begun")));
            match begun {
                Ok(begun) => self.backup = Some(begun),
                Err(error) if !fails => world.violated(format!("no backup can be taken: {error}")),
                Err(_) => {}
            }
            return;
        };
        let mut world = self.shared.world.lock();
        let read = backup.read_some(&mut world.random);
        if self.disk.is_off() {
            return;
        }
        match read {
            Ok(false) => self.backup = Some(backup),
            Ok(true) => {
                world.summary.backups += 1;
                world.event("the backup is read");
                drop(world);
                let making = Making { settings: &self.settings, clock: &self.clock, ids: &self.ids };
                if let Err(violation) = backup.check(&making) {
                    self.shared.world.lock().violated(format!("restored from a backup: {violation}"));
                }
            }
            Err(error) => world.violated(format!("the backup cannot be read: {error}")),
        }
    }

    /// Somebody else fills the disk, or makes room again.
    fn fill_or_empty(&mut self) {
        let mut world = self.shared.world.lock();
        let room = (!self.is_full).then(|| world.random.below(30_000));
        world.event(format!("room on the disk: {room:?}"));
        if let Some(streams) = &mut world.streams {
            streams.may_fail = true;
        }
        drop(world);
        self.is_full = room.is_some();
        self.disk.set_capacity_bytes(room.map(|room| self.disk.used_bytes() + room));
    }

    /// A turn of one of the node's threads, in which clients may come in between.
    fn turn(&self, turn: impl FnOnce()) {
        self.shared.interleave.store(true, Ordering::SeqCst);
        turn();
        self.shared.interleave.store(false, Ordering::SeqCst);
    }

    fn stop_cleanly(&mut self) {
        self.backup = None;
        let Some(node) = &self.node else { return };
        if let Some(streams) = &node.streams {
            self.turn(|| streams.stop());
        }
        let stopped = at_once(node.broker.shutdown());
        let off = self.disk.is_off();
        let crash = {
            let mut world = self.shared.world.lock();
            world.event(format!("stop: {stopped:?}"));
            if world.random.coin() { Crash::PowerCut } else { Crash::Kill }
        };
        let end = if stopped.is_ok() && !off { End::Clean(crash) } else { End::Crash(crash) };
        self.end_node();
        self.disk.restart(crash);
        if matches!(end, End::Clean(_)) {
            self.inspect("after a clean stop");
        }
        self.start(Some(end));
    }

    /// The files of a node that is sound look sound to its operator.
    fn inspect(&self, when: &str) {
        if self.disk.failed_syncs() > 0 {
            // What was not synced then may be gone from the disk, and the log takes no more.
            return;
        }
        if let Some(finding) = inspection::inspect(&self.disk) {
            self.shared.world.lock().violated(format!("{when} its files look damaged: {finding}"));
        }
    }

    /// The disk is off: the process is gone, or the power is.
    fn restart(&mut self) {
        let failed = self.disk.failed_syncs() > 0;
        self.end_node();
        let crash = {
            let mut world = self.shared.world.lock();
            let crash = if world.random.below(3) > 0 { Crash::PowerCut } else { Crash::Kill };
            world.event(format!("{crash:?}"));
            world.summary.crashes += 1;
            crash
        };
        self.disk.restart(crash);
        if crash == Crash::Kill && !failed {
            self.inspect("after a kill");
        }
        self.start(Some(End::Crash(crash)));
    }

    fn end_node(&mut self) {
        // With the process goes what asked it; what was frozen stays there for the next start.
        self.backup = None;
        let lost = self.disk.failed_syncs() > 0;
        let mut world = self.shared.world.lock();
        world.broker = None;
        // Not every failure is noticed by a client before the end.
        world.model.topics.values_mut().flat_map(|topic| &mut topic.partitions).for_each(|partition| {
            partition.disk_failed |= lost;
        });
        drop(world);
        self.node = None;
    }

    /// Starts the node, which another crash may interrupt, and compares.
    fn start(&mut self, end: Option<End>) {
        let mut end = end;
        self.shared.enter(Phase::Starting);
        self.is_full = false;
        self.disk.set_capacity_bytes(None);
        for number in 0..STARTS_MAX {
            // A disk that fails is not what is looked at here.
            self.disk.set_faults(Faults { failed_syncs: 0, failed_writes: 0, ..self.faults });
            if number + 1 < STARTS_MAX && self.shared.world.lock().random.below(8) == 0 {
                let calls = self.shared.world.lock().random.below(80);
                self.disk.go_off_after(calls);
            }
            match self.start_node() {
                Ok(node) if !self.disk.is_off() => {
                    self.disk.go_off_after(u64::MAX);
                    self.shared.world.lock().broker = Some(node.broker.clone());
                    self.node = Some(node);
                    break;
                }
                Err(error) if !self.disk.is_off() => {
                    self.shared.world.lock().violated(format!("the node does not start: {error}"));
                    return;
                }
                _ => {
                    let mut world = self.shared.world.lock();
                    let crash = if world.random.coin() { Crash::PowerCut } else { Crash::Kill };
                    world.event(format!("{crash:?} during the start"));
                    world.summary.crashes += 1;
                    drop(world);
                    self.disk.restart(crash);
                    end = end.map(|end| match (end, crash) {
                        // A power cut takes what a kill before it had left.
                        (_, Crash::PowerCut) | (End::Crash(Crash::PowerCut), _) => End::Crash(Crash::PowerCut),
                        (End::Clean(Crash::PowerCut), Crash::Kill) => End::Clean(Crash::PowerCut),
                        (End::Clean(Crash::Kill), Crash::Kill) => End::Clean(Crash::Kill),
                        (End::Crash(Crash::Kill), Crash::Kill) => End::Crash(Crash::Kill),
                    });
                }
            }
        }
        self.shared.enter(Phase::Running);
        let Some(node) = &self.node else { return };
        let (driver, streams) = (node.driver.clone(), node.streams.clone());
        self.shared.world.lock().make_inputs();
        if let Some(end) = end {
            let mut world = self.shared.world.lock();
            world.event(format!("start after {end:?}"));
            world.check_all(end);
            if world.violation.is_some() {
                return;
            }
            world.send_again();
            drop(world);
            self.shared.check_offsets(&driver, true);
            self.inspect("after a start");
        }
        if let Some(streams) = streams
            && self.shared.world.lock().random.coin()
        {
            // At once, as a rule.
            let turns = 2 * streams.turns.waiting();
            self.turn(|| (0..turns).for_each(|_| self.shared.query_turn(&streams)));
        }
        self.disk.set_faults(self.faults);
        if let Some(streams) = &mut self.shared.world.lock().streams {
            streams.may_fail = self.faults.failed_syncs > 0 || self.faults.failed_writes > 0;
        }
    }

    /// Starts the node, and its streams.
    fn start_node(&self) -> Result<Node, String> {
        let mut node = Node::start(&self.disk, &self.settings, &self.clock, &self.ids)?;
        let of_streams = {
            let mut world = self.shared.world.lock();
            world.streams_started();
            world.streams.as_ref().map(|streams| (streams.setup.clone(), streams.registered.clone()))
        };
        if let Some((setup, registered)) = of_streams {
            let streams = NodeStreams::start(&node.broker, &node.driver, &setup, &self.disk, &self.shared);
            streams.launch_all(&registered)?;
            node.streams = Some(streams);
        }
        Ok(node)
    }
}
