//! `millpond log dump`: what is in a file, or in a partition's segments.

mod batches;
mod decode;
mod entries;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use millpond_broker::DataFolder;
use millpond_log::inspect::{FileKind, PartitionFolder};
use millpond_types::{Offset, TopicPartition};

use super::output::Output;
use super::target::{Target, chosen};
use super::{DataArgument, LogToolError, exit};
use decode::Schema;

/// Show what is in a file, or in a partition's segments: batches, records, index entries
///
/// FILE is a file of a data folder or a copy of one, known by the end of its name: .log, .index,
/// .timeindex, .txnindex, .snapshot, leader-epoch-checkpoint, recovery-point-offset-checkpoint,
/// log-start-offset-checkpoint, partition.metadata. Or it is a partition's folder.
/// TOPIC:PARTITION means the segments of that partition in the data folder.
///
/// A line for each batch, with the names that Kafka's dump tool has for its fields; `isvalid` says
/// whether the checksum is that of the bytes. With --records a line for each record follows.
/// Damaged bytes are told, and what comes behind them is shown. What is behind the last whole batch
/// is being written, or was when the node ended.
///
/// Each record is one line: characters that cannot be seen are shown as \n, \t or \u{..}, bytes
/// that are not UTF-8 as \x and two digits. In JSON a value that is not UTF-8 has the name
/// value_hex in place of value; keys likewise.
///
/// Exit code: 0, 1 if damage was told, 2 if something could not be read.
///
///   millpond log dump flights:0 --from 1000 --to 1009 --records
///   millpond log dump millpond-data/flights-0/00000000000000000000.index
///   millpond log dump __consumer_offsets:12 --decode --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct DumpArguments {
    #[command(flatten)]
    data: DataArgument,
    /// Begin with this offset; the batch that holds it is shown as a whole
    #[arg(long, value_name = "OFFSET")]
    from: Option<Offset>,
    /// End with this offset, which is still shown
    #[arg(long, value_name = "OFFSET")]
    to: Option<Offset>,
    /// Show the records, too
    #[arg(long)]
    records: bool,
    /// How records' keys are shown
    #[arg(long, value_enum, default_value_t = Encoding::Utf8)]
    keys: Encoding,
    /// How records' values are shown
    #[arg(long, value_enum, default_value_t = Encoding::Utf8)]
    values: Encoding,
    /// Show the records of the node's own topics by their schema; the folder's name tells which, if none is named
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    decode: Option<Schema>,
    /// JSON, one object a line
    #[arg(long)]
    json: bool,
    /// What to show
    #[arg(value_name = "FILE|TOPIC:PARTITION")]
    source: String,
}

/// How bytes are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Encoding {
    /// As text
    Utf8,
    /// As hexadecimal digits
    Hex,
    /// Only their number
    None,
}

/// What is to be shown, and how.
struct Dump<'a> {
    arguments: &'a DumpArguments,
    output: Output,
    /// Damage was told.
    is_damaged: bool,
}

pub(super) fn run(arguments: &DumpArguments) -> Result<i32, LogToolError> {
    let files = files(arguments)?;
    let mut dump = Dump { arguments, output: Output::new(), is_damaged: false };
    for file in &files {
        // Of a partition's segments some may be deleted meanwhile.
        let may_vanish = files.len() > 1;
        if millpond_log::inspect::is_there(file)? || !may_vanish {
            dump.file(file)?;
        }
    }
    dump.output.flush()?;
    Ok(if dump.is_damaged { exit::FINDINGS } else { 0 })
}

/// The files that are to be shown.
fn files(arguments: &DumpArguments) -> Result<Vec<PathBuf>, LogToolError> {
    let path = Path::new(&arguments.source);
    if path.is_dir() {
        return segments(arguments, path);
    }
    if path.exists() || arguments.source.contains('/') {
        return Ok(vec![path.to_owned()]);
    }
    let target: Target = arguments.source.parse().map_err(|error| {
        LogToolError::Source(format!("'{}' is neither a file nor TOPIC:PARTITION: {error}", arguments.source))
    })?;
    let folder = DataFolder::read(&arguments.data.path)?;
    let partitions = chosen(&folder, std::slice::from_ref(&target))?;
    match partitions.as_slice() {
        [(_, dir)] => segments(arguments, dir),
        several => {
            let topic = &target.topic;
            let names: Vec<String> = several.iter().map(|(p, _)| format!("{topic}:{}", p.partition)).collect();
            Err(LogToolError::Source(format!("which partition? There is {}", names.join(", "))))
        }
    }
}

/// The `.log` files of a partition's folder that hold what is asked for.
fn segments(arguments: &DumpArguments, dir: &Path) -> Result<Vec<PathBuf>, LogToolError> {
    let folder = PartitionFolder::read(dir)?.filter(|folder| !folder.segments.is_empty());
    let folder = folder.ok_or_else(|| {
        LogToolError::Source(format!("{} is no partition's folder: there is no .log file in it", dir.display()))
    })?;
    let wanted = folder.segments_from(arguments.from.unwrap_or(0)).filter(|(segment, _)| {
        // The oldest one is always a beginning.
        arguments.to.is_none_or(|to| segment.base_offset <= to)
    });
    Ok(wanted.map(|(segment, _)| segment.log.path.clone()).collect())
}

impl Dump<'_> {
    fn file(&mut self, path: &Path) -> Result<(), LogToolError> {
        let kind = FileKind::of(path).ok_or_else(|| {
            LogToolError::Source(format!(
                "{}: by its name it is none of the files that can be shown; see millpond log dump --help",
                path.display()
            ))
        })?;
        match kind {
            FileKind::Log => {
                let schema = self.schema(path)?;
                self.batches(path, schema)
            }
            FileKind::Index(base_offset) => self.index(path, base_offset),
            FileKind::TimeIndex(base_offset) => self.time_index(path, base_offset),
            FileKind::TransactionIndex => self.transaction_index(path),
            FileKind::Snapshot => self.snapshot(path),
            FileKind::LeaderEpochs => self.leader_epochs(path),
            FileKind::OffsetCheckpoint => self.offset_checkpoint(path),
            FileKind::Text => self.text(path),
        }
    }

    /// By which schema records are read, if they are.
    fn schema(&self, path: &Path) -> Result<Option<Schema>, LogToolError> {
        let Some(schema) = self.arguments.decode else { return Ok(None) };
        if schema != Schema::Auto {
            return Ok(Some(schema));
        }
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = absolute.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let topic = TopicPartition::from_folder_name(&folder).map(|partition| partition.topic);
        let known = topic.as_ref().and_then(|topic| Schema::of(topic));
        known.map(Some).ok_or_else(|| {
            LogToolError::Source(format!(
                "there is no schema for what is in the folder '{folder}': --decode=offsets reads records of __consumer_offsets, \
                 --decode=metadata those of __millpond_metadata"
            ))
        })
    }

    /// Whether an offset is asked for.
    fn is_wanted(&self, offset: Offset) -> bool {
        self.arguments.from.is_none_or(|from| offset >= from) && self.arguments.to.is_none_or(|to| offset <= to)
    }

    /// Tells of damage to a file that has no positions.
    fn damaged(&mut self, path: &Path, what: &str) -> Result<(), LogToolError> {
        self.is_damaged = true;
        if self.arguments.json {
            let line = serde_json::json!({ "kind": "damage", "file": path, "what": what });
            return Ok(self.output.json(&line)?);
        }
        Ok(self.output.line(&format!("damaged: {what}"))?)
    }
}
