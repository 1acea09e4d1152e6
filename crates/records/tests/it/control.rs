//! Markers of transactions: as Kafka writes them, as newer versions may, and as nobody should.

use millpond_records::{
    BatchBuilder, BatchError, BatchOptions, BatchView, ProducedError, TransactionMarker, TransactionResult,
    validate_produced, verify_crc,
};
use proptest::prelude::*;

const MARKER: TransactionMarker =
    TransactionMarker { producer_id: 4000, producer_epoch: 7, result: TransactionResult::Abort, coordinator_epoch: 12 };

fn read(bytes: &[u8]) -> Result<Option<TransactionMarker>, BatchError> {
    TransactionMarker::read(&BatchView::parse(bytes).unwrap())
}

/// A control batch with this key and value.
fn control(key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
    let producer = Some((MARKER.producer_id, MARKER.producer_epoch, -1));
    let options = BatchOptions { producer, control: true, transactional: true, ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    builder.push(1_700_000_000_000, key, value, &[]);
    builder.build()
}

#[test]
fn a_marker_is_the_bytes_that_kafka_writes() {
    for (result, kind) in [(TransactionResult::Abort, 0u8), (TransactionResult::Commit, 1)] {
        let marker = TransactionMarker { result, ..MARKER };
        let bytes = marker.build(1_700_000_000_000);
        verify_crc(&bytes).unwrap();
        assert_eq!(bytes.len(), TransactionMarker::BATCH_LEN);
        let header = BatchView::parse(&bytes).unwrap().header;
        assert_eq!((header.attributes, header.base_sequence, header.last_offset_delta), (0x30, -1, 0));
        assert_eq!((header.producer_id, header.producer_epoch), (4000, 7));
        assert_eq!((header.base_timestamp, header.max_timestamp), (1_700_000_000_000, 1_700_000_000_000));
        // Length 16, no attributes, deltas 0, a key of 4 bytes, a value of 6, no headers; lengths as zigzag varints.
        assert_eq!(bytes[61..], [32, 0, 0, 0, 8, 0, 0, 0, kind, 12, 0, 0, 0, 0, 0, 12, 0]);
        assert_eq!(read(&bytes).unwrap(), Some(marker));
    }
}

#[test]
fn newer_versions_are_read_by_the_fields_that_are_known() {
    let bytes = control(Some(&[0, 3, 0, 1, 9, 9]), Some(&[0, 5, 0, 0, 0, 12, 1, 2, 3]));
    assert_eq!(read(&bytes).unwrap(), Some(TransactionMarker { result: TransactionResult::Commit, ..MARKER }));
}

#[test]
fn what_ends_no_transaction_is_none_and_what_is_no_control_record_is_an_error() {
    // A change of the leader, as in the metadata log of Kafka.
    assert_eq!(read(&control(Some(&[0, 0, 0, 2]), Some(b"whatever"))).unwrap(), None);
    let mut data = BatchBuilder::new(BatchOptions::default());
    data.push(0, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 1]), &[]);
    assert_eq!(read(&data.build()).unwrap(), None);
    let value: &[u8] = &[0, 0, 0, 0, 0, 1];
    for (key, value, what) in [
        (None, Some(value), "key is shorter"),
        (Some(&[0, 0, 0][..]), Some(value), "key is shorter"),
        (Some(&[0xff, 0xff, 0, 1]), Some(value), "key has a negative version"),
        (Some(&[0, 0, 0, 1]), None, "value is shorter"),
        (Some(&[0, 0, 0, 1]), Some(&value[..5]), "value is shorter"),
        (Some(&[0, 0, 0, 1]), Some(&[0xff, 0xff, 0, 0, 0, 1]), "value has a negative version"),
    ] {
        let error = read(&control(key, value)).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn no_producer_may_send_a_marker_or_a_transaction_without_a_name() {
    let marker = MARKER.build(0);
    let error = validate_produced(&marker, 1000).unwrap_err();
    assert!(matches!(&error, ProducedError::InvalidRecord { reason } if reason.contains("control")), "{error}");
    let mut nameless = BatchBuilder::new(BatchOptions { transactional: true, ..BatchOptions::default() });
    nameless.push(0, None, None, &[]);
    let error = validate_produced(&nameless.build(), 1000).unwrap_err();
    assert!(matches!(&error, ProducedError::InvalidRecord { reason } if reason.contains("no producer")), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_in_a_control_batch_make_the_reader_panic(
        key in proptest::collection::vec(any::<u8>(), 0..9),
        value in proptest::collection::vec(any::<u8>(), 0..9),
        at in 61..80usize,
        byte: u8,
    ) {
        let mut bytes = control(Some(&key), Some(&value));
        let at = at.min(bytes.len() - 1);
        bytes[at] = byte;
        let _ = read(&bytes);
    }
}
