//! Which files a partition's folder holds at the moment, and which of them are its log.

use std::path::{Path, PathBuf};

use millpond_types::Offset;

use crate::compaction::CompactionCheckpoint;
use crate::{LogError, names};

/// A file as it was when the folder was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// When it was last written, ms since 1970.
    pub modified_ms: i64,
}

/// The files of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFiles {
    /// The offset in their names.
    pub base_offset: Offset,
    /// The batches.
    pub log: ListedFile,
    /// Where batches lie, by offset.
    pub index: Option<ListedFile>,
    /// Where batches lie, by time.
    pub time_index: Option<ListedFile>,
    /// The transactions that were aborted in it.
    pub transaction_index: Option<ListedFile>,
}

impl SegmentFiles {
    /// The offset that an index means by a relative one.
    pub(super) fn absolute(&self, relative_offset: u32) -> Offset {
        // A file may have any name.
        self.base_offset.saturating_add(i64::from(relative_offset))
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        let indexes = [&self.index, &self.time_index, &self.transaction_index];
        self.log.len + indexes.into_iter().flatten().map(|file| file.len).sum::<u64>()
    }
}

/// A partition's folder as it was when it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFolder {
    /// Where it is.
    pub dir: PathBuf,
    /// The segments, oldest first. There may be some among them that lie below the log's start as a whole.
    pub segments: Vec<SegmentFiles>,
    /// The snapshots of producers, oldest first.
    pub snapshots: Vec<(Offset, ListedFile)>,
    /// Bytes of files that are not part of the log: of deleted segments, and those that are being made.
    pub aside_bytes: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

impl PartitionFolder {
    /// Lists the folder. `None`: it does not exist (any more).
    pub fn read(dir: &Path) -> Result<Option<PartitionFolder>, LogError> {
        // Before the files: what this says of a swap of segments holds until it is over, and then others are there.
        let compaction = CompactionCheckpoint::read(dir).unwrap_or_default();
        let entries = match millpond_disk::list(dir) {
            Err(error) if error.is_not_found() => return Ok(None),
            entries => entries?,
        };
        let files: Vec<(String, ListedFile)> = entries
            .into_iter()
            .filter(|entry| !entry.is_dir)
            .map(|entry| {
                let path = dir.join(&entry.name);
                (entry.name, ListedFile { path, len: entry.len, modified_ms: entry.modified_ms })
            })
            .collect();
        let find = |name: &str| files.iter().find(|(known, _)| known == name).map(|(_, file)| file.clone());

        let mut folder = PartitionFolder {
            dir: dir.to_owned(),
            segments: Vec::new(),
            snapshots: Vec::new(),
            aside_bytes: 0,
            bytes: files.iter().map(|(_, file)| file.len).sum(),
        };
        let mut bases: Vec<Offset> = files.iter().filter_map(|(name, _)| base_of_log(name)).collect();
        let replacing = compaction.replacing;
        if let Some(replacing) = replacing {
            // The old segments mean nothing any more; the new one has its last name, or still the first.
            bases.retain(|base| *base <= replacing.first || *base >= replacing.end);
            if !bases.contains(&replacing.first) {
                bases.push(replacing.first);
                bases.sort_unstable();
            }
        }
        for base_offset in bases {
            let is_new = replacing.is_some_and(|replacing| replacing.first == base_offset);
            let file = |kind: &str| {
                let name = format!("{base_offset:020}.{kind}");
                let cleaned = is_new.then(|| find(&format!("{name}{}", names::CLEANED))).flatten();
                cleaned.or_else(|| find(&name))
            };
            let Some(log) = file(names::LOG) else { continue };
            folder.segments.push(SegmentFiles {
                base_offset,
                log,
                index: file(names::INDEX),
                time_index: file(names::TIME_INDEX),
                transaction_index: file(names::TXN_INDEX),
            });
        }
        for (name, file) in &files {
            if let Some((offset, names::SNAPSHOT)) = names::parse(name) {
                folder.snapshots.push((offset, file.clone()));
            }
            if [names::DELETED, names::CLEANED, names::TEMPORARY].iter().any(|suffix| name.ends_with(suffix)) {
                folder.aside_bytes += file.len;
            }
        }
        Ok(Some(folder))
    }

