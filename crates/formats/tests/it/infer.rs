use arrow::datatypes::DataType;
use millpond_formats::json::{INFERENCE_FIELDS_MAX, INFERENCE_RECORDS_MAX};
use millpond_formats::{Inference, JsonDecoder, sql_type_name};
use proptest::prelude::*;

fn check(records: &[&str], expected: &str) {
    let mut inference = Inference::new();
    for record in records {
        inference.observe(record.as_bytes());
    }
    let columns: Vec<String> = inference
        .columns()
        .iter()
        .map(|column| format!("{} {}", column.name, sql_type_name(&column.data_type)))
        .collect();
    assert_eq!(columns.join(", "), expected, "{records:?}");
}

#[test]
fn columns_stand_in_the_order_they_were_first_seen() {
    check(&[r#"{"b":1,"a":true}"#, r#"{"c":"x","a":false,"b":2}"#], "b BIGINT, a BOOLEAN, c VARCHAR");
}

#[test]
fn values_that_disagree_widen() {
    check(&[r#"{"v":1}"#, r#"{"v":1.5}"#], "v DOUBLE");
    check(&[r#"{"v":1}"#, r#"{"v":null}"#], "v BIGINT");
    check(&[r#"{"v":null}"#], "v VARCHAR");
    check(&[r#"{"v":1}"#, r#"{"v":"x"}"#], "v VARCHAR");
    check(&[r#"{"v":{"a":1}}"#, r#"{"v":[1]}"#], "v VARCHAR");
    check(&[r#"{"v":{"a":1}}"#, r#"{"v":{"b":"x","a":2.5}}"#], "v STRUCT<a DOUBLE, b VARCHAR>");
    check(&[r#"{"v":[]}"#, r#"{"v":[1,2.5]}"#], "v ARRAY<DOUBLE>");
    check(&[r#"{"v":[]}"#], "v ARRAY<VARCHAR>");
    check(&[r#"{"v":{}}"#], "v VARCHAR");
    check(&[r#"{"v":18446744073709551615}"#], "v VARCHAR");
}

#[test]
fn strings_are_timestamps_only_when_all_of_them_are() {
    check(&[r#"{"t":"2026-01-01T00:00:00"}"#, r#"{"t":"2026-01-01 00:00:00.5Z"}"#], "t TIMESTAMP(3)");
    check(&[r#"{"t":"2026-01-01T00:00:00.123456"}"#, r#"{"t":"2026-01-01T00:00:00"}"#], "t TIMESTAMP(6)");
    check(&[r#"{"t":"2026-01-01T00:00:00"}"#, r#"{"t":"soon"}"#], "t VARCHAR");
    check(&[r#"{"t":"2026-01-01"}"#], "t VARCHAR");
}

#[test]
fn records_that_are_not_json_objects_tell_nothing() {
    check(&["", "17", "[1]", r#"{"a":1"#, r#"{"a":"x"} {}"#, r#"{"b":1}"#], "b BIGINT");
}

#[test]
fn what_is_looked_at_is_bounded() {
    let mut inference = Inference::new();
    for _ in 0..INFERENCE_RECORDS_MAX {
        assert!(!inference.is_full());
        inference.observe(b"{\"a\":1}");
    }
    assert!(inference.is_full());
    inference.observe(b"{\"a\":\"x\",\"b\":1}");
    assert_eq!(inference.columns().len(), 1);
    assert_eq!(inference.columns()[0].data_type, DataType::Int64);

    let fields: Vec<String> = (0..2 * INFERENCE_FIELDS_MAX).map(|place| format!("\"f{place}\":1")).collect();
    let record = format!("{{\"wide\":{{{0}}},{0}}}", fields.join(","));
    let mut inference = Inference::new();
    inference.observe(record.as_bytes());
    assert_eq!(inference.columns().len(), INFERENCE_FIELDS_MAX);
    assert_eq!(inference.columns()[0].data_type, DataType::Utf8View, "an object of so many fields is a map");

    let deep = format!("{{\"d\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    let mut inference = Inference::new();
    inference.observe(deep.as_bytes());
    assert!(sql_type_name(&inference.columns()[0].data_type).len() < 100);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1e9..1e9f64).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "20[0-9]{2}-01-0[1-9]T00:00:00(\\.[0-9]{1,9})?".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 30, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::hash_map("[a-d]", inner, 0..4)
                .prop_map(|object| serde_json::Value::Object(object.into_iter().collect())),
        ]
    })
}

proptest! {
    /// The promise of inference: what was looked at can be read.
    #[test]
    fn inferred_columns_hold_every_record_they_were_inferred_from(
        records in proptest::collection::vec(proptest::collection::hash_map("[a-d]", json(), 0..4), 0..6)
    ) {
        let texts: Vec<String> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
        let mut inference = Inference::new();
        for text in &texts {
            inference.observe(text.as_bytes());
        }
        let decoded = JsonDecoder::new(inference.columns()).unwrap().decode(texts.iter().map(|text| Some(text.as_bytes())));
        prop_assert_eq!(decoded.failures, vec![]);
        prop_assert_eq!(decoded.batch.num_rows(), texts.len());
    }

    #[test]
    fn any_bytes_can_be_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut inference = Inference::new();
        inference.observe(&bytes);
        let _ = inference.columns();
    }
}
