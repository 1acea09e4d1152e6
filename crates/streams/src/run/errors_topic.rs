//! What could not be decoded or computed, as records of `<stream>.errors`.

use millpond_records::BatchBuilder;
use millpond_types::TimestampMs;
use serde::Serialize;

use super::failure::RowFailure;
use super::sink::PartitionOutput;

/// A value is shown up to this many bytes.
const VALUE_BYTES_MAX: usize = 1_000;
/// A reason is shown up to this many bytes.
const REASON_BYTES_MAX: usize = 4_000;
/// Batches of the errors topic are closed before they grow beyond this, bytes.
const BATCH_BYTES_MAX: usize = 500_000;

/// The name of a stream's errors topic.
pub(crate) fn errors_topic(stream: &str) -> String {
    format!("{stream}.errors")
}

/// One record's value, as JSON. `value_base64` stands in the place of `value` where that is not UTF-8.
#[derive(Serialize)]
struct ErrorRecord<'a> {
    topic: Option<&'a str>,
    partition: Option<i32>,
    offset: Option<i64>,
    column: Option<&'a str>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// Where a failed row came from.
pub(crate) struct FailedRecord<'a> {
    /// Topic and partition; none for the rows of a closed window.
    pub(crate) place: Option<(&'a str, i32)>,
    /// The record's value, or the row as text.
    pub(crate) value: Option<&'a [u8]>,
    /// The timestamp of the error's record.
    pub(crate) timestamp: TimestampMs,
}

/// Adds the record of a failure.
pub(crate) fn write(failure: &RowFailure, record: &FailedRecord<'_>, output: &mut PartitionOutput) {
    let shortened = record.value.map(|value| &value[..value.len().min(VALUE_BYTES_MAX)]);
    let text = shortened.and_then(|value| match std::str::from_utf8(value) {
        Ok(text) => Some(text),
        // Only the shortening cut a character in two.
        Err(error) if error.error_len().is_none() && value.len() == VALUE_BYTES_MAX => {
            std::str::from_utf8(&value[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    });
    let json = serde_json::to_vec(&ErrorRecord {
        topic: record.place.map(|place| place.0),
        partition: record.place.map(|place| place.1),
        offset: failure.offset,
        column: failure.column.as_deref(),
        reason: cut(&failure.reason, REASON_BYTES_MAX),
        value: text,
        value_base64: shortened.filter(|_| text.is_none()).map(base64),
    });
    let json = json.expect("strings and numbers can be written as JSON");
    let size = BatchBuilder::record_size_max(None, Some(&json), &[]);
    output.push(record.timestamp, None, Some(&json), size, BATCH_BYTES_MAX);
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let six = bits >> (18 - 6 * place) & 63;
            text.push(if place <= group.len() { ALPHABET[six as usize] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::chunk::Origin;

    fn written(value: Option<&[u8]>) -> serde_json::Value {
        let failure = RowFailure {
            origin: Origin::Partition { source: 0, partition: 3 },
            offset: Some(17),
            column: Some("price".into()),
            reason: "it is no number".into(),
            row: None,
        };
        let mut output = PartitionOutput::default();
        write(&failure, &FailedRecord { place: Some(("bids", 3)), value, timestamp: 5 }, &mut output);
        let batch = output.into_batches().remove(0);
        let mut found = None;
        let view = millpond_records::batches(&batch).next().unwrap().unwrap();
        view.records(1 << 20).unwrap().for_each(|r| found = r.value.map(<[u8]>::to_vec)).unwrap();
        serde_json::from_slice(&found.unwrap()).unwrap()
    }

    #[test]
    fn an_error_tells_where_what_and_why() {
        let expected = serde_json::json!({
            "topic": "bids", "partition": 3, "offset": 17, "column": "price",
            "reason": "it is no number", "value": "{\"price\":\"x\"}"
        });
        assert_eq!(written(Some(br#"{"price":"x"}"#)), expected);
    }

    #[test]
    fn bytes_that_are_no_text_are_base64_and_no_value_is_none() {
        let json = written(Some(&[0xff, 0xfe, 0x00, 0x01]));
        assert_eq!(json["value_base64"], "//4AAQ==");
        assert_eq!(json.get("value"), None);
        assert_eq!(written(None).get("value"), None);
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let long = "ä".repeat(VALUE_BYTES_MAX);
        assert_eq!(written(Some(format!("x{long}").as_bytes()))["value"].as_str().unwrap().len(), VALUE_BYTES_MAX - 1);
    }

    #[test]
    fn base64_is_the_standard_one() {
        for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }
}
