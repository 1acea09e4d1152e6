//! What is taken out of a batch is gone, and the rest is as it was.

use millpond_records::{
    BatchBuilder, BatchOptions, BatchView, Compression, Retained, TimestampType, stamp, verify_crc,
};
use proptest::prelude::*;

const BYTES_MAX: usize = 1 << 20;

type Record = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn records_of(batch: &[u8]) -> Vec<Record> {
    let mut found = Vec::new();
    let view = BatchView::parse(batch).unwrap();
    let mut records = view.records(BYTES_MAX).unwrap();
    records
        .for_each(|record| {
            let headers = record.headers().map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec))).collect();
            let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
            found.push((record.offset, record.timestamp, key, value, headers));
        })
        .unwrap();
    found
}

/// A record's timestamp, its value and whether it is to stay.
fn records() -> impl Strategy<Value = Vec<(i64, Option<Vec<u8>>, bool)>> {
    let timestamp = prop_oneof![-1..5i64, 1_600_000_000_000..1_700_000_000_000i64, any::<i64>()];
    let value = proptest::option::weighted(0.8, proptest::collection::vec(any::<u8>(), 0..200));
    proptest::collection::vec((timestamp, value, any::<bool>()), 1..40)
}

fn build(options: BatchOptions, records: &[(i64, Option<Vec<u8>>, bool)]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for (number, (timestamp, value, _)) in records.iter().enumerate() {
        let key = number.to_string();
        builder.push(*timestamp, Some(key.as_bytes()), value.as_deref(), &[("h", Some(b"x"))]);
    }
    builder.build()
}

proptest! {
    #[test]
    fn what_stays_is_as_it_was(
        records in records(), codec in 0..5usize, log_time: bool, producer: bool, horizon in 1_700_000_000_000..1_800_000_000_000i64,
    ) {
        let timestamp_type = if log_time { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        let producer = producer.then_some((7, 1, i32::MAX - 3));
        let options = BatchOptions { compression: Compression::ALL[codec], producer, timestamp_type, ..BatchOptions::default() };
        let mut batch = build(options, &records);
        stamp(&mut batch, 1_000, 3);
        let view = BatchView::parse(&batch).unwrap();
        let stays = |offset: i64| records[usize::try_from(offset - 1_000).unwrap()].2;
        let retained = view.retain(BYTES_MAX, horizon, |record| stays(record.offset)).unwrap();

        let mut expected = records_of(&batch);
        expected.retain(|(offset, ..)| stays(*offset));
        let has_tombstone = expected.iter().any(|(_, _, _, value, _)| value.is_none());
        match retained {
            Retained::Whole => prop_assert!(expected.len() == records.len() && !has_tombstone),
            Retained::Nothing => prop_assert!(expected.is_empty()),
            Retained::Rest { bytes, removed } => {
                verify_crc(&bytes).unwrap();
                let after = BatchView::parse(&bytes).unwrap();
                prop_assert_eq!(records_of(&bytes), expected.clone());
                prop_assert_eq!(removed as usize, records.len() - expected.len());
                prop_assert_eq!(after.header.next_offset(), view.header.next_offset());
                prop_assert_eq!(after.header.last_sequence(), view.header.last_sequence());
                prop_assert_eq!(after.header.leader_epoch, 3);
                prop_assert_eq!(after.header.compression(), view.header.compression());
                prop_assert_eq!(after.header.delete_horizon_ms(), has_tombstone.then_some(horizon));
                if !log_time {
                    let largest = expected.iter().map(|(_, timestamp, ..)| *timestamp).max();
                    prop_assert_eq!(Some(after.header.max_timestamp), largest.map(|largest| largest.max(-1)));
                }
                // Another time nothing changes: the horizon that is there stays.
                prop_assert_eq!(after.retain(BYTES_MAX, horizon + 1, |_| true).unwrap(), Retained::Whole);
            }
        }
    }

    #[test]
    fn an_emptied_batch_tells_offsets_and_producer(records in records(), codec in 0..5usize) {
        let options = BatchOptions {
            compression: Compression::ALL[codec], producer: Some((7, 1, 5)), transactional: true, ..BatchOptions::default()
        };
        let mut batch = build(options, &records);
        stamp(&mut batch, 1_000, 3);
        let view = BatchView::parse(&batch).unwrap();
        let emptied = view.emptied();
        verify_crc(&emptied).unwrap();
        let after = BatchView::parse(&emptied).unwrap().header;
        prop_assert_eq!(emptied.len(), 61);
        prop_assert_eq!((after.record_count, after.compression()), (0, Ok(Compression::None)));
        prop_assert_eq!((after.base_offset, after.next_offset()), (1_000, view.header.next_offset()));
        prop_assert_eq!((after.producer_id, after.producer_epoch, after.base_sequence), (7, 1, 5));
        prop_assert_eq!(after.last_sequence(), view.header.last_sequence());
        prop_assert_eq!((after.is_transactional(), after.max_timestamp), (true, -1));
        prop_assert_eq!(records_of(&emptied), Vec::new());
    }
}

#[test]
fn records_that_cannot_be_read_are_an_error() {
    let records = vec![(1, Some(b"abc".to_vec()), true)];
    let mut batch = build(BatchOptions::default(), &records);
    // The record's length claims more than there is.
    batch[61] = 0x7e;
    let view = BatchView::parse(&batch).unwrap();
    assert!(view.retain(BYTES_MAX, 0, |_| false).is_err());
    let zstd = build(BatchOptions { compression: Compression::Zstd, ..BatchOptions::default() }, &records);
    assert!(BatchView::parse(&zstd).unwrap().retain(3, 0, |_| false).is_err());
}
