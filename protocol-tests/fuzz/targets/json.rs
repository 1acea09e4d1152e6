//! JSON values of records. Invariants: no bytes panic; a record either becomes a row or a failure, never both or
//! neither; the columns inferred from a record can read that record; a row that is written reads back equal.
#![no_main]

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use millpond_formats::{Column, Inference, JsonDecoder, JsonEncoder};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let fixed = [
        ("a", DataType::Int64),
        ("b", DataType::Utf8),
        ("c", DataType::Float64),
        ("d", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("e", DataType::Boolean),
        ("f", DataType::Decimal128(20, 3)),
        ("g", DataType::List(Arc::new(Field::new("item", DataType::Int32, true)))),
        ("h", DataType::Struct(Fields::from(vec![Field::new("a", DataType::Utf8, true)]))),
        ("i", DataType::Date32),
        ("j", DataType::Binary),
    ];
    let columns = fixed.map(|(name, data_type)| Column { name: name.to_owned(), data_type, nullable: true });
    round_trip(columns.to_vec(), bytes);
    let mut inference = Inference::new();
    inference.observe(bytes);
    round_trip(inference.columns(), bytes);
});

fn round_trip(columns: Vec<Column>, bytes: &[u8]) {
    let Ok(mut decoder) = JsonDecoder::new(columns.clone()) else { return };
    let decoded = decoder.decode([Some(bytes)]);
    assert_eq!(decoded.rows.len() + decoded.failures.len(), 1, "one record, one outcome");
    assert_eq!(decoded.batch.num_rows(), decoded.rows.len());
    if decoded.rows.is_empty() {
        return;
    }
    let schema =
        Schema::new(columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), true)).collect::<Vec<_>>());
    let mut encoder = JsonEncoder::new(&schema).expect("what can be read can be written");
    let mut text = Vec::new();
    encoder.encode(&decoded.batch, 0, &mut text);
    let again = decoder.decode([Some(text.as_slice())]);
    assert!(again.failures.is_empty(), "{:?} of {}", again.failures, String::from_utf8_lossy(&text));
    let mut second = Vec::new();
    encoder.encode(&again.batch, 0, &mut second);
    assert_eq!(text, second, "written, read and written again");
}
