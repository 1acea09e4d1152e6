//! What can go wrong, by who can do something about it.

use std::path::PathBuf;

use millpond_log::{AppendError, LogError, ReadError};
use millpond_metadata::MetadataError;
use millpond_records::ProducedError;
use millpond_types::{Offset, PartitionIndex, TimestampMs, TopicName};

use crate::space::DiskFull;

/// Why the node does not start on a data folder.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the data folder {} is in use: {source}. Stop the other process, or choose another folder", path.display())]
    InUse {
        /// The data folder.
        path: PathBuf,
        /// What taking the lock said.
        source: millpond_disk::DiskError,
    },
    /// It, or what is in it, cannot be written.
    #[error("the data folder {} cannot be written: {source}. Check its owner and rights, or choose another folder", path.display())]
    NotWritable {
        /// The data folder.
        path: PathBuf,
        /// What was tried and failed.
        source: millpond_disk::DiskError,
    },
    /// A newer Millpond wrote it.
    #[error("the data folder {} was written by a newer version of Millpond: {what}. Start that version or a later one", path.display())]
    NewerVersion {
        /// The data folder.
        path: PathBuf,
        /// What is newer.
        what: String,
    },
    /// It holds something, but not Millpond's.
    #[error("the folder {} is not empty and not a data folder of Millpond: {what}. Choose an empty folder", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// What was found there.
        what: String,
    },
    /// It is being made from another one, or that was interrupted.
    #[error("the data folder {} is not complete: {what}. Do that again, or delete the folder", path.display())]
    Unfinished {
        /// The data folder.
        path: PathBuf,
        /// What is not finished.
        what: String,
    },
    /// A new data folder was to be made where something is.
    #[error("the folder {} is not empty: {what}. Choose an empty folder, or one that does not exist", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What was found there.
        what: String,
    },
    /// A file in it does not say what it should.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A partition, or the metadata's log, did not open.
    #[error("the log in {} cannot be opened: {source}", path.display())]
    Log {
        /// The partition's folder.
        path: PathBuf,
        /// What its log said.
        source: LogError,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Disk(#[from] millpond_disk::DiskError),
    /// A thread did not start.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// Why records were not appended, or are not known to be durable.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The batch is not what a producer may send.
    #[error(transparent)]
    Records(ProducedError),
    /// The log refused the batch: the producer's sequence or epoch does not fit, or the disk failed.
    #[error(transparent)]
    Log(AppendError),
    /// Only one stream writes this topic.
    #[error("the topic '{topic}' is written by the stream '{stream}' alone")]
    OwnedByStream {
        /// The topic.
        topic: TopicName,
        /// The stream.
        stream: String,
    },
    /// The gate of the topic did not let the batch in.
    #[error("{message}")]
    Refused {
        /// Why, for the batch as a whole.
        message: String,
        /// Which records are to blame, by their place in the batch, and for what.
        record_errors: Vec<(usize, String)>,
    },
    /// Only the node itself writes this topic.
    #[error("the topic '{topic}' is internal: only the node writes it")]
    InternalTopic {
        /// The topic.
        topic: TopicName,
    },
    /// A sync failed, so this log takes no more writes.
    #[error(
        "this partition accepts no more writes, because a write to the disk failed: {reason}. Check the disk, then start the node anew"
    )]
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// The disk is full.
    #[error(transparent)]
    DiskFull(DiskFull),
    /// The records were appended, but were not durable in time.
    #[error("the records were appended, but not synced to the disk within {timeout_ms} ms")]
    TimedOut {
        /// How long was waited.
        timeout_ms: i64,
    },
    /// The batch is larger than the topic allows.
    #[error("the batch of {bytes} bytes is larger than max.message.bytes = {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The topic's limit.
        bytes_max: usize,
    },
    /// Records are too old, or too far in the future.
    #[error("{}", wrong_timestamps(records, *now_ms, *before_ms_max, *after_ms_max))]
    InvalidTimestamp {
        /// Which records, by their place in the batch, and their timestamps.
        records: Vec<(usize, TimestampMs)>,
        /// The node's time.
        now_ms: TimestampMs,
        /// How old they may be (`message.timestamp.before.max.ms`).
        before_ms_max: i64,
        /// How far ahead they may be (`message.timestamp.after.max.ms`).
        after_ms_max: i64,
    },
    /// The topic does not exist (any more), or has no such partition.
    #[error("there is no partition {partition} of a topic '{topic}'")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

fn wrong_timestamps(
    records: &[(usize, TimestampMs)],
    now_ms: TimestampMs,
    before_ms_max: i64,
    after_ms_max: i64,
) -> String {
    let timestamp_ms = records.first().map_or(-1, |(_, timestamp_ms)| *timestamp_ms);
    let limit = match timestamp_ms > now_ms {
        true => format!("more than {after_ms_max} ms ahead of (message.timestamp.after.max.ms)"),
        false => format!("more than {before_ms_max} ms behind (message.timestamp.before.max.ms)"),
    };
    let others = match records.len() {
        0 | 1 => String::new(),
        count => format!("; so are {} other records of the batch", count - 1),
    };
    format!("the timestamp {timestamp_ms} is {limit} the node's clock, which shows {now_ms}{others}")
}

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There are no records at this offset, and there will be none.
    #[error("offset {offset} is not in the log, which holds {log_start} to {log_end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// The offset after the last.
        log_end: Offset,
    },
    /// The topic was deleted.
    #[error("there is no partition {partition} of a topic '{topic}'")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The log could not be read.
    #[error("the log cannot be read: {0}")]
    Log(ReadError),
    /// Looking up an offset failed.
    #[error("the log cannot be searched: {0}")]
    Search(LogError),
}

/// Why a log was not cut, or does not start elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    /// The offset is not one between the log's start and its visible end.
    #[error("offset {offset} is not in the log, which holds {log_start} to {visible_end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// The offset after the last that is shown.
        visible_end: Offset,
    },
    /// Somebody still needs the records.
    #[error("'{name}' still needs the records from offset {offset} on")]
    Pinned {
        /// Who.
        name: String,
        /// From where.
        offset: Offset,
    },
    /// Records that were shown must stay.
    #[error("the log cannot be cut at {offset}: it is not held, or records up to {visible_end} were shown already")]
    Shown {
        /// Where it was to be cut.
        offset: Offset,
        /// The offset after the last that was shown.
        visible_end: Offset,
    },
    /// Only the node itself trims this topic.
    #[error("the topic '{topic}' is the node's own: clients cannot change, trim or delete it")]
    InternalTopic {
        /// The topic.
        topic: TopicName,
    },
    /// The topic was deleted, or the node stops.
    #[error("the partition is closed")]
    Closed,
    /// The log did not do it.
    #[error("the log cannot be changed: {0}")]
    Log(#[from] LogError),
    /// The new start could not be made durable.
    #[error(transparent)]
    Disk(#[from] millpond_disk::DiskError),
}

/// Why a topic, or the settings of one, did not come to be, change or go.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The request is not one that can be met.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The name is one that the node keeps for itself.
    #[error("the topic name '{0}' is reserved for the node")]
    Reserved(String),
    /// `auto.create.topics.enable` is off.
    #[error("there is no topic '{0}', and auto.create.topics.enable is off")]
    AutoCreateDisabled(String),
    /// The node could not write it down.
    #[error("the change could not be stored: {reason}")]
    Storage {
        /// What failed.
        reason: String,
    },
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}
