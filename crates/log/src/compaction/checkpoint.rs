//! What a log's folder says of its compaction: the file `compaction-checkpoint`.
//!
//! ```text
//! 0                       version
//! 41234 40960             below the first offset some may be missing; below the second, keys are unique
//! replacing 0 8192 3120   the segments that begin in [0, 8192) are being replaced by one of 3120 bytes (only meanwhile)
//! ```
//!
//! The line `replacing` is what makes a swap of segments happen as a whole. While it is there, the files of the segments that it
//! speaks of mean nothing, but for the one new segment, under its own name or still with `.cleaned` behind it.
//!
//! Kafka has the second number in a file for all logs, and of the first no note: it takes holes anywhere for the work of
//! compaction. Here a hole beyond it is damage.

use std::path::Path;

use millpond_types::Offset;

use crate::{LogError, names};

/// A log that was never compacted has no file, and is like the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CompactionCheckpoint {
    /// Offsets may be missing below.
    pub(crate) holes_below: Offset,
    /// No two records below have the same key.
    pub(crate) clean_below: Offset,
    /// A swap that has begun.
    pub(crate) replacing: Option<Replacing>,
}

/// Segments that make room for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replacing {
    /// Where the first of them, and the new one, begins.
    pub(crate) first: Offset,
    /// Where the first segment after them begins.
    pub(crate) end: Offset,
    /// Bytes of the new `.log`.
    pub(crate) len: u64,
}

impl CompactionCheckpoint {
    fn encode(&self) -> String {
        let mut text = format!("0\n{} {}\n", self.holes_below, self.clean_below);
        if let Some(Replacing { first, end, len }) = self.replacing {
            text.push_str(&format!("replacing {first} {end} {len}\n"));
        }
        text
    }

    fn decode(text: &str) -> Option<CompactionCheckpoint> {
        let mut lines = text.lines();
        if lines.next()? != "0" {
            return None;
        }
        let (holes_below, clean_below) = lines.next()?.split_once(' ')?;
        let replacing = match lines.next() {
            None => None,
            Some(line) => {
                let mut words = line.strip_prefix("replacing ")?.split(' ');
                let (first, end, len) = (words.next()?, words.next()?, words.next()?);
                let replacing =
                    Replacing { first: first.parse().ok()?, end: end.parse().ok()?, len: len.parse().ok()? };
                (words.next().is_none() && replacing.first < replacing.end).then_some(Some(replacing))?
            }
        };
        let (holes_below, clean_below) = (holes_below.parse().ok()?, clean_below.parse().ok()?);
        lines.next().is_none().then_some(CompactionCheckpoint { holes_below, clean_below, replacing })
    }

    /// Reads the file of a folder. A damaged one is an error: whether segments were being replaced cannot be told without.
    pub(crate) fn read(dir: &Path) -> Result<CompactionCheckpoint, LogError> {
        let path = dir.join(names::COMPACTION_CHECKPOINT);
        let Some(bytes) = millpond_disk::read_file(&path)? else { return Ok(CompactionCheckpoint::default()) };
        std::str::from_utf8(&bytes).ok().and_then(CompactionCheckpoint::decode).ok_or_else(|| LogError::Damaged {
            path,
            what: "it does not tell which segments were compacted. Restore the partition's folder from a backup"
                .to_owned(),
        })
    }

    /// What holds of a log that ends at `log_end`, perhaps because something of it was lost: what comes there is new.
    pub(crate) fn cut_at(self, dir: &Path, log_end: Offset) -> Result<CompactionCheckpoint, LogError> {
        let cut = CompactionCheckpoint {
            holes_below: self.holes_below.min(log_end),
            clean_below: self.clean_below.min(log_end),
            ..self
        };
        if cut != self {
            cut.write(dir)?;
        }
        Ok(cut)
    }

    /// Replaces the file, and returns when that is durable.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), LogError> {
        Ok(millpond_disk::replace_file(&dir.join(names::COMPACTION_CHECKPOINT), self.encode().as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_back_and_a_damaged_file_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(CompactionCheckpoint::read(dir.path()).unwrap(), CompactionCheckpoint::default());
        let mut checkpoint = CompactionCheckpoint { holes_below: 41, clean_below: 40, replacing: None };
        for replacing in [None, Some(Replacing { first: 0, end: 8, len: 3 })] {
            checkpoint.replacing = replacing;
            checkpoint.write(dir.path()).unwrap();
            assert_eq!(CompactionCheckpoint::read(dir.path()).unwrap(), checkpoint);
        }
        let path = dir.path().join("compaction-checkpoint");
        for damaged in [
            "",
            "1\n1 1\n",
            "0\n1\n",
            "0\n1 1\nreplacing 1 2\n",
            "0\n1 1\nreplacing 2 2 0\n",
            "0\n1 1\n\n",
            "0\n1 1\nx",
        ] {
            millpond_disk::write_file(&path, damaged.as_bytes()).unwrap();
            let error = CompactionCheckpoint::read(dir.path()).unwrap_err();
            assert!(matches!(error, LogError::Damaged { .. }), "{damaged:?}");
        }
    }
}
