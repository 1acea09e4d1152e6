//! How long does a row take? Nexmark-like bids, all seven columns and two of them, and back to text.
//!
//!     cargo run --release -p millpond-formats --example decode_speed

use std::time::Instant;

use arrow::datatypes::{DataType, TimeUnit};
use millpond_formats::{Column, JsonDecoder, JsonEncoder};

const ROWS: usize = 200_000;
const BATCH_ROWS: usize = 4_096;

fn main() {
    let records = bids();
    let timestamp = DataType::Timestamp(TimeUnit::Millisecond, None);
    let all = [
        ("auction", DataType::Int64),
        ("bidder", DataType::Int64),
        ("price", DataType::Int64),
        ("channel", DataType::Utf8View),
        ("url", DataType::Utf8View),
        ("dateTime", timestamp),
        ("extra", DataType::Utf8View),
    ];
    let bytes: usize = records.iter().map(Vec::len).sum();
    eprintln!("{ROWS} records of {} bytes", bytes / ROWS);
    for columns in [&all[..], &[all[0].clone(), all[2].clone()]] {
        let wanted = columns.iter().map(|(name, data_type)| Column::new(*name, data_type.clone())).collect();
        let mut decoder = JsonDecoder::new(wanted).expect("types of JSON");
        let (mut decode_ns, mut encode_ns, mut out) = (u128::MAX, u128::MAX, Vec::new());
        for _ in 0..5 {
            let started = Instant::now();
            let batches: Vec<_> = records
                .chunks(BATCH_ROWS)
                .map(|chunk| decoder.decode(chunk.iter().map(|record| Some(&record[..]))).batch)
                .collect();
            decode_ns = decode_ns.min(started.elapsed().as_nanos());
            let mut encoder = JsonEncoder::new(decoder.schema()).expect("types of JSON");
            out.clear();
            let started = Instant::now();
            for batch in &batches {
                for row in 0..batch.num_rows() {
                    encoder.encode(batch, row, &mut out);
                }
            }
            encode_ns = encode_ns.min(started.elapsed().as_nanos());
        }
        eprintln!(
            "{} columns: decoded in {} ns a row, encoded in {} ns",
            columns.len(),
            decode_ns / ROWS as u128,
            encode_ns / ROWS as u128
        );
    }
}

fn bids() -> Vec<Vec<u8>> {
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    (0..ROWS)
        .map(|place| {
            let (auction, bidder, price) = (1000 + random(10_000), 1000 + random(5_000), random(100_000_000));
            let (channel, channel_id) = (random(10_000), random(100_000_000));
            let words: String = (0..48).map(|_| (b'a' + random(26) as u8) as char).collect();
            let (minute, second, ms) = (place / 60_000 % 60, place / 1000 % 60, place % 1000);
            format!(
                "{{\"auction\":{auction},\"bidder\":{bidder},\"price\":{price},\"channel\":\"channel-{channel}\",\
                 \"url\":\"https://www.nexmark.com/{}/item.htm?query=1&channel_id={channel_id}\",\
                 \"dateTime\":\"2026-01-01T00:{minute:02}:{second:02}.{ms:03}\",\"extra\":\"{}\"}}",
                &words[..8],
                &words[8..],
            )
            .into_bytes()
        })
        .collect()
}
