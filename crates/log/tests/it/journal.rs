//! The journal: any order of appends, rounds, syncs and cuts of several logs, and power cuts in between, against a model
//! that knows what was promised.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use millpond_log::journal::{Journal, JournalEntry, JournalError, JournalOptions, Replayed, keep_files, replay};
use millpond_log::{FreshBatches, LogBudget, LogOptions, PartitionLog, Recovery};
use millpond_records::batches;
use millpond_types::{Offset, TopicId};
use proptest::prelude::*;

use crate::scratch::{NOW, append, batch, flip_bit, folder, offsets, read_all};

const LOGS: usize = 3;
const BLOCK: usize = 4096;
/// Room for a handful of chunks beside what is reserved for cuts.
const OPTIONS: JournalOptions = JournalOptions { file_bytes: 72 * BLOCK as u64, files_max: 3 };

fn id(log: usize) -> TopicId {
    TopicId::from_uuid(uuid::Uuid::from_u128(log as u128 + 1))
}

fn log_options() -> LogOptions {
    LogOptions { segment_bytes: 3000, retention_ms: -1, journal_bytes_max: 2000, ..LogOptions::default() }
}

/// A node's folder: logs and the journal.
struct Node {
    folder: tempfile::TempDir,
    logs: Vec<PartitionLog>,
    journal: Journal,
    /// Which logs have entries in a lap that was not released.
    laps: BTreeMap<u64, Vec<usize>>,
    ended: Vec<u64>,
}

impl Node {
    fn create() -> Node {
        let folder = folder();
        let create = |log| {
            let dir = dir_of(folder.path(), log);
            PartitionLog::create(&dir, id(log), log_options(), LogBudget::new(1 << 20)).unwrap()
        };
        let logs = (0..LOGS).map(create).collect();
        let journal = Journal::open(folder.path(), OPTIONS).unwrap();
        Node { folder, logs, journal, laps: BTreeMap::new(), ended: Vec::new() }
    }

    /// Starts in `folder` after a crash.
    fn recover(folder: tempfile::TempDir, recovery_points: [Offset; LOGS]) -> (Node, Replayed) {
        let open = |(log, recovery_point): (usize, Offset)| {
            let recovery = Recovery { clean: false, recovery_point, log_start_offset: 0, refuse_damage: false };
            let dir = dir_of(folder.path(), log);
            PartitionLog::open(&dir, log_options(), LogBudget::new(1 << 20), recovery, NOW).unwrap().0
        };
        let logs: Vec<PartitionLog> = recovery_points.into_iter().enumerate().map(open).collect();
        let find = |topic, partition| (0..LOGS).find(|log| (id(*log), 0) == (topic, partition)).map(|log| &logs[log]);
        let replayed = replay(folder.path(), find, NOW).unwrap();
        let journal = Journal::open(folder.path(), OPTIONS).unwrap();
        (Node { folder, logs, journal, laps: BTreeMap::new(), ended: Vec::new() }, replayed)
    }

    /// A round over all logs. Says what it has made durable of each.
    fn round(&mut self) -> Vec<(usize, Offset)> {
        let taken: Vec<(usize, Option<FreshBatches>)> =
            self.logs.iter().map(PartitionLog::take_fresh).enumerate().collect();
        let fresh: Vec<&(usize, Option<FreshBatches>)> =
            taken.iter().filter(|(_, fresh)| fresh.as_ref().is_some_and(|fresh| !fresh.batches.is_empty())).collect();
        let entries: Vec<JournalEntry<'_>> =
            fresh.iter().map(|(log, fresh)| entry(*log, fresh.as_ref().unwrap())).collect();
        let journaled = self.write(&entries);
        let mut durable = Vec::new();
        for (log, fresh) in &taken {
            match fresh {
                Some(fresh) if fresh.batches.is_empty() => {}
                Some(fresh) if journaled => {
                    self.logs[*log].journaled(fresh.end_offset);
                    durable.push((*log, fresh.end_offset));
                }
                _ => durable.push((*log, self.logs[*log].sync().unwrap())),
            }
        }
        durable
    }

