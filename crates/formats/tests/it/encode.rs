use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationMillisecondArray, Float64Array,
    Int64Array, IntervalMonthDayNanoArray, ListArray, MapBuilder, RecordBatch, StringArray, StringViewArray,
    StructArray, Time32MillisecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::array::{DictionaryArray, Int64Builder, types::Int32Type};
use arrow::datatypes::{DataType, Field, Int64Type, IntervalMonthDayNano, Schema};
use millpond_formats::{Column, JsonDecoder, JsonEncoder};
use proptest::prelude::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns of one length")
}

fn row(batch: &RecordBatch, row: usize) -> String {
    let mut out = Vec::new();
    JsonEncoder::new(batch.schema().as_ref()).expect("types of JSON").encode(batch, row, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// The first value of an array as JSON.
fn value(array: impl Array + 'static) -> String {
    let batch = batch(vec![("v", Arc::new(array))]);
    let mut out = Vec::new();
    JsonEncoder::new(batch.schema().as_ref()).expect("types of JSON").encode_value(&batch, 0, 0, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

#[test]
fn fields_stand_in_order_without_spaces() {
    let batch = batch(vec![
        ("b", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("a \"quoted\"", Arc::new(StringArray::from(vec![Some("x\ty\u{1}é"), None]))),
    ]);
    assert_eq!(row(&batch, 0), r#"{"b":1,"a \"quoted\"":"x\ty\u0001é"}"#);
    assert_eq!(row(&batch, 1), r#"{"b":null,"a \"quoted\"":null}"#);
}

#[test]
fn some_columns_make_a_key() {
    let batch = batch(vec![
        ("a", Arc::new(Int64Array::from(vec![1]))),
        ("b", Arc::new(StringArray::from(vec!["x"]))),
        ("c", Arc::new(BooleanArray::from(vec![true]))),
    ]);
    let mut out = Vec::new();
    JsonEncoder::of_columns(batch.schema().as_ref(), &[2, 0]).expect("JSON").encode(&batch, 0, &mut out);
    assert_eq!(out, br#"{"c":true,"a":1}"#);
}

#[test]
fn every_type_has_its_form() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None])]);
    let object = StructArray::from(vec![(
        Arc::new(Field::new("x", DataType::Int64, true)),
        Arc::new(Int64Array::from(vec![7])) as ArrayRef,
    )]);
    let mut map = MapBuilder::new(None, Int64Builder::new(), Int64Builder::new());
    map.keys().append_value(1);
    map.values().append_value(2);
    map.append(true).expect("as many keys as values");
    let dictionary: DictionaryArray<Int32Type> = ["word"].into_iter().collect();
    let cases = [
        (value(BooleanArray::from(vec![false])), "false"),
        (value(Float64Array::from(vec![0.1])), "0.1"),
        (value(Float64Array::from(vec![3.0])), "3.0"),
        (value(Float64Array::from(vec![-0.0])), "-0.0"),
        (value(Float64Array::from(vec![f64::NAN])), "null"),
        (value(Float64Array::from(vec![f64::NEG_INFINITY])), "null"),
        (value(Decimal128Array::from(vec![-12_345]).with_precision_and_scale(10, 3).expect("fits")), "-12.345"),
        (value(Decimal128Array::from(vec![908_000]).with_precision_and_scale(10, 3).expect("fits")), "908.000"),
        (value(StringViewArray::from(vec!["a view"])), "\"a view\""),
        (value(BinaryArray::from(vec![&[1u8, 2, 255][..]])), "\"AQL/\""),
        (value(Date32Array::from(vec![-1])), "\"1969-12-31\""),
        (value(Time32MillisecondArray::from(vec![1_500])), "\"00:00:01.500\""),
        (value(TimestampMillisecondArray::from(vec![1_767_225_610_000])), "\"2026-01-01T00:00:10.000\""),
        (value(TimestampMillisecondArray::from(vec![0]).with_timezone("+02:00")), "\"1970-01-01T00:00:00.000Z\""),
        (value(TimestampNanosecondArray::from(vec![-1])), "\"1969-12-31T23:59:59.999999999\""),
        (value(DurationMillisecondArray::from(vec![90_000])), "\"PT90S\""),
        (value(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 0)])), "\"1 mons 2 days\""),
        (value(list), "[1,null]"),
        (value(object), "{\"x\":7}"),
        (value(map.finish()), "{\"1\":2}"),
        (value(dictionary), "\"word\""),
    ];
    for (written, expected) in cases {
        assert_eq!(written, expected);
    }
}

#[test]
fn an_empty_row_is_an_empty_object() {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("no columns");
    assert_eq!(row(&batch, 0), "{}");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        numbers in proptest::collection::vec(proptest::option::of(any::<i64>()), 5),
        floats in proptest::collection::vec(any::<f64>().prop_filter("finite", |value| value.is_finite()), 5),
        texts in proptest::collection::vec(proptest::option::of(any::<String>()), 5),
        bytes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 5),
        times in proptest::collection::vec(
            prop_oneof![-62_167_219_200_000i64..253_402_300_800_000, any::<i64>(), Just(i64::MIN), Just(i64::MAX)],
            5,
        ),
        days in proptest::collection::vec(any::<i32>(), 5),
    ) {
        let bytes: Vec<&[u8]> = bytes.iter().map(|bytes| &bytes[..]).collect();
        let batch = batch(vec![
            ("n", Arc::new(Int64Array::from(numbers))),
            ("f", Arc::new(Float64Array::from(floats))),
            ("s", Arc::new(StringViewArray::from(texts))),
            ("b", Arc::new(BinaryArray::from(bytes))),
            ("t", Arc::new(TimestampMillisecondArray::from(times))),
            ("d", Arc::new(Date32Array::from(days))),
        ]);
        let records: Vec<String> = (0..batch.num_rows()).map(|place| row(&batch, place)).collect();
        for record in &records {
            serde_json::from_str::<serde_json::Value>(record).unwrap();
        }
        let columns = batch.schema().fields().iter().map(|field| Column::new(field.name(), field.data_type().clone())).collect();
        let decoded = JsonDecoder::new(columns).unwrap().decode(records.iter().map(|record| Some(record.as_bytes())));
        prop_assert_eq!(decoded.failures, vec![]);
        prop_assert_eq!(decoded.batch, batch);
    }
}
