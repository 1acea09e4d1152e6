//! After a crash: what the journal holds and the logs lack is put back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use millpond_disk::{BLOCK_BYTES, DiskError, File};
use millpond_records::crc32c;
use millpond_types::{PartitionIndex, TimestampMs, TopicId};

use super::format::{Head, Kind, TableEntry, chunk_len, head_len};
use super::{file_numbers, file_path};
use crate::{LogError, PartitionLog};

/// What [`replay`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Bytes of batches that were put back.
    pub bytes_restored: u64,
    /// Logs that got some.
    pub logs_restored: usize,
    /// Logs whose entries could not all be put back, and why. The journal's files are worth keeping then.
    pub failures: Vec<String>,
}

/// A chunk in a file.
struct Chunk {
    path: PathBuf,
    head: Head,
    /// Where the entries' bytes begin.
    entries_at: u64,
}

/// Appends to the logs, which `find` finds, the batches of the journal in `dir` that they lack, and syncs those. A topic
/// that `find` does not know was deleted. No journal is an empty one.
///
/// Heads alone are read of what the logs have already, so after a crash of the process alone this takes next to nothing.
pub fn replay<'a>(
    dir: &Path,
    find: impl Fn(TopicId, PartitionIndex) -> Option<&'a PartitionLog>,
    now_ms: TimestampMs,
) -> Result<Replayed, LogError> {
    let chunks = chunks(dir)?;
    // What a cut has made void.
    let mut cuts: HashMap<(TopicId, PartitionIndex), usize> = HashMap::new();
    for (place, entry) in
        chunks.iter().enumerate().flat_map(|(place, chunk)| chunk.head.table.iter().map(move |e| (place, e)))
    {
        if entry.kind == Kind::Cut {
            cuts.insert((entry.topic_id, entry.partition), place);
        }
    }
    let mut replayed = Replayed::default();
    let mut restored = BTreeSet::new();
    let mut failures: BTreeMap<(TopicId, PartitionIndex), String> = BTreeMap::new();
    let last_lap = chunks.last().map_or(0, |chunk| chunk.head.lap);
    for (place, chunk) in chunks.iter().enumerate() {
        let mut at = chunk.entries_at;
        for entry in &chunk.head.table {
            let entry_at = at;
            at += u64::from(entry.len);
            let name = (entry.topic_id, entry.partition);
            let counts = entry.kind == Kind::Batches && cuts.get(&name).is_none_or(|cut| *cut < place);
            let Some(log) = find(name.0, name.1).filter(|log| counts && entry.end_offset > log.log_end_offset()) else {
                continue;
            };
            let Some(bytes) = read_entry(&chunk.path, entry_at, entry)? else {
                let (file, lap) = (chunk.path.display(), chunk.head.lap);
                if lap == last_lap {
                    // If it was acknowledged, and more of the log follows, that does not fit, and is told.
                    tracing::warn!(%file, lap, at = entry_at, "an entry of the journal is not whole: the write that a crash cut off, or damage");
                } else {
                    let what = format!("{file}: its entry at position {entry_at} is damaged");
                    failures.entry(name).or_insert(what);
                }
                continue;
            };
            match log.restore(&bytes, now_ms) {
                Ok(bytes) => {
                    replayed.bytes_restored += bytes;
                    restored.insert(name);
                }
                Err(LogError::Damaged { path, what }) => {
                    failures.entry(name).or_insert_with(|| format!("{}: {what}", path.display()));
                }
                Err(error) => return Err(error),
            }
        }
    }
    for (topic_id, partition) in &restored {
        if let Some(log) = find(*topic_id, *partition) {
            log.sync()?;
        }
    }
    replayed.logs_restored = restored.len();
    replayed.failures = failures.into_values().collect();
    Ok(replayed)
}

/// The chunks that count, in the order in which they were written.
fn chunks(dir: &Path) -> Result<Vec<Chunk>, LogError> {
    let mut files = Vec::new();
    for number in file_numbers(dir)? {
        let chunks = chunks_of(&file_path(dir, number))?;
        if let Some(first) = chunks.first() {
            files.push((first.head.lap, chunks));
        }
    }
    files.sort_by_key(|(lap, _)| *lap);
    let mut chunks: Vec<Chunk> = files.into_iter().flat_map(|(_, chunks)| chunks).collect();
    let oldest_lap = chunks.iter().map(|chunk| chunk.head.oldest_lap).max().unwrap_or(0);
    chunks.retain(|chunk| chunk.head.lap >= oldest_lap);
    Ok(chunks)
}

/// The chunks of one file's last lap.
fn chunks_of(path: &Path) -> Result<Vec<Chunk>, LogError> {
    let file = File::open_read_only(path)?;
    let file_len = file.len()?;
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut position = 0;
    while position < file_len {
        let Some(head) = read_head(&file, position)? else { break };
        let expected = chunks.last().map_or((head.lap, 0), |last| (last.head.lap, last.head.number + 1));
        if (head.lap, head.number) != expected {
            break;
        }
        let entries_at = position + head_len(head.table.len()) as u64;
        position += chunk_len(head.table.len(), head.entries_len()) as u64;
        chunks.push(Chunk { path: path.to_owned(), head, entries_at });
    }
    Ok(chunks)
}

fn read_head(file: &File, position: u64) -> Result<Option<Head>, DiskError> {
    let mut bytes = file.read_at(BLOCK_BYTES, position)?;
    let Some(len) = Head::len(&bytes) else { return Ok(None) };
    if len > bytes.len() {
        let done = bytes.len();
        file.append_at(&mut bytes, len - done, position + done as u64)?;
    }
    Ok(bytes.get(..len).and_then(Head::decode))
}

/// An entry's bytes; `None` if they are not what the head says.
fn read_entry(path: &Path, position: u64, entry: &TableEntry) -> Result<Option<Vec<u8>>, LogError> {
    let bytes = File::open_read_only(path)?.read_at(entry.len as usize, position)?;
    Ok((bytes.len() == entry.len as usize && crc32c(&bytes) == entry.crc).then_some(bytes))
}

/// The lap of a file's first chunk, and whether that chunk has no entries; `None` if there is no chunk.
pub(super) fn first_lap(path: &Path) -> Result<Option<(u64, bool)>, DiskError> {
    let head = read_head(&File::open_read_only(path)?, 0)?;
    Ok(head.map(|head| (head.lap, head.table.is_empty())))
}