    /// Writes to the journal; `false` if it is full.
    fn write(&mut self, entries: &[JournalEntry<'_>]) -> bool {
        if entries.is_empty() {
            return true;
        }
        let written = match self.journal.write(entries) {
            Ok(written) => written,
            Err(JournalError::Full) => {
                if let Some(number) = self.journal.wants_file() {
                    self.journal.add_file(Journal::make_file(self.folder.path(), OPTIONS, number, || {}).unwrap());
                }
                return false;
            }
            Err(error) => panic!("{error}"),
        };
        let members = self.laps.entry(written).or_default();
        members.extend(entries.iter().map(|entry| (0..LOGS).find(|log| id(*log) == entry.topic_id).unwrap()));
        true
    }

    /// Syncs behind the journal, and releases a lap that has ended: not always the oldest.
    fn release(&mut self, which: usize) {
        while let Some(lap) = self.journal.ended_lap() {
            self.ended.push(lap);
        }
        if let Some(lap) = self.ended.get(which % self.ended.len().max(1)).copied() {
            self.ended.retain(|ended| *ended != lap);
            for log in self.laps.remove(&lap).unwrap_or_default() {
                self.logs[log].sync_behind_journal().unwrap();
            }
            self.journal.release(lap);
        }
    }

    fn cut(&mut self, log: usize, to: Offset) -> Offset {
        self.logs[log].sync_behind_journal().unwrap();
        let end = self.logs[log].truncate_to(to).unwrap();
        let written = loop {
            match self.journal.cut(id(log), 0, end) {
                Ok(written) => break written,
                // There was no file yet, or the cuts have used up the room reserved for them.
                Err(JournalError::Full) => match self.journal.wants_file() {
                    Some(number) => {
                        self.journal.add_file(Journal::make_file(self.folder.path(), OPTIONS, number, || {}).unwrap());
                    }
                    None => self.release(0),
                },
                Err(error) => panic!("{error}"),
            }
        };
        self.laps.entry(written).or_default();
        end
    }
}

fn entry(log: usize, fresh: &FreshBatches) -> JournalEntry<'_> {
    let FreshBatches { base_offset, end_offset, batches, .. } = fresh;
    JournalEntry { topic_id: id(log), partition: 0, base_offset: *base_offset, end_offset: *end_offset, batches }
}

fn dir_of(folder: &Path, log: usize) -> PathBuf {
    folder.join(format!("topic{log}-0"))
}

fn journal_files(folder: &Path) -> Vec<PathBuf> {
    let is_journal = |name: &str| name.starts_with("millpond-journal.");
    let entries = millpond_disk::list(folder).unwrap();
    entries.iter().filter(|entry| is_journal(&entry.name)).map(|entry| folder.join(&entry.name)).collect()
}

/// Random numbers from a seed, for what a power cut takes.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}

