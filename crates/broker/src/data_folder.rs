//! What a data folder holds, for tools that look into it: read without a lock and without writing, so that a node may be running on
//! it. See [`millpond_log::inspect`] for what lies in a partition's folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use millpond_disk::DiskError;
use millpond_log::LogError;
use millpond_log::checkpoint::{self, LOG_STARTS, RECOVERY_POINTS};
use millpond_log::inspect::{BatchWalk, Claims, Finding, FindingKind, Found, PartitionFolder};
use millpond_log::read_topic_id;
use millpond_metadata::Image;
use millpond_types::{Offset, TopicId, TopicPartition};

use crate::checkpoints::metadata_partition;
use crate::errors::OpenError;
use crate::folders;
use crate::frozen::FROZEN_PREFIX;
use crate::meta_properties::{self, MetaProperties};
use crate::metadata_log::{self, Replayed};
use crate::start::CLEAN_MARKER;

/// A data folder at one moment. Of a node that runs it may be old the next one.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    owner: Owner,
    /// The node was stopped cleanly and was not started since.
    is_closed: bool,
    recovery_points: Result<BTreeMap<TopicPartition, Offset>, String>,
    log_starts: Result<BTreeMap<TopicPartition, Offset>, String>,
    /// What the metadata's log says; none of a folder that is not ours. Or what is wrong with it.
    metadata: Option<Result<Replayed, Finding>>,
    partitions: Vec<(TopicPartition, PathBuf)>,
    others: Vec<OtherEntry>,
}

/// Whose data folder it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A node of this program.
    Millpond,
    /// A node of Apache Kafka, or nobody who says so.
    Kafka,
}

/// Something in a data folder that is no partition's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherEntry {
    /// Its name.
    pub name: String,
    /// Bytes in it, with all that is below.
    pub bytes: u64,
}

/// Why a data folder cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// It cannot be listed.
    #[error("the data folder {} cannot be read: {source}. Name the node's data folder with --data", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: DiskError,
    },
    /// There is no such thing in it.
    #[error(
        "{} is no data folder: it has neither the file {} nor a partition's folder. Name the node's data folder with --data",
        path.display(),
        meta_properties::FILE
    )]
    NotOne {
        /// The folder.
        path: PathBuf,
    },
    /// A file in it cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<DiskError> for DataFolderError {
    fn from(error: DiskError) -> DataFolderError {
        DataFolderError::Log(LogError::Disk(error))
    }
}

