use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, TimeUnit, TimestampMillisecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millpond_formats::{Column, Decoded, JsonDecoder, UnsupportedColumn};
use proptest::prelude::*;

fn decode(columns: &[(&str, DataType)], records: &[&str]) -> Decoded {
    let columns = columns.iter().map(|(name, data_type)| Column::new(*name, data_type.clone())).collect();
    let mut decoder = JsonDecoder::new(columns).expect("all types are JSON's");
    decoder.decode(records.iter().map(|record| Some(record.as_bytes())))
}

/// One value decoded as a type: what Arrow shows of it, or why it is none.
fn value_as(data_type: &DataType, value: &str) -> Result<String, String> {
    let decoded = decode(&[("v", data_type.clone())], &[&format!("{{\"v\":{value}}}")]);
    match decoded.failures.first() {
        Some(failure) => {
            assert_eq!(decoded.batch.num_rows(), 0);
            assert!(failure.column.as_deref().is_none_or(|column| column.starts_with('v')), "{failure:?}");
            Err(failure.reason.clone())
        }
        None => {
            let formatter = ArrayFormatter::try_new(decoded.batch.column(0).as_ref(), &FormatOptions::default());
            Ok(formatter.expect("can be shown").value(0).to_string())
        }
    }
}

fn list(item: DataType) -> DataType {
    DataType::List(Field::new("item", item, true).into())
}

fn map(value: DataType) -> DataType {
    let fields = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    DataType::Map(Field::new("entries", DataType::Struct(fields), false).into(), false)
}

