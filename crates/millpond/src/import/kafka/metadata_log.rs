//! The metadata log `__cluster_metadata-0`: its newest snapshot, and then what follows it in the log.
//!
//! ```text
//! 00000000000000004711-0000000003.checkpoint   a snapshot: all that was written before offset 4711, in epoch 3
//! 00000000000000000000.log                     the log; offsets follow each other without holes
//! ```
//!
//! Both hold record batches, with control batches among them. With one voter everything in the log is committed; with more the
//! others may know of a different end, so such a log is refused.

use std::path::{Path, PathBuf};

use millpond_log::LogError;
use millpond_log::inspect::{BatchWalk, Found, FoundBatch, PartitionFolder};
use millpond_types::Offset;

use super::cluster::Cluster;
use super::fields::{FieldError, Fields};
use super::record::{Record, RecordError};

/// The folder of the metadata log.
pub(crate) const METADATA_FOLDER: &str = "__cluster_metadata-0";

/// The most bytes of one batch, decompressed. Kafka writes at most 8 MiB.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// Why the metadata log cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetadataLogError {
    #[error("{} holds no metadata: neither a snapshot nor a log with a record. Was Kafka ever started on it?", path.display())]
    Empty { path: PathBuf },
    #[error(
        "Kafka's metadata cannot be read: {}{}: {what}. Nothing can be taken over without it; restore the file from a backup, or see \
         whether Kafka still starts on it, and stop it cleanly",
        path.display(),
        offset.map(|offset| format!(", offset {offset}")).unwrap_or_default()
    )]
    Damaged { path: PathBuf, offset: Option<Offset>, what: String },
    #[error("Kafka's metadata cannot be read: {}, offset {offset}: {source}", path.display())]
    Record { path: PathBuf, offset: Offset, source: RecordError },
    #[error(
        "the metadata log in {} belongs to a quorum of {voters} controllers. Only the log of a single controller is sure to be \
         what was agreed on; take the cluster down to one controller first",
        path.display()
    )]
    Quorum { path: PathBuf, voters: u32 },
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Reads the metadata log in `dir`. `was_closed`: Kafka was stopped cleanly, so its last batch is whole.
pub(crate) fn read_metadata(dir: &Path, was_closed: bool) -> Result<Cluster, MetadataLogError> {
    let empty = || MetadataLogError::Empty { path: dir.to_owned() };
    let folder = PartitionFolder::read(dir)?.ok_or_else(empty)?;
    let mut replay = Replay { cluster: Cluster::default(), transaction: None, voters: None, records: 0 };
    let snapshot = newest_snapshot(dir)?;
    let mut next = 0;
    if let Some((offset, path)) = snapshot {
        replay.snapshot(&path)?;
        next = offset;
    }
    let mut log_end = None;
    for (place, segment) in folder.segments.iter().enumerate() {
        let is_last = place + 1 == folder.segments.len();
        let expected = log_end.unwrap_or(segment.base_offset.min(next));
        if segment.base_offset != expected {
            let what = format!("it begins where offset {expected} is next: what comes before is missing");
            return Err(damaged(&segment.log.path, None, what));
        }
        log_end = Some(replay.segment(&segment.log.path, segment.base_offset, next, is_last && !was_closed)?);
    }
    // A clean stop leaves a snapshot of producers, of whom there are none here, at the log's end.
    if let (true, Some((expected, file))) = (was_closed, folder.snapshots.last())
        && log_end.is_some_and(|end| end < *expected)
    {
        let what = format!("Kafka closed the log at this offset, and it ends at {}", log_end.unwrap_or_default());
        return Err(damaged(&file.path, Some(*expected), what));
    }
    if replay.records == 0 {
        return Err(empty());
    }
    if let Some(voters) = replay.voters.filter(|voters| *voters > 1) {
        return Err(MetadataLogError::Quorum { path: dir.to_owned(), voters });
    }
    Ok(replay.cluster)
}

fn damaged(path: &Path, offset: Option<Offset>, what: String) -> MetadataLogError {
    MetadataLogError::Damaged { path: path.to_owned(), offset, what }
}

/// The newest snapshot that is complete by its name, and the offset before which it tells everything.
fn newest_snapshot(dir: &Path) -> Result<Option<(Offset, PathBuf)>, MetadataLogError> {
    let entries = millpond_disk::list(dir).map_err(LogError::Disk)?;
    let parse = |name: &str| {
        let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
        let is_number = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = is_number(offset, 20) && is_number(epoch, 10);
        is_name.then(|| Some((offset.parse::<Offset>().ok()?, epoch.parse::<u64>().ok()?))).flatten()
    };
    let named = entries.iter().filter_map(|entry| parse(&entry.name).map(|id| (id, dir.join(&entry.name))));
    Ok(named.max_by_key(|(id, _)| *id).map(|((offset, _), path)| (offset, path)))
}

