//! Records of the node's own topics, read by their schemas.

use clap::ValueEnum;
use millpond_broker::{METADATA_TOPIC, OFFSETS_TOPIC};
use millpond_coordinator::{GroupValue, MemberValue, OffsetsKey, OffsetsValue, subscribed_topics};
use millpond_metadata::MetadataRecord;
use millpond_records::RecordView;
use serde_json::{Value, json};

use crate::log::output::hex;

/// What records are read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Schema {
    /// As the folder's name says
    #[value(hide = true)]
    Auto,
    /// Offsets and members of groups, as in __consumer_offsets
    Offsets,
    /// Topics and configurations, as in __millpond_metadata
    Metadata,
}

impl Schema {
    /// That of a topic's records.
    pub(super) fn of(topic: &str) -> Option<Schema> {
        match topic {
            OFFSETS_TOPIC => Some(Schema::Offsets),
            METADATA_TOPIC => Some(Schema::Metadata),
            _ => None,
        }
    }
}

/// What a record says, or why that cannot be told.
pub(super) fn decode(schema: Schema, record: &RecordView<'_>) -> Value {
    let decoded = match schema {
        Schema::Offsets => offsets(record),
        Schema::Metadata => metadata(record),
        Schema::Auto => unreachable!("the folder's name has told which schema it is"),
    };
    decoded.unwrap_or_else(
        |error| json!({ "error": error, "key_hex": record.key.map(hex), "value_hex": record.value.map(hex) }),
    )
}

fn offsets(record: &RecordView<'_>) -> Result<Value, String> {
    let key = OffsetsKey::decode(record.key.unwrap_or_default()).map_err(|error| error.to_string())?;
    let value = record.value.map(|value| OffsetsValue::decode(&key, value)).transpose();
    let value = match value.map_err(|error| error.to_string())? {
        // A tombstone: it is deleted.
        None => Value::Null,
        Some(OffsetsValue::Offset(value)) => json!({
            "offset": value.offset,
            "leader_epoch": value.leader_epoch,
            "metadata": value.metadata,
            "commit_timestamp_ms": value.commit_timestamp_ms,
            "expire_timestamp_ms": value.expire_timestamp_ms,
        }),
        Some(OffsetsValue::Group(value)) => group(&value),
    };
    Ok(match key {
        OffsetsKey::Offset { group, topic, partition } => {
            json!({ "type": "offset_commit", "group": group, "topic": topic, "partition": partition, "value": value })
        }
        OffsetsKey::Group { group } => json!({ "type": "group_metadata", "group": group, "value": value }),
    })
}

fn group(value: &GroupValue) -> Value {
    let is_consumers = value.protocol_type == "consumer";
    let members: Vec<Value> = value.members.iter().map(|value| member(value, is_consumers)).collect();
    json!({
        "protocol_type": value.protocol_type,
        "generation_id": value.generation_id,
        "protocol_name": value.protocol_name,
        "leader": value.leader,
        "state_since_ms": value.state_since_ms,
        "members": members,
    })
}

fn member(value: &MemberValue, is_consumer: bool) -> Value {
    let topics = if is_consumer { subscribed_topics(&value.subscription) } else { None };
    json!({
        "member_id": value.member_id,
        "group_instance_id": value.group_instance_id,
        "client_id": value.client_id,
        "client_host": value.client_host,
        "rebalance_timeout_ms": value.rebalance_timeout_ms,
        "session_timeout_ms": value.session_timeout_ms,
        "subscribed_topics": topics,
        "subscription_hex": hex(&value.subscription),
        "assignment_hex": hex(&value.assignment),
    })
}

