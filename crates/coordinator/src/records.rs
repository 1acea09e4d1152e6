//! The records of `__consumer_offsets`, byte for byte as Kafka writes them.
//!
//! ```text
//! key    OffsetCommitKey    i16 version (0, 1: the same) | string group | string topic | i32 partition
//!        GroupMetadataKey   i16 version (2)              | string group
//! value  OffsetCommitValue  i16 version (0-4) | i64 offset | i32 leader epoch (3+) | string metadata
//!                           | i64 commit timestamp | i64 expire timestamp (1 only) | tagged fields (4)
//!        GroupMetadataValue i16 version (0-4) | string protocol type | i32 generation | string? protocol
//!                           | string? leader | i64 since when in this state (2+) | members | tagged fields (4)
//! member string id | string? group instance id (3+) | string client id | string client host
//!                           | i32 rebalance timeout (1+) | i32 session timeout | bytes subscription
//!                           | bytes assignment | tagged fields (4)
//! ```
//!
//! Numbers are big endian. A string is its length (i16, −1 for null) and UTF-8, bytes and lists begin with an i32; in
//! version 4 all three begin with an unsigned varint of the length + 1 (0 for null). No value (a tombstone) deletes.
//! We write version 3, or 1 for an offset with its own expiry, as Kafka does.

use bytes::Bytes;

mod codec;

use codec::Writer;
pub(crate) use codec::{Reader, STRING_BYTES_MAX};

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const OFFSET_VALUE_VERSION: i16 = 3;
const OFFSET_VALUE_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE_VERSION: i16 = 3;
/// The newest version that we read, and the first flexible one.
const FLEXIBLE_VERSION: i16 = 4;

/// A record for `__consumer_offsets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetsRecord {
    /// The group it is about; decides the partition, see [`partition_for`].
    pub group: String,
    /// The record's key.
    pub key: Vec<u8>,
    /// The record's value, `None` for a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Why bytes are not a record of `__consumer_offsets` that we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A newer broker, or another kind of group, wrote it.
    #[error("{what} of version {version} is not known here")]
    UnknownVersion {
        /// What it is.
        what: &'static str,
        /// Its version.
        version: i16,
    },
    /// It ends too early.
    #[error("{wanted} bytes are wanted at position {position}, but only {left} are left")]
    Truncated {
        /// Where in the key or value.
        position: usize,
        /// How many bytes are needed.
        wanted: usize,
        /// How many there are.
        left: usize,
    },
    /// It contradicts its own form.
    #[error("{what} at position {position}")]
    Malformed {
        /// Where in the key or value.
        position: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// The key of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OffsetsKey {
    /// A committed offset.
    Offset {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A group and its members.
    Group {
        /// The group.
        group: String,
    },
}

/// The value of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OffsetsValue {
    /// A committed offset.
    Offset(OffsetValue),
    /// A group and its members.
    Group(GroupValue),
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetValue {
    /// The offset of the record to read next.
    pub offset: i64,
    /// The leader epoch of the last record read, −1 if unknown.
    pub leader_epoch: i32,
    /// Whatever the client keeps with it.
    pub metadata: String,
    /// When it was committed.
    pub commit_timestamp_ms: i64,
    /// When it goes, if its client said so (OffsetCommit v2 to v4).
    pub expire_timestamp_ms: Option<i64>,
}

/// A group in one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupValue {
    /// The protocol type.
    pub protocol_type: String,
    /// The generation.
    pub generation_id: i32,
    /// The elected protocol.
    pub protocol_name: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// Since when the group is in its state.
    pub state_since_ms: Option<i64>,
    /// The members.
    pub members: Vec<MemberValue>,
}

/// A member in one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    /// Its id.
    pub member_id: String,
    /// Its name across restarts.
    pub group_instance_id: Option<String>,
    /// Its client's id.
    pub client_id: String,
    /// Its client's address.
    pub client_host: String,
    /// How long a rebalance waits for it; −1 if the record does not say.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// Its metadata for the elected protocol.
    pub subscription: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

impl OffsetsRecord {
    /// The record of a committed offset; without a value its tombstone.
    pub(crate) fn offset(group: &str, topic: &str, partition: i32, value: Option<&OffsetValue>) -> OffsetsRecord {
        let key = offset_key(group, topic, partition);
        OffsetsRecord { group: group.to_owned(), key, value: value.map(OffsetValue::encode) }
    }

    /// The record of a group; without a value its tombstone.
    pub(crate) fn group(group: &str, value: Option<&GroupValue>) -> OffsetsRecord {
        OffsetsRecord { group: group.to_owned(), key: group_key(group), value: value.map(GroupValue::encode) }
    }
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.i16(OFFSET_KEY_VERSION);
    writer.string(group);
    writer.string(topic);
    writer.i32(partition);
    writer.finish()
}

fn group_key(group: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.i16(GROUP_KEY_VERSION);
    writer.string(group);
    writer.finish()
}

