//! Batches and records.

use std::path::Path;

use millpond_log::DECOMPRESSED_BYTES_MAX;
use millpond_log::inspect::{BATCH_BYTES_MAX, BatchWalk, Found, FoundBatch, Gap, seek_offset};
use millpond_records::{BatchHeader, RecordView, TimestampType, increment_sequence};
use serde_json::{Map, Value, json};

use super::decode::{Schema, control, decode};
use super::{Dump, Encoding};
use crate::log::LogToolError;
use crate::log::output::{hex, visible};

impl Dump<'_> {
    /// The batches of a `.log` file, in the range that is asked for.
    pub(super) fn batches(&mut self, path: &Path, schema: Option<Schema>) -> Result<(), LogToolError> {
        let mut walk = BatchWalk::open(path)?;
        if let Some(from) = self.arguments.from {
            seek_offset(&mut walk, path, from)?;
        }
        if self.arguments.json {
            self.output.json(&json!({ "kind": "file", "file": path, "base_offset": walk.base_offset() }))?;
        } else {
            self.output.line(&format!("file: {}", path.display()))?;
        }
        while let Some(found) = walk.next()? {
            match found {
                Found::Batch(batch) => {
                    let header = &batch.header;
                    if self.arguments.to.is_some_and(|to| batch.is_valid() && header.base_offset > to) {
                        break;
                    }
                    if self.arguments.from.is_some_and(|from| header.last_offset() < from) {
                        continue;
                    }
                    self.batch(&batch)?;
                    if self.arguments.records || schema.is_some() {
                        self.records(&batch, schema)?;
                    }
                }
                Found::Gap(gap) => self.gap(path, &gap)?,
            }
        }
        Ok(())
    }

    fn gap(&mut self, path: &Path, gap: &Gap) -> Result<(), LogToolError> {
        let Gap { position, len, what, is_unwritten, .. } = gap;
        self.is_damaged |= !is_unwritten;
        if self.arguments.json {
            let kind = if *is_unwritten { "unfinished" } else { "damage" };
            let line = json!({ "kind": kind, "file": path, "position": position, "bytes": len, "what": what });
            return Ok(self.output.json(&line)?);
        }
        let line = match is_unwritten {
            true => format!("position: {position} unfinished: {len} bytes that are being written, or were: {what}"),
            false => format!("position: {position} damaged: {len} bytes hold no whole batch: {what}"),
        };
        Ok(self.output.line(&line)?)
    }

    fn batch(&mut self, batch: &FoundBatch<'_>) -> Result<(), LogToolError> {
        self.is_damaged |= !batch.is_valid();
        let header = &batch.header;
        let codec = header.compression().map_or_else(|_| "unknown".to_owned(), |codec| codec.to_string());
        if self.arguments.json {
            return Ok(self.output.json(&json!({
                "kind": "batch",
                "base_offset": header.base_offset,
                "last_offset": header.last_offset(),
                "count": header.record_count,
                "base_sequence": header.base_sequence,
                "last_sequence": header.last_sequence(),
                "producer_id": header.producer_id,
                "producer_epoch": header.producer_epoch,
                "leader_epoch": header.leader_epoch,
                "is_transactional": header.is_transactional(),
                "is_control": header.is_control(),
                "delete_horizon_ms": header.delete_horizon_ms(),
                "position": batch.position,
                "timestamp_type": timestamp_type_name(header),
                "base_timestamp_ms": header.base_timestamp,
                "max_timestamp_ms": header.max_timestamp,
                "size": header.size(),
                "magic": header.magic,
                "compression": codec,
                "crc": header.crc,
                "computed_crc": batch.computed_crc,
                "is_valid": batch.is_valid(),
            }))?);
        }
        let horizon = header.delete_horizon_ms().map_or_else(|| "none".to_owned(), |horizon| horizon.to_string());
        self.output.line(&format!(
            "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} \
             partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: {horizon} position: {} {}: {} size: {} \
             magic: {} compresscodec: {codec} crc: {} isvalid: {}",
            header.base_offset,
            header.last_offset(),
            header.record_count,
            header.base_sequence,
            header.last_sequence(),
            header.producer_id,
            header.producer_epoch,
            header.leader_epoch,
            header.is_transactional(),
            header.is_control(),
            batch.position,
            timestamp_type(header),
            header.max_timestamp,
            header.size(),
            header.magic,
            header.crc,
            batch.is_valid()
        ))?;
        Ok(())
    }

    /// The records of a batch, as far as they can be read; also if its checksum is wrong.
    fn records(&mut self, batch: &FoundBatch<'_>, schema: Option<Schema>) -> Result<(), LogToolError> {
        let Some(view) = batch.view() else {
            return self.no_records(&format!("a batch of more than {BATCH_BYTES_MAX} bytes is not looked into"));
        };
        if batch.header.record_count == 0 {
            return Ok(());
        }
        let mut records = match view.records(DECOMPRESSED_BYTES_MAX) {
            Ok(records) => records,
            Err(error) => return self.no_records(&error.to_string()),
        };
        while let Some(record) = records.next() {
            match record {
                Ok(record) if self.is_wanted(record.offset) => self.record(&batch.header, &record, schema)?,
                Ok(_) => {}
                Err(error) => self.no_records(&error.to_string())?,
            }
        }
        Ok(())
    }

    fn no_records(&mut self, what: &str) -> Result<(), LogToolError> {
        self.is_damaged = true;
        if self.arguments.json {
            return Ok(self.output.json(&json!({ "kind": "damage", "what": what }))?);
        }
        Ok(self.output.line(&format!("| damaged: {what}"))?)
    }

    fn record(
        &mut self,
        header: &BatchHeader,
        record: &RecordView<'_>,
        schema: Option<Schema>,
    ) -> Result<(), LogToolError> {
        let decoded = match schema {
            _ if header.is_control() => Some(control(record)),
            Some(schema) => Some(decode(schema, record)),
            None => None,
        };
        if self.arguments.json {
            self.record_json(header, record, decoded)
        } else {
            self.record_text(header, record, decoded)
        }
    }

    fn record_json(
        &mut self,
        header: &BatchHeader,
        record: &RecordView<'_>,
        decoded: Option<Value>,
    ) -> Result<(), LogToolError> {
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| drop(line.insert(name.to_owned(), value));
        put("kind", json!("record"));
        put("offset", json!(record.offset));
        put("timestamp_type", json!(timestamp_type_name(header)));
        put("timestamp_ms", json!(record.timestamp));
        put("sequence", json!(sequence(header, record)));
        put("key_size", json!(record.key.map(<[u8]>::len)));
        put("value_size", json!(record.value.map(<[u8]>::len)));
        let headers = record.headers().map(|(key, value)| {
            let mut header = Map::new();
            header.insert("key".to_owned(), json!(String::from_utf8_lossy(key)));
            put_bytes(&mut header, "value", value, Encoding::Utf8);
            Value::Object(header)
        });
        let headers: Vec<Value> = headers.collect();
        put("headers", Value::Array(headers));
        match decoded {
            Some(decoded) => drop(line.insert("decoded".to_owned(), decoded)),
            None => {
                put_bytes(&mut line, "key", record.key, self.arguments.keys);
                put_bytes(&mut line, "value", record.value, self.arguments.values);
            }
        }
        Ok(self.output.json(&line)?)
    }

    fn record_text(
        &mut self,
        header: &BatchHeader,
        record: &RecordView<'_>,
        decoded: Option<Value>,
    ) -> Result<(), LogToolError> {
        let size = |bytes: Option<&[u8]>| bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.len().to_string());
        let headers: Vec<String> = record
            .headers()
            .map(|(key, value)| format!("{}={}", visible(key), value.map_or_else(|| "null".to_owned(), visible)))
            .collect();
        let mut line = format!(
            "| offset: {} {}: {} keySize: {} valueSize: {} sequence: {} headers: [{}]",
            record.offset,
            timestamp_type(header),
            record.timestamp,
            size(record.key),
            size(record.value),
            sequence(header, record),
            headers.join(", ")
        );
        match decoded {
            Some(decoded) => line.push_str(&format!(" decoded: {decoded}")),
            None => {
                for (name, bytes, encoding) in
                    [("key", record.key, self.arguments.keys), ("payload", record.value, self.arguments.values)]
                {
                    let shown = match (bytes, encoding) {
                        (_, Encoding::None) => continue,
                        (None, _) => "null".to_owned(),
                        (Some(bytes), Encoding::Utf8) => visible(bytes),
                        (Some(bytes), Encoding::Hex) => hex(bytes),
                    };
                    line.push_str(&format!(" {name}: {shown}"));
                }
            }
        }
        Ok(self.output.line(&line)?)
    }
}

fn sequence(header: &BatchHeader, record: &RecordView<'_>) -> i32 {
    if header.base_sequence < 0 { -1 } else { increment_sequence(header.base_sequence, record.offset_delta) }
}

/// As Kafka's tools call it.
fn timestamp_type(header: &BatchHeader) -> &'static str {
    match header.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

fn timestamp_type_name(header: &BatchHeader) -> &'static str {
    match header.timestamp_type() {
        TimestampType::CreateTime => "create_time",
        TimestampType::LogAppendTime => "log_append_time",
    }
}

/// Bytes as a member of an object: as text under `name`, or as digits under a name that ends in `_hex`.
fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>, encoding: Encoding) {
    let text = bytes.map(std::str::from_utf8);
    let (name, value) = match (encoding, text) {
        (Encoding::None, _) => return,
        (_, None) => (name.to_owned(), Value::Null),
        (Encoding::Utf8, Some(Ok(text))) => (name.to_owned(), json!(text)),
        _ => (format!("{name}_hex"), json!(hex(bytes.unwrap_or_default()))),
    };
    object.insert(name, value);
}
