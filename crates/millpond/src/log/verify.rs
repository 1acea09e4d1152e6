//! `millpond log verify`: whether all files are sound.

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use millpond_broker::{DataFolder, DataFolderError};
use millpond_log::inspect::{Claims, Finding, Tallies, Unfinished, Verified, Watch, verify};
use millpond_types::TopicPartition;
use serde::Serialize;

use super::output::Output;
use super::target::{Target, chosen};
use super::{DataArgument, LogToolError, exit};

/// How long a look at files that a node may be writing waits before it looks again.
const PAUSE: Duration = Duration::from_millis(100);

/// How often the looks at the folder itself are repeated while they find something.
const SECOND_LOOKS_MAX: usize = 3;

/// How often progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Read everything, and tell what is damaged and what to do about it
///
/// Looks at every byte of the logs, and at what belongs to them:
///
///   batches      checksums, lengths, offsets that follow each other within and between segments
///   records      number, offsets and timestamps against the batch's header, decompressed
///   indexes      whether entries lead to the batches that they speak of, by offset, time and
///                aborted transaction
///   snapshots    what producers are said to have written, against the batches
///   epochs       leader epochs against the batches
///   checkpoints  what the node has noted of its logs: up to where they were synced, where they
///                start, how far they were compacted
///   metadata     topics against the folders that are there
///
/// Each finding tells file, position and offset, what is wrong, and what to do. Offsets may be
/// missing below what compaction has noted, and nowhere else.
///
/// Nothing is written and nothing locked. The node may be running: what is behind the last whole
/// batch is being written and no damage, and what is found in files that may change is looked at
/// again before it is told. After a power cut start the node first: it puts back from its journal
/// what the logs lack, and cuts off what the crash left unfinished.
///
/// Exit code: 0 all is sound, 1 there are findings, 2 something could not be read.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    data: DataArgument,
    /// JSON, one object a line
    #[arg(long)]
    json: bool,
    /// These topics or partitions alone; all without one, and what is said of them in the data folder
    #[arg(value_name = "TOPIC[:PARTITION]")]
    targets: Vec<Target>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Finding {
        about: String,
        file: &'a Path,
        position: Option<u64>,
        offset: Option<i64>,
        what: &'a str,
        remedy: &'a str,
    },
    /// Behind the last whole batch; no finding.
    Unfinished { file: &'a Path, position: u64, bytes: u64 },
    /// A partition that could not be read.
    Unreadable { partition: String, error: String },
    Summary {
        partitions: u64,
        files: u64,
        batches: u64,
        batches_too_large: u64,
        records: u64,
        bytes: u64,
        findings: u64,
        unreadable: u64,
    },
}

pub(super) fn run(arguments: &VerifyArguments) -> Result<i32, LogToolError> {
    let folder = DataFolder::read(&arguments.data.path)?;
    let partitions = chosen(&folder, &arguments.targets)?;
    let mut report = Report::new(arguments.json, partitions.len());
    if arguments.targets.is_empty() {
        report.findings(&folder_findings(&folder)?)?;
    }
    for (partition, dir) in &partitions {
        report.progress.begin(partition);
        let looks = Cell::new(0);
        let claims = || claims(&folder, partition, &looks);
        let watch =
            Watch { claims: &claims, pause: &|| std::thread::sleep(PAUSE), progress: &|n| report.progress.read(n) };
        let verified = verify(dir, &watch);
        match verified {
            // A topic may be deleted at any time.
            Ok(None) => {}
            Ok(Some(verified)) => report.partition(&verified)?,
            Err(error) => report.unreadable(partition, &error.to_string())?,
        }
    }
    report.end()
}

/// What the node has noted of a partition: first as it was at the beginning, since the logs are never behind that; then as it is.
fn claims(folder: &DataFolder, partition: &TopicPartition, looks: &Cell<usize>) -> Claims {
    looks.set(looks.get() + 1);
    if looks.get() == 1 {
        return folder.claims(partition);
    }
    match DataFolder::read(folder.path()) {
        Ok(folder) => folder.claims(partition),
        // Then nothing is known.
        Err(_) => Claims::default(),
    }
}

/// What does not fit between the folder's own files, also at a second look if its node may be running.
fn folder_findings(folder: &DataFolder) -> Result<Vec<Finding>, DataFolderError> {
    let mut findings = folder.findings();
    for _ in 0..SECOND_LOOKS_MAX {
        if findings.is_empty() || folder.is_closed() {
            break;
        }
        std::thread::sleep(PAUSE);
        let again = DataFolder::read(folder.path())?.findings();
        findings.retain(|finding| again.contains(finding));
    }
    Ok(findings)
}

/// Writes what was found, and adds up.
struct Report {
    output: Output,
    json: bool,
    progress: Progress,
    partitions: u64,
    tallies: Tallies,
    findings: u64,
    unreadable: u64,
}

impl Report {
    fn new(json: bool, partitions: usize) -> Report {
        Report {
            output: Output::new(),
            json,
            progress: Progress::new(partitions),
            partitions: 0,
            tallies: Tallies::default(),
            findings: 0,
            unreadable: 0,
        }
    }