impl OffsetsKey {
    /// The key's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            OffsetsKey::Offset { group, topic, partition } => offset_key(group, topic, *partition),
            OffsetsKey::Group { group } => group_key(group),
        }
    }

    /// Reads a key.
    pub fn decode(bytes: &[u8]) -> Result<OffsetsKey, RecordError> {
        let mut reader = Reader::new(bytes);
        let key = match reader.i16()? {
            0 | OFFSET_KEY_VERSION => {
                OffsetsKey::Offset { group: reader.string()?, topic: reader.string()?, partition: reader.i32()? }
            }
            GROUP_KEY_VERSION => OffsetsKey::Group { group: reader.string()? },
            version => return Err(RecordError::UnknownVersion { what: "a record key", version }),
        };
        reader.finish()?;
        Ok(key)
    }
}

impl OffsetsValue {
    /// Reads the value that belongs to `key`.
    pub fn decode(key: &OffsetsKey, bytes: &[u8]) -> Result<OffsetsValue, RecordError> {
        match key {
            OffsetsKey::Offset { .. } => OffsetsValue::decode_offset(bytes).map(OffsetsValue::Offset),
            OffsetsKey::Group { .. } => OffsetsValue::decode_group(bytes).map(OffsetsValue::Group),
        }
    }

    pub(crate) fn decode_offset(bytes: &[u8]) -> Result<OffsetValue, RecordError> {
        let mut reader = Reader::new(bytes);
        let version = reader.version("an offset's value", FLEXIBLE_VERSION)?;
        let value = OffsetValue {
            offset: reader.i64()?,
            leader_epoch: if version >= 3 { reader.i32()? } else { -1 },
            metadata: reader.string()?,
            commit_timestamp_ms: reader.i64()?,
            expire_timestamp_ms: if version == 1 {
                Some(reader.i64()?).filter(|expire_ms| *expire_ms != -1)
            } else {
                None
            },
        };
        // The one tagged field so far is the topic's id (tag 0); the name in the key is what we go by.
        reader.tagged_fields()?;
        reader.finish()?;
        Ok(value)
    }

    pub(crate) fn decode_group(bytes: &[u8]) -> Result<GroupValue, RecordError> {
        let mut reader = Reader::new(bytes);
        let version = reader.version("a group's value", FLEXIBLE_VERSION)?;
        let value = GroupValue {
            protocol_type: reader.string()?,
            generation_id: reader.i32()?,
            protocol_name: reader.nullable_string()?,
            leader: reader.nullable_string()?,
            state_since_ms: if version >= 2 { Some(reader.i64()?).filter(|since_ms| *since_ms != -1) } else { None },
            members: {
                let count = reader.list_len()?;
                (0..count).map(|_| MemberValue::decode(&mut reader, version)).collect::<Result<_, _>>()?
            },
        };
        reader.tagged_fields()?;
        reader.finish()?;
        Ok(value)
    }
}

impl OffsetValue {
    /// The value's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self.expire_timestamp_ms {
            None => {
                writer.i16(OFFSET_VALUE_VERSION);
                writer.i64(self.offset);
                writer.i32(self.leader_epoch);
                writer.string(&self.metadata);
                writer.i64(self.commit_timestamp_ms);
            }
            Some(expire_timestamp_ms) => {
                writer.i16(OFFSET_VALUE_VERSION_WITH_EXPIRY);
                writer.i64(self.offset);
                writer.string(&self.metadata);
                writer.i64(self.commit_timestamp_ms);
                writer.i64(expire_timestamp_ms);
            }
        }
        writer.finish()
    }
}

impl GroupValue {
    /// The value's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.i16(GROUP_VALUE_VERSION);
        writer.string(&self.protocol_type);
        writer.i32(self.generation_id);
        writer.nullable_string(self.protocol_name.as_deref());
        writer.nullable_string(self.leader.as_deref());
        writer.i64(self.state_since_ms.unwrap_or(-1));
        writer.i32(i32::try_from(self.members.len()).expect("a group has fewer than 2^31 members"));
        for member in &self.members {
            writer.string(&member.member_id);
            writer.nullable_string(member.group_instance_id.as_deref());
            writer.string(&member.client_id);
            writer.string(&member.client_host);
            writer.i32(member.rebalance_timeout_ms);
            writer.i32(member.session_timeout_ms);
            writer.bytes(&member.subscription);
            writer.bytes(&member.assignment);
        }
        writer.finish()
    }
}

impl MemberValue {
    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<MemberValue, RecordError> {
        let member = MemberValue {
            member_id: reader.string()?,
            group_instance_id: if version >= 3 { reader.nullable_string()? } else { None },
            client_id: reader.string()?,
            client_host: reader.string()?,
            rebalance_timeout_ms: if version >= 1 { reader.i32()? } else { -1 },
            session_timeout_ms: reader.i32()?,
            subscription: reader.bytes()?,
            assignment: reader.bytes()?,
        };
        reader.tagged_fields()?;
        Ok(member)
    }
}

/// The partition of `__consumer_offsets` that holds a group, as Kafka computes it: Java's `String.hashCode` without
/// its sign, modulo the number of partitions.
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    assert!(partitions > 0, "__consumer_offsets has at least one partition");
    let hash = group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX) % partitions
}

#[cfg(test)]
mod tests;