/// A copy of the folder as a power cut leaves it: of each log what was synced, and of the rest some bytes, some
/// zeros, or nothing.
fn power_cut(node: &Node, dice: &mut Dice) -> tempfile::TempDir {
    let copy = folder();
    for path in journal_files(node.folder.path()) {
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    for (number, log) in node.logs.iter().enumerate() {
        let (from, to) = (dir_of(node.folder.path(), number), dir_of(copy.path(), number));
        std::fs::create_dir(&to).unwrap();
        let (mut lost, mut first) = (false, true);
        for entry in millpond_disk::list(&from).unwrap() {
            let mut bytes = std::fs::read(from.join(&entry.name)).unwrap();
            if entry.name.ends_with(".log") {
                let base: Offset = entry.name.trim_end_matches(".log").parse().unwrap();
                let synced =
                    |batch: &millpond_records::BatchView<'_>| batch.header.next_offset() <= log.recovery_point();
                let kept: usize =
                    batches(&bytes).map(Result::unwrap).take_while(synced).map(|batch| batch.bytes.len()).sum();
                // A name that was not synced may be lost, and then those of all later segments. The first one's was: older
                // segments are deleted after a sync.
                lost |= base >= log.recovery_point() && !first && dice.below(2) == 0;
                first = false;
                if lost {
                    continue;
                }
                let unsynced = bytes.len() - kept;
                match dice.below(3) {
                    0 => bytes.truncate(kept + dice.below(unsynced + 1)),
                    1 => bytes[kept..].fill(0),
                    _ => {
                        let hole = kept + dice.below(unsynced + 1);
                        let hole_end = hole + dice.below(bytes.len() - hole + 1);
                        bytes[hole..hole_end].fill(0);
                    }
                }
            }
            std::fs::write(to.join(&entry.name), bytes).unwrap();
        }
    }
    copy
}

#[derive(Debug, Clone)]
enum Step {
    Append { log: usize, len: usize },
    Round,
    Sync { log: usize },
    Behind { which: usize },
    Checkpoint { log: usize },
    Cut { log: usize, back: i64 },
    AdvanceStart { log: usize },
    PowerCut { seed: u64, torn: bool, from_start: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..LOGS, 0..900usize).prop_map(|(log, len)| Step::Append { log, len }),
        6 => Just(Step::Round),
        1 => (0..LOGS).prop_map(|log| Step::Sync { log }),
        2 => (0..3usize).prop_map(|which| Step::Behind { which }),
        1 => (0..LOGS).prop_map(|log| Step::Checkpoint { log }),
        1 => (0..LOGS, 0..6i64).prop_map(|(log, back)| Step::Cut { log, back }),
        1 => (0..LOGS).prop_map(|log| Step::AdvanceStart { log }),
        2 => (1..u64::MAX, any::<bool>(), any::<bool>()).prop_map(|(seed, torn, from_start)| Step::PowerCut { seed, torn, from_start }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What a log holds, and how much of it was promised.
#[derive(Default)]
struct Model {
    batches: Vec<(Offset, Bytes)>,
    promised: Offset,
}

impl Model {
    fn end(&self) -> Offset {
        self.batches.last().map_or(0, |(next, _)| *next)
    }
}

/// The log holds the model's batches from its start on, and all that were promised; what it lacks is gone.
fn check(log: &PartitionLog, model: &mut Model, what: &str) {
    let end = log.log_end_offset();
    assert!(end >= model.promised, "{what}: the log ends at {end}, and {} was promised", model.promised);
    model.batches.retain(|(next, _)| *next <= end);
    assert_eq!(end, model.end(), "{what}");
    let expected: Vec<&Bytes> =
        model.batches.iter().filter(|(next, _)| *next > log.log_start_offset()).map(|(_, bytes)| bytes).collect();
    let found = read_all(log, 1 << 20);
    let found: Vec<&[u8]> = batches(&found).map(|batch| batch.unwrap().bytes).collect();
    assert!(found == expected, "{what}: other batches than were appended");
}

fn run(steps: Vec<Step>) {
    let mut node = Node::create();
    let mut models: Vec<Model> = (0..LOGS).map(|_| Model::default()).collect();
    // As the node's checkpoint has them.
    let mut points: [Offset; LOGS] = [0; LOGS];
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append { log, len } => {
                // No two batches are alike.
                let mut value = number.to_le_bytes().to_vec();
                value.resize(value.len() + len, log as u8);
                let appended = append(&node.logs[log], batch(1 + len % 3, &value));
                let fetched = node.logs[log].read(appended.base_offset, 1, Offset::MAX, true).unwrap();
                models[log].batches.push((appended.last_offset + 1, Bytes::from(fetched.chunks.concat())));
            }
            Step::Round => {
                for (log, end) in node.round() {
                    models[log].promised = models[log].promised.max(end);
                }
            }
            Step::Sync { log } => models[log].promised = node.logs[log].sync().unwrap(),
            Step::Behind { which } => node.release(which),
            Step::Checkpoint { log } => points[log] = node.logs[log].recovery_point(),
            Step::Cut { log, back } => {
                let start = node.logs[log].log_start_offset();
                let end = node.cut(log, (models[log].end() - back).max(start));
                points[log] = points[log].min(end);
                models[log].batches.retain(|(next, _)| *next <= end);
                models[log].promised = models[log].promised.min(end);
            }
            Step::AdvanceStart { log } => {
                // To a batch's start, as the checkpoint of starts is not tried here.
                let promised = models[log].promised;
                let to = models[log].batches.iter().map(|(next, _)| *next).filter(|next| *next <= promised).nth(2);
                if let Some(to) = to {
                    node.logs[log].advance_log_start(to).unwrap();
                }
            }
            Step::PowerCut { seed, torn, from_start } => {
                let mut dice = Dice(seed);
                let read = |folder: &Path| -> Vec<Vec<u8>> {
                    journal_files(folder).iter().map(|path| std::fs::read(path).unwrap()).collect()
                };
                let before = read(node.folder.path());
                if torn {
                    // A write that the power cut meets: any of its blocks may be there.
                    let fresh: Vec<_> = node.logs.iter().map(PartitionLog::take_fresh).enumerate().collect();
                    let entries: Vec<_> = fresh
                        .iter()
                        .filter_map(|(log, fresh)| fresh.as_ref().map(|fresh| entry(*log, fresh)))
                        .filter(|entry| !entry.batches.is_empty())
                        .collect();
                    node.write(&entries);
                }
                let copy = power_cut(&node, &mut dice);
                for (path, before) in journal_files(copy.path()).iter().zip(&before) {
                    let mut after = std::fs::read(path).unwrap();
                    for (after, before) in after.chunks_mut(BLOCK).zip(before.chunks(BLOCK)) {
                        if after != before && dice.below(2) == 0 {
                            after.copy_from_slice(before);
                        }
                    }
                    std::fs::write(path, after).unwrap();
                }
                // Of any earlier time, as far as no cut has lowered them.
                let known = if from_start { [0; LOGS] } else { points };
                let (recovered, replayed) = Node::recover(copy, known);
                assert_eq!(replayed.failures, Vec::<String>::new());
                node = recovered;
                for (log, model) in models.iter_mut().enumerate() {
                    check(&node.logs[log], model, &format!("step {number}, log {log}, power cut with seed {seed}"));
                    model.promised = model.end();
                    assert_eq!(node.logs[log].recovery_point(), model.end(), "all is synced before it is served");
                    points[log] = model.end();
                }
            }
        }
    }
    for (log, model) in models.iter_mut().enumerate() {
        assert!(node.logs[log].durable_end_offset() >= model.promised);
        check(&node.logs[log], model, "at the end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn what_was_promised_survives_power_cuts_and_what_was_cut_stays_away(steps in steps()) {
        run(steps);
    }
}

/// Three logs with one journaled batch each.
fn journaled() -> Node {
    let mut node = Node::create();
    node.journal.add_file(Journal::make_file(node.folder.path(), OPTIONS, 0, || {}).unwrap());
    for log in &node.logs {
        append(log, batch(2, b"journaled"));
    }
    assert_eq!(node.round(), [(0, 2), (1, 2), (2, 2)]);
    assert_eq!(node.logs[0].recovery_point(), 0, "its own file was not synced");
    node
}

#[test]
fn one_write_makes_many_logs_durable() {
    let node = journaled();
    // A power cut that leaves nothing of the logs' own files.
    let copy = power_cut(&node, &mut Dice(1));
    for log in 0..LOGS {
        std::fs::write(dir_of(copy.path(), log).join("00000000000000000000.log"), b"").unwrap();
    }
    let (node, replayed) = Node::recover(copy, [0; LOGS]);
    assert_eq!((replayed.logs_restored, replayed.failures.len()), (LOGS, 0));
    for log in &node.logs {
        assert_eq!(offsets(&read_all(log, 1 << 20)), [(0, 1)]);
    }
}

#[test]
fn a_journal_that_was_put_back_means_nothing_any_more() {
    let node = journaled();
    let copy = power_cut(&node, &mut Dice(1));
    let (node, _) = Node::recover(copy, [0; LOGS]);
    // Nothing was written to the journal since; what is cut without it stays away.
    node.logs[0].truncate_to(0).unwrap();
    let copy = power_cut(&node, &mut Dice(2));
    let (node, replayed) = Node::recover(copy, [0; LOGS]);
    assert_eq!(replayed, Replayed::default());
    assert_eq!(node.logs[0].log_end_offset(), 0);
}

#[test]
fn what_does_not_fit_a_damaged_log_is_told_and_the_files_can_be_kept() {
    let mut node = journaled();
    append(&node.logs[2], batch(1, b"second"));
    node.round();
    append(&node.logs[1], batch(1, b"second"));
    node.round();
    let copy = power_cut(&node, &mut Dice(1));
    for log in 1..LOGS {
        std::fs::write(dir_of(copy.path(), log).join("00000000000000000000.log"), b"").unwrap();
    }
    // The first chunk's bytes of log 1 are damaged, too, which no power cut does.
    let path = journal_files(copy.path()).remove(0);
    let bytes = std::fs::read(&path).unwrap();
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"journaled")).collect();
    flip_bit(&path, places[2], 0);
    let (node, replayed) = Node::recover(copy, [0; LOGS]);
    assert_eq!(node.logs[1].log_end_offset(), 0, "nothing of the log behind its damaged entry fits");
    assert_eq!(node.logs[2].log_end_offset(), 3, "what others have in the journal is put back");
    assert_eq!(replayed.failures.len(), 1, "what followed the damaged entry was acknowledged, so that was, too");
    assert!(replayed.failures[0].contains("ends at 0, and the journal goes on at 2"), "{:?}", replayed.failures);

    keep_files(node.folder.path(), "5").unwrap();
    assert!(node.folder.path().join("millpond-journal.0.kept-5").exists());
    let journal = Journal::open(node.folder.path(), OPTIONS).unwrap();
    assert_eq!(journal.wants_file(), Some(0), "what is kept is none of the journal's files any more");
}

