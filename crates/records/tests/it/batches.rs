//! What is built is valid and comes back; what is stored elsewhere is read.

use millpond_records::{
    BatchBuilder, BatchError, BatchHeader, BatchOptions, BatchView, Compression, HEADER_LEN, ProducedError,
    TimestampType, batches, crc32c, stamp, validate_produced, verify_crc,
};
use proptest::prelude::*;

#[derive(Debug, Clone, PartialEq)]
struct Record {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300))
}

fn record() -> impl Strategy<Value = Record> {
    let header = ("[a-zé]{0,9}", bytes());
    let timestamp = prop_oneof![-1..5i64, 1_600_000_000_000..1_700_000_000_000i64, any::<i64>()];
    (timestamp, bytes(), bytes(), proptest::collection::vec(header, 0..4))
        .prop_map(|(timestamp, key, value, headers)| Record { timestamp, key, value, headers })
}

fn options() -> impl Strategy<Value = BatchOptions> {
    let codec = (0..5usize).prop_map(|n| Compression::ALL[n]);
    let producer = proptest::option::of((0..9i64, 0..9i16, 0..i32::MAX));
    (codec, producer, any::<bool>(), any::<bool>(), 0..1000i64).prop_map(
        |(compression, producer, transactional, log_time, base)| {
            let timestamp_type = if log_time { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
            BatchOptions {
                base_offset: base,
                compression,
                producer,
                transactional: transactional && producer.is_some(),
                timestamp_type,
                ..BatchOptions::default()
            }
        },
    )
}

fn build(options: BatchOptions, records: &[Record]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for record in records {
        let headers: Vec<(&str, Option<&[u8]>)> =
            record.headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let before = builder.size_estimate();
        builder.push(record.timestamp, key, value, &headers);
        assert!(builder.size_estimate() - before <= BatchBuilder::record_size_max(key, value, &headers));
    }
    assert_eq!(builder.len(), records.len());
    let estimate = builder.size_estimate();
    let built = builder.build();
    assert!(options.compression != Compression::None || built.len() == estimate);
    built
}

proptest! {
    #[test]
    fn what_is_built_is_valid_and_comes_back(
        options in options(),
        records in proptest::collection::vec(record(), 1..20),
        offset in 0..i64::MAX / 2,
    ) {
        let mut bytes = build(options, &records);
        let header = validate_produced(&bytes, bytes.len()).unwrap();
        prop_assert_eq!(header.size(), bytes.len());
        prop_assert_eq!(header.record_count as usize, records.len());
        prop_assert_eq!(header.compression().unwrap(), options.compression);
        prop_assert_eq!(header.max_timestamp, records.iter().map(|r| r.timestamp).max().unwrap().max(-1));
        prop_assert_eq!(header.has_producer(), options.producer.is_some());
        prop_assert_eq!(header.is_transactional(), options.transactional);
        prop_assert!(!header.is_control());

        stamp(&mut bytes, offset, 17);
        verify_crc(&bytes).unwrap();
        let view = BatchView::parse(&bytes).unwrap();
        prop_assert_eq!((view.header.base_offset, view.header.leader_epoch), (offset, 17));
        prop_assert_eq!(view.header.next_offset(), offset + records.len() as i64);
        let mut found = view.records(1 << 20).unwrap();
        for (next, expected) in (offset..).zip(&records) {
            let record = found.next().unwrap().unwrap();
            prop_assert_eq!(record.offset, next);
            let timestamp = match options.timestamp_type {
                TimestampType::CreateTime => expected.timestamp,
                TimestampType::LogAppendTime => header.max_timestamp,
            };
            prop_assert_eq!(record.timestamp, timestamp);
            prop_assert_eq!((record.key, record.value), (expected.key.as_deref(), expected.value.as_deref()));
            let headers: Vec<_> = record.headers().map(|(k, v)| (String::from_utf8(k.to_vec()).unwrap(), v.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(&headers, &expected.headers);
        }
        prop_assert!(found.next().is_none());
    }

    #[test]
    fn batches_in_a_row_are_found_one_by_one_and_a_cut_last_one_is_told(
        counts in proptest::collection::vec(1..4usize, 0..5),
        cut in 0..2000usize,
    ) {
        let one = Record { timestamp: 1, key: None, value: Some(vec![1; 50]), headers: Vec::new() };
        let built: Vec<Vec<u8>> = counts.iter().map(|n| build(BatchOptions::default(), &vec![one.clone(); *n])).collect();
        let all = built.concat();
        let cut = cut.min(all.len());
        let mut iterator = batches(&all[..cut]);
        let mut at = 0;
        for expected in &built {
            if at + expected.len() > cut {
                break;
            }
            prop_assert_eq!(iterator.next().unwrap().unwrap().bytes, &expected[..]);
            at += expected.len();
        }
        prop_assert!(iterator.next().is_none());
        prop_assert_eq!(iterator.rest(), cut - at);
    }
}

/// Every field put down by hand, as Kafka's documentation lays out a batch of one record with key "k" and value "v".
#[test]
fn a_batch_written_down_from_the_wire_format_is_read() {
    let record = [16u8, 0, 0, 0, 2, b'k', 2, b'v', 0];
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&0i64.to_be_bytes());
    bytes.extend_from_slice(&(49 + record.len() as i32).to_be_bytes());
    bytes.extend_from_slice(&(-1i32).to_be_bytes());
    bytes.push(2);
    let mut covered = Vec::new();
    covered.extend_from_slice(&0i16.to_be_bytes());
    covered.extend_from_slice(&0i32.to_be_bytes());
    covered.extend_from_slice(&1_700_000_000_000i64.to_be_bytes());
    covered.extend_from_slice(&1_700_000_000_000i64.to_be_bytes());
    covered.extend_from_slice(&(-1i64).to_be_bytes());
    covered.extend_from_slice(&(-1i16).to_be_bytes());
    covered.extend_from_slice(&(-1i32).to_be_bytes());
    covered.extend_from_slice(&1i32.to_be_bytes());
    covered.extend_from_slice(&record);
    bytes.extend_from_slice(&crc32c(&covered).to_be_bytes());
    bytes.extend_from_slice(&covered);

    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(1_700_000_000_000, Some(b"k"), Some(b"v"), &[]);
    assert_eq!(builder.build(), bytes);
    let header = validate_produced(&bytes, 1000).unwrap();
    assert_eq!((header.base_sequence, header.last_sequence(), header.leader_epoch), (-1, -1, -1));
}

/// Changes a batch's field, with a CRC that agrees, as a client with a fault or a grudge would send it.
fn with_field(position: usize, value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions { producer: Some((5, 0, 0)), ..BatchOptions::default() });
    builder.push(1, None, Some(b"one"), &[]);
    builder.push(2, None, Some(b"two"), &[]);
    let mut bytes = builder.build();
    bytes[position..position + value.len()].copy_from_slice(value);
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn a_produced_batch_that_breaks_a_rule_is_refused_with_the_rule() {
    let good = with_field(57, &2i32.to_be_bytes());
    assert!(validate_produced(&good, good.len()).is_ok());
    let two = [good.clone(), good.clone()].concat();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for (what, bytes, expected) in [
        ("nothing", Vec::new(), "cut off: 0 bytes"),
        ("half", good[..70].to_vec(), "cut off: 70 bytes are here, 81 are needed"),
        ("two batches", two, "exactly one batch"),
        ("an old message set", with_field(16, &[1]), "only magic 2"),
        ("a flipped bit", damaged, "CRC-32C at position 17"),
        ("an unknown compression", with_field(21, &5i16.to_be_bytes()), "compression that does not exist"),
        ("no records", with_field(57, &0i32.to_be_bytes()), "record count is 0"),
        ("a negative count", with_field(57, &(-1i32).to_be_bytes()), "record count is -1"),
        ("a delta that does not fit", with_field(23, &7i32.to_be_bytes()), "last offset delta 7"),
        ("a control batch", with_field(21, &0x20i16.to_be_bytes()), "control batches"),
        ("no sequence", with_field(53, &(-1i32).to_be_bytes()), "base sequence -1"),
        ("no epoch", with_field(51, &(-1i16).to_be_bytes()), "epoch -1"),
        ("a length below a header's", with_field(8, &48i32.to_be_bytes()), "is no length of a batch"),
        ("a negative length", with_field(8, &(-1i32).to_be_bytes()), "is no length of a batch"),
    ] {
        let error = validate_produced(&bytes, 1 << 20).unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
    }
    let error = validate_produced(&good, good.len() - 1).unwrap_err();
    assert!(matches!(error, ProducedError::TooLarge { .. }) && error.to_string().contains("max.message.bytes"));
    assert!(matches!(validate_produced(&with_field(16, &[0]), 1000), Err(ProducedError::UnsupportedMagic(0))));
}

#[test]
fn records_that_do_not_fit_their_batch_are_errors_that_say_where() {
    let payload = |payload: &[u8], count: i32| {
        let mut bytes = with_field(57, &count.to_be_bytes());
        bytes.truncate(HEADER_LEN);
        bytes.extend_from_slice(payload);
        let len = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&len.to_be_bytes());
        let view = BatchView::parse(&bytes).unwrap();
        let mut records = view.records(1000).unwrap();
        let result = records.for_each(|_| ());
        assert!(records.next().is_none(), "after an error there is nothing");
        result
    };
    // length, attributes, timestamp delta, offset delta, key, value, headers
    assert_eq!(payload(&[12, 0, 0, 0, 1, 1, 0], 1), Ok(()));
    assert_eq!(payload(&[12, 0, 0, 0, 1, 1, 0, 9, 9], 1), Err(BatchError::TrailingBytes(2)));
    for (bytes, what) in [
        (&[][..], "its length is no length"),
        (&[1], "its length is no length"),
        (&[14, 0, 0, 0, 1, 1, 0], "it is cut off"),
        (&[0], "it has no attributes"),
        (&[6, 0, 0, 128], "its offset is no varint"),
        (&[12, 0, 0, 4, 1, 1, 0], "its offset lies outside the batch"),
        (&[12, 0, 0, 1, 1, 1, 0], "its offset lies outside the batch"),
        (&[12, 0, 0, 0, 40, 1, 0], "its key is cut off"),
        (&[12, 0, 0, 0, 3, 1, 0], "its key is cut off"),
        (&[12, 0, 0, 0, 1, 40, 0], "its value is cut off"),
        (&[12, 0, 0, 0, 1, 1, 1], "its header count is no count"),
        (&[12, 0, 0, 0, 1, 1, 2], "a header's key is cut off or null"),
        (&[16, 0, 0, 0, 1, 1, 2, 1, 1], "a header's key is cut off or null"),
        (&[14, 0, 0, 0, 1, 1, 2, 0], "a header's value is cut off"),
        (&[14, 0, 0, 0, 1, 1, 0, 0], "bytes follow its last header"),
    ] {
        match payload(bytes, 1) {
            Err(BatchError::Record { record: 0, what: found, .. }) if found == what => {}
            other => panic!("{bytes:?}: expected {what:?}, not {other:?}"),
        }
    }
}

#[test]
fn sequences_and_offsets_of_the_last_record() {
    let header = BatchHeader::parse(&with_field(53, &i32::MAX.to_be_bytes())).unwrap();
    assert_eq!((header.base_sequence, header.last_sequence()), (i32::MAX, 0));
    assert_eq!((header.last_offset(), header.next_offset()), (1, 2));
}
