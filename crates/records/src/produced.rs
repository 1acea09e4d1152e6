//! Checks what a Produce request carried, in one pass over its bytes.

use crate::{BatchError, BatchHeader, LOG_OVERHEAD, MAGIC, ProducedError, verify_crc};

/// Checks what a Produce request carried for one partition: exactly one batch (Kafka allows no more of magic 2),
/// no longer than `batch_bytes_max`, whole, with the right CRC, a known compression and a header whose
/// counts agree. The records inside are covered by the CRC and not looked at.
pub fn validate_produced(bytes: &[u8], batch_bytes_max: usize) -> Result<BatchHeader, ProducedError> {
    let invalid = |reason: String| ProducedError::InvalidRecord { reason };
    // The magic lies at the same place in all versions, and says more than any other complaint.
    match bytes.get(16) {
        Some(magic) if *magic as i8 != MAGIC => return Err(ProducedError::UnsupportedMagic(*magic as i8)),
        _ => {}
    }
    let header = BatchHeader::parse(bytes).map_err(ProducedError::Corrupt)?;
    let size = header.size();
    if size > bytes.len() {
        return Err(ProducedError::Corrupt(BatchError::TooShort { found: bytes.len(), needed: size }));
    }
    if size > batch_bytes_max {
        return Err(ProducedError::TooLarge { len: size, bytes_max: batch_bytes_max });
    }
    if size < bytes.len() {
        let reason = format!(
            "{} bytes follow the first record batch of {size}; a Produce request carries exactly one batch a partition",
            bytes.len() - size
        );
        return Err(invalid(reason));
    }
    verify_crc(bytes).map_err(ProducedError::Corrupt)?;
    header.compression().map_err(ProducedError::Corrupt)?;
    if header.record_count <= 0 || i64::from(header.last_offset_delta) != i64::from(header.record_count) - 1 {
        let reason = format!(
            "the batch's record count is {} and its last offset delta {}; the delta must be the count − 1, and the count at least 1",
            header.record_count, header.last_offset_delta
        );
        return Err(invalid(reason));
    }
    if header.is_control() {
        return Err(invalid("control batches are written by the broker alone".to_owned()));
    }
    if header.has_producer() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        let reason = format!(
            "producer {} sent epoch {} and base sequence {}; an idempotent producer's are at least 0",
            header.producer_id, header.producer_epoch, header.base_sequence
        );
        return Err(invalid(reason));
    }
    if header.is_transactional() && !header.has_producer() {
        return Err(invalid(
            "the batch is part of a transaction and names no producer, so nothing could end it".to_owned(),
        ));
    }
    debug_assert!(size >= LOG_OVERHEAD, "parse checks the length");
    Ok(header)
}
