//! Records of compacted topics have keys.

use millpond_log::DECOMPRESSED_BYTES_MAX;
use millpond_records::{BatchView, ProducedError};

use crate::errors::ProduceError;

/// Records that are named in an answer, at most; the others are as wrong.
const RECORDS_NAMED_MAX: usize = 100;

/// Refuses a batch that holds records without a key, or that cannot be read.
pub(crate) fn check_keys(topic: &str, batch: &[u8]) -> Result<(), ProduceError> {
    let mut without = Vec::new();
    let mut count = 0;
    let read =
        BatchView::parse(batch).and_then(|batch| batch.records(DECOMPRESSED_BYTES_MAX)).and_then(|mut records| {
            records.for_each(|record| {
                if record.key.is_none() && without.len() < RECORDS_NAMED_MAX {
                    without.push(count);
                }
                count += 1;
            })
        });
    if let Err(error) = read {
        let reason = format!("its records cannot be read, which a compacted topic needs: {error}");
        return Err(ProduceError::Records(ProducedError::InvalidRecord { reason }));
    }
    if without.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the topic '{topic}' is compacted (cleanup.policy), so every record needs a key; {} of {count} have none",
        if without.len() < RECORDS_NAMED_MAX {
            without.len().to_string()
        } else {
            format!("at least {RECORDS_NAMED_MAX}")
        }
    );
    let record_errors =
        without.into_iter().map(|record| (record, "a record of a compacted topic needs a key".to_owned()));
    Err(ProduceError::Refused { message, record_errors: record_errors.collect() })
}
