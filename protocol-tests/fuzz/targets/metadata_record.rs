//! Records of the metadata log. Invariants: no bytes panic; what decodes is written back to the same record.
#![no_main]

use millpond_metadata::MetadataRecord;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = MetadataRecord::decode(bytes) {
        let again = MetadataRecord::decode(&record.encode()).expect("what was encoded decodes");
        assert_eq!(format!("{again:?}"), format!("{record:?}"));
    }
});