#[test]
fn every_type_takes_its_values() {
    let ms = DataType::Timestamp(TimeUnit::Millisecond, None);
    let cases: &[(DataType, &str, &str)] = &[
        (DataType::Boolean, "true", "true"),
        (DataType::Int8, "-128", "-128"),
        (DataType::Int32, "2147483647", "2147483647"),
        (DataType::Int64, "-9223372036854775808", "-9223372036854775808"),
        (DataType::Int64, "1e3", "1000"),
        (DataType::UInt64, "18446744073709551615", "18446744073709551615"),
        (DataType::Float32, "0.1", "0.1"),
        (DataType::Float64, "3", "3.0"),
        (DataType::Float64, "1.7976931348623157e308", "1.7976931348623157e308"),
        (DataType::Decimal128(10, 2), "12.345", "12.35"),
        (DataType::Decimal256(50, 1), "-1e20", "-100000000000000000000.0"),
        (DataType::Decimal64(10, 3), "1", "1.000"),
        (DataType::Utf8, "\"a\\n\\u00e9\"", "a\né"),
        (DataType::Utf8View, "\"no longer than its view\"", "no longer than its view"),
        (DataType::Utf8View, "\"short\"", "short"),
        (DataType::Utf8View, "17", "17"),
        (DataType::Utf8View, "{ \"a\": [1, 2] }", "{ \"a\": [1, 2] }"),
        (DataType::Binary, "\"AQL/\"", "0102ff"),
        (DataType::BinaryView, "\"AQL\\/\"", "0102ff"),
        (DataType::Date32, "\"2026-02-28\"", "2026-02-28"),
        (DataType::Time32(TimeUnit::Millisecond), "\"10:30:00.5\"", "10:30:00.500"),
        (DataType::Time64(TimeUnit::Microsecond), "\"10:30\"", "10:30:00"),
        (ms.clone(), "\"2026-01-01T00:00:10.000\"", "2026-01-01T00:00:10"),
        (ms.clone(), "\"2026-01-01 00:00:10.1239\"", "2026-01-01T00:00:10.123"),
        (ms.clone(), "\"2026-01-01T02:00:10+02:00\"", "2026-01-01T00:00:10"),
        (ms.clone(), "1767225610000", "2026-01-01T00:00:10"),
        (ms.clone(), "\"+55840-11-08T22:13:20.000\"", "+55840-11-08T22:13:20"),
        (ms.clone(), "\"-0001-12-31T23:59:59.999\"", "-0001-12-31T23:59:59.999"),
        (DataType::Date32, "\"+10000-01-01\"", "+10000-01-01"),
        (DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into())), "1", "1970-01-01T00:00:00.001Z"),
        (list(DataType::Int64), "[1,null,3]", "[1, , 3]"),
        (list(list(DataType::Utf8)), "[[\"a\"],[],null]", "[[a], [], ]"),
        (map(DataType::Int64), "{\"a\":1,\"b\":null}", "{a: 1, b: }"),
        (DataType::Int64, "null", ""),
    ];
    for (data_type, value, expected) in cases {
        assert_eq!(value_as(data_type, value).as_deref(), Ok(*expected), "{value} as {data_type}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_type_and_value() {
    let ms = DataType::Timestamp(TimeUnit::Millisecond, None);
    let cases: &[(DataType, &str, &str)] = &[
        (DataType::Int64, "\"1\"", "expected BIGINT, found \"1\""),
        (DataType::Int64, "1.5", "expected BIGINT, found 1.5"),
        (DataType::Int64, "9223372036854775808", "9223372036854775808 is out of the range of BIGINT"),
        (DataType::Int64, "[1, 2]", "expected BIGINT, found [1, 2]"),
        (DataType::Int8, "128", "128 is out of the range of TINYINT"),
        (DataType::UInt8, "-1", "-1 is out of the range of TINYINT UNSIGNED"),
        (DataType::Float64, "1e999", "1e999 is out of the range of DOUBLE"),
        (DataType::Float32, "1e39", "1e39 is out of the range of FLOAT"),
        (DataType::Decimal128(4, 2), "100", "100 is out of the range of DECIMAL(4, 2)"),
        (DataType::Boolean, "1", "expected BOOLEAN, found 1"),
        (DataType::Binary, "\"*\"", "expected VARBINARY as base64, found *"),
        (DataType::Date32, "\"2026-02-29\"", "expected DATE, found \"2026-02-29\""),
        (DataType::Date32, "1", "expected DATE, found 1"),
        (ms.clone(), "\"yesterday\"", "expected TIMESTAMP(3), found \"yesterday\""),
        (ms.clone(), "1.5", "expected TIMESTAMP(3), found 1.5"),
        (
            ms.clone(),
            "\"+292278994-08-17T07:12:55.808\"",
            "expected TIMESTAMP(3), found \"+292278994-08-17T07:12:55.808\"",
        ),
        (ms.clone(), "\"+2026-01-01\"", "expected TIMESTAMP(3), found \"+2026-01-01\""),
        (DataType::Date32, "\"+5881580-07-12\"", "expected DATE, found \"+5881580-07-12\""),
        (DataType::Date64, "\"+292278994-08-18\"", "expected DATE, found \"+292278994-08-18\""),
        (ms.clone(), "true", "expected TIMESTAMP(3), found true"),
        (
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            "\"9999-01-01T00:00:00\"",
            "expected TIMESTAMP(9), found \"9999-01-01T00:00:00\"",
        ),
        (list(DataType::Int64), "7", "expected ARRAY<BIGINT>, found 7"),
        (map(DataType::Int64), "{\"a\":1,\"a\":2}", "the key \"a\" stands twice in a MAP"),
    ];
    for (data_type, value, expected) in cases {
        assert_eq!(value_as(data_type, value).as_ref().err().map(String::as_str), Some(*expected), "{value}");
    }
}

#[test]
fn long_values_are_shortened_in_messages() {
    let value = format!("\"{}\"", "é".repeat(1_000));
    let reason = value_as(&DataType::Int64, &value).expect_err("a string is no number");
    assert!(reason.chars().count() < 100 && reason.ends_with('…'), "{reason}");
}

#[test]
fn records_that_are_no_objects_are_refused() {
    let mut decoder = JsonDecoder::new(vec![Column::new("a", DataType::Int64)]).expect("BIGINT is JSON's");
    let values: [Option<&[u8]>; 8] = [
        None,
        Some(b""),
        Some(b"17"),
        Some(b"{\"a\":1} {}"),
        Some(b"{\"a\":1,}"),
        Some(b"{\"a\":\"\xff\"}"),
        Some(b"{\"a\":1,\"b\":\"\x01\"}"),
        Some(b"{\"a\":1,\"b\":01}"),
    ];
    let decoded = decoder.decode(values);
    assert_eq!(decoded.batch.num_rows(), 0);
    let reasons: Vec<&str> = decoded.failures.iter().map(|failure| failure.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "the record has no value",
            "invalid JSON at byte 0: the text ends where a value was expected",
            "expected a JSON object, found 17",
            "invalid JSON at byte 8: text follows after the value",
            "invalid JSON at byte 7: a field's name in quotes was expected",
            "invalid JSON at byte 6: this is not UTF-8",
            "invalid JSON at byte 12: a control character stands in a string",
            "invalid JSON at byte 11: a number may not begin with 0",
        ]
    );
    assert!(decoded.failures.iter().all(|failure| failure.column.is_none()));
}

