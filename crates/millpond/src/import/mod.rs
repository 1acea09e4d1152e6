//! `millpond import`: makes a data folder out of those of a stopped Apache Kafka, which stay as they are.
//!
//! First all that stands against it is found (`kafka/` reads Kafka's folders, `plan.rs` compares). Then the partitions' logs are
//! copied and checked one after the other, and the metadata are written last: until then no node starts on the new folder.

mod groups;
mod kafka;
mod plan;
mod progress;
mod report;

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use clap::Args;
use millpond_broker::{Clock, NewDataFolder, OFFSETS_TOPIC, OpenError};
use millpond_disk::ForeignFolderLock;
use millpond_log::{ForeignLog, LogError, LogOptions, TakeOverError};
use millpond_types::{LeaderEpoch, TopicName, TopicPartition};

use groups::Groups;
use kafka::{Cluster, LogDir, LogDirError, METADATA_FOLDER, MetadataLogError, read_metadata};
use plan::{Plan, PlannedPartition};
use progress::Progress;

/// Things that an error tells at once, at most.
const PROBLEMS_MAX: usize = 20;

/// Make a data folder out of that of a stopped Apache Kafka
///
/// Takes over topics with their ids, partitions and configurations, the records with their offsets
/// and timestamps, what idempotent producers have sent, and the offsets that groups have committed.
/// Of Kafka 4.3.1 in KRaft mode, one node; older ones as far as their files are the same.
///
/// Kafka must be stopped, and cannot be started while this runs. Its folders are only read. If it
/// was killed, what its last write left unfinished is cut off, as its own start would do; anything
/// else that is damaged is told, and nothing is imported.
///
/// The new folder must be empty or not exist. Until all is there and on the disk no node starts on
/// it; after a crash or a full disk the same command begins anew. Its settings are not those of
/// Kafka's server.properties, which is not in the folder: give them to `millpond serve`.
///
/// What is not taken over is listed: settings that Millpond does not have, access control, quotas,
/// users, the state of transactions.
///
///   millpond import --from-kafka /var/lib/kafka/data --data millpond-data --dry-run
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ImportArguments {
    /// A folder of Kafka's (log.dirs); once for each, if there are several
    #[arg(long, value_name = "DIR", required = true)]
    from_kafka: Vec<PathBuf>,
    /// Where Kafka's metadata log is, if in none of them (metadata.log.dir)
    #[arg(long, value_name = "DIR")]
    metadata_log_dir: Option<PathBuf>,
    /// The new data folder; made if missing
    #[arg(long, value_name = "DIR", default_value = "millpond-data", env = "MILLPOND_DATA")]
    data: PathBuf,
    /// A topic that is left out; may be repeated
    #[arg(long, value_name = "TOPIC")]
    without: Vec<TopicName>,
    /// Say what would be imported, and write nothing; the logs are not checked
    #[arg(long)]
    dry_run: bool,
}

