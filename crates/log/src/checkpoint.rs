//! A node's checkpoints of offsets, one line a partition, in Kafka's text format: `recovery-point-offset-checkpoint`
//! and `log-start-offset-checkpoint`.
//!
//! ```text
//! 0                  version
//! 2                  how many lines follow
//! flights 0 336776   topic, partition, offset
//! flights 1 12
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use millpond_types::{Offset, TopicName, TopicPartition};

use crate::LogError;

/// Kafka's name for the file that says how far each log is known to be sound.
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// Kafka's name for the file that says where each log starts.
pub const LOG_STARTS: &str = "log-start-offset-checkpoint";

/// Reads a checkpoint; a missing file is an empty one. A damaged one is an error of kind [`LogError::Damaged`], and the
/// caller can do without: recovery then reads more.
pub fn read(path: &Path) -> Result<BTreeMap<TopicPartition, Offset>, LogError> {
    let Some(bytes) = millpond_disk::read_file(path)? else { return Ok(BTreeMap::new()) };
    decode(&bytes).map_err(|what| LogError::Damaged { path: path.to_owned(), what })
}

/// Replaces a checkpoint, and returns when it is durable.
pub fn write(path: &Path, offsets: &BTreeMap<TopicPartition, Offset>) -> Result<(), LogError> {
    Ok(millpond_disk::replace_file(path, encode(offsets).as_bytes())?)
}

/// What stands in a checkpoint.
pub fn encode(offsets: &BTreeMap<TopicPartition, Offset>) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for (partition, offset) in offsets {
        let _ = writeln!(text, "{} {} {offset}", partition.topic, partition.partition);
    }
    text
}

fn decode(bytes: &[u8]) -> Result<BTreeMap<TopicPartition, Offset>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("it is no text: {e}"))?;
    let mut lines = text.lines();
    match lines.next() {
        Some("0") => {}
        other => return Err(format!("its version is {:?}, and only 0 is known", other.unwrap_or_default())),
    }
    let count = lines.next().and_then(|count| count.parse::<usize>().ok());
    let count = count.ok_or("its second line is no count")?;
    let mut offsets = BTreeMap::new();
    for (number, line) in lines.enumerate() {
        let parsed = parse_line(line);
        let (partition, offset) =
            parsed.ok_or_else(|| format!("line {} is not 'topic partition offset': {line:?}", number + 3))?;
        offsets.insert(partition, offset);
    }
    if offsets.len() != count {
        return Err(format!("it promises {count} partitions and holds {}", offsets.len()));
    }
    Ok(offsets)
}

fn parse_line(line: &str) -> Option<(TopicPartition, Offset)> {
    let mut words = line.split(' ');
    let (topic, partition, offset) = (words.next()?, words.next()?, words.next()?);
    let partition = TopicPartition::new(TopicName::new(topic).ok()?, partition.parse().ok()?);
    words.next().is_none().then_some((partition, offset.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_kafkas_text_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RECOVERY_POINTS);
        assert!(read(&path).unwrap().is_empty());
        let partition = |topic: &str, n| TopicPartition::new(TopicName::new(topic).unwrap(), n);
        let offsets = BTreeMap::from([(partition("flights", 0), 336_776), (partition("a-b", 11), 0)]);
        write(&path, &offsets).unwrap();
        assert_eq!(millpond_disk::read_file(&path).unwrap().unwrap(), b"0\n2\na-b 11 0\nflights 0 336776\n");
        assert_eq!(read(&path).unwrap(), offsets);
    }

    #[test]
    fn a_damaged_checkpoint_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOG_STARTS);
        for (text, expected) in [
            ("", "its version is \"\""),
            ("7\n0\n", "its version is \"7\""),
            ("0\nx\n", "its second line"),
            ("0\n2\nt 0 1\n", "promises 2 partitions and holds 1"),
            ("0\n1\nt 0\n", "line 3 is not"),
            ("0\n1\nt 0 1 2\n", "line 3 is not"),
            ("0\n1\nt/x 0 1\n", "line 3 is not"),
        ] {
            millpond_disk::write_file(&path, text.as_bytes()).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(LOG_STARTS), "{text:?}: {error}");
        }
    }
}
