//! The thread behind the journal: it makes files, and syncs the logs of laps that have ended, so that their files can be
//! used again. When it does not keep up, the journal is full for a while, and rounds sync the logs themselves.
//!
//! A log is synced as soon as it has a megabyte to sync, too, not only when a lap ends: all at once would keep the disk from the
//! journal for tens of milliseconds, and everybody waits for the journal.

use std::time::Duration;

use millpond_log::journal::Journal;

use super::shared_journal::{Duty, SharedJournal};

/// Between two pieces of a new file, for the same reason.
const PAUSE: Duration = Duration::from_millis(1);
/// A file is made only on a disk that has room for so many: records come first.
const ROOM_TIMES: u64 = 4;

pub(super) fn work(journal: &SharedJournal) {
    while let Some(duty) = journal.next_duty() {
        fulfil(journal, duty, || std::thread::sleep(PAUSE));
    }
}

/// Does what is to be done; `pause` is called between two pieces of a new file.
pub(super) fn fulfil(journal: &SharedJournal, duty: Duty, pause: impl FnMut()) {
    match duty {
        Duty::MakeFile(number) => {
            let (dir, options) = journal.place();
            let has_room = |space: millpond_disk::Space| space.free_bytes / ROOM_TIMES >= options.file_bytes;
            match millpond_disk::space(&dir).is_ok_and(has_room) {
                true => journal.made(Journal::make_file(&dir, options, number, pause)),
                false => tracing::warn!(
                    "the disk has no room for another file of the journal; logs are synced one by one when it is full"
                ),
            }
        }
        Duty::SyncEarly(member) => drop(member.sync_behind_journal()),
        Duty::Sync(lap, members) => {
            // Every one, also after one that failed. A lap whose logs are not all synced is never released: what
            // the failed one has lost may stand there.
            let failed = members.iter().filter(|member| !member.sync_behind_journal()).count();
            if let Some(lap) = lap.filter(|_| failed == 0) {
                journal.release(lap);
            }
        }
    }
}