#[test]
fn a_damaged_entry_of_an_earlier_lap_is_told() {
    let mut node = journaled();
    node.journal.add_file(Journal::make_file(node.folder.path(), OPTIONS, 1, || {}).unwrap());
    for _ in 0..12 {
        append(&node.logs[0], batch(1, &[0; 1500]));
        node.round();
    }
    let copy = power_cut(&node, &mut Dice(1));
    std::fs::write(dir_of(copy.path(), 1).join("00000000000000000000.log"), b"").unwrap();
    let path = copy.path().join("millpond-journal.0");
    let bytes = std::fs::read(&path).unwrap();
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"journaled")).collect();
    flip_bit(&path, places[2], 0);
    let (node, replayed) = Node::recover(copy, [0; LOGS]);
    assert_eq!((node.logs[0].log_end_offset(), node.logs[1].log_end_offset()), (14, 0));
    assert_eq!(replayed.failures.len(), 1);
    assert!(replayed.failures[0].contains("millpond-journal.0: its entry at position"), "{:?}", replayed.failures);
}

#[test]
fn cuts_that_fill_a_lap_do_not_make_others_entries_void() {
    let mut node = journaled();
    node.journal.add_file(Journal::make_file(node.folder.path(), OPTIONS, 1, || {}).unwrap());
    let end = node.logs[1].truncate_to(0).unwrap();
    let laps: Vec<u64> = (0..80).map(|_| node.journal.cut(id(1), 0, end).unwrap()).collect();
    assert_eq!((laps[0], laps[79]), (1, 2));
    let copy = power_cut(&node, &mut Dice(1));
    std::fs::write(dir_of(copy.path(), 0).join("00000000000000000000.log"), b"").unwrap();
    let (node, replayed) = Node::recover(copy, [0; LOGS]);
    assert_eq!((node.logs[0].log_end_offset(), node.logs[1].log_end_offset()), (2, 0));
    assert_eq!(replayed.failures, Vec::<String>::new());
}

