//! `meta.properties`: whose data folder it is, and in which version.
//!
//! Kafka's file, with its keys and two of ours: the version of what else is in the folder, and the leader epoch,
//! which must grow at each start that does not follow a clean stop. While a folder is made from another one there is a third,
//! which keeps a node from starting on half of it.

use std::fmt::Write;
use std::path::Path;

use millpond_types::{LeaderEpoch, NodeId};
use uuid::Uuid;

use crate::errors::OpenError;

pub(crate) const FILE: &str = "meta.properties";
/// The version of the folder's layout that this program writes, and the newest it can read.
const FORMAT_VERSION: u32 = 1;
/// What is not finished. Not there once it is.
const UNFINISHED: &str = "millpond.unfinished";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetaProperties {
    pub(crate) cluster_id: String,
    pub(crate) node_id: NodeId,
    pub(crate) directory_id: String,
    pub(crate) leader_epoch: LeaderEpoch,
}

impl MetaProperties {
    /// Those of a new folder.
    pub(crate) fn new(cluster_id: String, node_id: NodeId) -> MetaProperties {
        MetaProperties { cluster_id, node_id, directory_id: new_id(), leader_epoch: 0 }
    }

    /// Reads the file; `None` if there is none.
    pub(crate) fn read(data_dir: &Path) -> Result<Option<MetaProperties>, OpenError> {
        let Some(bytes) = millpond_disk::read_file(&data_dir.join(FILE))? else { return Ok(None) };
        parse(&String::from_utf8_lossy(&bytes)).map(Some).map_err(|wrong| wrong.at(data_dir))
    }

    /// Reads the file, or writes a new one in an empty folder; says which.
    pub(crate) fn read_or_create(data_dir: &Path, node_id: NodeId) -> Result<(MetaProperties, bool), OpenError> {
        if let Some(found) = MetaProperties::read(data_dir)? {
            if found.node_id != node_id {
                let what = format!("it belongs to node {}, and this is node {node_id}", found.node_id);
                return Err(OpenError::NotOurs { path: data_dir.to_owned(), what });
            }
            return Ok((found, false));
        }
        refuse_others(data_dir)?;
        let properties = MetaProperties::new(new_id(), node_id);
        properties.write(data_dir).map_err(|source| OpenError::NotWritable { path: data_dir.to_owned(), source })?;
        Ok((properties, true))
    }

    /// Replaces the file, durably.
    pub(crate) fn write(&self, data_dir: &Path) -> Result<(), millpond_disk::DiskError> {
        millpond_disk::replace_file(&data_dir.join(FILE), self.encode().as_bytes())
    }

    /// Replaces the file, durably, by one that no node starts with, until it is replaced again. `what` is not finished, in words
    /// that follow "the data folder is not complete:".
    pub(crate) fn write_unfinished(&self, data_dir: &Path, what: &str) -> Result<(), millpond_disk::DiskError> {
        // It is one line.
        let what: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = format!("{}{UNFINISHED}={what}\n", self.encode());
        millpond_disk::replace_file(&data_dir.join(FILE), text.as_bytes())
    }

    fn encode(&self) -> String {
        let mut text = String::new();
        let _ = write!(
            text,
            "version=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\nmillpond.format.version={FORMAT_VERSION}\nmillpond.leader.epoch={}\n",
            self.cluster_id, self.node_id, self.directory_id, self.leader_epoch
        );
        text
    }
}

/// Ids as Kafka makes them: 16 random bytes in base64.
fn new_id() -> String {
    millpond_types::TopicId::from_uuid(Uuid::new_v4()).to_string()
}

