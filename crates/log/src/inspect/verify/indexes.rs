//! Whether the entries of a segment's indexes lead to the batches that they speak of.
//!
//! Index files are made anew as a whole, so of each the first wrong entry is told, and the rest is not looked at. Those of a
//! segment that is written, or was not synced, are not looked at either: the node has its indexes in memory, and after a crash they
//! are built anew.

use std::path::{Path, PathBuf};

use millpond_records::BatchHeader;
use millpond_types::{Offset, ProducerId, TimestampMs};

use super::finding::{Finding, FindingKind, finding};
use crate::inspect::entries::Entry;
use crate::inspect::{Entries, IndexEntry, ListedFile, SegmentFiles, TimeIndexEntry, TransactionIndexEntry};
use crate::{LogError, names};

const REMEDY: &str =
    "stop the node, delete this file and start it again: it is made anew from the .log file when it is needed";

/// An index file that is read along with the batches.
struct Cursor<E> {
    kind: FindingKind,
    path: PathBuf,
    entries: Option<Entries<E>>,
    /// The entry that waits for its batch, and where it lies.
    current: Option<(u64, E)>,
}

impl<E: Entry> Cursor<E> {
    /// `None`: there is no such file.
    fn open(kind: FindingKind, file: &Option<ListedFile>) -> Result<Option<Cursor<E>>, LogError> {
        let Some(ListedFile { path, .. }) = file else { return Ok(None) };
        let Some(mut entries) = Entries::open(path)? else { return Ok(None) };
        let current = entries.next()?;
        Ok(Some(Cursor { kind, path: path.clone(), entries: Some(entries), current }))
    }

    /// Looks at no more entries.
    fn end(&mut self) {
        self.entries = None;
        self.current = None;
    }

    /// The current entry is wrong.
    fn wrong(&mut self, what: String, offset: Option<Offset>) -> Finding {
        let position = self.current.as_ref().map(|(position, _)| *position);
        self.end();
        Finding { position, offset, ..finding(self.kind, &self.path, what, REMEDY) }
    }

    fn advance(&mut self) -> Result<(), LogError> {
        if let Some(entries) = &mut self.entries {
            self.current = entries.next()?;
        }
        Ok(())
    }

    /// Bytes at the end that are no entry.
    fn check_rest(&mut self) -> Option<Finding> {
        let rest = self.entries.as_ref().map_or(0, Entries::rest);
        (rest > 0).then(|| self.wrong(format!("its last {rest} bytes are no whole entry of {}", E::LEN), None))
    }
}

/// The three indexes of one segment.
pub(super) struct IndexChecks {
    base_offset: Offset,
    index: Option<Cursor<IndexEntry>>,
    time_index: Option<Cursor<TimeIndexEntry>>,
    transaction_index: Option<Cursor<TransactionIndexEntry>>,
    /// The largest timestamp so far, and the last offset of the first batch that has it.
    max: (TimestampMs, Offset),
    last_time_entry: Option<TimeIndexEntry>,
}

impl IndexChecks {
    /// Of a segment whose files nobody writes to any more, and which were synced.
    pub(super) fn open(segment: &SegmentFiles) -> Result<IndexChecks, LogError> {
        let index = Cursor::open(FindingKind::Index, &segment.index)?;
        let time_index = Cursor::open(FindingKind::TimeIndex, &segment.time_index)?;
        let transaction_index = Cursor::open(FindingKind::TransactionIndex, &segment.transaction_index)?;
        let max = (-1, segment.base_offset);
        let base_offset = segment.base_offset;
        Ok(IndexChecks { base_offset, index, time_index, transaction_index, max, last_time_entry: None })
    }

    /// How many of the files are there.
    pub(super) fn files(&self) -> u64 {
        [self.index.is_some(), self.time_index.is_some(), self.transaction_index.is_some()].map(u64::from).iter().sum()
    }

    /// Of files that must be there and are not.
    pub(super) fn check_missing(&self, segment: &SegmentFiles) -> Option<Finding> {
        let missing = match (&self.index, &self.time_index) {
            (None, _) => (FindingKind::Index, names::INDEX),
            (_, None) => (FindingKind::TimeIndex, names::TIME_INDEX),
            _ => return None,
        };
        if segment.log.len == 0 {
            return None;
        }
        let dir = segment.log.path.parent().unwrap_or(Path::new(""));
        let path = names::path(dir, segment.base_offset, missing.1);
        let remedy = "nothing: it is made anew from the .log file when it is needed";
        Some(finding(missing.0, &path, "the file is missing".to_owned(), remedy))
    }

    /// The next batch, with a right checksum; `aborted`: it is the marker of a transaction that was aborted.
    pub(super) fn see(
        &mut self,
        position: u64,
        header: &BatchHeader,
        aborted: Option<ProducerId>,
        mut found: impl FnMut(Finding),
    ) -> Result<(), LogError> {
        self.see_index(position, header)?.into_iter().for_each(&mut found);
        self.see_time_index(header)?.into_iter().for_each(&mut found);
        self.see_transaction_index(header, aborted)?.into_iter().for_each(&mut found);
        Ok(())
    }

    /// Bytes that are damaged; `to` is where they end.
    pub(super) fn skip(&mut self, to: u64) -> Result<(), LogError> {
        while let Some(index) = &mut self.index
            && index.current.as_ref().is_some_and(|(_, entry)| u64::from(entry.position) < to)
        {
            index.advance()?;
        }
        // Which timestamps and transactions they held nobody knows.
        if let Some(cursor) = &mut self.time_index {
            cursor.end();
        }
        if let Some(cursor) = &mut self.transaction_index {
            cursor.end();
        }
        Ok(())
    }