#[test]
fn a_hole_before_the_journals_batches_is_told() {
    let mut node = journaled();
    node.release(0);
    node.logs[2].sync().unwrap();
    append(&node.logs[2], batch(3, b"behind what is lost"));
    let fresh = node.logs[2].take_fresh().unwrap();
    // As if the first lap had been released and the log's synced bytes were then lost.
    let copy = folder();
    let mut journal = Journal::open(copy.path(), OPTIONS).unwrap();
    journal.add_file(Journal::make_file(copy.path(), OPTIONS, 0, || {}).unwrap());
    journal.write(&[entry(2, &fresh)]).unwrap();
    drop(journal);
    for log in 0..LOGS {
        PartitionLog::create(&dir_of(copy.path(), log), id(log), log_options(), Arc::clone(&LogBudget::new(0)))
            .unwrap();
    }
    let (node, replayed) = Node::recover(copy, [0; LOGS]);
    assert_eq!(node.logs[2].log_end_offset(), 0);
    assert!(replayed.failures[0].contains("ends at 0, and the journal goes on at 2"), "{:?}", replayed.failures);
}

#[test]
fn a_journal_of_one_file_is_used_again_when_its_lap_is_released() {
    let mut node = journaled();
    let mut written = 1;
    while let Some(fresh) = {
        append(&node.logs[0], batch(1, &[0; 1500]));
        node.logs[0].take_fresh()
    } {
        match node.journal.write(&[entry(0, &fresh)]) {
            Ok(lap) => assert_eq!(lap, 1),
            Err(JournalError::Full) => break,
            Err(error) => panic!("{error}"),
        }
        written += 1;
        assert!(written < 100, "the file has an end");
    }
    assert_eq!((node.journal.ended_lap(), node.journal.ended_lap()), (Some(1), None));
    // Nothing is released yet, and a log can be cut all the same.
    let end = node.logs[1].truncate_to(0).unwrap();
    assert_eq!(node.journal.cut(id(1), 0, end).unwrap(), 1);
    let (recovered, replayed) = Node::recover(power_cut(&node, &mut Dice(1)), [0; LOGS]);
    assert_eq!((recovered.logs[1].log_end_offset(), replayed.failures), (0, Vec::new()));
    node.logs[0].sync().unwrap();
    append(&node.logs[0], batch(1, b"next"));
    let fresh = node.logs[0].take_fresh().unwrap();
    assert!(matches!(node.journal.write(&[entry(0, &fresh)]), Err(JournalError::Full)), "not before the release");
    node.journal.release(1);
    assert_eq!(node.journal.write(&[entry(0, &fresh)]).unwrap(), 2);
}

#[test]
fn files_of_another_size_or_beyond_the_number_go() {
    let node = journaled();
    let folder = node.folder;
    drop(node.journal);
    let larger = JournalOptions { file_bytes: 2 * OPTIONS.file_bytes, ..OPTIONS };
    assert_eq!(Journal::open(folder.path(), larger).unwrap().wants_file(), Some(0));
    assert!(journal_files(folder.path()).is_empty());
    Journal::make_file(folder.path(), OPTIONS, 0, || {}).unwrap();
    assert_eq!(Journal::open(folder.path(), JournalOptions { files_max: 0, ..OPTIONS }).unwrap().wants_file(), None);
    assert!(journal_files(folder.path()).is_empty());
}