    /// Bytes of the batches of all segments.
    pub fn log_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.log.len).sum()
    }

    /// The segments that are part of a log that starts at `log_start`, and where each one's successor begins; the last has
    /// none.
    pub fn segments_from(&self, log_start: Offset) -> impl Iterator<Item = (&SegmentFiles, Option<Offset>)> {
        let next = self.segments.iter().skip(1).map(|next| Some(next.base_offset)).chain([None]);
        // Those below the start wait for their removal; some may be gone already.
        self.segments.iter().zip(next).skip_while(move |(_, next)| next.is_some_and(|next| next <= log_start))
    }
}

fn base_of_log(name: &str) -> Option<Offset> {
    names::parse(name).filter(|(_, kind)| *kind == names::LOG).map(|(offset, _)| offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[(&str, usize)]) -> (tempfile::TempDir, PartitionFolder) {
        let dir = tempfile::tempdir().unwrap();
        for (name, len) in names {
            millpond_disk::write_file(&dir.path().join(name), &vec![0; *len]).unwrap();
        }
        let folder = PartitionFolder::read(dir.path()).unwrap().unwrap();
        (dir, folder)
    }

    #[test]
    fn files_are_sorted_out_by_their_names() {
        let (_dir, folder) = folder(&[
            ("00000000000000000000.log", 100),
            ("00000000000000000000.index", 8),
            ("00000000000000000009.log", 50),
            ("00000000000000000009.snapshot", 10),
            ("00000000000000000000.log.deleted", 1000),
            ("00000000000000000004.log.cleaned", 7),
            ("00000000000000000005.index", 16),
            ("partition.metadata", 40),
        ]);
        let bases: Vec<Offset> = folder.segments.iter().map(|segment| segment.base_offset).collect();
        assert_eq!(bases, [0, 9]);
        assert_eq!(folder.segments[0].bytes(), 108);
        assert!(folder.segments[1].index.is_none() && folder.segments[0].time_index.is_none());
        assert_eq!(folder.snapshots.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [9]);
        assert_eq!((folder.log_bytes(), folder.aside_bytes, folder.bytes), (150, 1007, 1231));
        let from = |start| folder.segments_from(start).map(|(s, next)| (s.base_offset, next)).collect::<Vec<_>>();
        assert_eq!(from(8), [(0, Some(9)), (9, None)]);
        assert_eq!(from(9), [(9, None)]);
        assert_eq!(from(1000), [(9, None)], "the last one always");
    }

    #[test]
    fn a_folder_that_is_gone_is_none() {
        assert_eq!(PartitionFolder::read(Path::new("/nowhere/t-0")).unwrap(), None);
    }

    #[test]
    fn of_a_swap_that_has_begun_the_new_segment_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| millpond_disk::write_file(&dir.path().join(name), bytes).unwrap();
        write("compaction-checkpoint", b"0\n9 0\nreplacing 0 9 30\n");
        write("00000000000000000000.log", &[0; 100]);
        write("00000000000000000005.log", &[0; 100]);
        write("00000000000000000009.log", &[0; 100]);
        write("00000000000000000000.log.cleaned", &[0; 30]);
        let lens = || {
            let folder = PartitionFolder::read(dir.path()).unwrap().unwrap();
            folder.segments.iter().map(|segment| (segment.base_offset, segment.log.len)).collect::<Vec<_>>()
        };
        assert_eq!(lens(), [(0, 30), (9, 100)]);
        // The old file is removed before the new one gets its name.
        millpond_disk::remove_file(&dir.path().join("00000000000000000000.log")).unwrap();
        assert_eq!(lens(), [(0, 30), (9, 100)]);
        let cleaned = dir.path().join("00000000000000000000.log.cleaned");
        millpond_disk::rename_file(&cleaned, &dir.path().join("00000000000000000000.log")).unwrap();
        assert_eq!(lens(), [(0, 30), (9, 100)]);
    }
}
