//! Whether a batch is what its header says.

use std::path::Path;

use millpond_records::{BatchError, TimestampType};
use millpond_types::TimestampMs;

use super::finding::{Finding, FindingKind, finding};
use crate::DECOMPRESSED_BYTES_MAX;
use crate::inspect::FoundBatch;

const PRODUCERS_FAULT: &str = "the checksum is right, so the producer sent it so, and consumers may fail here: let them seek past it, \
     and mend the producer";
const PRODUCERS_TIMES: &str = "the checksum is right, so the producer sent it so; lookups by time and retention.ms go by the header: \
     mend the producer";

/// What was seen of a batch's records.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// How many were read.
    pub(super) records: u64,
    /// The batch, or its records, are too large to be looked at.
    pub(super) is_too_large: bool,
    pub(super) findings: Vec<Finding>,
}

/// Looks into a batch whose checksum is right. `may_lack`: compaction may have taken records out.
pub(super) fn check(file: &Path, batch: &FoundBatch<'_>, may_lack: bool) -> Checked {
    let mut checked = Checked::default();
    let header = &batch.header;
    let wrong = |what: String| {
        finding(FindingKind::Records, file, what, PRODUCERS_FAULT).at(batch.position).of(header.base_offset)
    };
    if header.last_offset_delta < 0 || header.record_count < 0 {
        let (delta, count) = (header.last_offset_delta, header.record_count);
        checked.findings.push(wrong(format!("its header promises {count} records and a last offset delta of {delta}")));
        return checked;
    }
    if header.has_producer() && !header.is_control() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
        checked.findings.push(wrong(format!("producer {id} has epoch {epoch} and base sequence {sequence}")));
    }
    let Some(view) = batch.view() else {
        checked.is_too_large = true;
        return checked;
    };
    let mut records = match view.records(DECOMPRESSED_BYTES_MAX) {
        Ok(records) => records,
        // An emptied batch may have kept the code of a compression, and there is nothing to decompress.
        Err(_) if header.record_count == 0 && batch.header.size() == millpond_records::HEADER_LEN => return checked,
        Err(BatchError::TooLargeDecompressed { .. }) => {
            checked.is_too_large = true;
            return checked;
        }
        Err(error) => {
            checked.findings.push(wrong(error.to_string()));
            return checked;
        }
    };
    let mut last_delta = -1;
    let mut max_timestamp: TimestampMs = -1;
    let mut out_of_order = None;
    while let Some(record) = records.next() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let promised = header.record_count;
                checked.findings.push(wrong(format!("{error}; its header promises {promised} records")));
                return checked;
            }
        };
        checked.records += 1;
        let delta = record.offset_delta;
        let fits = if may_lack { delta > last_delta } else { delta == last_delta + 1 };
        if !fits && out_of_order.is_none() {
            out_of_order = Some(format!("its record at offset {} follows offset delta {last_delta}", record.offset));
        }
        last_delta = delta.max(last_delta);
        max_timestamp = max_timestamp.max(record.timestamp);
    }
    if let Some(what) = out_of_order {
        checked.findings.push(wrong(what));
    } else if !may_lack && last_delta != header.last_offset_delta {
        let (promised, end) = (header.last_offset_delta, last_delta);
        checked.findings.push(wrong(format!("its last record has offset delta {end}, its header says {promised}")));
    }
    let is_by_record = header.timestamp_type() == TimestampType::CreateTime;
    if is_by_record && checked.records > 0 && max_timestamp != header.max_timestamp {
        let found = header.max_timestamp;
        let what = format!(
            "its header says that the largest timestamp is {found}, and that of its records is {max_timestamp}"
        );
        let wrong = finding(FindingKind::Timestamps, file, what, PRODUCERS_TIMES);
        checked.findings.push(wrong.at(batch.position).of(header.base_offset));
    }
    checked
}
