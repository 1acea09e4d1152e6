//! What the metadata log holds.
//!
//! One JSON object a record, so that an operator can read the log with any consumer:
//! `{"version":1,"record":"topic_created",…}`. The version is the whole record's: it grows when a reader of the old
//! version could misread the new one; then [`MetadataRecord::decode`] learns to read both.

use std::collections::BTreeMap;

use millpond_types::{TopicId, TopicName};
use serde::{Deserialize, Serialize};

use crate::plan::BrokerScope;

/// The version that [`MetadataRecord::encode`] writes, and the only one so far.
pub const RECORD_VERSION: u32 = 1;

/// One change of the [`Image`](crate::Image).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum MetadataRecord {
    /// A topic is there from now on.
    TopicCreated(RecordedTopic),
    /// A topic is gone, with its configurations.
    TopicDeleted {
        /// Which topic.
        id: TopicId,
    },
    /// A topic has more partitions.
    PartitionsAdded {
        /// Which topic.
        id: TopicId,
        /// How many it has from now on.
        partition_count: i32,
    },
    /// A topic's overrides changed; what is not named stays.
    TopicConfigsChanged {
        /// Which topic.
        id: TopicId,
        /// The new value by name; `null` takes the override away.
        changes: BTreeMap<String, Option<String>>,
    },
    /// A topic was given to a stream, or set free.
    TopicOwnerChanged {
        /// Which topic.
        id: TopicId,
        /// The stream that alone may write to it from now on.
        owner: Option<String>,
    },
    /// The broker's configurations changed while running; what is not named stays.
    BrokerConfigsChanged {
        /// This node's own, or the defaults of all.
        scope: BrokerScope,
        /// The new value by name; `null` takes it away.
        changes: BTreeMap<String, Option<String>>,
    },
    /// All producer ids below this one may be in use.
    ProducerIdsAllocated {
        /// The first id that is free.
        next_producer_id: i64,
    },
}

/// A topic as it was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedTopic {
    /// Its id, never used before.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it starts with.
    pub partition_count: i32,
    /// Its overrides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, String>,
    /// The stream that alone may write to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether it belongs to the node itself.
    #[serde(default)]
    pub internal: bool,
}

/// Why bytes are not a record of the metadata log.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A newer (or broken) program wrote it.
    #[error(
        "metadata record of version {found}; this program knows version {RECORD_VERSION}: was the data folder used by a newer one?"
    )]
    UnknownVersion {
        /// The version it carries.
        found: u32,
    },
    /// It is not JSON, or not of the form that its version has.
    #[error("not a metadata record: {0}")]
    Malformed(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize)]
struct Envelope<'a> {
    version: u32,
    #[serde(flatten)]
    record: &'a MetadataRecord,
}

impl MetadataRecord {
    /// The record as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let envelope = Envelope { version: RECORD_VERSION, record: self };
        serde_json::to_vec(&envelope).expect("records hold only strings, numbers and maps with string keys")
    }

    /// Reads what [`encode`](MetadataRecord::encode) wrote.
    pub fn decode(bytes: &[u8]) -> Result<MetadataRecord, RecordError> {
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version != RECORD_VERSION {
            return Err(RecordError::UnknownVersion { found: version });
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(record: MetadataRecord, text: &str) {
        assert_eq!(String::from_utf8(record.encode()).unwrap(), text);
        assert_eq!(MetadataRecord::decode(text.as_bytes()).unwrap(), record);
    }

    #[test]
    fn records_keep_their_written_form() {
        let id = TopicId::from_uuid(uuid::Uuid::from_u128(1));
        check(
            MetadataRecord::TopicCreated(RecordedTopic {
                id,
                name: TopicName::new("flights").unwrap(),
                partition_count: 3,
                configs: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
                owner: Some("delays".to_owned()),
                internal: false,
            }),
            r#"{"version":1,"record":"topic_created","id":"AAAAAAAAAAAAAAAAAAAAAQ","name":"flights","partition_count":3,"configs":{"retention.ms":"-1"},"owner":"delays","internal":false}"#,
        );
        check(
            MetadataRecord::TopicDeleted { id },
            r#"{"version":1,"record":"topic_deleted","id":"AAAAAAAAAAAAAAAAAAAAAQ"}"#,
        );
        check(
            MetadataRecord::TopicConfigsChanged { id, changes: BTreeMap::from([("a".to_owned(), None)]) },
            r#"{"version":1,"record":"topic_configs_changed","id":"AAAAAAAAAAAAAAAAAAAAAQ","changes":{"a":null}}"#,
        );
        check(
            MetadataRecord::BrokerConfigsChanged {
                scope: BrokerScope::Default,
                changes: BTreeMap::from([("a".to_owned(), Some("b".to_owned()))]),
            },
            r#"{"version":1,"record":"broker_configs_changed","scope":"default","changes":{"a":"b"}}"#,
        );
        check(
            MetadataRecord::ProducerIdsAllocated { next_producer_id: 1000 },
            r#"{"version":1,"record":"producer_ids_allocated","next_producer_id":1000}"#,
        );
    }

    #[test]
    fn a_record_of_a_newer_program_is_named_as_such() {
        let error = MetadataRecord::decode(br#"{"version":7,"record":"moon_phase"}"#).unwrap_err();
        assert!(error.to_string().contains("version 7"), "{error}");
    }

    #[test]
    fn other_bytes_are_an_error() {
        for bytes in [&b""[..], b"null", b"{}", br#"{"version":1}"#, br#"{"version":1,"record":"x"}"#, &[0xff, 0]] {
            assert!(matches!(MetadataRecord::decode(bytes), Err(RecordError::Malformed(_))), "{bytes:?}");
        }
    }
}
