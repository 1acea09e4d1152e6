//! What groups have committed, for the report: a look into `__consumer_offsets`, which is taken over as it is.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use millpond_coordinator::{OffsetsKey, RecordError};
use millpond_log::LogError;
use millpond_log::inspect::{BatchWalk, Found, PartitionFolder};

/// The most bytes of one batch, decompressed.
const BATCH_BYTES_MAX: usize = 256 << 20;

/// Groups and their offsets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Groups {
    /// Groups that have committed an offset.
    pub(super) groups: usize,
    /// Their offsets.
    pub(super) offsets: usize,
    /// Records of kinds of groups that Millpond does not have: those of KIP-848, share groups and streams groups.
    pub(super) unknown_records: usize,
}

/// Looks into the folders of the topic's partitions.
pub(super) fn count<'a>(dirs: impl Iterator<Item = &'a Path>) -> Result<Groups, LogError> {
    let mut offsets: HashMap<String, HashSet<(String, i32)>> = HashMap::new();
    let mut unknown_records = 0;
    for dir in dirs {
        let Some(folder) = PartitionFolder::read(dir)? else { continue };
        for segment in &folder.segments {
            segment_offsets(&segment.log.path, &mut offsets, &mut unknown_records)?;
        }
    }
    offsets.retain(|_, offsets| !offsets.is_empty());
    Ok(Groups { groups: offsets.len(), offsets: offsets.values().map(HashSet::len).sum(), unknown_records })
}

fn segment_offsets(
    path: &Path,
    offsets: &mut HashMap<String, HashSet<(String, i32)>>,
    unknown_records: &mut usize,
) -> Result<(), LogError> {
    let mut walk = BatchWalk::open(path)?;
    while let Some(found) = walk.next()? {
        // What is damaged was told before.
        let Found::Batch(batch) = found else { continue };
        let Some(view) = batch.view().filter(|view| !view.header.is_control()) else { continue };
        let damaged = |error: millpond_records::BatchError| {
            let what = format!("the batch at offset {}: {error}", batch.header.base_offset);
            LogError::Damaged { path: path.to_owned(), what }
        };
        let mut records = view.records(BATCH_BYTES_MAX).map_err(damaged)?;
        while let Some(record) = records.next() {
            let record = record.map_err(damaged)?;
            match OffsetsKey::decode(record.key.unwrap_or_default()) {
                Ok(OffsetsKey::Offset { group, topic, partition }) => {
                    let of_group = offsets.entry(group).or_default();
                    match record.value {
                        Some(_) => of_group.insert((topic, partition)),
                        None => of_group.remove(&(topic, partition)),
                    };
                }
                Ok(OffsetsKey::Group { .. }) => {}
                Err(RecordError::UnknownVersion { .. }) => *unknown_records += usize::from(record.value.is_some()),
                Err(error) => {
                    let what = format!("the record at offset {}: {error}", record.offset);
                    return Err(LogError::Damaged { path: path.to_owned(), what });
                }
            }
        }
    }
    Ok(())
}
