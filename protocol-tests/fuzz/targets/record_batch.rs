//! Record batches from a producer. Invariants: no bytes panic; what passes validation and decodes says the number of
//! records that its header says; and a batch that is built again from its records reads back the same.
#![no_main]

use millpond_records::{
    BatchBuilder, BatchHeader, BatchOptions, Compression, HEADER_LEN, batches, crc32c, validate_produced,
};

const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    look(&bytes);
    // The fuzzer cannot guess a checksum, a magic and a length at once: set them, so that it gets to the records.
    if bytes.len() >= HEADER_LEN {
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        look(&bytes);
    }
});

fn look(bytes: &[u8]) {
    let _ = BatchHeader::parse(bytes);
    let valid = validate_produced(bytes, 1 << 20);
    let mut iterator = batches(bytes);
    for batch in iterator.by_ref() {
        let Ok(batch) = batch else { break };
        let Ok(mut records) = batch.records(DECOMPRESSED_BYTES_MAX) else { continue };
        let mut again = BatchBuilder::new(BatchOptions::default());
        let mut count = 0;
        let mut whole = true;
        while let Some(record) = records.next() {
            let Ok(record) = record else {
                whole = false;
                break;
            };
            count += 1;
            let headers: Vec<(String, Option<Vec<u8>>)> = record
                .headers()
                .map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), value.map(<[u8]>::to_vec)))
                .collect();
            let headers: Vec<(&str, Option<&[u8]>)> =
                headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            again.push(record.timestamp, record.key, record.value, &headers);
        }
        if whole && valid.is_ok() {
            assert_eq!(count, batch.header.record_count, "the header's count and the records differ unnoticed");
            let built = again.build();
            assert!(validate_produced(&built, usize::MAX).is_ok());
        }
    }
    assert!(iterator.rest() <= bytes.len());
    for code in 0..5 {
        if let Some(compression) = Compression::from_code(code) {
            if let Ok(plain) = compression.decompress(bytes, DECOMPRESSED_BYTES_MAX) {
                assert!(plain.len() <= DECOMPRESSED_BYTES_MAX, "{compression:?} went over its bound");
            }
        }
    }
}
