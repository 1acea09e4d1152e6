//! Group commit: everything appended before a round is durable after it, and rounds follow each other while there is
//! anything to do.
//!
//! ```text
//! append ─ marks its partition dirty ─▶ front queue ─▶ rounds ─ little of it ─▶ journal: one write, one fdatasync for all
//!                                                        │                         └─ a lap ends ─▶ behind: fdatasync of each log
//!                                                        └─ more than that, or no room ─▶ direct queue ─▶ fdatasync of its log
//! ```
//!
//! What is appended to a partition while its round runs marks it again and is covered by the next round: so the busier
//! a partition, the more appends share one. A queue holds a partition at most once, so it is bounded by their number. With
//! nothing dirty, the threads sleep without a timeout.
//!
//! Why a journal: an fdatasync of a log that has grown costs 75 µs of processor however little it is about; 16 logs cost 16
//! times that, and the journal's one write 45 µs (docs/design.md, section 8).

mod behind;
mod pace;
mod queue;
mod rounds;
mod shared_journal;

use std::sync::Arc;
use std::thread::JoinHandle;

use millpond_log::journal::Journal;

use crate::metrics::BrokerMetrics;

pub(crate) use self::queue::{DirtyMark, SyncQueue};
use self::rounds::Rounds;
pub(crate) use self::shared_journal::SharedJournal;

/// The queues and the journal, and the threads that sync, if there are any. They end when this is dropped; what is dirty then
/// is not synced any more.
#[derive(Debug)]
pub(crate) struct Syncer {
    front: Arc<SyncQueue>,
    direct: Arc<SyncQueue>,
    journal: Option<Arc<SharedJournal>>,
    metrics: Arc<BrokerMetrics>,
    threads: Vec<JoinHandle<()>>,
}

impl Syncer {
    /// Without threads yet: what is dirty waits.
    pub(crate) fn new(journal: Option<Journal>, metrics: Arc<BrokerMetrics>) -> Syncer {
        let direct = Arc::new(SyncQueue::default());
        let journal = journal.map(|journal| Arc::new(SharedJournal::new(journal)));
        let front = if journal.is_some() { Arc::default() } else { direct.clone() };
        Syncer { front, direct, journal, metrics, threads: Vec::new() }
    }

    /// Starts the threads: `threads` (`millpond.sync.threads`) that sync one log at a time, so that so many are synced at the
    /// same time (they wait for the disk, not for a core, so there may be more than there are cores); and, where there
    /// is a journal, one that writes it and one that syncs the logs behind it.
    pub(crate) fn start_threads(&mut self, threads: usize) -> std::io::Result<()> {
        for number in 0..threads.max(1) {
            let (direct, front) = (self.direct.clone(), self.front.clone());
            self.spawn(format!("sync-{number}"), move || queue::work(&direct, &front))?;
        }
        if let Some(journal) = self.journal.clone() {
            let rounds = self.rounds(&journal);
            self.spawn("journal".to_owned(), move || rounds.work())?;
            self.spawn("behind-journal".to_owned(), move || behind::work(&journal))?;
        }
        Ok(())
    }

    /// What the threads do, as calls, for who runs none.
    pub(crate) fn turns(&self) -> SyncTurns {
        let rounds = self.journal.as_ref().map(|journal| (self.rounds(journal), journal.clone()));
        SyncTurns { front: self.front.clone(), direct: self.direct.clone(), rounds }
    }

    fn rounds(&self, journal: &Arc<SharedJournal>) -> Rounds {
        Rounds::new(self.front.clone(), self.direct.clone(), journal.clone(), self.metrics.clone())
    }

    fn spawn(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name).spawn(work)?);
        Ok(())
    }

    /// Where partitions ask to be synced.
    pub(crate) fn queue(&self) -> &Arc<SyncQueue> {
        &self.front
    }

    /// The journal, if there is one.
    pub(crate) fn journal(&self) -> Option<&Arc<SharedJournal>> {
        self.journal.as_ref()
    }
}

/// One turn of each of the threads.
#[derive(Debug)]
pub(crate) struct SyncTurns {
    front: Arc<SyncQueue>,
    direct: Arc<SyncQueue>,
    rounds: Option<(Rounds, Arc<SharedJournal>)>,
}

impl SyncTurns {
    /// A round of the journal. Says whether there was anything to do; so do the others.
    pub(crate) fn journal_round(&self) -> bool {
        match &self.rounds {
            Some((rounds, _)) if !self.front.is_empty() => {
                rounds.round();
                true
            }
            _ => false,
        }
    }

    /// The sync of one log that does not go through the journal.
    pub(crate) fn sync_next(&self) -> bool {
        let next = self.direct.next_now();
        if let Some(partition) = &next {
            queue::sync(partition, &self.front);
        }
        next.is_some()
    }

    /// One thing that is to be done behind the journal.
    pub(crate) fn behind_next(&self) -> bool {
        let Some((_, journal)) = &self.rounds else { return false };
        let duty = journal.next_duty_now();
        let found = duty.is_some();
        if let Some(duty) = duty {
            behind::fulfil(journal, duty, || {});
        }
        found
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.front.stop();
        self.direct.stop();
        if let Some(journal) = &self.journal {
            journal.stop();
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has printed its message; here is nothing left to do about it.
            let _ = thread.join();
        }
        if let Some(journal) = &self.journal {
            // The partitions know the journal, and it must not know them for ever.
            journal.forget_members();
        }
    }
}