/// The types of control records that matter.
mod control {
    pub(super) const LEADER_CHANGE: i16 = 2;
    pub(super) const SNAPSHOT_FOOTER: i16 = 4;
    pub(super) const VOTERS: i16 = 6;
}

struct Replay {
    cluster: Cluster,
    /// The records of a transaction that is not complete yet. It is part of the log, which is in memory as a whole in Kafka, too.
    transaction: Option<Vec<Record>>,
    /// How many controllers there are, as the log told last.
    voters: Option<u32>,
    /// Records that were read, control records apart.
    records: u64,
}

impl Replay {
    fn snapshot(&mut self, path: &Path) -> Result<(), MetadataLogError> {
        let mut walk = BatchWalk::open(path)?;
        let mut is_complete = false;
        while let Some(found) = walk.next()? {
            let batch = valid(found, path)?;
            is_complete = self.batch(&batch, path, 0)? == Some(control::SNAPSHOT_FOOTER);
        }
        if is_complete { Ok(()) } else { Err(damaged(path, None, "the snapshot does not end as it must".to_owned())) }
    }

    /// Reads a file of the log from offset `next` on, and answers where it ends. `may_be_torn`: what was written last may be cut off.
    fn segment(
        &mut self,
        path: &Path,
        base: Offset,
        next: Offset,
        may_be_torn: bool,
    ) -> Result<Offset, MetadataLogError> {
        let mut walk = BatchWalk::open(path)?;
        let mut end = base;
        while let Some(found) = walk.next()? {
            if let Found::Gap(gap) = &found
                && may_be_torn
                && gap.is_unwritten
            {
                // It was never acknowledged.
                break;
            }
            let batch = valid(found, path)?;
            if batch.header.base_offset != end {
                let what = format!("a batch begins there, where offset {end} is next");
                return Err(damaged(path, Some(batch.header.base_offset), what));
            }
            end = batch.header.next_offset();
            if end > next {
                self.batch(&batch, path, next)?;
            }
        }
        Ok(end)
    }

    /// Applies the records of a batch from offset `next` on; answers the type of a control batch.
    fn batch(&mut self, batch: &FoundBatch<'_>, path: &Path, next: Offset) -> Result<Option<i16>, MetadataLogError> {
        let base_offset = Some(batch.header.base_offset);
        let view = batch.view().ok_or_else(|| damaged(path, base_offset, "the batch is too large".to_owned()))?;
        let unreadable = |error: millpond_records::BatchError| damaged(path, base_offset, error.to_string());
        let mut records = view.records(BATCH_BYTES_MAX).map_err(unreadable)?;
        let mut kind = None;
        while let Some(record) = records.next() {
            let record = record.map_err(unreadable)?;
            let (offset, value) = (record.offset, record.value.unwrap_or_default());
            if batch.header.is_control() {
                let of_control =
                    |source: FieldError| damaged(path, Some(offset), format!("a control record: {source}"));
                let mut key = Fields::new(record.key.unwrap_or_default());
                key.int16("version").map_err(of_control)?;
                let found = key.int16("type").map_err(of_control)?;
                if let Some(voters) = voters(found, value).map_err(of_control)? {
                    self.voters = Some(voters);
                }
                kind = Some(found);
            } else if offset >= next {
                let record = Record::decode(value).map_err(|source| MetadataLogError::Record {
                    path: path.to_owned(),
                    offset,
                    source,
                })?;
                self.record(record).map_err(|what| damaged(path, Some(offset), what))?;
            }
        }
        Ok(kind)
    }

    /// Applies a record, or keeps it until its transaction ends.
    fn record(&mut self, record: Record) -> Result<(), String> {
        self.records += 1;
        match (record, &mut self.transaction) {
            (Record::BeginTransaction, None) => self.transaction = Some(Vec::new()),
            (Record::BeginTransaction, Some(_)) => return Err("a transaction begins within another".to_owned()),
            (Record::AbortTransaction, Some(_)) => self.transaction = None,
            (Record::EndTransaction, transaction @ Some(_)) => {
                for record in transaction.take().unwrap_or_default() {
                    self.cluster.apply(record)?;
                }
            }
            (Record::EndTransaction | Record::AbortTransaction, None) => {
                return Err("a transaction ends that did not begin".to_owned());
            }
            (record, Some(transaction)) => transaction.push(record),
            (record, None) => self.cluster.apply(record)?,
        }
        Ok(())
    }
}