#[test]
fn bad_records_leave_no_trace_in_the_batch() {
    let columns = [
        ("n", DataType::Int64),
        ("s", DataType::Utf8View),
        ("l", list(DataType::Utf8)),
        (
            "o",
            DataType::Struct(
                vec![Field::new("x", DataType::Int32, true), Field::new("m", map(DataType::Int64), true)].into(),
            ),
        ),
        ("last", DataType::Boolean),
    ];
    let good = r#"{"n":1,"s":"a string that is longer than twelve","l":["a","b"],"o":{"x":1,"m":{"k":1}},"last":true}"#;
    let bad = r#"{"n":2,"s":"another string, which must vanish","l":["c"],"o":{"x":2,"m":{"k":2,"l":"no number"}},"last":true}"#;
    let late = r#"{"n":2,"s":"x","l":["c",{}],"o":{"x":2,"m":{}},"last":3}"#;
    let decoded = decode(&columns, &[bad, good, late, good, bad]);
    assert_eq!(decoded.rows, [1, 3]);
    let failures: Vec<_> =
        decoded.failures.iter().map(|failure| (failure.row, failure.column.as_deref().unwrap_or(""))).collect();
    assert_eq!(failures, [(0, "o.m.l"), (2, "last"), (4, "o.m.l")]);
    let alone = decode(&columns, &[good, good]);
    assert_eq!(decoded.batch, alone.batch);
}