/// Why nothing is imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error(transparent)]
    LogDir(#[from] LogDirError),
    #[error(
        "none of the folders has a metadata log ({METADATA_FOLDER}). If it is elsewhere (metadata.log.dir, or a controller of its own), \
         name that folder with --metadata-log-dir; a Kafka with ZooKeeper has none, take it to KRaft first"
    )]
    NoMetadata,
    #[error("a Kafka runs on {}: {source}. Stop it first", path.display())]
    ControllerRuns { path: PathBuf, source: millpond_disk::DiskError },
    #[error(transparent)]
    Metadata(#[from] MetadataLogError),
    #[error(
        "{} is of node {} of cluster {}, and {} of node {} of cluster {}: they are not of one Kafka",
        one.0.display(), one.1, one.2, other.0.display(), other.1, other.2
    )]
    Different { one: (PathBuf, i32, String), other: (PathBuf, i32, String) },
    #[error("{} is within Kafka's folder {}, where nothing is written. Choose another one with --data", data.display(), source_dir.display())]
    Within { data: PathBuf, source_dir: PathBuf },
    #[error("nothing was imported:\n  {}", shown(.0))]
    Problems(Vec<String>),
    #[error(transparent)]
    Folder(#[from] OpenError),
    #[error("{partition} cannot be imported: {source}{}", after(source))]
    Partition { partition: TopicPartition, source: TakeOverError },
    #[error("nothing was imported: {0}")]
    OpenTransaction(String),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the report cannot be written: {0}")]
    Output(#[from] io::Error),
}

fn shown(problems: &[String]) -> String {
    let mut shown: Vec<String> = problems.iter().take(PROBLEMS_MAX).cloned().collect();
    if problems.len() > PROBLEMS_MAX {
        shown.push(format!("and {} more", problems.len() - PROBLEMS_MAX));
    }
    shown.join("\n  ")
}

/// What to do after a full disk.
fn after(error: &TakeOverError) -> &'static str {
    match error {
        TakeOverError::Log(LogError::Disk(error)) if error.is_full() => {
            ". Make room, or choose another folder with --data, and run the same again: what is there is replaced"
        }
        _ => "",
    }
}

/// What the logs came to.
#[derive(Debug, Default)]
struct Imported {
    bytes: u64,
    leader_epoch: LeaderEpoch,
    notes: Vec<String>,
}

/// Imports what the command line names.
pub(crate) fn run(arguments: &ImportArguments) -> Result<(), ImportError> {
    let dirs = open_dirs(&arguments.from_kafka)?;
    refuse_within(&arguments.data, arguments.from_kafka.iter().chain(&arguments.metadata_log_dir))?;
    NewDataFolder::check(&arguments.data)?;
    let (cluster, _metadata_lock) = metadata(&dirs, arguments.metadata_log_dir.as_deref())?;
    let plan = plan::plan(&dirs, &cluster, &arguments.without).map_err(ImportError::Problems)?;
    let mut notes = Vec::new();
    if dirs.iter().any(|dir| !dir.was_closed) {
        notes.push("Kafka was not stopped cleanly; its logs were taken over up to their last whole batches".to_owned());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.dry_run {
        let groups = count_groups(&plan, |partition| partition.found.dir.clone())?;
        return Ok(report::write(&mut out, &plan, &groups, None, &notes)?);
    }
    let what = format!("an import from {} was not finished", arguments.from_kafka.first().map_or("", |dir| text(dir)));
    let clock = Clock::system();
    let mut folder = NewDataFolder::begin(&arguments.data, &plan.cluster_id, &what)?;
    let imported = take_over(&plan, &mut folder, &clock)?;
    let groups = count_groups(&plan, |partition| folder.partition_dir(&partition.found.partition))?;
    // Clients that know an epoch of Kafka's take the next one for a new leader.
    folder.finish(&plan.changes, imported.leader_epoch.saturating_add(1), clock.now_ms())?;
    notes.extend_from_slice(&imported.notes);
    Ok(report::write(&mut out, &plan, &groups, Some(&imported), &notes)?)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or("a folder of Kafka's")
}

fn open_dirs(paths: &[PathBuf]) -> Result<Vec<LogDir>, ImportError> {
    let dirs = paths.iter().map(|path| LogDir::open(path)).collect::<Result<Vec<LogDir>, LogDirError>>()?;
    let whose = |dir: &LogDir| (dir.path.clone(), dir.node_id, dir.cluster_id.clone());
    if let Some(one) = dirs.first()
        && let Some(other) =
            dirs.iter().find(|other| (other.node_id, &other.cluster_id) != (one.node_id, &one.cluster_id))
    {
        return Err(ImportError::Different { one: whose(one), other: whose(other) });
    }
    Ok(dirs)
}

/// Nothing is written below the folders of Kafka.
fn refuse_within<'a>(data: &Path, sources: impl Iterator<Item = &'a PathBuf>) -> Result<(), ImportError> {
    // What does not exist yet would be made in the first folder above that does.
    let there = data.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        path.canonicalize().ok()
    });
    for source in sources {
        if let (Some(there), Ok(canonical)) = (&there, source.canonicalize())
            && there.starts_with(&canonical)
        {
            return Err(ImportError::Within { data: data.to_owned(), source_dir: source.clone() });
        }
    }
    Ok(())
}