    fn see_index(&mut self, position: u64, header: &BatchHeader) -> Result<Option<Finding>, LogError> {
        let Some(cursor) = &mut self.index else { return Ok(None) };
        let Some((_, entry)) = cursor.current else { return Ok(None) };
        let entry_position = u64::from(entry.position);
        if entry_position > position {
            return Ok(None);
        }
        let offset = self.base_offset.saturating_add(i64::from(entry.relative_offset));
        if entry_position < position {
            let what = format!("it leads to position {entry_position} for offset {offset}, where no batch begins");
            return Ok(Some(cursor.wrong(what, Some(offset))));
        }
        if offset != header.last_offset() {
            let what = format!(
                "it leads to position {position} for offset {offset}; the batch there ends with offset {}",
                header.last_offset()
            );
            return Ok(Some(cursor.wrong(what, Some(offset))));
        }
        cursor.advance()?;
        Ok(None)
    }

    fn see_time_index(&mut self, header: &BatchHeader) -> Result<Option<Finding>, LogError> {
        if header.max_timestamp > self.max.0 {
            self.max = (header.max_timestamp, header.last_offset());
        }
        let Some(cursor) = &mut self.time_index else { return Ok(None) };
        let Some((_, entry)) = cursor.current else { return Ok(None) };
        let offset = self.base_offset.saturating_add(i64::from(entry.relative_offset));
        if offset > header.last_offset() {
            return Ok(None);
        }
        // It may speak of a later batch than the first one that has the timestamp: lookups come to the same.
        if offset != header.last_offset() || entry.timestamp != self.max.0 {
            let (largest, holder) = self.max;
            let what = format!(
                "it says that {} is the largest timestamp up to offset {offset}, where a batch ends; it is {largest} up to offset \
                 {}, in the batch that ends with offset {holder}",
                entry.timestamp,
                header.last_offset()
            );
            return Ok(Some(cursor.wrong(what, Some(offset))));
        }
        if self.last_time_entry.is_some_and(|last| last.timestamp >= entry.timestamp) {
            let what = format!("it tells the timestamp {} of offset {offset} once more", entry.timestamp);
            return Ok(Some(cursor.wrong(what, Some(offset))));
        }
        self.last_time_entry = Some(entry);
        cursor.advance()?;
        Ok(None)
    }

    fn see_transaction_index(
        &mut self,
        header: &BatchHeader,
        aborted: Option<ProducerId>,
    ) -> Result<Option<Finding>, LogError> {
        let Some(cursor) = &mut self.transaction_index else { return Ok(None) };
        let Some((_, entry)) = cursor.current else { return Ok(None) };
        let offset = entry.last_offset;
        if offset > header.last_offset() && entry.version == 0 {
            return Ok(None);
        }
        let what = if entry.version != 0 {
            format!("its version is {}, and only 0 is known", entry.version)
        } else if offset != header.last_offset() || aborted != Some(entry.producer_id) {
            format!("no marker at offset {offset} aborts a transaction of producer {}", entry.producer_id)
        } else if entry.first_offset >= offset || entry.last_stable_offset > offset.saturating_add(1) {
            let (first, stable) = (entry.first_offset, entry.last_stable_offset);
            format!(
                "the transaction that ends at offset {offset} cannot begin at {first}, nor be stable up to {stable}"
            )
        } else {
            cursor.advance()?;
            return Ok(None);
        };
        Ok(Some(cursor.wrong(what, Some(offset))))
    }

    /// The segment ends at position `end`, before offset `next_offset`.
    pub(super) fn finish(&mut self, end: u64, next_offset: Offset) -> Option<Finding> {
        if let Some(cursor) = &mut self.index {
            if let Some((_, entry)) = cursor.current {
                let offset = self.base_offset.saturating_add(i64::from(entry.relative_offset));
                let what =
                    format!("it leads to position {} for offset {offset}; the batches end at {end}", entry.position);
                return Some(cursor.wrong(what, Some(offset)));
            }
            if let Some(found) = cursor.check_rest() {
                return Some(found);
            }
        }
        if let Some(cursor) = &mut self.time_index {
            if let Some((_, entry)) = cursor.current {
                let offset = self.base_offset.saturating_add(i64::from(entry.relative_offset));
                let what = format!("it speaks of offset {offset}; the segment ends before {next_offset}");
                return Some(cursor.wrong(what, Some(offset)));
            }
            if let Some(found) = cursor.check_rest() {
                return Some(found);
            }
            let told = self.last_time_entry.map_or(-1, |entry| entry.timestamp);
            if cursor.entries.is_some() && told != self.max.0 {
                let what = format!(
                    "its last entry must tell the segment's largest timestamp, {}, and tells {told}",
                    self.max.0
                );
                return Some(cursor.wrong(what, Some(self.max.1)));
            }
        }
        let cursor = self.transaction_index.as_mut()?;
        if let Some((_, entry)) = cursor.current {
            let offset = entry.last_offset;
            let what = format!("it speaks of offset {offset}; the segment ends before {next_offset}");
            return Some(cursor.wrong(what, Some(offset)));
        }
        cursor.check_rest()
    }
}
