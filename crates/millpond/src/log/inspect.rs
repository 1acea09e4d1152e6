//! `millpond log inspect`: a line for each partition.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use millpond_broker::{DataFolder, OtherEntry};
use millpond_log::inspect::{PRODUCERS_COUNTED_MAX, SegmentSummary, Summary, summarize};
use millpond_types::{Offset, TimestampMs, TopicPartition};
use serde::Serialize;

use super::output::{Output, time};
use super::target::{Target, chosen};
use super::{DataArgument, LogToolError};

/// Show how large each partition is, where it starts and ends, and what the node has noted of it
///
/// A line for each partition's folder, and sums:
///
///   TOPIC, PARTITION  whose log it is
///   TOPIC ID          as it stands in the folder
///   START, END        the first offset, and the one after the last
///   SEGMENTS          how many files of batches
///   LOG BYTES         bytes of those files
///   ALL BYTES         and of indexes, snapshots, deleted segments that wait for their removal
///   FIRST, LAST       the timestamp of the first record, and the largest one (UTC)
///   RECOVERY          below this offset all was synced, as the node notes down now and then
///   PRODUCERS         idempotent producers of which something is known
///   EPOCH             the newest leader epoch that wrote
///
/// What takes the disk: --sort bytes. Only indexes and the ends of logs are read, so this is quick
/// also where there is much. A node may be running on the folder. That of Apache Kafka can be
/// inspected, too.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct InspectArguments {
    #[command(flatten)]
    data: DataArgument,
    /// In which order
    #[arg(long, value_enum, default_value_t = Order::Name)]
    sort: Order,
    /// A line for each segment, too
    #[arg(long)]
    segments: bool,
    /// JSON, one object a line
    #[arg(long)]
    json: bool,
    /// These topics or partitions alone; all without one
    #[arg(value_name = "TOPIC[:PARTITION]")]
    targets: Vec<Target>,
}

/// The order of partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// By topic and partition
    Name,
    /// What takes most of the disk first
    Bytes,
}