    fn partition(&mut self, verified: &Verified) -> io::Result<()> {
        self.partitions += 1;
        self.tallies.add(&verified.tallies);
        self.findings(&verified.findings)?;
        if verified.findings_unlisted > 0 {
            self.findings += verified.findings_unlisted;
            if !self.json {
                self.output.line(&format!("and {} findings more in this partition", verified.findings_unlisted))?;
            }
        }
        if let Some(unfinished) = &verified.unfinished {
            self.unfinished(unfinished)?;
        }
        Ok(())
    }

    fn findings(&mut self, findings: &[Finding]) -> io::Result<()> {
        if !findings.is_empty() {
            self.progress.clear();
        }
        for finding in findings {
            self.findings += 1;
            let Finding { kind, file, position, offset, what, remedy } = finding;
            if self.json {
                let (position, offset) = (*position, *offset);
                self.output.json(&Line::Finding { about: kind.to_string(), file, position, offset, what, remedy })?;
                continue;
            }
            let position = position.map_or(String::new(), |position| format!(" position {position}"));
            let offset = offset.map_or(String::new(), |offset| format!(" offset {offset}"));
            self.output.line(&format!("{}:{position}{offset} [{kind}] {what}", file.display()))?;
            self.output.line(&format!("    to do: {remedy}"))?;
        }
        // Before the next partition, which may take long.
        if findings.is_empty() { Ok(()) } else { self.output.flush() }
    }

    fn unfinished(&mut self, unfinished: &Unfinished) -> io::Result<()> {
        let Unfinished { file, position, bytes } = unfinished;
        if self.json {
            return self.output.json(&Line::Unfinished { file, position: *position, bytes: *bytes });
        }
        self.progress.clear();
        self.output.line(&format!(
            "{}: position {position} no finding: {bytes} bytes behind the last whole batch are being written, or were when the node \
             ended; the next start cuts them off",
            file.display()
        ))
    }

    fn unreadable(&mut self, partition: &TopicPartition, error: &str) -> io::Result<()> {
        self.unreadable += 1;
        if self.json {
            let (partition, error) = (partition.to_string(), error.to_owned());
            return self.output.json(&Line::Unreadable { partition, error });
        }
        self.progress.clear();
        self.output.line(&format!("{partition}: not verified, as {error}"))
    }

    fn end(mut self) -> Result<i32, LogToolError> {
        self.progress.clear();
        let Tallies { files, batches, records, bytes, batches_too_large } = self.tallies;
        let (partitions, findings, unreadable) = (self.partitions, self.findings, self.unreadable);
        if self.json {
            let summary =
                Line::Summary { partitions, files, batches, batches_too_large, records, bytes, findings, unreadable };
            self.output.json(&summary)?;
        } else {
            if batches_too_large > 0 {
                self.output.line(&format!("{batches_too_large} batches are too large to look at their records"))?;
            }
            let unread = if unreadable > 0 { format!(", {unreadable} partitions not read") } else { String::new() };
            self.output.line(&format!(
                "{partitions} partitions, {files} files, {batches} batches, {records} records, {bytes} bytes: {findings} findings{unread}"
            ))?;
        }
        self.output.flush()?;
        Ok(match (unreadable, findings) {
            (0, 0) => 0,
            (0, _) => exit::FINDINGS,
            _ => exit::UNREADABLE,
        })
    }
}

/// A line on stderr, if that is a terminal, that tells how far it is.
struct Progress {
    is_shown: bool,
    partitions: usize,
    begun: Cell<usize>,
    bytes: Cell<u64>,
    started: Instant,
    shown: Cell<Option<Instant>>,
    partition: RefCell<String>,
}

impl Progress {
    fn new(partitions: usize) -> Progress {
        Progress {
            is_shown: io::stderr().is_terminal(),
            partitions,
            begun: Cell::new(0),
            bytes: Cell::new(0),
            started: Instant::now(),
            shown: Cell::new(None),
            partition: RefCell::default(),
        }
    }

    fn begin(&self, partition: &TopicPartition) {
        self.begun.set(self.begun.get() + 1);
        if self.is_shown {
            *self.partition.borrow_mut() = partition.to_string();
            self.show();
        }
    }

    fn read(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        if self.is_shown {
            self.show();
        }
    }

    fn show(&self) {
        if self.shown.get().is_some_and(|shown| shown.elapsed() < PROGRESS_INTERVAL) {
            return;
        }
        self.shown.set(Some(Instant::now()));
        let megabytes = self.bytes.get() / 1_000_000;
        let rate = self.bytes.get() as f64 / 1e6 / self.started.elapsed().as_secs_f64().max(0.001);
        let (begun, all, partition) = (self.begun.get(), self.partitions, self.partition.borrow());
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "\r\x1b[K{begun} of {all} partitions, {megabytes} MB, {rate:.0} MB/s: {partition}");
        let _ = stderr.flush();
    }

    /// Makes room for other lines.
    fn clear(&self) {
        if self.is_shown && self.shown.take().is_some() {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K");
            let _ = stderr.flush();
        }
    }
}