/// Reads Kafka's metadata; whoever wrote them cannot be started while the lock is held.
fn metadata(dirs: &[LogDir], elsewhere: Option<&Path>) -> Result<(Cluster, Option<ForeignFolderLock>), ImportError> {
    match elsewhere {
        None => {
            let dir = dirs.iter().find(|dir| dir.has_metadata).ok_or(ImportError::NoMetadata)?;
            Ok((read_metadata(&dir.path.join(METADATA_FOLDER), dir.was_closed)?, None))
        }
        // A second lock for the same file would be lost with the first that is given back.
        Some(path) if dirs.iter().any(|dir| dir.path.canonicalize().ok() == path.canonicalize().ok()) => {
            metadata(dirs, None)
        }
        Some(path) => {
            let lock = ForeignFolderLock::take(path)
                .map_err(|source| ImportError::ControllerRuns { path: path.to_owned(), source })?;
            // A controller of its own leaves no sign of a clean stop.
            Ok((read_metadata(&path.join(METADATA_FOLDER), false)?, Some(lock)))
        }
    }
}

/// Copies and checks the logs of all partitions.
fn take_over(plan: &Plan, folder: &mut NewDataFolder, clock: &Clock) -> Result<Imported, ImportError> {
    let mut imported = Imported { leader_epoch: plan.leader_epoch, ..Imported::default() };
    let progress = Progress::new(plan.partitions.iter().map(|partition| partition.found.bytes).sum());
    for PlannedPartition { topic_id, config, found } in &plan.partitions {
        let partition = &found.partition;
        progress.begin(partition);
        let log = ForeignLog {
            source: &found.dir,
            topic_id: *topic_id,
            log_start_offset: found.log_start_offset,
            recovery_point: found.recovery_point,
            was_closed: found.was_closed,
        };
        let options = LogOptions { index_interval_bytes: config.index_interval_bytes, ..LogOptions::default() };
        let taken = log
            .take_over(&folder.partition_dir(partition), options, clock.now_ms(), &|bytes| progress.add(bytes))
            .map_err(|source| ImportError::Partition { partition: partition.clone(), source })?;
        if let Some((producer_id, first_offset)) = taken.open_transactions.first_key_value() {
            let why = plan::still_open(partition, *producer_id, *first_offset);
            return Err(ImportError::OpenTransaction(why));
        }
        if taken.cut_bytes > 0 {
            let (bytes, end) = (taken.cut_bytes, taken.log_end_offset);
            imported
                .notes
                .push(format!("{partition}: {bytes} bytes of an unfinished write at offset {end} were cut off"));
        }
        if let Some(gap) = taken.first_gap.filter(|_| !config.cleanup_policy.compact) {
            imported.notes.push(format!(
                "{partition}: a segment begins at offset {gap}, behind the end of the one before. An earlier compaction leaves that; if \
                 the topic never had one, a file is missing"
            ));
        }
        imported.bytes += taken.bytes;
        imported.leader_epoch = imported.leader_epoch.max(taken.leader_epoch.unwrap_or(0));
        folder.add(partition.clone(), taken.log_start_offset, taken.log_end_offset);
    }
    Ok(imported)
}

fn count_groups(plan: &Plan, dir: impl Fn(&PlannedPartition) -> PathBuf) -> Result<Groups, LogError> {
    let of_offsets = |partition: &&PlannedPartition| partition.found.partition.topic.as_str() == OFFSETS_TOPIC;
    let dirs: Vec<PathBuf> = plan.partitions.iter().filter(of_offsets).map(dir).collect();
    groups::count(dirs.iter().map(PathBuf::as_path))
}