impl DataFolder {
    /// Reads what is in the folder at `path`, but no log other than the metadata's.
    pub fn read(path: &Path) -> Result<DataFolder, DataFolderError> {
        let unreadable = |source| DataFolderError::Unreadable { path: path.to_owned(), source };
        // What is said of the logs comes before the logs: they are never behind it.
        let is_closed = millpond_disk::exists(&path.join(CLEAN_MARKER)).map_err(unreadable)?;
        let metadata_dir = folders::partition(path, &metadata_partition());
        let properties = MetaProperties::read(path);
        let owner = match &properties {
            Err(OpenError::NotOurs { .. }) => Owner::Kafka,
            Ok(None) if !millpond_disk::exists(&metadata_dir)? => Owner::Kafka,
            _ => Owner::Millpond,
        };
        let recovery_points = read_checkpoint(&path.join(RECOVERY_POINTS), &owner)?;
        let log_starts = read_checkpoint(&path.join(LOG_STARTS), &owner)?;
        let entries = millpond_disk::list(path).map_err(unreadable)?;
        let is_there = |name: &str| entries.iter().any(|entry| entry.name == name);
        let mut folder = DataFolder {
            path: path.to_owned(),
            is_closed,
            recovery_points,
            log_starts,
            metadata: None,
            partitions: Vec::new(),
            others: Vec::new(),
            owner,
        };
        for entry in &entries {
            if entry.name.starts_with(FROZEN_PREFIX) {
                // The same files under other names, which go when a backup ends.
                continue;
            }
            let at = path.join(&entry.name);
            match TopicPartition::from_folder_name(&entry.name).filter(|_| entry.is_dir) {
                Some(partition) => folder.partitions.push((partition, at)),
                None => {
                    let bytes = if entry.is_dir { bytes_below(&at)? } else { entry.len };
                    folder.others.push(OtherEntry { name: entry.name.clone(), bytes });
                }
            }
        }
        folder.partitions.sort();
        if folder.partitions.is_empty() && !is_there(meta_properties::FILE) {
            return Err(DataFolderError::NotOne { path: path.to_owned() });
        }
        if folder.owner == Owner::Millpond {
            let cluster_id = properties.ok().flatten().map_or(String::new(), |properties| properties.cluster_id);
            folder.metadata = Some(read_metadata(&metadata_dir, &cluster_id, is_closed)?);
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Whether its node was stopped cleanly, and was not started since.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The folders of partitions, by topic and number.
    pub fn partitions(&self) -> &[(TopicPartition, PathBuf)] {
        &self.partitions
    }

    /// Everything else in the folder, by name.
    pub fn others(&self) -> &[OtherEntry] {
        &self.others
    }

    /// What the node has noted of a partition's log.
    pub fn claims(&self, partition: &TopicPartition) -> Claims {
        let of = |offsets: &Result<BTreeMap<TopicPartition, Offset>, String>| {
            offsets.as_ref().ok().map(|offsets| offsets.get(partition).copied())
        };
        let is_kafkas = self.owner == Owner::Kafka;
        Claims {
            is_closed: self.is_closed,
            recovery_point: of(&self.recovery_points).flatten(),
            // What starts at 0 has no line.
            log_start: of(&self.log_starts).map(|start| start.unwrap_or(0)),
            topic_id: self.topic_id(partition),
            is_kafkas,
        }
    }

    fn topic_id(&self, partition: &TopicPartition) -> Option<TopicId> {
        Some(self.image()?.topic(&partition.topic)?.id)
    }

    fn image(&self) -> Option<&Image> {
        self.metadata.as_ref().and_then(|metadata| metadata.as_ref().ok()).map(|replayed| &replayed.image)
    }

    /// What does not fit between the folder's own files, whatever is in the logs. While the node runs some of it may be a
    /// topic that is being made or deleted, and is gone at the next look.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let finding = |kind, file: PathBuf, what: String, remedy| Finding {
            kind,
            file,
            position: None,
            offset: None,
            what,
            remedy,
        };
        for (name, offsets, remedy) in [
            (
                RECOVERY_POINTS,
                &self.recovery_points,
                "nothing: the next start reads all logs instead, and writes it anew",
            ),
            (
                LOG_STARTS,
                &self.log_starts,
                "restore it from a backup: without it records that DeleteRecords took come back at the next start",
            ),
        ] {
            if let Err(what) = offsets {
                findings.push(finding(FindingKind::Checkpoint, self.path.join(name), what.clone(), remedy));
            }
        }
        if let Some(Err(found)) = &self.metadata {
            findings.push(found.clone());
        }
        let Some(image) = self.image() else { return findings };
        let deleted =
            self.metadata.as_ref().and_then(|metadata| metadata.as_ref().ok()).map(|replayed| &replayed.deleted);

        let here: BTreeSet<&TopicPartition> = self.partitions.iter().map(|(partition, _)| partition).collect();
        // A crash, or a full disk, while a topic is made can leave it without folders, and a start makes them.
        let was_made = |partition: &TopicPartition| {
            self.recovery_points.as_ref().is_ok_and(|points| points.contains_key(partition))
        };
        for topic in image.topics() {
            for index in 0..topic.partition_count {
                let partition = TopicPartition::new(topic.name.clone(), index);
                if !here.contains(&partition) && was_made(&partition) {
                    let what =
                        format!("the topic '{}' has a partition {index}, and there is no folder for it", topic.name);
                    let remedy = "restore the folder from a backup: the next start of the node makes an empty one";
                    let at = folders::partition(&self.path, &partition);
                    findings.push(finding(FindingKind::Metadata, at, what, remedy));
                }
            }
        }
        for (partition, dir) in self.partitions.iter().filter(|(partition, _)| *partition != metadata_partition()) {
            let is_claimed =
                |topic: &std::sync::Arc<millpond_metadata::TopicImage>| partition.partition < topic.partition_count;
            if image.topic(&partition.topic).is_some_and(is_claimed) {
                continue;
            }
            // Its removal is under way, or comes with the next start.
            let id = read_topic_id(dir).ok();
            if id.is_some_and(|id| deleted.is_some_and(|deleted| deleted.contains(&id))) {
                continue;
            }
            if is_unmade(dir) {
                continue;
            }
            let what = format!("there is no topic '{}' with a partition {}", partition.topic, partition.partition);
            let remedy = "the next start of the node gives the folder a name that ends in -stray, and keeps it; if nobody needs it, \
                          delete it";
            findings.push(finding(FindingKind::Metadata, dir.clone(), what, remedy));
        }
        if self.is_closed
            && let Ok(points) = &self.recovery_points
        {
            let file = || self.path.join(RECOVERY_POINTS);
            let is_missing =
                |(partition, dir): &&(TopicPartition, PathBuf)| !points.contains_key(partition) && !is_unmade(dir);
            for (partition, _) in self.partitions.iter().filter(is_missing) {
                let what = format!("it has no line for {partition}");
                let remedy = "nothing: the next start reads this log as a whole, and writes the line";
                findings.push(finding(FindingKind::Checkpoint, file(), what, remedy));
            }
            for partition in points.keys().filter(|partition| !here.contains(partition)) {
                let what = format!("it has a line for {partition}, and there is no such folder");
                let remedy = "restore the folder from a backup; if the topic is not needed, do nothing";
                findings.push(finding(FindingKind::Checkpoint, file(), what, remedy));
            }
        }
        findings
    }
}