fn valid<'a>(found: Found<'a>, path: &Path) -> Result<FoundBatch<'a>, MetadataLogError> {
    match found {
        Found::Batch(batch) if batch.is_valid() => Ok(batch),
        Found::Batch(batch) => {
            let (stored, computed) = (batch.header.crc, batch.computed_crc);
            let what = format!("the CRC of the batch is {stored:#010x}, that of its bytes {computed:#010x}");
            Err(damaged(path, Some(batch.header.base_offset), what))
        }
        Found::Gap(gap) => {
            let what =
                format!("at position {} there are {} bytes that are no batch: {}", gap.position, gap.len, gap.what);
            Err(damaged(path, None, what))
        }
    }
}

/// How many controllers a control record tells of.
fn voters(kind: i16, value: &[u8]) -> Result<Option<u32>, FieldError> {
    let mut fields = Fields::new(value);
    match kind {
        control::LEADER_CHANGE => {
            fields.int16("Version")?;
            fields.int32("LeaderId")?;
        }
        control::VOTERS => drop(fields.int16("Version")?),
        _ => return Ok(None),
    }
    // A length is stored one larger than it is.
    Ok(Some(fields.unsigned_varint("Voters")?.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use millpond_records::{BatchBuilder, BatchOptions};

    use super::super::ResourceKind;
    use super::*;

    const END_TRANSACTION: &[u8] = &[1, 24, 0, 0];
    const ABORT_TRANSACTION: &[u8] = &[1, 25, 0, 0];
    const BEGIN_TRANSACTION: &[u8] = &[1, 23, 0, 0];
    const LOG: &str = "00000000000000000000.log";

    fn topic(name: &str, id: u8) -> Vec<u8> {
        let name_len = name.len() as u8 + 1;
        [&[1, 2, 0, name_len], name.as_bytes(), &[0; 15], &[id, 0]].concat()
    }

    fn remove(id: u8) -> Vec<u8> {
        [&[1, 9, 0][..], &[0; 15], &[id, 0]].concat()
    }

    fn batch(base_offset: Offset, values: &[&[u8]]) -> Vec<u8> {
        let mut batch = BatchBuilder::new(BatchOptions { base_offset, ..BatchOptions::default() });
        values.iter().for_each(|value| batch.push(0, None, Some(value), &[]));
        batch.build()
    }

    fn control(base_offset: Offset, kind: u8, value: &[u8]) -> Vec<u8> {
        let mut batch = BatchBuilder::new(BatchOptions { base_offset, control: true, ..BatchOptions::default() });
        batch.push(0, Some(&[0, 0, 0, kind]), Some(value), &[]);
        batch.build()
    }

    /// One controller was elected.
    fn leader(base_offset: Offset) -> Vec<u8> {
        control(base_offset, 2, &[0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 1, 0])
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new(files: &[(&str, Vec<Vec<u8>>)]) -> Folder {
            let dir = tempfile::tempdir().unwrap();
            for (name, batches) in files {
                std::fs::write(dir.path().join(name), batches.concat()).unwrap();
            }
            Folder(dir)
        }

        fn topics(&self) -> Vec<String> {
            let cluster = read_metadata(self.0.path(), true).unwrap();
            cluster.topics().iter().map(|topic| topic.name.clone()).collect()
        }

        fn refused(&self) -> String {
            read_metadata(self.0.path(), true).unwrap_err().to_string()
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }
    }

    #[test]
    fn a_log_is_replayed_from_its_newest_snapshot_on() {
        let snapshot =
            |name: &str| vec![control(0, 3, &[0; 10]), batch(1, &[&topic(name, 7)]), control(2, 4, &[0, 0, 0])];
        let log = vec![
            leader(0),
            batch(1, &[&topic("old", 1), &topic("gone", 2)]),
            batch(3, &[&remove(2), &topic("new", 3)]),
        ];
        let folder = Folder::new(&[(LOG, log.clone())]);
        assert_eq!(folder.topics(), ["new", "old"]);
        // Of the batch at 3 the snapshot has the first record.
        let folder = Folder::new(&[
            (LOG, log.clone()),
            ("00000000000000000000-0000000000.checkpoint", snapshot("oldest")),
            ("00000000000000000004-0000000001.checkpoint", snapshot("kept")),
            ("00000000000000000005-0000000001.checkpoint.part", vec![b"half".to_vec()]),
        ]);
        assert_eq!(folder.topics(), ["kept", "new"]);
        // Its front may be gone then, but nothing between.
        let rest = ("00000000000000000003.log", vec![log[2].clone()]);
        let folder = Folder::new(&[rest.clone(), ("00000000000000000004-0000000001.checkpoint", snapshot("kept"))]);
        assert_eq!(folder.topics(), ["kept", "new"]);
        let folder = Folder::new(&[rest.clone(), ("00000000000000000002-0000000001.checkpoint", snapshot("kept"))]);
        assert!(folder.refused().contains("what comes before is missing"), "{}", folder.refused());
        assert!(Folder::new(&[rest]).refused().contains("offset 0 is next"));
    }

    #[test]
    fn transactions_count_when_they_end() {
        let ended = batch(0, &[BEGIN_TRANSACTION, &topic("a", 1), END_TRANSACTION]);
        let aborted = batch(3, &[BEGIN_TRANSACTION, &topic("b", 2), ABORT_TRANSACTION]);
        let open = batch(6, &[BEGIN_TRANSACTION, &topic("c", 3)]);
        assert_eq!(Folder::new(&[(LOG, vec![ended, aborted, open])]).topics(), ["a"]);
        let folder = Folder::new(&[(LOG, vec![batch(0, &[END_TRANSACTION])])]);
        assert!(folder.refused().contains("did not begin"), "{}", folder.refused());
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let log = vec![leader(0), batch(1, &[&topic("a", 1)]), batch(2, &[&topic("b", 2)])];
        let whole = log.concat();
        let last = log[0].len() + log[1].len();
        let folder = Folder::new(&[(LOG, log.clone())]);
        for cut in [last + 1, last + 30, whole.len() - 1] {
            std::fs::write(folder.path(LOG), &whole[..cut]).unwrap();
            assert!(folder.refused().contains(&format!("at position {last}")), "{}", folder.refused());
            // A crash leaves that.
            assert_eq!(read_metadata(folder.0.path(), false).unwrap().topics().len(), 1);
        }
        // Cut between two batches it looks whole, but for what the clean stop has left.
        std::fs::write(folder.path(LOG), &whole[..last]).unwrap();
        assert_eq!(folder.topics(), ["a"]);
        std::fs::write(folder.path("00000000000000000003.snapshot"), b"").unwrap();
        assert!(
            folder.refused().contains("Kafka closed the log at this offset, and it ends at 2"),
            "{}",
            folder.refused()
        );
        std::fs::remove_file(folder.path("00000000000000000003.snapshot")).unwrap();

        let mut flipped = whole.clone();
        flipped[last - 1] ^= 1;
        std::fs::write(folder.path(LOG), &flipped).unwrap();
        assert!(folder.refused().contains("offset 1: the CRC"), "{}", folder.refused());
        assert!(read_metadata(folder.0.path(), false).is_err(), "whole batches follow it");
        std::fs::write(folder.path(LOG), [&whole[..log[0].len()], &whole[last..]].concat()).unwrap();
        assert!(folder.refused().contains("where offset 1 is next"), "{}", folder.refused());
        std::fs::write(folder.path(LOG), b"garbage").unwrap();
        assert!(folder.refused().contains("are no batch"), "{}", folder.refused());
        std::fs::write(folder.path(LOG), batch(0, &[b"garbage"])).unwrap();
        assert!(folder.refused().contains("offset 0: it is no record of Kafka's metadata"), "{}", folder.refused());
        std::fs::write(folder.path(LOG), b"").unwrap();
        assert!(folder.refused().contains("holds no metadata"), "{}", folder.refused());

        let cut = vec![control(0, 3, &[0; 10]), batch(1, &[&topic("a", 1)])];
        let folder = Folder::new(&[("00000000000000000002-0000000001.checkpoint", cut)]);
        assert!(folder.refused().contains("does not end as it must"), "{}", folder.refused());
    }

    #[test]
    fn the_log_of_a_quorum_is_refused() {
        let two: &[u8] = &[0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 1, 0];
        let folder = Folder::new(&[(LOG, vec![control(0, 2, two), batch(1, &[&topic("a", 1)])])]);
        assert!(folder.refused().contains("a quorum of 2 controllers"), "{}", folder.refused());
        // As it was last.
        let folder = Folder::new(&[(LOG, vec![control(0, 6, &[0, 0, 4]), leader(1), batch(2, &[&topic("a", 1)])])]);
        assert_eq!(folder.topics(), ["a"]);
    }

    #[test]
    fn configurations_come_through() {
        let config = [&[1, 4, 0, 4, 1][..], b"\x11log.retention.ms", b"\x021", &[0]].concat();
        let folder = Folder::new(&[(LOG, vec![batch(0, &[&config])])]);
        let cluster = read_metadata(folder.0.path(), true).unwrap();
        assert_eq!(cluster.configs(ResourceKind::Broker, "")["log.retention.ms"], "1");
    }
}
