//! The node's threads, as calls: for who wants to choose the order in which things happen, as a simulation does.
//!
//! Each call is one turn of one thread, on the caller's. With a standing clock and a simulated disk, what a node does then
//! follows from the calls alone.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::checkpoints::Checkpoints;
use crate::compaction::CompactionTurns;
use crate::groups::Worker;
use crate::maintenance;
use crate::start::Started;
use crate::sync::SyncTurns;
use crate::topics::Topics;

/// Does what a node's threads do. Made by [`Broker::open_driven`](crate::Broker::open_driven).
#[derive(Debug)]
pub struct Driver {
    topics: Arc<Topics>,
    checkpoints: Arc<Checkpoints>,
    turns: SyncTurns,
    groups: Mutex<Worker>,
    compaction: Mutex<CompactionTurns>,
}

impl Driver {
    pub(crate) fn new(started: &Started, groups: Worker) -> Driver {
        Driver {
            topics: started.topics.clone(),
            checkpoints: started.checkpoints.clone(),
            turns: started.syncer.turns(),
            groups: Mutex::new(groups),
            compaction: Mutex::new(CompactionTurns::new(started.topics.clone())),
        }
    }

    /// What the group coordinator's thread does first.
    pub(crate) fn load_groups(&self) {
        let mut groups = self.groups.lock();
        let pending = groups.load_all();
        self.sync_all();
        groups.answer(pending);
    }

    /// A round of the journal. Says whether there was anything to do; so do the others.
    pub fn journal_round(&self) -> bool {
        self.turns.journal_round()
    }

    /// The sync of one log that has too much for the journal.
    pub fn sync_next(&self) -> bool {
        self.turns.sync_next()
    }

    /// One thing that is to be done behind the journal: a log's sync, the end of a lap, a new file.
    pub fn behind_next(&self) -> bool {
        self.turns.behind_next()
    }

    /// Syncs until nothing is dirty. What comes behind the journal is left for later.
    pub fn sync_all(&self) {
        while self.journal_round() || self.sync_next() {}
    }

    /// The group coordinator's turn: it takes all requests that have come, and the time, and answers those whose records
    /// are durable when `sync` has returned, which is to see to it.
    pub fn groups(&self, sync: impl FnOnce(&Driver)) {
        let mut groups = self.groups.lock();
        let pending = groups.decide_now();
        sync(self);
        groups.answer(pending);
    }

    /// Retention. Says how many segments it deleted.
    pub fn retention(&self) -> u64 {
        maintenance::enforce_retention(&self.topics, &self.checkpoints)
    }

    /// Removes the files of deleted segments whose delay is over.
    pub fn purge_deleted(&self) {
        maintenance::purge_deleted(&self.topics);
    }

    /// One step of compaction.
    pub fn compaction_step(&self) -> bool {
        self.compaction.lock().step().is_some()
    }

    /// Writes the checkpoints; `false` if that failed.
    pub fn checkpoint(&self) -> bool {
        self.checkpoints.write(&self.topics).is_ok()
    }
}
