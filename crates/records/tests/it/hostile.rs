//! No bytes make a decoder panic, loop or take more memory than it was allowed.

use millpond_records::{
    BatchBuilder, BatchHeader, BatchOptions, BatchView, Compression, batches, validate_produced, verify_crc,
};
use proptest::prelude::*;

const DECOMPRESSED_BYTES_MAX: usize = 1 << 16;

/// Does everything with bytes that there is to do; `Ok` and `Err` are both fine.
fn exercise(bytes: &[u8]) {
    let _ = BatchHeader::parse(bytes);
    let _ = verify_crc(bytes);
    let _ = validate_produced(bytes, 1 << 20);
    let mut walk = batches(bytes);
    let mut seen = 0;
    for batch in walk.by_ref() {
        let Ok(batch) = batch else { break };
        seen += batch.bytes.len();
        let header = batch.header;
        let _ = (header.last_offset(), header.next_offset(), header.last_sequence(), header.compression());
        if let Ok(mut records) = batch.records(DECOMPRESSED_BYTES_MAX) {
            let mut count = 0;
            while let Some(Ok(record)) = records.next() {
                count += 1;
                let of_headers: usize = record.headers().map(|(k, v)| k.len() + v.map_or(0, <[u8]>::len)).sum();
                let len = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + of_headers;
                assert!(len <= DECOMPRESSED_BYTES_MAX.max(bytes.len()));
            }
            assert!(count <= DECOMPRESSED_BYTES_MAX.max(bytes.len()));
        }
    }
    assert!(seen + walk.rest() == bytes.len());
}

fn valid(codec: Compression, records: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions { compression: codec, ..BatchOptions::default() });
    for n in 0..records {
        builder.push(n as i64, Some(b"key"), Some(&[n as u8; 40]), &[("h", Some(b"v")), ("n", None)]);
    }
    builder.build()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
        for codec in Compression::ALL {
            if let Ok(out) = codec.decompress(&bytes, DECOMPRESSED_BYTES_MAX) {
                prop_assert!(out.len() <= DECOMPRESSED_BYTES_MAX);
            }
        }
    }

    #[test]
    fn valid_batches_with_some_bytes_changed(
        codec in 0..5usize,
        records in 1..20usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = valid(Compression::ALL[codec], records);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        exercise(&bytes);
        exercise(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn compressed_bytes_with_some_changed(
        codec in 1..5usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let codec = Compression::ALL[codec];
        let mut bytes = codec.compress(&b"the same words over and over, the same words over and over again".repeat(50));
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Ok(out) = codec.decompress(&bytes, DECOMPRESSED_BYTES_MAX) {
            prop_assert!(out.len() <= DECOMPRESSED_BYTES_MAX);
        }
    }
}

#[test]
fn a_bomb_goes_off_at_the_bound() {
    let zeros = vec![0u8; 50 << 20];
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd, Compression::Snappy] {
        let bomb = codec.compress(&zeros);
        assert!(codec.decompress(&bomb, 1 << 20).is_err(), "{codec}");
    }
    let batch = valid(Compression::None, 1);
    assert!(BatchView::parse(&batch).unwrap().records(1).is_ok(), "uncompressed records are borrowed, not copied");
}
