//! FetchRequest, decoded by hand: consumers send it all the time, and its tagged fields can be checked here.

use uuid::Uuid;

use crate::wire::{Malformed, Reader};

/// The first version with flexible fields (KIP-482).
pub(crate) const FLEXIBLE_FROM: i16 = 12;
/// The first version that names topics by id alone (KIP-516).
pub(crate) const TOPIC_IDS_FROM: i16 = 13;
/// The first version with fetch sessions (KIP-227).
pub(crate) const SESSIONS_FROM: i16 = 7;

/// A decoded request. What only followers send (replica ids, their epochs, high watermarks) is left out.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    /// Whether the client asked for records of decided transactions only.
    pub(crate) read_committed: bool,
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    /// The partitions to fetch from; in a session, those that are new or changed.
    pub(crate) partitions: Vec<Partition>,
    /// The partitions to drop from the session.
    pub(crate) forgotten: Vec<(TopicRef, i32)>,
}

/// A topic as the request names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TopicRef {
    Name(std::sync::Arc<str>),
    Id(Uuid),
}

/// What to fetch from one partition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Partition {
    pub(crate) topic: TopicRef,
    pub(crate) index: i32,
    pub(crate) fetch: Wanted,
}

/// From where and how much of a partition is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The epoch that the client believes in; −1: it does not say.
    pub(crate) current_leader_epoch: i32,
    pub(crate) fetch_offset: i64,
    /// The epoch of the last record that the client has; −1: it does not say.
    pub(crate) last_fetched_epoch: i32,
    pub(crate) bytes_max: i32,
}

/// The least bytes that a partition takes: index, offset and limit.
const PARTITION_BYTES_MIN: usize = 16;

/// Decodes the request that begins at `body` of `frame`.
pub(crate) fn decode(frame: &[u8], body: usize, version: i16) -> Result<Request, Malformed> {
    let mut reader = Reader::new(frame, body, version >= FLEXIBLE_FROM);
    if version <= 14 {
        reader.i32()?; // replica_id
    }
    let (max_wait_ms, min_bytes, max_bytes) = (reader.i32()?, reader.i32()?, reader.i32()?);
    let read_committed = reader.i8()? == 1;
    let (session_id, session_epoch) = match version >= SESSIONS_FROM {
        true => (reader.i32()?, reader.i32()?),
        false => (0, -1),
    };
    let partitions = partitions(&mut reader, version)?;
    let forgotten = match version >= SESSIONS_FROM {
        true => forgotten(&mut reader, version)?,
        false => Vec::new(),
    };
    if version >= 11 {
        reader.skip_string()?; // rack_id: there is one rack.
    }
    reader.skip_tags()?; // cluster_id, replica_state: followers send them.
    Ok(Request { max_wait_ms, min_bytes, max_bytes, read_committed, session_id, session_epoch, partitions, forgotten })
}

fn topic(reader: &mut Reader<'_>, version: i16) -> Result<TopicRef, Malformed> {
    match version >= TOPIC_IDS_FROM {
        true => reader.uuid().map(TopicRef::Id),
        false => Ok(TopicRef::Name(reader.string()?.unwrap_or_default().into())),
    }
}

fn partitions(reader: &mut Reader<'_>, version: i16) -> Result<Vec<Partition>, Malformed> {
    let mut partitions = Vec::new();
    for _ in 0..reader.array_len(2)? {
        let topic = topic(reader, version)?;
        let count = reader.array_len(PARTITION_BYTES_MIN)?;
        partitions.reserve(count);
        for _ in 0..count {
            let index = reader.i32()?;
            let current_leader_epoch = if version >= 9 { reader.i32()? } else { -1 };
            let fetch_offset = reader.i64()?;
            let last_fetched_epoch = if version >= 12 { reader.i32()? } else { -1 };
            if version >= 5 {
                reader.i64()?; // log_start_offset: followers send it.
            }
            let bytes_max = reader.i32()?;
            reader.skip_tags()?; // replica_directory_id, high_watermark: followers send them.
            let fetch = Wanted { current_leader_epoch, fetch_offset, last_fetched_epoch, bytes_max };
            partitions.push(Partition { topic: topic.clone(), index, fetch });
        }
        reader.skip_tags()?;
    }
    Ok(partitions)
}