#[test]
fn nested_places_are_named() {
    let line = DataType::Struct(vec![Field::new("price", DataType::Int64, true)].into());
    let order = DataType::Struct(vec![Field::new("lines", list(line), true)].into());
    let decoded = decode(&[("order", order)], &[r#"{"order":{"lines":[{"price":1},{},{"price":"x"}]}}"#]);
    assert_eq!(decoded.failures[0].column.as_deref(), Some("order.lines[2].price"));
}

#[test]
fn of_a_field_that_stands_twice_the_last_counts() {
    let columns = [("a", DataType::Int64), ("s", DataType::Utf8)];
    let decoded = decode(&columns, &[r#"{"a":1,"s":"one","a":2,"s":null}"#, r#"{"s":"x"}"#]);
    assert_eq!(decoded.batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(2), None]);
    assert_eq!(decoded.batch.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [None, Some("x")]);
}

#[test]
fn field_names_are_compared_as_they_are_meant() {
    let columns = [("é", DataType::Int32), ("a\"b", DataType::Int32)];
    let decoded = decode(&columns, &[r#"{"\u00e9":1,"a\"b":2}"#, r#"{"a\"b":3,"é":4,"A\"B":5}"#]);
    let values = |place: usize| decoded.batch.column(place).as_primitive::<Int32Type>().values().to_vec();
    assert_eq!((values(0), values(1)), (vec![1, 4], vec![2, 3]));
}

#[test]
fn not_null_columns_want_a_value() {
    let column = Column { name: "id".to_owned(), data_type: DataType::Int64, nullable: false };
    let mut decoder = JsonDecoder::new(vec![column]).expect("BIGINT is JSON's");
    let decoded = decoder.decode([Some(&b"{}"[..]), Some(b"{\"id\":null}"), Some(b"{\"id\":1}")]);
    assert_eq!(decoded.rows, [2]);
    assert_eq!(decoded.failures[0].column.as_deref(), Some("id"));
    assert_eq!(decoded.failures[0].reason, "expected BIGINT NOT NULL, found no value");
    assert_eq!(decoded.failures.len(), 2);
}

#[test]
fn a_null_struct_may_have_fields_that_are_not_null() {
    let object = DataType::Struct(vec![Field::new("x", DataType::Int64, false)].into());
    let decoded = decode(&[("o", object)], &[r#"{"o":null}"#, r#"{"o":{"x":1}}"#, r#"{"o":{}}"#]);
    assert_eq!(decoded.rows, [0, 1]);
    assert!(decoded.batch.column(0).is_null(0));
    assert_eq!(decoded.failures[0].column.as_deref(), Some("o.x"));
}

#[test]
fn no_columns_still_count_rows() {
    let decoded = decode(&[], &["{}", "nonsense", r#"{"a":1}"#]);
    assert_eq!((decoded.batch.num_rows(), decoded.rows, decoded.failures.len()), (2, vec![0, 2], 1));
}

#[test]
fn a_decoder_is_used_again_and_again() {
    let columns = vec![Column::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None))];
    let mut decoder = JsonDecoder::new(columns).expect("TIMESTAMP is JSON's");
    for round in 0..3 {
        let record = format!("{{\"ts\":{round}}}");
        let batch = decoder.decode([Some(record.as_bytes()), Some(b"{}")]).batch;
        let values: Vec<_> = batch.column(0).as_primitive::<TimestampMillisecondType>().iter().collect();
        assert_eq!(values, [Some(round), None]);
    }
}

#[test]
fn columns_that_json_cannot_hold_are_named() {
    let error = JsonDecoder::new(vec![Column::new("i", DataType::Duration(TimeUnit::Second))]).expect_err("no form");
    assert_eq!(error.to_string(), "column `i` is of type INTERVAL, which JSON cannot hold");
    let twice = vec![Column::new("a", DataType::Int64), Column::new("a", DataType::Utf8)];
    assert!(matches!(JsonDecoder::new(twice), Err(UnsupportedColumn::Twice { .. })));
    let deep = (0..200).fold(DataType::Int64, |inner, _| list(inner));
    assert!(matches!(JsonDecoder::new(vec![Column::new("a", deep)]), Err(UnsupportedColumn::TooDeep { .. })));
}

fn everything() -> Vec<Column> {
    let object =
        Fields::from(vec![Field::new("a", DataType::Int64, true), Field::new("b", list(DataType::Utf8View), true)]);
    vec![
        Column::new("a", DataType::Int64),
        Column::new("b", DataType::Utf8View),
        Column::new("c", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        Column::new("d", DataType::Decimal128(20, 3)),
        Column::new("e", list(DataType::Float64)),
        Column::new("f", DataType::Struct(object)),
        Column::new("g", map(DataType::Boolean)),
        Column::new("h", DataType::Binary),
    ]
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "2026-01-0[1-9]T00:00:00".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::hash_map("[a-h]", inner, 0..6)
                .prop_map(|object| serde_json::Value::Object(object.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_a_row_or_a_failure(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..10)) {
        let mut decoder = JsonDecoder::new(everything()).unwrap();
        let decoded = decoder.decode(records.iter().map(|record| Some(&record[..])));
        prop_assert_eq!(decoded.batch.num_rows() + decoded.failures.len(), records.len());
    }

    /// Rows do not depend on what stood in the batch beside them, nor on which other columns were asked for.
    #[test]
    fn rows_are_the_same_alone_and_together(records in proptest::collection::vec(json(), 1..8)) {
        let texts: Vec<String> = records.iter().map(ToString::to_string).collect();
        let together = JsonDecoder::new(everything()).unwrap().decode(texts.iter().map(|text| Some(text.as_bytes())));
        together.batch.column(1).to_data().validate_full().unwrap();
        let mut rows = 0;
        for (place, text) in texts.iter().enumerate() {
            let alone = JsonDecoder::new(everything()).unwrap().decode([Some(text.as_bytes())]);
            prop_assert_eq!(alone.batch.num_rows() == 1, together.rows.contains(&(place as u32)));
            if alone.batch.num_rows() == 1 {
                prop_assert_eq!(alone.batch, together.batch.slice(rows, 1));
                rows += 1;
            }
        }
        prop_assert_eq!(rows, together.batch.num_rows());
    }
}
