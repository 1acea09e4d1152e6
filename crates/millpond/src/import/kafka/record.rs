//! One record of the metadata log.
//!
//! ```text
//! frame version (unsigned varint) = 1 | type (unsigned varint) | version (unsigned varint) | fields | tagged fields
//! ```
//!
//! Types that change nothing here are passed over, whatever their version. Of the others a version that is not known is an error:
//! what it says might be misread.

use super::fields::{FieldError, Fields};

const FRAME_VERSION: u32 = 1;

/// Whom a quota is for: types and names, a name being none for the default.
pub(crate) type QuotaEntity = Vec<(String, Option<String>)>;

/// What a record says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Topic {
        name: String,
        id: u128,
    },
    Partition {
        topic_id: u128,
        partition: i32,
        replicas: Vec<i32>,
        leader_epoch: i32,
    },
    /// `replicas`: none if they stay; `new_leader`: the leader changes, and its epoch grows by one.
    PartitionChange {
        topic_id: u128,
        partition: i32,
        replicas: Option<Vec<i32>>,
        new_leader: bool,
    },
    RemoveTopic {
        id: u128,
    },
    /// No value: it is taken away.
    Config {
        resource_type: i8,
        resource: String,
        name: String,
        value: Option<String>,
    },
    ProducerIds {
        next_producer_id: i64,
    },
    BeginTransaction,
    EndTransaction,
    AbortTransaction,
    AccessControlEntry {
        id: u128,
    },
    RemoveAccessControlEntry {
        id: u128,
    },
    ScramUser {
        name: String,
        mechanism: i8,
    },
    RemoveScramUser {
        name: String,
        mechanism: i8,
    },
    /// `removed`: it is taken away.
    ClientQuota {
        entity: QuotaEntity,
        key: String,
        removed: bool,
    },
    DelegationToken {
        id: String,
    },
    RemoveDelegationToken {
        id: String,
    },
    /// Something that does not matter here.
    Other,
}

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("it is no record of Kafka's metadata: its frame has version {0}, and only {FRAME_VERSION} is known")]
    Frame(u32),
    #[error(
        "its type is {name} in version {found}, and versions up to {known} are known: a newer Kafka wrote it. Use a newer \
         Millpond, if there is one that reads it"
    )]
    Version { name: &'static str, found: u32, known: u32 },
    #[error("{source} (type {name})")]
    Field { name: &'static str, source: FieldError },
    #[error("{bytes} bytes follow its last field (type {name})")]
    TooLong { name: &'static str, bytes: usize },
}

/// How the fields of a type are read.
type Read = fn(&mut Fields<'_>, u32) -> Result<Record, FieldError>;

/// By type: its name in Kafka, the newest version that is known, and how it is read.
const TYPES: &[(u32, &str, u32, Read)] = &[
    (2, "TopicRecord", 0, topic),
    (3, "PartitionRecord", 2, partition),
    (4, "ConfigRecord", 0, config),
    (5, "PartitionChangeRecord", 2, partition_change),
    (9, "RemoveTopicRecord", 0, |fields, _| Ok(Record::RemoveTopic { id: ended(fields.uuid("TopicId")?, fields)? })),
    (10, "DelegationTokenRecord", 0, delegation_token),
    (11, "UserScramCredentialRecord", 0, scram_user),
    (14, "ClientQuotaRecord", 0, client_quota),
    (15, "ProducerIdsRecord", 0, producer_ids),
    (18, "AccessControlEntryRecord", 0, access_control_entry),
    (19, "RemoveAccessControlEntryRecord", 0, |fields, _| {
        Ok(Record::RemoveAccessControlEntry { id: ended(fields.uuid("Id")?, fields)? })
    }),
    (22, "RemoveUserScramCredentialRecord", 0, |fields, _| {
        let (name, mechanism) = (fields.string("Name")?.to_owned(), fields.int8("Mechanism")?);
        Ok(Record::RemoveScramUser { name, mechanism: ended(mechanism, fields)? })
    }),
    (23, "BeginTransactionRecord", 0, |fields, _| ended(Record::BeginTransaction, fields)),
    (24, "EndTransactionRecord", 0, |fields, _| ended(Record::EndTransaction, fields)),
    (25, "AbortTransactionRecord", 0, |fields, _| ended(Record::AbortTransaction, fields)),
    (26, "RemoveDelegationTokenRecord", 0, |fields, _| {
        Ok(Record::RemoveDelegationToken { id: ended(fields.string("TokenId")?.to_owned(), fields)? })
    }),
];

impl Record {
    /// Reads the value of a record.
    pub(super) fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
        let mut fields = Fields::new(bytes);
        let framed = |source| RecordError::Field { name: "unknown", source };
        let frame = fields.unsigned_varint("frame version").map_err(framed)?;
        if frame != FRAME_VERSION {
            return Err(RecordError::Frame(frame));
        }
        let kind = fields.unsigned_varint("type").map_err(framed)?;
        let version = fields.unsigned_varint("version").map_err(framed)?;
        let Some((_, name, known, read)) = TYPES.iter().find(|(known, ..)| *known == kind) else {
            return Ok(Record::Other);
        };
        if version > *known {
            return Err(RecordError::Version { name, found: version, known: *known });
        }
        let record = read(&mut fields, version).map_err(|source| RecordError::Field { name, source })?;
        match fields.rest() {
            0 => Ok(record),
            bytes => Err(RecordError::TooLong { name, bytes }),
        }
    }
}

/// What was read, after a look at the tagged fields that end it.
fn ended<T>(read: T, fields: &mut Fields<'_>) -> Result<T, FieldError> {
    fields.skip_tagged()?;
    Ok(read)
}

fn topic(fields: &mut Fields<'_>, _version: u32) -> Result<Record, FieldError> {
    let name = fields.string("Name")?.to_owned();
    let id = fields.uuid("TopicId")?;
    ended(Record::Topic { name, id }, fields)
}

fn partition(fields: &mut Fields<'_>, version: u32) -> Result<Record, FieldError> {
    let partition = fields.int32("PartitionId")?;
    let topic_id = fields.uuid("TopicId")?;
    let replicas = fields.int32s("Replicas")?;
    for name in ["Isr", "RemovingReplicas", "AddingReplicas"] {
        fields.int32s(name)?;
    }
    fields.int32("Leader")?;
    let leader_epoch = fields.int32("LeaderEpoch")?;
    fields.int32("PartitionEpoch")?;
    if version >= 1 {
        fields.uuids("Directories")?;
    }
    ended(Record::Partition { topic_id, partition, replicas, leader_epoch }, fields)
}

fn partition_change(fields: &mut Fields<'_>, _version: u32) -> Result<Record, FieldError> {
    const LEADER: u32 = 1;
    const REPLICAS: u32 = 2;
    const LEADER_STAYS: i32 = -2;
    let partition = fields.int32("PartitionId")?;
    let topic_id = fields.uuid("TopicId")?;
    let (mut replicas, mut new_leader) = (None, false);
    fields.tagged(|tag, mut field| {
        match tag {
            LEADER => new_leader = field.int32("Leader")? != LEADER_STAYS,
            REPLICAS => replicas = Some(field.int32s("Replicas")?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(Record::PartitionChange { topic_id, partition, replicas, new_leader })
}

fn config(fields: &mut Fields<'_>, _version: u32) -> Result<Record, FieldError> {
    let resource_type = fields.int8("ResourceType")?;
    let resource = fields.string("ResourceName")?.to_owned();
    let name = fields.string("Name")?.to_owned();
    let value = fields.nullable_string("Value")?.map(str::to_owned);
    ended(Record::Config { resource_type, resource, name, value }, fields)
}

fn producer_ids(fields: &mut Fields<'_>, _version: u32) -> Result<Record, FieldError> {
    fields.int32("BrokerId")?;
    fields.int64("BrokerEpoch")?;
    let next_producer_id = fields.int64("NextProducerId")?;
    ended(Record::ProducerIds { next_producer_id }, fields)
}

fn access_control_entry(fields: &mut Fields<'_>, _version: u32) -> Result<Record, FieldError> {
    let id = fields.uuid("Id")?;
    fields.int8("ResourceType")?;
    fields.string("ResourceName")?;
    fields.int8("PatternType")?;
    fields.string("Principal")?;
    fields.string("Host")?;
    fields.int8("Operation")?;
    fields.int8("PermissionType")?;
    ended(Record::AccessControlEntry { id }, fields)
}

fn scram_user(fields: &mut Fields<'_>, _version: u32) -> Result<Record, FieldError> {
    let name = fields.string("Name")?.to_owned();
    let mechanism = fields.int8("Mechanism")?;
    for name in ["Salt", "StoredKey", "ServerKey"] {
        fields.elements(name, |fields| fields.int8(name))?;
    }
    fields.int32("Iterations")?;
    ended(Record::ScramUser { name, mechanism }, fields)
}

fn client_quota(fields: &mut Fields<'_>, _version: u32) -> Result<Record, FieldError> {
    let entity = fields.elements("Entity", |fields| {
        let kind = fields.string("EntityType")?.to_owned();
        let name = fields.nullable_string("EntityName")?.map(str::to_owned);
        ended((kind, name), fields)
    })?;
    let key = fields.string("Key")?.to_owned();
    fields.int64("Value")?; // a floating point number of as many bits
    let removed = fields.boolean("Remove")?;
    ended(Record::ClientQuota { entity, key, removed }, fields)
}

fn delegation_token(fields: &mut Fields<'_>, _version: u32) -> Result<Record, FieldError> {
    fields.string("Owner")?;
    fields.string("Requester")?;
    fields.elements("Renewers", |fields| fields.string("Renewers").map(drop))?;
    for name in ["IssueTimestamp", "MaxTimestamp", "ExpirationTimestamp"] {
        fields.int64(name)?;
    }
    let id = fields.string("TokenId")?.to_owned();
    ended(Record::DelegationToken { id }, fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

    fn decode(parts: &[&[u8]]) -> Result<Record, RecordError> {
        Record::decode(&parts.concat())
    }

    #[test]
    fn topics_and_partitions() {
        let topic = decode(&[&[1, 2, 0], b"\x05pond", &ID, &[0]]);
        assert_eq!(topic, Ok(Record::Topic { name: "pond".to_owned(), id: 9 }));
        assert_eq!(decode(&[&[1, 9, 0], &ID, &[0]]), Ok(Record::RemoveTopic { id: 9 }));

        let fields: &[u8] = b"\x03\0\0\0\x01\0\0\0\x02\x02\0\0\0\x01\x01\x01\0\0\0\x01\0\0\0\x07\0\0\0\x08";
        let expected = Record::Partition { topic_id: 9, partition: 4, replicas: vec![1, 2], leader_epoch: 7 };
        assert_eq!(decode(&[&[1, 3, 0, 0, 0, 0, 4], &ID, fields, &[0]]), Ok(expected.clone()));
        // With folders, and with the replicas of KIP-966 as tagged fields.
        let later: &[u8] = &[&[2][..], &ID, &[1, 1, 5, 2, 0, 0, 0, 3]].concat();
        assert_eq!(decode(&[&[1, 3, 2, 0, 0, 0, 4], &ID, fields, later]), Ok(expected));
    }

    #[test]
    fn a_partitions_leader_and_replicas_change() {
        let changed = |tagged: &[u8]| decode(&[&[1, 5, 2, 0, 0, 0, 4], &ID, tagged]);
        let change =
            |replicas, new_leader| Ok(Record::PartitionChange { topic_id: 9, partition: 4, replicas, new_leader });
        assert_eq!(changed(b"\0"), change(None, false));
        assert_eq!(changed(b"\x01\x00\x05\x02\0\0\0\x01"), change(None, false), "the replicas in sync");
        assert_eq!(changed(b"\x01\x01\x04\0\0\0\x01"), change(None, true));
        assert_eq!(changed(b"\x01\x01\x04\xff\xff\xff\xff"), change(None, true), "no leader is a change");
        assert_eq!(changed(b"\x01\x01\x04\xff\xff\xff\xfe"), change(None, false));
        assert_eq!(changed(b"\x01\x02\x05\x02\0\0\0\x03"), change(Some(vec![3]), false));
    }

    #[test]
    fn configurations_producer_ids_and_transactions() {
        let config = |value: &[u8]| decode(&[&[1, 4, 0, 2], b"\x05pond", b"\x0dretention.ms", value, &[0]]);
        let expected = |value: Option<&str>| {
            let (resource, name) = ("pond".to_owned(), "retention.ms".to_owned());
            Ok(Record::Config { resource_type: 2, resource, name, value: value.map(str::to_owned) })
        };
        assert_eq!(config(b"\x03-1"), expected(Some("-1")));
        assert_eq!(config(b"\x00"), expected(None));
        let ids = decode(&[&[1, 15, 0, 0, 0, 0, 1], &[0; 8], &[0, 0, 0, 0, 0, 0, 0x0b, 0xb8], &[0]]);
        assert_eq!(ids, Ok(Record::ProducerIds { next_producer_id: 3000 }));
        assert_eq!(decode(&[&[1, 23, 0, 1, 0, 4], b"\x04abc"]), Ok(Record::BeginTransaction));
        assert_eq!(decode(&[&[1, 24, 0, 0]]), Ok(Record::EndTransaction));
        assert_eq!(decode(&[&[1, 25, 0, 0]]), Ok(Record::AbortTransaction));
    }

    #[test]
    fn what_is_left_out_is_known_by_its_name() {
        let acl = decode(&[&[1, 18, 0], &ID, &[2], b"\x02t", &[3], b"\x08User:al", b"\x02*", &[3, 3, 0]]);
        assert_eq!(acl, Ok(Record::AccessControlEntry { id: 9 }));
        assert_eq!(decode(&[&[1, 19, 0], &ID, &[0]]), Ok(Record::RemoveAccessControlEntry { id: 9 }));
        let user = decode(&[&[1, 11, 0], b"\x03al", &[1], b"\x03sa", b"\x02k", b"\x02k", &[0, 0, 16, 0, 0]]);
        assert_eq!(user, Ok(Record::ScramUser { name: "al".to_owned(), mechanism: 1 }));
        let user = Record::RemoveScramUser { name: "al".to_owned(), mechanism: 1 };
        assert_eq!(decode(&[&[1, 22, 0], b"\x03al", &[1, 0]]), Ok(user));
        let quota = decode(&[&[1, 14, 0, 2], b"\x05user", b"\x00", &[0], b"\x05rate", &[0; 8], &[0, 0]]);
        let entity = vec![("user".to_owned(), None)];
        assert_eq!(quota, Ok(Record::ClientQuota { entity, key: "rate".to_owned(), removed: false }));
        let token = decode(&[&[1, 10, 0], b"\x02o", b"\x02r", b"\x02\x02n", &[0; 24], b"\x02i", &[0]]);
        assert_eq!(token, Ok(Record::DelegationToken { id: "i".to_owned() }));
        let token = Record::RemoveDelegationToken { id: "i".to_owned() };
        assert_eq!(decode(&[&[1, 26, 0], b"\x02i", &[0]]), Ok(token));
    }

    #[test]
    fn what_cannot_be_read_says_why_and_what_does_not_matter_is_passed_over() {
        assert_eq!(decode(&[&[1, 27, 99], b"anything"]), Ok(Record::Other));
        assert_eq!(decode(&[&[1, 0, 4], b"a broker"]), Ok(Record::Other));
        assert_eq!(decode(&[b"garbage"]), Err(RecordError::Frame(103)));
        let newer = decode(&[&[1, 2, 1], b"\x05pond", &ID, &[0]]);
        assert_eq!(newer, Err(RecordError::Version { name: "TopicRecord", found: 1, known: 0 }));
        assert!(newer.unwrap_err().to_string().contains("a newer Kafka wrote it"));
        for cut in 0..20 {
            let whole = [&[1, 2, 0][..], b"\x05pond", &ID, &[0]].concat();
            assert!(matches!(Record::decode(&whole[..cut]), Err(RecordError::Field { .. })), "{cut}");
        }
        assert!(matches!(Record::decode(b""), Err(RecordError::Field { .. })));
        let longer = decode(&[&[1, 24, 0, 0, 0]]);
        assert_eq!(longer, Err(RecordError::TooLong { name: "EndTransactionRecord", bytes: 1 }));
    }
}