/// A partition and its figures.
struct Inspected {
    partition: TopicPartition,
    summary: Summary,
    start_offset: Offset,
    recovery_point: Option<Offset>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Partition {
        topic: &'a str,
        partition: i32,
        topic_id: Option<String>,
        start_offset: Offset,
        end_offset: Offset,
        segments: usize,
        log_bytes: u64,
        bytes: u64,
        first_timestamp_ms: Option<TimestampMs>,
        last_timestamp_ms: Option<TimestampMs>,
        recovery_point: Option<Offset>,
        producers: usize,
        leader_epoch: Option<i32>,
    },
    Segment {
        topic: &'a str,
        partition: i32,
        file: &'a Path,
        base_offset: Offset,
        end_offset: Offset,
        log_bytes: u64,
        bytes: u64,
        first_timestamp_ms: Option<TimestampMs>,
        last_timestamp_ms: Option<TimestampMs>,
    },
    /// Something in the data folder that is no partition's.
    Other { name: &'a str, bytes: u64 },
    Total {
        partitions: usize,
        segments: usize,
        log_bytes: u64,
        /// Of the partitions' folders.
        bytes: u64,
    },
}

pub(super) fn run(arguments: &InspectArguments) -> Result<i32, LogToolError> {
    let folder = DataFolder::read(&arguments.data.path)?;
    let mut inspected = Vec::new();
    for (partition, dir) in chosen(&folder, &arguments.targets)? {
        // A topic may be deleted at any time.
        let Some(summary) = summarize(&dir)? else { continue };
        inspected.push(look(&folder, partition, summary));
    }
    if arguments.sort == Order::Bytes {
        inspected.sort_by_key(|inspected| std::cmp::Reverse(inspected.summary.bytes));
    }
    // What is beside the partitions matters to whoever asks for all of them.
    let mut others: Vec<&OtherEntry> =
        folder.others().iter().filter(|other| arguments.targets.is_empty() && other.bytes > 0).collect();
    if arguments.sort == Order::Bytes {
        others.sort_by_key(|other| std::cmp::Reverse(other.bytes));
    }
    let mut output = Output::new();
    if arguments.json {
        write_json(&mut output, &inspected, &others, arguments.segments)?;
    } else {
        write_table(&mut output, &inspected, &others, arguments.segments)?;
    }
    output.flush()?;
    Ok(0)
}

fn look(folder: &DataFolder, partition: TopicPartition, summary: Summary) -> Inspected {
    let claims = folder.claims(&partition);
    let first = summary.segments.first().map_or(0, |segment| segment.base_offset);
    let start_offset = claims.log_start.unwrap_or(0).max(first);
    Inspected { partition, start_offset, recovery_point: claims.recovery_point, summary }
}

fn total(inspected: &[Inspected]) -> (usize, u64, u64) {
    let sum = |of: fn(&Summary) -> u64| inspected.iter().map(|inspected| of(&inspected.summary)).sum();
    let segments = inspected.iter().map(|inspected| inspected.summary.segments.len()).sum();
    (segments, sum(|summary| summary.log_bytes), sum(|summary| summary.bytes))
}

fn write_json(
    output: &mut Output,
    inspected: &[Inspected],
    others: &[&OtherEntry],
    with_segments: bool,
) -> Result<(), LogToolError> {
    for Inspected { partition, summary, start_offset, recovery_point } in inspected {
        let topic = partition.topic.as_str();
        output.json(&Line::Partition {
            topic,
            partition: partition.partition,
            topic_id: summary.topic_id.map(|id| id.to_string()),
            start_offset: *start_offset,
            end_offset: summary.end_offset,
            segments: summary.segments.len(),
            log_bytes: summary.log_bytes,
            bytes: summary.bytes,
            first_timestamp_ms: summary.first_timestamp,
            last_timestamp_ms: summary.last_timestamp,
            recovery_point: *recovery_point,
            producers: summary.producers,
            leader_epoch: summary.leader_epoch,
        })?;
        for segment in summary.segments.iter().filter(|_| with_segments) {
            output.json(&Line::Segment {
                topic,
                partition: partition.partition,
                file: &segment.path,
                base_offset: segment.base_offset,
                end_offset: segment.end_offset,
                log_bytes: segment.log_bytes,
                bytes: segment.bytes,
                first_timestamp_ms: segment.first_timestamp,
                last_timestamp_ms: segment.last_timestamp,
            })?;
        }
    }
    for other in others {
        output.json(&Line::Other { name: &other.name, bytes: other.bytes })?;
    }
    let (segments, log_bytes, bytes) = total(inspected);
    output.json(&Line::Total { partitions: inspected.len(), segments, log_bytes, bytes })?;
    Ok(())
}

/// Columns of the table; the first one and the third are text.
const COLUMNS: [&str; 12] = [
    "TOPIC",
    "PARTITION",
    "TOPIC ID",
    "START",
    "END",
    "SEGMENTS",
    "LOG BYTES",
    "ALL BYTES",
    "FIRST",
    "LAST",
    "RECOVERY",
    "PRODUCERS",
];

fn write_table(
    output: &mut Output,
    inspected: &[Inspected],
    others: &[&OtherEntry],
    with_segments: bool,
) -> Result<(), LogToolError> {
    let mut header: Vec<String> = COLUMNS.iter().map(|name| (*name).to_owned()).collect();
    header.push("EPOCH".to_owned());
    if with_segments {
        header[2] = "TOPIC ID / SEGMENT".to_owned();
    }
    let mut rows = vec![header];
    for partition in inspected {
        rows.push(partition_row(partition));
        if with_segments {
            rows.extend(partition.summary.segments.iter().map(|segment| segment_row(&partition.partition, segment)));
        }
    }
    let (segments, log_bytes, bytes) = total(inspected);
    let mut sums = vec![String::new(); 13];
    sums[0] = "total".to_owned();
    sums[1] = inspected.len().to_string();
    sums[5] = segments.to_string();
    sums[6] = log_bytes.to_string();
    sums[7] = bytes.to_string();
    rows.push(sums);
    for line in aligned(&rows, &[0, 2]) {
        output.line(&line)?;
    }
    if !others.is_empty() {
        output.line("")?;
        let mut rows = vec![vec!["BESIDE THE PARTITIONS".to_owned(), "BYTES".to_owned()]];
        rows.extend(others.iter().map(|other| vec![other.name.clone(), other.bytes.to_string()]));
        for line in aligned(&rows, &[0]) {
            output.line(&line)?;
        }
    }
    Ok(())
}

fn partition_row(inspected: &Inspected) -> Vec<String> {
    let Inspected { partition, summary, start_offset, recovery_point } = inspected;
    let producers = match summary.producers {
        PRODUCERS_COUNTED_MAX.. => format!("{PRODUCERS_COUNTED_MAX}+"),
        producers => producers.to_string(),
    };
    vec![
        partition.topic.to_string(),
        partition.partition.to_string(),
        or_dash(summary.topic_id),
        start_offset.to_string(),
        summary.end_offset.to_string(),
        summary.segments.len().to_string(),
        summary.log_bytes.to_string(),
        summary.bytes.to_string(),
        or_dash(summary.first_timestamp.map(time)),
        or_dash(summary.last_timestamp.map(time)),
        or_dash(*recovery_point),
        producers,
        or_dash(summary.leader_epoch),
    ]
}

fn segment_row(partition: &TopicPartition, segment: &SegmentSummary) -> Vec<String> {
    let file = segment.path.file_name().map_or_else(PathBuf::new, PathBuf::from);
    let mut row = vec![
        partition.topic.to_string(),
        partition.partition.to_string(),
        file.display().to_string(),
        segment.base_offset.to_string(),
        segment.end_offset.to_string(),
        String::new(),
        segment.log_bytes.to_string(),
        segment.bytes.to_string(),
        or_dash(segment.first_timestamp.map(time)),
        or_dash(segment.last_timestamp.map(time)),
    ];
    row.resize(13, String::new());
    row
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Rows with their cells below each other; the columns `text` begin on the left, the others end on the right.
fn aligned(rows: &[Vec<String>], text: &[usize]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match text.contains(&column) {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            })
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
