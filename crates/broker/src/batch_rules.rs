//! What a topic's configuration makes of a batch that a client sends: which timestamps it takes, whose clock counts, how the batch
//! is compressed on the disk.
//!
//! With the defaults a batch is stored as it came, and no record of it is looked at. What the node itself writes (results of
//! streams, groups' offsets) is not subject to this: it must not depend on the clock.

use bytes::{Bytes, BytesMut};
use millpond_log::DECOMPRESSED_BYTES_MAX;
use millpond_metadata::config::{StoredCompression, TopicConfig};
use millpond_records::{BatchHeader, BatchView, Compression, ProducedError, stamp_append_time};
use millpond_types::TimestampMs;

use crate::errors::ProduceError;

/// Records that are named in an answer, at most; the others are as wrong.
const RECORDS_NAMED_MAX: usize = 100;

/// A topic's rules for batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchRules {
    log_append_time: bool,
    before_ms_max: i64,
    after_ms_max: i64,
    /// None: as the producer compressed it.
    compression: Option<(Compression, Option<i32>)>,
}

impl BatchRules {
    pub(crate) fn of(config: &TopicConfig) -> BatchRules {
        let compression = match config.compression {
            StoredCompression::Producer => None,
            StoredCompression::None => Some((Compression::None, None)),
            StoredCompression::Gzip(level) => Some((Compression::Gzip, level)),
            StoredCompression::Snappy => Some((Compression::Snappy, None)),
            StoredCompression::Lz4 => Some((Compression::Lz4, None)),
            StoredCompression::Zstd(level) => Some((Compression::Zstd, Some(level))),
        };
        BatchRules {
            log_append_time: config.log_append_time,
            before_ms_max: config.message_timestamp_before_ms_max,
            after_ms_max: config.message_timestamp_after_ms_max,
            compression,
        }
    }

    /// Applies the rules to a batch that was validated. Gives the batch as it is to be stored, and the time that its records have
    /// now if that is the broker's; -1 otherwise.
    pub(crate) fn apply(
        &self,
        header: &BatchHeader,
        batch: BytesMut,
        now_ms: TimestampMs,
    ) -> Result<(BytesMut, TimestampMs), ProduceError> {
        if !self.log_append_time {
            self.check_timestamps(header, &batch, now_ms)?;
        }
        let mut batch = match self.compression {
            Some((codec, level)) if header.compression() != Ok(codec) => {
                let recompressed = BatchView::parse(&batch)
                    .and_then(|view| view.recompress(codec, level, DECOMPRESSED_BYTES_MAX))
                    .map_err(unreadable)?;
                BytesMut::from(Bytes::from(recompressed))
            }
            _ => batch,
        };
        if !self.log_append_time {
            return Ok((batch, -1));
        }
        stamp_append_time(&mut batch, now_ms);
        Ok((batch, now_ms))
    }

    fn check_timestamps(&self, header: &BatchHeader, batch: &[u8], now_ms: TimestampMs) -> Result<(), ProduceError> {
        let is_ahead = header.max_timestamp.saturating_sub(now_ms) > self.after_ms_max;
        // The default takes records however old they are; only otherwise each is looked at.
        if !is_ahead && self.before_ms_max == i64::MAX {
            return Ok(());
        }
        let (mut wrong, mut number) = (Vec::new(), 0);
        let mut records =
            BatchView::parse(batch).and_then(|view| view.records(DECOMPRESSED_BYTES_MAX)).map_err(unreadable)?;
        let read = records.for_each(|record| {
            let (timestamp, ahead_ms) = (record.timestamp, record.timestamp.saturating_sub(now_ms));
            // A record without a timestamp has none that could be wrong.
            let is_wrong = ahead_ms > self.after_ms_max || ahead_ms < self.before_ms_max.saturating_neg();
            if timestamp >= 0 && is_wrong && wrong.len() < RECORDS_NAMED_MAX {
                wrong.push((number, timestamp));
            }
            number += 1;
        });
        read.map_err(unreadable)?;
        if wrong.is_empty() && is_ahead {
            // The header says more than the records do.
            wrong.push((0, header.max_timestamp));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let (before_ms_max, after_ms_max) = (self.before_ms_max, self.after_ms_max);
        Err(ProduceError::InvalidTimestamp { records: wrong, now_ms, before_ms_max, after_ms_max })
    }
}

fn unreadable(error: millpond_records::BatchError) -> ProduceError {
    let reason = format!("the topic's configuration asks for a look at the records, and they cannot be read: {error}");
    ProduceError::Records(ProducedError::InvalidRecord { reason })
}
