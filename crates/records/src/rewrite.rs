//! Changes that a topic's configuration makes to batches on the way in: another compression, the broker's time.

use millpond_types::TimestampMs;

use crate::header::{COMPRESSION_MASK, LOG_APPEND_TIME_BIT};
use crate::retain::assemble;
use crate::{BatchError, BatchHeader, BatchView, Compression, HEADER_LEN, crc32c};

/// Where the attributes lie in a batch, where its largest timestamp does, and where its CRC.
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const CRC_AT: usize = 17;

impl BatchView<'_> {
    /// The same batch with its records compressed in another way, at `level` where the codec has some.
    ///
    /// # Errors
    /// What cannot be decompressed into `decompressed_bytes_max` bytes.
    pub fn recompress(
        &self,
        codec: Compression,
        level: Option<i32>,
        decompressed_bytes_max: usize,
    ) -> Result<Vec<u8>, BatchError> {
        let payload = self.bytes.get(HEADER_LEN..).unwrap_or_default();
        let records = self.header.compression()?.decompress(payload, decompressed_bytes_max)?;
        let attributes = self.header.attributes & !COMPRESSION_MASK | codec.code();
        let header = BatchHeader { attributes, ..self.header };
        assemble(header, &codec.compress_at(&records, level)).ok_or(BatchError::Length(i32::MAX))
    }
}

/// Gives all records of a batch the broker's time (`message.timestamp.type=LogAppendTime`), and the batch its new CRC.
///
/// # Panics
/// If `batch` is shorter than a header: who stamps has validated it.
pub fn stamp_append_time(batch: &mut [u8], now_ms: TimestampMs) {
    let header = batch.first_chunk_mut::<HEADER_LEN>().expect("only whole batches are stamped");
    let attributes = i16::from_be_bytes([header[ATTRIBUTES_AT], header[ATTRIBUTES_AT + 1]]) | LOG_APPEND_TIME_BIT;
    header[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    header[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc32c(batch.get(ATTRIBUTES_AT..).unwrap_or_default());
    let header = batch.first_chunk_mut::<HEADER_LEN>().expect("only whole batches are stamped");
    header[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, BatchOptions, TimestampType, validate_produced};

    fn batch(compression: Compression) -> Vec<u8> {
        let options =
            BatchOptions { compression, producer: Some((7, 1, 5)), transactional: true, ..BatchOptions::default() };
        let mut batch = BatchBuilder::new(options);
        for n in 0..50 {
            batch.push(1_000 + n, Some(b"key"), Some(&[n as u8; 40]), &[("h", None)]);
        }
        batch.build()
    }

    fn records(batch: &[u8]) -> Vec<(i64, i64, Vec<u8>)> {
        let mut found = Vec::new();
        let mut records = BatchView::parse(batch).unwrap().records(1 << 20).unwrap();
        records.for_each(|r| found.push((r.offset, r.timestamp, r.value.unwrap().to_vec()))).unwrap();
        found
    }

    #[test]
    fn another_compression_changes_nothing_else() {
        for from in Compression::ALL {
            for (to, level) in Compression::ALL.into_iter().zip([None, Some(9), None, None, Some(1)]) {
                let sent = batch(from);
                let view = BatchView::parse(&sent).unwrap();
                let stored = view.recompress(to, level, 1 << 20).unwrap();
                let header = validate_produced(&stored, 1 << 20).unwrap();
                assert_eq!(header.compression(), Ok(to), "{from} to {to}");
                assert_eq!(records(&stored), records(&sent), "{from} to {to}");
                assert_eq!((header.producer_id, header.base_sequence, header.is_transactional()), (7, 5, true));
                assert_eq!(header.max_timestamp, view.header.max_timestamp);
            }
        }
        let large = BatchView::parse(&batch(Compression::Zstd)).unwrap().recompress(Compression::None, None, 100);
        assert!(matches!(large, Err(BatchError::TooLargeDecompressed { bytes_max: 100 })));
    }

    #[test]
    fn with_the_brokers_time_all_records_have_it() {
        for compression in Compression::ALL {
            let mut stored = batch(compression);
            stamp_append_time(&mut stored, 77);
            let header = validate_produced(&stored, 1 << 20).unwrap();
            assert_eq!((header.timestamp_type(), header.max_timestamp), (TimestampType::LogAppendTime, 77));
            assert!(records(&stored).iter().all(|(_, timestamp, _)| *timestamp == 77));
        }
    }
}