fn forgotten(reader: &mut Reader<'_>, version: i16) -> Result<Vec<(TopicRef, i32)>, Malformed> {
    let mut forgotten = Vec::new();
    for _ in 0..reader.array_len(2)? {
        let topic = topic(reader, version)?;
        for _ in 0..reader.array_len(4)? {
            forgotten.push((topic.clone(), reader.i32()?));
        }
        reader.skip_tags()?;
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
    use kafka_protocol::messages::{FetchRequest, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    type Topics<T> = Vec<(String, u128, Vec<T>)>;

    fn topics<T: std::fmt::Debug>(each: impl Strategy<Value = T>) -> impl Strategy<Value = Topics<T>> {
        proptest::collection::vec(("[a-z]{1,9}", any::<u128>(), proptest::collection::vec(each, 0..4)), 0..4)
    }

    fn named(version: i16, name: &str, id: u128) -> (TopicName, Uuid, TopicRef) {
        let text = TopicName(StrBytes::from_string(name.to_owned()));
        match version >= 13 {
            true => (TopicName::default(), Uuid::from_u128(id), TopicRef::Id(Uuid::from_u128(id))),
            false => (text, Uuid::nil(), TopicRef::Name(name.into())),
        }
    }

    proptest! {
        #[test]
        fn decodes_what_the_generic_codec_encodes(
            version in 4..=18i16,
            head in any::<(i32, i32, i32, bool)>(),
            session in any::<(i32, i32)>(),
            fetched in topics(any::<(i32, i32, i64, i32, i32, u128)>()),
            forgotten in topics(any::<i32>()),
        ) {
            let (mut partitions, mut dropped) = (Vec::new(), Vec::new());
            let mut request = FetchRequest::default()
                .with_replica_id((-1).into())
                .with_max_wait_ms(head.0).with_min_bytes(head.1).with_max_bytes(head.2).with_isolation_level(head.3 as i8);
            if version >= 7 {
                request = request.with_session_id(session.0).with_session_epoch(session.1);
                request.forgotten_topics_data = forgotten.iter().map(|(name, id, indexes)| {
                    let (name, id, topic) = named(version, name, *id);
                    dropped.extend(indexes.iter().map(|index| (topic.clone(), *index)));
                    ForgottenTopic::default().with_topic(name).with_topic_id(id).with_partitions(indexes.clone())
                }).collect();
            }
            request.topics = fetched.iter().map(|(name, id, wanted)| {
                let (name, id, topic) = named(version, name, *id);
                let wanted = wanted.iter().map(|(index, epoch, offset, last_epoch, bytes_max, directory)| {
                    let mut theirs = FetchPartition::default().with_partition(*index).with_current_leader_epoch(*epoch)
                        .with_fetch_offset(*offset).with_partition_max_bytes(*bytes_max);
                    if version >= 12 {
                        theirs = theirs.with_last_fetched_epoch(*last_epoch);
                        theirs.unknown_tagged_fields.insert(9, Bytes::from_static(b"abc"));
                    }
                    if version >= 17 {
                        theirs = theirs.with_replica_directory_id(Uuid::from_u128(*directory));
                    }
                    partitions.push(Partition { topic: topic.clone(), index: *index, fetch: Wanted {
                        current_leader_epoch: if version >= 9 { *epoch } else { -1 },
                        fetch_offset: *offset,
                        last_fetched_epoch: if version >= 12 { *last_epoch } else { -1 },
                        bytes_max: *bytes_max,
                    } });
                    theirs
                }).collect();
                FetchTopic::default().with_topic(name).with_topic_id(id).with_partitions(wanted)
            }).collect();
            if version >= 11 {
                request.rack_id = StrBytes::from_static_str("rack");
            }
            let mut frame = BytesMut::new();
            request.encode(&mut frame, version).unwrap();
            for end in 0..frame.len() {
                let _ = decode(&frame[..end], 0, version);
            }
            let ours = decode(&frame, 0, version).unwrap();
            prop_assert_eq!(ours, Request {
                max_wait_ms: head.0, min_bytes: head.1, max_bytes: head.2, read_committed: head.3,
                session_id: if version >= 7 { session.0 } else { 0 },
                session_epoch: if version >= 7 { session.1 } else { -1 },
                partitions, forgotten: dropped,
            });
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 4..=18i16) {
            let _ = decode(&bytes, 0, version);
        }
    }
}
