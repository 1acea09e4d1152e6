//! All that a simulation consists of, except who calls whom next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use millpond_broker::Broker;
use millpond_disk::{Random, SimulatedDisk};
use parking_lot::Mutex;

use crate::model::Model;
use crate::mutation::{Phase, StepPhase};
use crate::run::Summary;
use crate::streams::Streams;

/// So many of the last events are told with a failure.
const EVENTS_MAX: usize = 60;

/// What a promise that was broken is told as.
pub(crate) type Violation = String;

/// The clients' side: shared with the disk's watcher, which lets clients go on in the middle of a sync.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) broker: Option<Arc<Broker>>,
    pub(crate) model: Model,
    pub(crate) disk: Arc<SimulatedDisk>,
    pub(crate) summary: Summary,
    pub(crate) events: VecDeque<String>,
    pub(crate) violation: Option<Violation>,
    pub(crate) trace: bool,
    /// Stands in every record, so that no two are alike.
    pub(crate) next_record: u64,
    pub(crate) next_topic: u64,
    /// In some seeds.
    pub(crate) streams: Option<Streams>,
}

impl World {
    /// What clients know of the node that was restored from a backup.
    pub(crate) fn of_backup(
        broker: Arc<Broker>,
        model: Model,
        disk: Arc<SimulatedDisk>,
        streams: Option<Streams>,
        random: Random,
    ) -> World {
        World {
            random,
            broker: Some(broker),
            model,
            disk,
            summary: Summary::default(),
            events: VecDeque::new(),
            violation: None,
            trace: false,
            next_record: 0,
            next_topic: 0,
            streams,
        }
    }

    /// Takes note of what happened.
    pub(crate) fn event(&mut self, event: impl Into<String>) {
        let event = event.into();
        if self.trace {
            eprintln!("  {event}");
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Takes note of a broken promise; the first one counts.
    pub(crate) fn violated(&mut self, violation: impl Into<String>) {
        self.violation.get_or_insert(violation.into());
    }
}

/// What the watcher of the disk and the simulation have in common.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) world: Arc<Mutex<World>>,
    phase: Arc<AtomicU8>,
    /// What a query does whose turn it is.
    step: Arc<AtomicU8>,
    /// Whether clients may do something in the middle of a sync.
    pub(crate) interleave: Arc<AtomicBool>,
}

impl Shared {
    pub(crate) fn new(world: World) -> Shared {
        Shared {
            world: Arc::new(Mutex::new(world)),
            phase: Arc::default(),
            step: Arc::default(),
            interleave: Arc::default(),
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Checkpointing,
        }
    }

    pub(crate) fn enter_step(&self, step: StepPhase) {
        self.step.store(step as u8, Ordering::SeqCst);
    }

    pub(crate) fn step(&self) -> StepPhase {
        match self.step.load(Ordering::SeqCst) {
            0 => StepPhase::Elsewhere,
            1 => StepPhase::OutputWaits,
            _ => StepPhase::RecordWaits,
        }
    }
}