/// A folder without our file must be empty, so that a slip of the finger does not fill somebody's home with logs.
pub(crate) fn refuse_others(data_dir: &Path) -> Result<(), OpenError> {
    // The lock is ours, a temporary file may be of a start that was interrupted, and `lost+found` is the disk's.
    let harmless = |name: &str| name == ".lock" || name == "lost+found" || name == format!("{FILE}.tmp");
    match millpond_disk::list(data_dir)?.into_iter().find(|entry| !harmless(&entry.name)) {
        Some(entry) => {
            let what = format!("it has no {FILE}, but '{}'", entry.name);
            Err(OpenError::NotOurs { path: data_dir.to_owned(), what })
        }
        None => Ok(()),
    }
}

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Newer(String),
    Foreign(String),
    Unfinished(String),
    Damaged(String),
}

impl Wrong {
    fn at(self, data_dir: &Path) -> OpenError {
        let path = data_dir.to_owned();
        match self {
            Wrong::Newer(what) => OpenError::NewerVersion { path, what },
            Wrong::Foreign(what) => OpenError::NotOurs { path, what },
            Wrong::Unfinished(what) => OpenError::Unfinished { path, what },
            Wrong::Damaged(what) => OpenError::Damaged { path: path.join(FILE), what },
        }
    }
}

fn parse(text: &str) -> Result<MetaProperties, Wrong> {
    let value = |name: &str| {
        let mut lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
    };
    let needed = |name: &str| value(name).ok_or_else(|| Wrong::Damaged(format!("it has no '{name}'")));
    let number = |name: &str| -> Result<i32, Wrong> {
        let value = needed(name)?;
        value.parse().map_err(|_| Wrong::Damaged(format!("'{name}' is '{value}', which is no number")))
    };
    let Some(version) = value("millpond.format.version") else {
        return Err(match value("cluster.id") {
            Some(_) => Wrong::Foreign(format!("its {FILE} is Apache Kafka's")),
            None => Wrong::Damaged("it has no 'millpond.format.version'".to_owned()),
        });
    };
    match version.parse::<u32>() {
        Ok(found) if found > FORMAT_VERSION => {
            return Err(Wrong::Newer(format!(
                "its format is version {found}, and this program knows {FORMAT_VERSION}"
            )));
        }
        Ok(_) => {}
        Err(_) => {
            return Err(Wrong::Damaged(format!("'millpond.format.version' is '{version}', which is no number")));
        }
    }
    if let Some(what) = value(UNFINISHED) {
        return Err(Wrong::Unfinished(what.to_owned()));
    }
    Ok(MetaProperties {
        cluster_id: needed("cluster.id")?.to_owned(),
        node_id: number("node.id")?,
        directory_id: needed("directory.id")?.to_owned(),
        leader_epoch: number("millpond.leader.epoch")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (made, is_new) = MetaProperties::read_or_create(dir.path(), 1).unwrap();
        assert!(is_new);
        assert_eq!(MetaProperties::read_or_create(dir.path(), 1).unwrap(), (made, false));
    }

    #[test]
    fn folders_of_others_and_of_later_versions_are_told_apart() {
        let good =
            "version=1\ncluster.id=c\nnode.id=1\ndirectory.id=d\nmillpond.format.version=1\nmillpond.leader.epoch=3\n";
        assert_eq!(parse(good).unwrap().leader_epoch, 3);
        assert!(matches!(parse(&good.replace("format.version=1", "format.version=2")), Err(Wrong::Newer(_))));
        assert!(matches!(parse("version=1\ncluster.id=c\nnode.id=1\n"), Err(Wrong::Foreign(_))));
        assert!(matches!(parse(&good.replace("epoch=3", "epoch=x")), Err(Wrong::Damaged(_))));
        assert!(matches!(parse("\0\0\0"), Err(Wrong::Damaged(_))));
        let unfinished = format!("{good}millpond.unfinished=an import = a copy\n");
        assert_eq!(parse(&unfinished), Err(Wrong::Unfinished("an import = a copy".to_owned())));
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.tex"), b"").unwrap();
        let error = MetaProperties::read_or_create(dir.path(), 1).unwrap_err();
        assert!(error.to_string().contains("thesis.tex"), "{error}");
    }
}
