//! The file `partition.metadata`: which topic a folder belongs to.
//!
//! ```text
//! version: 0
//! topic_id: AAAAAAAAAAAAAAAAAAAAAQ
//! ```

use std::path::Path;

use millpond_types::TopicId;

use crate::{LogError, names};

pub(crate) fn write(dir: &Path, topic_id: TopicId) -> Result<(), LogError> {
    let text = format!("version: 0\ntopic_id: {topic_id}\n");
    Ok(millpond_disk::replace_file(&dir.join(names::PARTITION_METADATA), text.as_bytes())?)
}

/// The topic id of a partition's folder. A missing or damaged file is [`LogError::Damaged`].
pub fn read_topic_id(dir: &Path) -> Result<TopicId, LogError> {
    let path = dir.join(names::PARTITION_METADATA);
    let damaged = |what: &str| LogError::Damaged { path: path.clone(), what: what.to_owned() };
    let bytes = millpond_disk::read_file(&path)?.ok_or_else(|| damaged("it does not exist"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged("it is no text"))?;
    let mut lines = text.lines();
    if lines.next() != Some("version: 0") {
        return Err(damaged("its first line is not 'version: 0'"));
    }
    let id = lines.next().and_then(|line| line.strip_prefix("topic_id: ")).and_then(|id| id.parse().ok());
    id.ok_or_else(|| damaged("its second line is not 'topic_id: ' and 22 characters of base64"))
}
