//! What is where in the data folder.
//!
//! ```text
//! .lock                               held while a process uses the folder
//! meta.properties                     whose folder it is, and in which version
//! .kafka_cleanshutdown                there only after a clean stop, until the next start has read it
//! recovery-point-offset-checkpoint    up to where each log, by its name, is known to be sound
//! log-start-offset-checkpoint         where each log starts, if it was told to start later than its first segment
//! millpond-journal.<number>            what logs may not have on the disk yet (see millpond_log::journal)
//! millpond-journal.<number>.kept-<n>  the same, where something of it could not be put back; for the operator
//! .frozen-<number>/                   other names for what a backup is reading; removed when it ends, and at a start
//! __millpond_metadata-0/              which topics there are
//! <topic>-<partition>/                one log
//! <topic>-<partition>.<uuid>-delete/  of a topic that was deleted; removed soon
//! <topic>-<partition>.<uuid>-stray/   a log that no topic claims and that nobody deleted; kept for the operator
//! ```
//!
//! Names are Kafka's, where it has any.

use std::path::{Path, PathBuf};

use millpond_disk::DiskError;
use millpond_types::TopicPartition;
use uuid::Uuid;

/// The topic whose only partition is the metadata's log; clients do not see it.
pub const METADATA_TOPIC: &str = "__millpond_metadata";

/// Comes after the name of a folder whose topic is deleted.
pub(crate) const DELETE_SUFFIX: &str = "-delete";
/// Comes after the name of a folder that no topic claims.
pub(crate) const STRAY_SUFFIX: &str = "-stray";

/// The folder of a partition's log.
pub(crate) fn partition(data_dir: &Path, partition: &TopicPartition) -> PathBuf {
    data_dir.join(partition.to_string())
}

/// Gives a partition's folder a name that no topic can have, and answers it.
pub(crate) fn set_aside(dir: &Path, suffix: &str) -> Result<PathBuf, DiskError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let aside = dir.with_file_name(format!("{name}.{}{suffix}", Uuid::new_v4().simple()));
    millpond_disk::rename(dir, &aside)?;
    Ok(aside)
}

/// Whether the name is one that [`set_aside`] gave.
pub(crate) fn is_set_aside(name: &str, suffix: &str) -> bool {
    let parts = name.strip_suffix(suffix).and_then(|name| name.rsplit_once('.'));
    parts.is_some_and(|(partition, id)| {
        TopicPartition::from_folder_name(partition).is_some() && Uuid::try_parse(id).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_that_were_set_aside_look_like_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a.b-1");
        std::fs::create_dir(&folder).unwrap();
        let aside = set_aside(&folder, DELETE_SUFFIX).unwrap();
        assert!(is_set_aside(&aside.file_name().unwrap().to_string_lossy(), DELETE_SUFFIX));
        for other in ["photos-delete", "a-1-delete", "a-1.old-delete", "a-1"] {
            assert!(!is_set_aside(other, DELETE_SUFFIX), "{other}");
        }
    }
}
