//! One of the folders in which a Kafka node keeps its logs (`log.dirs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millpond_disk::{DiskError, ForeignFolderLock};
use millpond_log::checkpoint::{self, LOG_STARTS, RECOVERY_POINTS};
use millpond_log::{LogError, read_topic_id};
use millpond_types::{Offset, TopicId, TopicPartition};

use super::METADATA_FOLDER;

const META_PROPERTIES: &str = "meta.properties";
/// There only after a clean stop.
const CLEAN_MARKER: &str = ".kafka_cleanshutdown";

/// A folder of a Kafka node that does not run. It cannot be started while this lives.
#[derive(Debug)]
pub(crate) struct LogDir {
    pub(crate) path: PathBuf,
    pub(crate) cluster_id: String,
    pub(crate) node_id: i32,
    /// Kafka was stopped cleanly.
    pub(crate) was_closed: bool,
    pub(crate) partitions: Vec<FoundPartition>,
    /// The metadata log lies here.
    pub(crate) has_metadata: bool,
    pub(crate) skipped: Vec<SkippedFolder>,
    _lock: ForeignFolderLock,
}

/// A partition's folder.
#[derive(Debug, Clone)]
pub(crate) struct FoundPartition {
    pub(crate) partition: TopicPartition,
    pub(crate) dir: PathBuf,
    /// None where Kafka has not noted it (before version 2.8).
    pub(crate) topic_id: Option<TopicId>,
    /// Bytes of its segments.
    pub(crate) bytes: u64,
    pub(crate) log_start_offset: Offset,
    pub(crate) recovery_point: Offset,
    pub(crate) was_closed: bool,
}

/// A folder that is left behind.
#[derive(Debug, Clone)]
pub(crate) struct SkippedFolder {
    pub(crate) dir: PathBuf,
    pub(crate) why: &'static str,
}

/// Why a folder is no source of an import.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogDirError {
    #[error("{} cannot be read: {source}. Name Kafka's log.dirs with --from-kafka", path.display())]
    Unreadable { path: PathBuf, source: DiskError },
    #[error("Kafka runs on {}: {source}. Stop it first, cleanly", path.display())]
    Running { path: PathBuf, source: DiskError },
    #[error("{} is no folder of Kafka's: {what}. Name its log.dirs with --from-kafka", path.display())]
    NotKafka { path: PathBuf, what: String },
    #[error(
        "{} is of a Kafka that keeps its metadata in ZooKeeper: its topics and settings are not in its folders. Take it to KRaft first \
         (Kafka 3.9 can)",
        path.display()
    )]
    ZooKeeper { path: PathBuf },
    #[error(
        "{} is the copy of a partition that Kafka is moving between its log.dirs. Start Kafka, let it finish (kafka-reassign-partitions \
         --verify), and stop it cleanly",
        dir.display()
    )]
    Moving { dir: PathBuf },
    #[error("{source}. Restore it from a backup; or start Kafka once more, which writes it anew, and stop it cleanly")]
    Checkpoint { source: LogError },
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<DiskError> for LogDirError {
    fn from(error: DiskError) -> LogDirError {
        LogDirError::Log(LogError::Disk(error))
    }
}

impl LogDir {
    pub(crate) fn open(path: &Path) -> Result<LogDir, LogDirError> {
        let unreadable = |source| LogDirError::Unreadable { path: path.to_owned(), source };
        let entries = millpond_disk::list(path).map_err(unreadable)?;
        let lock = ForeignFolderLock::take(path).map_err(|source| match source.source.kind() {
            std::io::ErrorKind::ResourceBusy => LogDirError::Running { path: path.to_owned(), source },
            _ => unreadable(source),
        })?;
        let not_kafka = |what: String| LogDirError::NotKafka { path: path.to_owned(), what };
        let properties = millpond_disk::read_file(&path.join(META_PROPERTIES))?
            .ok_or_else(|| not_kafka(format!("it has no {META_PROPERTIES}")))?;
        let (cluster_id, node_id) = match Properties::parse(&String::from_utf8_lossy(&properties)) {
            Properties::KRaft { cluster_id, node_id } => (cluster_id, node_id),
            Properties::ZooKeeper => return Err(LogDirError::ZooKeeper { path: path.to_owned() }),
            Properties::Other(what) => return Err(not_kafka(format!("its {META_PROPERTIES} {what}"))),
        };
        let mut found = LogDir {
            path: path.to_owned(),
            cluster_id,
            node_id,
            was_closed: millpond_disk::exists(&path.join(CLEAN_MARKER))?,
            partitions: Vec::new(),
            has_metadata: false,
            skipped: Vec::new(),
            _lock: lock,
        };
        let recovery_points = read_checkpoint(&path.join(RECOVERY_POINTS))?;
        let log_starts = read_checkpoint(&path.join(LOG_STARTS))?;
        let of = |offsets: &BTreeMap<TopicPartition, Offset>, partition: &TopicPartition| {
            offsets.get(partition).copied().unwrap_or(0)
        };
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            let dir = path.join(&entry.name);
            if entry.name == METADATA_FOLDER {
                found.has_metadata = true;
            } else if entry.name.ends_with("-future") {
                return Err(LogDirError::Moving { dir });
            } else if entry.name.ends_with("-delete") {
                found.skipped.push(SkippedFolder { dir, why: "of a topic that was deleted" });
            } else if entry.name.ends_with("-stray") {
                found.skipped.push(SkippedFolder { dir, why: "Kafka had no topic for it" });
            } else if let Some(partition) = TopicPartition::from_folder_name(&entry.name) {
                found.partitions.push(FoundPartition {
                    topic_id: topic_id(&dir)?,
                    bytes: log_bytes(&dir)?,
                    log_start_offset: of(&log_starts, &partition),
                    recovery_point: of(&recovery_points, &partition),
                    was_closed: found.was_closed,
                    partition,
                    dir,
                });
            } else if entry.name != "lost+found" {
                found.skipped.push(SkippedFolder { dir, why: "no partition's folder by its name" });
            }
        }
        Ok(found)
    }
}

