//! Which leader epoch began at which offset (KIP-101): the file `leader-epoch-checkpoint`.

use std::path::Path;

use millpond_types::{LeaderEpoch, Offset};

use crate::{LogError, names};

/// The epochs in which something was written, oldest first; both columns grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    /// The newest epoch that wrote; `None` before the first.
    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// Takes note that `epoch` writes at `offset`; `true` if that is news.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, offset: Offset) -> bool {
        if epoch < 0 || self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        self.entries.push((epoch, offset));
        true
    }

    /// The epoch at or below `epoch` that wrote last, and where it ended; as Kafka answers OffsetForLeaderEpoch.
    /// `None` for an epoch that is newer than all that wrote.
    pub(crate) fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest()?;
        if epoch < 0 || epoch > latest {
            return None;
        }
        let next = self.entries.partition_point(|(known, _)| *known <= epoch);
        let end = self.entries.get(next).map_or(log_end, |(_, start)| *start);
        // Older than all that is known: that epoch, ended where the first known one began.
        let floor = next.checked_sub(1).and_then(|place| self.entries.get(place));
        Some((floor.map_or(epoch, |(known, _)| *known), end))
    }

    /// Forgets the epochs that began at or after `offset`; `true` if there were any.
    pub(crate) fn truncate_to(&mut self, offset: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(_, start)| *start < offset);
        self.entries.len() != before
    }

    /// Forgets the epochs that ended at or before `offset`; the one that wrote it then starts there.
    pub(crate) fn truncate_from_start(&mut self, offset: Offset) -> bool {
        let ended = self.entries.partition_point(|(_, start)| *start <= offset);
        let Some(keep) = ended.checked_sub(1) else { return false };
        let moved = self.entries.get(keep).is_some_and(|(_, start)| *start < offset);
        self.entries.drain(..keep);
        if let Some((_, start)) = self.entries.first_mut() {
            *start = offset;
        }
        keep > 0 || moved
    }

    pub(crate) fn encode(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            text.push_str(&format!("{epoch} {start}\n"));
        }
        text
    }

    fn decode(text: &str) -> Option<LeaderEpochs> {
        let mut lines = text.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let mut epochs = LeaderEpochs::default();
        for line in lines {
            let (epoch, start) = line.split_once(' ')?;
            let (epoch, start): (LeaderEpoch, Offset) = (epoch.parse().ok()?, start.parse().ok()?);
            let grows = epochs.entries.last().is_none_or(|(_, last)| *last <= start);
            if !grows || !epochs.assign(epoch, start) {
                return None;
            }
        }
        (epochs.entries.len() == count).then_some(epochs)
    }

    /// The epochs and the offsets of their first records, oldest first.
    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// Reads such a file; none is no epochs, a damaged one an error.
    pub(crate) fn read_file(path: &Path) -> Result<LeaderEpochs, LogError> {
        let Some(bytes) = millpond_disk::read_file(path)? else { return Ok(LeaderEpochs::default()) };
        let found = std::str::from_utf8(&bytes).ok().and_then(LeaderEpochs::decode);
        found.ok_or_else(|| LogError::Damaged { path: path.to_owned(), what: "it holds no leader epochs".to_owned() })
    }

    /// Reads the file; none, or a damaged one, is no epochs. Recovery then learns them from the batches it scans.
    pub(crate) fn read(dir: &Path) -> Result<LeaderEpochs, LogError> {
        match LeaderEpochs::read_file(&dir.join(names::LEADER_EPOCHS)) {
            Err(LogError::Damaged { path, .. }) => {
                tracing::warn!(file = %path.display(), "the leader epochs of a log are damaged and not used");
                Ok(LeaderEpochs::default())
            }
            found => found,
        }
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), LogError> {
        Ok(millpond_disk::replace_file(&dir.join(names::LEADER_EPOCHS), self.encode().as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(LeaderEpoch, Offset)]) -> LeaderEpochs {
        LeaderEpochs { entries: entries.to_vec() }
    }

    #[test]
    fn the_end_of_an_epoch_is_where_the_next_one_began() {
        let known = epochs(&[(2, 10), (4, 20), (7, 30)]);
        for (asked, expected) in [
            (-1, None),
            (0, Some((0, 10))),
            (2, Some((2, 20))),
            (3, Some((2, 20))),
            (6, Some((4, 30))),
            (7, Some((7, 99))),
            (8, None),
        ] {
            assert_eq!(known.end_of(asked, 99), expected, "epoch {asked}");
        }
        assert_eq!(epochs(&[]).end_of(0, 99), None);
    }

    #[test]
    fn epochs_are_cut_at_both_ends() {
        let mut known = epochs(&[(0, 0), (1, 10), (2, 20)]);
        assert!(!known.assign(2, 25) && !known.assign(1, 25));
        assert!(known.truncate_to(20));
        assert_eq!(known, epochs(&[(0, 0), (1, 10)]));
        assert!(known.truncate_from_start(15));
        assert_eq!(known, epochs(&[(1, 15)]));
        assert!(!known.truncate_from_start(15));
    }

    #[test]
    fn the_file_is_kafkas_and_a_damaged_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let known = epochs(&[(0, 0), (3, 10)]);
        known.write(dir.path()).unwrap();
        let path = dir.path().join("leader-epoch-checkpoint");
        assert_eq!(millpond_disk::read_file(&path).unwrap().unwrap(), b"0\n2\n0 0\n3 10\n");
        assert_eq!(LeaderEpochs::read(dir.path()).unwrap(), known);
        for damaged in ["", "1\n0\n", "0\n1\n", "0\n1\n0 0\n1 1\n", "0\n2\n1 5\n0 6\n", "0\n1\nx y\n", "\u{0}\u{0}"] {
            millpond_disk::write_file(&path, damaged.as_bytes()).unwrap();
            assert_eq!(LeaderEpochs::read(dir.path()).unwrap(), epochs(&[]), "{damaged:?}");
        }
    }
}
