//! The files beside the batches.

use std::path::Path;

use millpond_log::LogError;
use millpond_log::checkpoint;
use millpond_log::inspect::{
    Entries, Entry, IndexEntry, TimeIndexEntry, TransactionIndexEntry, read_leader_epochs, read_small_file,
    read_snapshot,
};
use millpond_records::increment_sequence;
use millpond_types::Offset;
use serde_json::{Value, json};

use super::Dump;
use crate::log::LogToolError;
use crate::log::output::visible;

impl Dump<'_> {
    pub(super) fn index(&mut self, path: &Path, base_offset: Offset) -> Result<(), LogToolError> {
        self.entries(path, |entry: IndexEntry| {
            let offset = base_offset.saturating_add(i64::from(entry.relative_offset));
            let text = format!("offset: {offset} position: {}", entry.position);
            (offset, text, json!({ "kind": "index_entry", "offset": offset, "position": entry.position }))
        })
    }

    pub(super) fn time_index(&mut self, path: &Path, base_offset: Offset) -> Result<(), LogToolError> {
        self.entries(path, |entry: TimeIndexEntry| {
            let offset = base_offset.saturating_add(i64::from(entry.relative_offset));
            let timestamp = entry.timestamp;
            let text = format!("timestamp: {timestamp} offset: {offset}");
            (offset, text, json!({ "kind": "time_index_entry", "timestamp_ms": timestamp, "offset": offset }))
        })
    }

    pub(super) fn transaction_index(&mut self, path: &Path) -> Result<(), LogToolError> {
        self.entries(path, |entry: TransactionIndexEntry| {
            let TransactionIndexEntry { version, producer_id, first_offset, last_offset, last_stable_offset } = entry;
            let text = format!(
                "version: {version} producerId: {producer_id} firstOffset: {first_offset} lastOffset: {last_offset} \
                 lastStableOffset: {last_stable_offset}"
            );
            let json = json!({
                "kind": "aborted_transaction",
                "version": version,
                "producer_id": producer_id,
                "first_offset": first_offset,
                "last_offset": last_offset,
                "last_stable_offset": last_stable_offset,
            });
            (last_offset, text, json)
        })
    }

    /// The entries of a file. `show` gives an entry's offset, its text and its JSON.
    fn entries<E: Entry>(
        &mut self,
        path: &Path,
        show: impl Fn(E) -> (Offset, String, Value),
    ) -> Result<(), LogToolError> {
        let mut entries = Entries::<E>::open(path)?.ok_or_else(|| not_found(path))?;
        while let Some((_, entry)) = entries.next()? {
            let (offset, text, json) = show(entry);
            if self.is_wanted(offset) {
                self.show(&text, &json)?;
            }
        }
        let (zeros, rest) = (entries.zeros(), entries.rest());
        if zeros > 0 {
            let text = format!("{zeros} entries of zeros: room that is reserved");
            self.show(&text, &json!({ "kind": "reserved", "entries": zeros }))?;
        }
        if rest > 0 {
            self.damaged(path, &format!("the last {rest} bytes are no whole entry of {}", E::LEN))?;
        }
        Ok(())
    }

    pub(super) fn snapshot(&mut self, path: &Path) -> Result<(), LogToolError> {
        let entries = match read_snapshot(path)?.ok_or_else(|| not_found(path))? {
            Ok(entries) => entries,
            Err(what) => return self.damaged(path, &what),
        };
        for entry in entries {
            let first = Some(entry.current_transaction_first_offset).filter(|offset| *offset >= 0);
            let first_sequence = match entry.last_sequence {
                last if last < 0 => last,
                last => increment_sequence(last, entry.offset_delta.saturating_neg()),
            };
            let text = format!(
                "producerId: {} producerEpoch: {} coordinatorEpoch: {} currentTxnFirstOffset: {} firstSequence: {first_sequence} \
                 lastSequence: {} lastOffset: {} offsetDelta: {} timestamp: {}",
                entry.producer_id,
                entry.producer_epoch,
                entry.coordinator_epoch,
                first.map_or_else(|| "none".to_owned(), |offset| offset.to_string()),
                entry.last_sequence,
                entry.last_offset,
                entry.offset_delta,
                entry.timestamp
            );
            let json = json!({
                "kind": "producer",
                "producer_id": entry.producer_id,
                "producer_epoch": entry.producer_epoch,
                "coordinator_epoch": entry.coordinator_epoch,
                "current_transaction_first_offset": first,
                "first_sequence": first_sequence,
                "last_sequence": entry.last_sequence,
                "last_offset": entry.last_offset,
                "offset_delta": entry.offset_delta,
                "timestamp_ms": entry.timestamp,
            });
            self.show(&text, &json)?;
        }
        Ok(())
    }

    pub(super) fn leader_epochs(&mut self, path: &Path) -> Result<(), LogToolError> {
        existing(path)?;
        let epochs = match read_leader_epochs(path) {
            Err(LogError::Damaged { what, .. }) => return self.damaged(path, &what),
            epochs => epochs?,
        };
        for (epoch, start) in epochs {
            let json = json!({ "kind": "leader_epoch", "epoch": epoch, "start_offset": start });
            self.show(&format!("epoch: {epoch} startOffset: {start}"), &json)?;
        }
        Ok(())
    }

    pub(super) fn offset_checkpoint(&mut self, path: &Path) -> Result<(), LogToolError> {
        existing(path)?;
        let offsets = match checkpoint::read(path) {
            Err(LogError::Damaged { what, .. }) => return self.damaged(path, &what),
            offsets => offsets?,
        };
        for (partition, offset) in offsets {
            let (topic, number) = (partition.topic.as_str(), partition.partition);
            let json = json!({ "kind": "offset", "topic": topic, "partition": number, "offset": offset });
            self.show(&format!("topic: {topic} partition: {number} offset: {offset}"), &json)?;
        }
        Ok(())
    }

    pub(super) fn text(&mut self, path: &Path) -> Result<(), LogToolError> {
        let bytes = read_small_file(path)?.ok_or_else(|| not_found(path))?;
        let end = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        for line in end.split(|byte| *byte == b'\n') {
            let text = visible(line);
            self.show(&text, &json!({ "kind": "line", "text": text }))?;
        }
        Ok(())
    }

    fn show(&mut self, text: &str, json: &Value) -> Result<(), LogToolError> {
        Ok(if self.arguments.json { self.output.json(json) } else { self.output.line(text) }?)
    }
}

fn existing(path: &Path) -> Result<(), LogToolError> {
    if millpond_log::inspect::is_there(path)? { Ok(()) } else { Err(not_found(path)) }
}

fn not_found(path: &Path) -> LogToolError {
    LogToolError::Source(format!("there is no file {}", path.display()))
}