/// What `meta.properties` says.
#[derive(Debug, PartialEq, Eq)]
enum Properties {
    KRaft { cluster_id: String, node_id: i32 },
    ZooKeeper,
    Other(String),
}

impl Properties {
    fn parse(text: &str) -> Properties {
        let value = |name: &str| {
            let mut lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
        };
        if value("millpond.format.version").is_some() {
            return Properties::Other("is Millpond's".to_owned());
        }
        match (value("version"), value("cluster.id"), value("node.id").map(str::parse)) {
            (Some("1"), Some(cluster_id), Some(Ok(node_id))) => {
                Properties::KRaft { cluster_id: cluster_id.to_owned(), node_id }
            }
            (Some("0"), _, _) if value("broker.id").is_some() => Properties::ZooKeeper,
            (version, _, _) => {
                let version = version.unwrap_or("none");
                Properties::Other(format!("has version {version}; version 1 with cluster.id and node.id is expected"))
            }
        }
    }
}

/// What the folder says about whose it is.
fn topic_id(dir: &Path) -> Result<Option<TopicId>, LogDirError> {
    match read_topic_id(dir) {
        Ok(id) => Ok(Some(id)),
        Err(LogError::Damaged { path, .. }) if !millpond_disk::exists(&path)? => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn log_bytes(dir: &Path) -> Result<u64, LogDirError> {
    let entries = millpond_disk::list(dir)?;
    Ok(entries.iter().filter(|entry| !entry.is_dir && entry.name.ends_with(".log")).map(|entry| entry.len).sum())
}

/// Kafka makes the file when it starts, and fills it later; an empty one says nothing.
fn read_checkpoint(path: &Path) -> Result<BTreeMap<TopicPartition, Offset>, LogDirError> {
    match checkpoint::read(path) {
        Err(LogError::Damaged { .. }) if millpond_disk::read_file(path)?.is_some_and(|bytes| bytes.is_empty()) => {
            Ok(BTreeMap::new())
        }
        Err(source @ LogError::Damaged { .. }) => Err(LogDirError::Checkpoint { source }),
        read => Ok(read?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_properties_tell_whose_folder_it_is() {
        let kraft = Properties::KRaft { cluster_id: "c".to_owned(), node_id: 3 };
        assert_eq!(Properties::parse("#a\ncluster.id=c\nversion=1\ndirectory.id=d\nnode.id=3\n"), kraft);
        assert_eq!(Properties::parse("version=0\nbroker.id=1\ncluster.id=c\n"), Properties::ZooKeeper);
        assert!(matches!(Properties::parse("version=2\ncluster.id=c\nnode.id=3"), Properties::Other(_)));
        assert!(matches!(Properties::parse("version=1\ncluster.id=c\nnode.id=x"), Properties::Other(_)));
        let ours = "version=1\ncluster.id=c\nnode.id=1\nmillpond.format.version=1\n";
        assert_eq!(Properties::parse(ours), Properties::Other("is Millpond's".to_owned()));
    }

    #[test]
    fn folders_are_told_apart_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| std::fs::create_dir(dir.path().join(name)).unwrap();
        assert!(matches!(LogDir::open(dir.path()), Err(LogDirError::NotKafka { .. })));
        std::fs::write(dir.path().join(META_PROPERTIES), "version=1\ncluster.id=c\nnode.id=3\n").unwrap();
        std::fs::write(dir.path().join(LOG_STARTS), "0\n1\npond 0 5\n").unwrap();
        std::fs::write(dir.path().join(RECOVERY_POINTS), "").unwrap();
        for name in [METADATA_FOLDER, "pond-0", "pond-1.0123abc-delete", "pond-2.0123abc-stray", "photos"] {
            make(name);
        }
        std::fs::write(dir.path().join("pond-0/00000000000000000000.log"), b"12345").unwrap();
        let found = LogDir::open(dir.path()).unwrap();
        assert!(found.has_metadata && !found.was_closed);
        assert_eq!((found.partitions.len(), found.skipped.len()), (1, 3));
        let pond = &found.partitions[0];
        assert_eq!((pond.bytes, pond.log_start_offset, pond.recovery_point, pond.topic_id), (5, 5, 0, None));

        std::fs::write(dir.path().join(LOG_STARTS), "garbage").unwrap();
        let error = LogDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is damaged") && error.contains("writes it anew"), "{error}");
        std::fs::remove_file(dir.path().join(LOG_STARTS)).unwrap();
        make("pond-0.0123abc-future");
        assert!(matches!(LogDir::open(dir.path()), Err(LogDirError::Moving { .. })));
        let error = LogDir::open(&dir.path().join("none")).unwrap_err();
        assert!(matches!(error, LogDirError::Unreadable { .. }), "{error}");
    }
}
