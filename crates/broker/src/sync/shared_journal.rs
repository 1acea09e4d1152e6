//! The journal, as the threads share it, and which partitions have entries in which lap.

use std::collections::VecDeque;
use std::sync::Arc;

use millpond_disk::{BlockFile, DiskError};
use millpond_log::FreshBatches;
use millpond_log::journal::{Journal, JournalEntry, JournalError, JournalOptions};
use millpond_types::Offset;
use parking_lot::{Condvar, Mutex};

use crate::partition::Partition;

/// The lap in which the write is that broke the journal; no file has it.
pub(super) const BROKEN_LAP: u64 = u64::MAX;

/// What is to be done behind the journal.
#[derive(Debug)]
pub(super) enum Duty {
    /// A file is wanted: its number.
    MakeFile(usize),
    /// This one has enough to sync for it to be worth it.
    SyncEarly(Arc<Partition>),
    /// A lap has ended: sync these, then release it. Without a lap: nothing is written any more.
    Sync(Option<u64>, Vec<Arc<Partition>>),
}

/// The node's journal.
#[derive(Debug)]
pub(crate) struct SharedJournal {
    state: Mutex<State>,
    duties: Mutex<Duties>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    /// Who has entries in the lap that runs.
    members: Vec<Arc<Partition>>,
    /// A file is being made, or could not be.
    making: bool,
    gave_up: bool,
}

/// Bounded by the number of the journal's files and a partition for each megabyte of theirs; when the journal is broken, by
/// the number of partitions.
#[derive(Debug, Default)]
struct Duties {
    waiting: VecDeque<Duty>,
    stopping: bool,
}

impl State {
    fn check(&self) -> Result<(), JournalError> {
        match self.gave_up {
            true => Err(JournalError::Broken { reason: "it was given up".to_owned() }),
            false => Ok(()),
        }
    }
}

impl SharedJournal {
    pub(super) fn new(journal: Journal) -> SharedJournal {
        let state = State { journal, members: Vec::new(), making: false, gave_up: false };
        SharedJournal { state: Mutex::new(state), duties: Mutex::default(), changed: Condvar::new() }
    }

    /// Makes durable what was taken of these partitions, all at once. If that fails, their logs have to be synced.
    pub(super) fn write(&self, fresh: &[(&Arc<Partition>, FreshBatches)]) -> Result<(), JournalError> {
        let entries: Vec<JournalEntry<'_>> = fresh
            .iter()
            .map(|(partition, fresh)| JournalEntry {
                topic_id: partition.topic_id(),
                partition: partition.index(),
                base_offset: fresh.base_offset,
                end_offset: fresh.end_offset,
                batches: &fresh.batches,
            })
            .collect();
        let mut state = self.state.lock();
        state.check()?;
        let written = state.journal.write(&entries);
        self.after(&mut state, written, fresh.iter().map(|(partition, _)| *partition))?;
        drop(state);
        for (partition, _) in fresh.iter().filter(|(partition, fresh)| partition.has_much_behind(fresh.bytes)) {
            self.give(Duty::SyncEarly(Arc::clone(partition)));
        }
        Ok(())
    }

    /// Says that the log of `partition`, which is synced, was cut at `end`.
    pub(crate) fn cut(&self, partition: &Arc<Partition>, end: Offset) -> Result<(), JournalError> {
        let mut state = self.state.lock();
        state.check()?;
        let written = state.journal.cut(partition.topic_id(), partition.index(), end);
        self.after(&mut state, written, std::iter::once(partition))
    }

    fn after<'p>(
        &self,
        state: &mut State,
        written: Result<u64, JournalError>,
        partitions: impl Iterator<Item = &'p Arc<Partition>>,
    ) -> Result<(), JournalError> {
        if let Some(number) = state.journal.wants_file().filter(|_| !state.making) {
            state.making = true;
            self.give(Duty::MakeFile(number));
        }
        if let Some(ended) = state.journal.ended_lap() {
            self.give(Duty::Sync(Some(ended), std::mem::take(&mut state.members)));
        }
        match written {
            Ok(lap) => {
                state.members.extend(partitions.filter(|partition| partition.joins_lap(lap)).cloned());
                Ok(())
            }
            Err(error @ JournalError::Full) => Err(error),
            Err(error @ JournalError::Broken { .. }) => {
                // It may be there all the same: a later cut has to know.
                state.members.extend(partitions.filter(|partition| partition.joins_lap(BROKEN_LAP)).cloned());
                if !state.members.is_empty() {
                    self.give(Duty::Sync(None, std::mem::take(&mut state.members)));
                }
                Err(error)
            }
        }
    }

    /// Nothing is written any more.
    pub(crate) fn give_up(&self, reason: &str) {
        tracing::error!(reason, "the journal is given up; from now on every log is synced by itself");
        self.state.lock().gave_up = true;
    }

    /// Where and how large it is, for who makes a file.
    pub(super) fn place(&self) -> (std::path::PathBuf, JournalOptions) {
        let state = self.state.lock();
        (state.journal.dir().to_owned(), state.journal.options())
    }

    /// Takes in the file that was made. One that could not be made is not tried again in this run.
    pub(super) fn made(&self, file: Result<BlockFile, DiskError>) {
        let mut state = self.state.lock();
        match file {
            Ok(file) => {
                state.journal.add_file(file);
                state.making = false;
            }
            Err(error) => {
                tracing::warn!(%error, "the journal has no room to grow; logs are synced one by one when it is full");
            }
        }
    }

    /// All logs of a lap were synced.
    pub(super) fn release(&self, lap: u64) {
        self.state.lock().journal.release(lap);
    }

    fn give(&self, duty: Duty) {
        let mut duties = self.duties.lock();
        if !duties.stopping {
            duties.waiting.push_back(duty);
            drop(duties);
            self.changed.notify_one();
        }
    }

    /// The next duty; none when the thread shall end.
    pub(super) fn next_duty(&self) -> Option<Duty> {
        let mut duties = self.duties.lock();
        loop {
            if duties.stopping {
                return None;
            }
            if let Some(duty) = duties.waiting.pop_front() {
                return Some(duty);
            }
            self.changed.wait(&mut duties);
        }
    }

    /// The next duty; none if there is none right now.
    pub(super) fn next_duty_now(&self) -> Option<Duty> {
        self.duties.lock().waiting.pop_front()
    }

    pub(super) fn stop(&self) {
        let left = {
            let mut duties = self.duties.lock();
            duties.stopping = true;
            std::mem::take(&mut duties.waiting)
        };
        self.changed.notify_all();
        drop(left);
    }

    pub(super) fn forget_members(&self) {
        let members = std::mem::take(&mut self.state.lock().members);
        drop(members);
    }
}