/// Replays what is sound of the metadata's log. The inner error: it cannot be understood up to its end.
fn read_metadata(dir: &Path, cluster_id: &str, is_closed: bool) -> Result<Result<Replayed, Finding>, LogError> {
    let mut replayed = Replayed { image: Image::new(cluster_id), deleted: BTreeSet::new() };
    let wrong = |file: &Path, position: Option<u64>, offset: Option<Offset>, what: String| {
        let remedy = "restore this file from a backup: the node does not start without its metadata";
        Finding { kind: FindingKind::Metadata, file: file.to_owned(), position, offset, what, remedy }
    };
    let Some(folder) = PartitionFolder::read(dir)?.filter(|folder| !folder.segments.is_empty()) else {
        return Ok(Err(wrong(dir, None, None, "the log of the metadata is missing".to_owned())));
    };
    for segment in &folder.segments {
        let mut walk = match BatchWalk::open(&segment.log.path) {
            Err(LogError::Disk(error)) if error.is_not_found() => continue,
            opened => opened?,
        };
        while let Some(found) = walk.next()? {
            let file = &segment.log.path;
            match found {
                Found::Batch(batch) => {
                    let offset = Some(batch.header.base_offset);
                    let Some(view) = batch.view() else {
                        let what = format!("a batch of {} bytes is none of the metadata's", batch.header.size());
                        return Ok(Err(wrong(file, Some(batch.position), offset, what)));
                    };
                    if let Err(error) = metadata_log::apply(&view, &mut replayed) {
                        return Ok(Err(wrong(file, Some(batch.position), offset, error.to_string())));
                    }
                }
                // What is being written; or was, when the node ended.
                Found::Gap(gap) if gap.is_unwritten && !is_closed => {}
                Found::Gap(gap) => return Ok(Err(wrong(file, Some(gap.position), None, gap.what))),
            }
        }
    }
    Ok(Ok(replayed))
}

/// Bytes of all files below a folder. What vanishes meanwhile counts nothing.
fn bytes_below(dir: &Path) -> Result<u64, DiskError> {
    let mut bytes = 0;
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = match millpond_disk::list(&dir) {
            Err(error) if error.is_not_found() => continue,
            entries => entries?,
        };
        for entry in entries {
            if entry.is_dir {
                dirs.push(dir.join(&entry.name));
            } else {
                bytes += entry.len;
            }
        }
    }
    Ok(bytes)
}

/// Whether making the log in a folder was interrupted, or goes on: it does not say whose it is, and holds nothing.
fn is_unmade(dir: &Path) -> bool {
    let has_records = || PartitionFolder::read(dir).ok().flatten().is_none_or(|folder| folder.log_bytes() > 0);
    matches!(read_topic_id(dir), Err(LogError::Damaged { .. })) && !has_records()
}

/// What a checkpoint says, or what is wrong with it.
fn read_checkpoint(path: &Path, owner: &Owner) -> Result<Result<BTreeMap<TopicPartition, Offset>, String>, LogError> {
    match checkpoint::read(path) {
        Ok(offsets) => Ok(Ok(offsets)),
        // Kafka makes the file when it starts, and writes to it later. Ours is replaced as a whole.
        Err(LogError::Damaged { .. }) if *owner == Owner::Kafka && is_empty(path)? => Ok(Ok(BTreeMap::new())),
        Err(LogError::Damaged { what, .. }) => Ok(Err(what)),
        Err(error) => Err(error),
    }
}

fn is_empty(path: &Path) -> Result<bool, DiskError> {
    match millpond_disk::File::open_read_only(path) {
        Err(error) if error.is_not_found() => Ok(true),
        opened => opened?.is_empty(),
    }
}