fn metadata(record: &RecordView<'_>) -> Result<Value, String> {
    let value = record.value.ok_or("a record of the metadata has a value")?;
    // Read as the node reads it, and shown as it stands there.
    MetadataRecord::decode(value).map_err(|error| error.to_string())?;
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

/// What the record of a control batch says (KIP-98).
pub(super) fn control(record: &RecordView<'_>) -> Value {
    let number = |bytes: Option<&[u8]>, at: usize| {
        let bytes: [u8; 2] = bytes?.get(at..at + 2)?.try_into().ok()?;
        Some(i16::from_be_bytes(bytes))
    };
    let coordinator_epoch = || {
        let bytes: [u8; 4] = record.value?.get(2..6)?.try_into().ok()?;
        Some(i32::from_be_bytes(bytes))
    };
    match number(record.key, 2) {
        Some(0) => json!({ "type": "abort", "coordinator_epoch": coordinator_epoch() }),
        Some(1) => json!({ "type": "commit", "coordinator_epoch": coordinator_epoch() }),
        Some(other) => json!({ "type": other, "key_hex": record.key.map(hex), "value_hex": record.value.map(hex) }),
        None => {
            json!({ "error": "its key has no type", "key_hex": record.key.map(hex), "value_hex": record.value.map(hex) })
        }
    }
}

#[cfg(test)]
mod tests {
    use millpond_coordinator::OffsetValue;
    use millpond_records::{BatchBuilder, BatchOptions, BatchView};

    use super::*;

    /// What a record with this key and value is decoded to.
    fn decoded(schema: Option<Schema>, key: Option<&[u8]>, value: Option<&[u8]>) -> Value {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.push(0, key, value, &[]);
        let bytes = builder.build();
        let mut records = BatchView::parse(&bytes).expect("a batch").records(1 << 20).expect("records");
        let record = records.next().expect("one").expect("sound");
        schema.map_or_else(|| control(&record), |schema| decode(schema, &record))
    }

    #[test]
    fn offsets_and_tombstones_are_told_by_their_fields() {
        let key = OffsetsKey::Offset { group: "g".to_owned(), topic: "t".to_owned(), partition: 3 }.encode();
        let value = OffsetValue {
            offset: 42,
            leader_epoch: 7,
            metadata: "m".to_owned(),
            commit_timestamp_ms: 1_700,
            expire_timestamp_ms: None,
        };
        let expected = json!({
            "type": "offset_commit", "group": "g", "topic": "t", "partition": 3,
            "value": {
                "offset": 42, "leader_epoch": 7, "metadata": "m", "commit_timestamp_ms": 1700, "expire_timestamp_ms": null,
            },
        });
        assert_eq!(decoded(Some(Schema::Offsets), Some(&key), Some(&value.encode())), expected);
        assert_eq!(decoded(Some(Schema::Offsets), Some(&key), None)["value"], Value::Null);
    }

    #[test]
    fn a_consumers_subscription_is_told_by_its_topics() {
        let member = MemberValue {
            member_id: "c-1".to_owned(),
            group_instance_id: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 10_000,
            subscription: bytes::Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
            assignment: bytes::Bytes::from_static(b"\x01\x02"),
        };
        let value = GroupValue {
            protocol_type: "consumer".to_owned(),
            generation_id: 2,
            protocol_name: Some("range".to_owned()),
            leader: Some("c-1".to_owned()),
            state_since_ms: None,
            members: vec![member],
        };
        let key = OffsetsKey::Group { group: "g".to_owned() }.encode();
        let found = decoded(Some(Schema::Offsets), Some(&key), Some(&value.encode()));
        assert_eq!(found["type"], "group_metadata");
        assert_eq!(found["value"]["members"][0]["subscribed_topics"], json!(["t"]));
        assert_eq!(found["value"]["members"][0]["assignment_hex"], "0102");
    }

    #[test]
    fn what_is_not_known_is_shown_as_it_is() {
        let found = decoded(Some(Schema::Offsets), Some(b"\0\x09x"), Some(b"v"));
        assert!(found["error"].as_str().expect("text").contains("version 9"), "{found}");
        assert_eq!((&found["key_hex"], &found["value_hex"]), (&json!("000978"), &json!("76")));
        let found = decoded(Some(Schema::Metadata), None, Some(b"{}"));
        assert!(found["error"].as_str().expect("text").contains("not a metadata record"), "{found}");
        assert!(decoded(Some(Schema::Metadata), None, None)["error"].is_string());
    }

    #[test]
    fn markers_are_told_by_how_the_transaction_ended() {
        let value = b"\0\0\0\0\0\x05";
        assert_eq!(decoded(None, Some(b"\0\0\0\0"), Some(value)), json!({ "type": "abort", "coordinator_epoch": 5 }));
        assert_eq!(
            decoded(None, Some(b"\0\0\0\x01"), Some(value)),
            json!({ "type": "commit", "coordinator_epoch": 5 })
        );
        assert_eq!(decoded(None, Some(b"\0\0\0\x02"), None)["type"], 2);
        assert!(decoded(None, None, None)["error"].is_string());
    }
}
