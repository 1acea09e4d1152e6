//! The names of a partition's files.

use std::path::{Path, PathBuf};

use millpond_types::Offset;

pub(crate) const LOG: &str = "log";
pub(crate) const INDEX: &str = "index";
pub(crate) const TIME_INDEX: &str = "timeindex";
pub(crate) const TXN_INDEX: &str = "txnindex";
pub(crate) const SNAPSHOT: &str = "snapshot";
/// Comes after the whole name of a file that is to be removed.
pub(crate) const DELETED: &str = ".deleted";
/// Comes after the whole name of a file that compaction makes, and has not put in the place of others yet.
pub(crate) const CLEANED: &str = ".cleaned";
/// Comes after the whole name of a file that was being replaced.
pub(crate) const TEMPORARY: &str = ".tmp";

pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
pub(crate) const COMPACTION_CHECKPOINT: &str = "compaction-checkpoint";
pub(crate) const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";

/// `00000000000000000042.kind`
pub(crate) fn file(offset: Offset, kind: &str) -> String {
    format!("{offset:020}.{kind}")
}

/// `dir/00000000000000000042.kind`
pub(crate) fn path(dir: &Path, offset: Offset, kind: &str) -> PathBuf {
    dir.join(file(offset, kind))
}

/// `dir/00000000000000000042.kind.cleaned`
pub(crate) fn cleaned(dir: &Path, offset: Offset, kind: &str) -> PathBuf {
    dir.join(format!("{offset:020}.{kind}{CLEANED}"))
}

/// The offset and the kind of a file with a name like `00000000000000000042.log`.
pub(crate) fn parse(name: &str) -> Option<(Offset, &str)> {
    let (digits, kind) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas_and_come_back() {
        let path = path(Path::new("t-0"), 42, LOG);
        assert_eq!(path, Path::new("t-0/00000000000000000042.log"));
        assert_eq!(parse("00000000000000000042.log"), Some((42, "log")));
        for other in ["42.log", "0000000000000000004x.log", "partition.metadata", "99999999999999999999.log", ".lock"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
