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

/// The threads that sync. They end when this is dropped; what is dirty then is not synced any more.
#[derive(Debug)]
pub(crate) struct Syncer {
    front: Arc<SyncQueue>,
    direct: Arc<SyncQueue>,
    journal: Option<Arc<SharedJournal>>,
    threads: Vec<JoinHandle<()>>,
}

impl Syncer {
    /// Starts the threads: `threads` (`millpond.sync.threads`) that sync one log at a time, so that so many are synced at the
    /// same time (they wait for the disk, not for a core, so there may be more than there are cores); and, where there
    /// is a journal, one that writes it and one that syncs the logs behind it.
    pub(crate) fn start(
        threads: usize,
        journal: Option<Journal>,
        metrics: Arc<BrokerMetrics>,
    ) -> std::io::Result<Syncer> {
        let direct = Arc::new(SyncQueue::default());
        let journal = journal.map(|journal| Arc::new(SharedJournal::new(journal)));
        let front = if journal.is_some() { Arc::default() } else { direct.clone() };
        let mut syncer = Syncer { front, direct, journal, threads: Vec::with_capacity(threads + 2) };
        for number in 0..threads.max(1) {
            let (direct, front) = (syncer.direct.clone(), syncer.front.clone());
            syncer.spawn(format!("sync-{number}"), move || queue::work(&direct, &front))?;
        }
        if let Some(journal) = syncer.journal.clone() {
            let rounds = Rounds::new(syncer.front.clone(), syncer.direct.clone(), journal.clone(), metrics);
            syncer.spawn("journal".to_owned(), move || rounds.work())?;
            syncer.spawn("behind-journal".to_owned(), move || behind::work(&journal))?;
        }
        Ok(syncer)
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
