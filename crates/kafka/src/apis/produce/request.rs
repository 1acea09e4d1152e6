//! ProduceRequest, decoded by hand: the records stay where the socket put them.

use bytes::{Buf, BytesMut};
use uuid::Uuid;

use crate::wire::{Malformed, Reader, Span};

/// The first version with flexible fields (KIP-482).
pub(crate) const FLEXIBLE_FROM: i16 = 9;
/// The first version that names topics by id alone (KIP-516).
pub(crate) const TOPIC_IDS_FROM: i16 = 13;
/// The first version with a transactional id (KIP-98). Those below are only ever refused.
pub(crate) const TRANSACTIONAL_FROM: i16 = 3;

/// A decoded request.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) transactional_id: Option<String>,
    pub(crate) acks: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) topics: Vec<Topic>,
}

/// What a request carries for one topic.
#[derive(Debug, PartialEq)]
pub(crate) struct Topic {
    /// Empty where the request names topics by id.
    pub(crate) name: String,
    /// Nil where the request names topics by name.
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Partition>,
}

/// What a request carries for one partition.
#[derive(Debug, PartialEq)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    /// The batches, to be stamped and stored as they are.
    pub(crate) records: Option<BytesMut>,
}

/// Decodes the request that begins at `body` of `frame`; `shared` says that the frame's memory holds other frames too.
///
/// Records that make up most of their memory are split off it without a copy. Others are copied: a piece keeps the
/// whole memory, and the log keeps pieces for long.
pub(crate) fn decode(mut frame: BytesMut, body: usize, shared: bool, version: i16) -> Result<Request, Malformed> {
    let (mut request, spans) = read(&frame, body, version)?;
    let mut removed = 0;
    let frame_len = frame.len();
    let slots = request.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for (partition, span) in slots.zip(spans) {
        let Some(span) = span else { continue };
        let records = if !shared && span.len() * 2 >= frame_len {
            frame.advance(span.start - removed);
            removed = span.end;
            frame.split_to(span.len())
        } else {
            BytesMut::from(&frame[span.start - removed..span.end - removed])
        };
        partition.records = Some(records);
    }
    Ok(request)
}

/// Reads everything but the records, and where those lie, partition by partition.
fn read(frame: &[u8], body: usize, version: i16) -> Result<(Request, Vec<Option<Span>>), Malformed> {
    let mut reader = Reader::new(frame, body, version >= FLEXIBLE_FROM);
    let transactional_id = match version >= TRANSACTIONAL_FROM {
        true => reader.string()?.map(str::to_owned),
        false => None,
    };
    let acks = reader.i16()?;
    let timeout_ms = reader.i32()?;
    // The least that a topic or a partition takes: its array's length, an index, the records' length.
    let topic_count = reader.array_len(2)?;
    let mut topics = Vec::with_capacity(topic_count.min(64));
    let mut spans = Vec::with_capacity(topic_count.min(64));
    for _ in 0..topic_count {
        let (name, id) = match version >= TOPIC_IDS_FROM {
            true => (String::new(), reader.uuid()?),
            false => (reader.string()?.unwrap_or_default().to_owned(), Uuid::nil()),
        };
        let partition_count = reader.array_len(5)?;
        let mut partitions = Vec::with_capacity(partition_count);
        for _ in 0..partition_count {
            let index = reader.i32()?;
            spans.push(reader.blob()?);
            reader.skip_tags()?;
            partitions.push(Partition { index, records: None });
        }
        reader.skip_tags()?;
        topics.push(Topic { name, id, partitions });
    }
    reader.skip_tags()?;
    Ok((Request { transactional_id, acks, timeout_ms, topics }, spans))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{ProduceRequest, TopicName, TransactionalId};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    /// Partitions by index, each with its records.
    type Partitions = Vec<(i32, Option<Vec<u8>>)>;

    fn topics() -> impl Strategy<Value = Vec<(String, u128, Partitions)>> {
        let records = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
        let partitions = proptest::collection::vec((any::<i32>(), records), 0..4);
        proptest::collection::vec(("[a-z]{0,20}", any::<u128>(), partitions), 0..4)
    }

    fn text(text: &str) -> StrBytes {
        StrBytes::from_string(text.to_owned())
    }

    proptest! {
        #[test]
        fn decodes_what_the_generic_codec_encodes(
            version in 3..=13i16, transactional in proptest::option::of("[a-z]{0,9}"), acks in -1..=1i16,
            timeout_ms: i32, topics in topics(), prefix in 0..20usize, tag in proptest::option::of(any::<[u8; 5]>()),
        ) {
            let mut theirs = ProduceRequest::default()
                .with_transactional_id(transactional.as_deref().map(|id| TransactionalId(text(id))))
                .with_acks(acks)
                .with_timeout_ms(timeout_ms)
                .with_topic_data(topics.iter().map(|(name, id, partitions)| {
                    let partitions = partitions.iter().map(|(index, records)| PartitionProduceData::default()
                        .with_index(*index).with_records(records.clone().map(Bytes::from))).collect();
                    let topic = TopicProduceData::default().with_partition_data(partitions);
                    if version >= 13 {
                        topic.with_topic_id(Uuid::from_u128(*id))
                    } else {
                        topic.with_name(TopicName(text(name)))
                    }
                }).collect());
            if let (Some(tag), true) = (tag, version >= 9) {
                theirs.unknown_tagged_fields.insert(7, Bytes::copy_from_slice(&tag));
            }
            let mut frame = BytesMut::zeroed(prefix);
            theirs.encode(&mut frame, version).unwrap();
            for end in 0..frame.len() {
                // A request that is cut anywhere is an error, never a panic.
                if end >= prefix {
                    let _ = decode(BytesMut::from(&frame[..end]), prefix, end % 2 == 0, version);
                }
            }
            let ours = decode(frame, prefix, prefix % 2 == 0, version).unwrap();
            prop_assert_eq!(ours.transactional_id, transactional);
            prop_assert_eq!((ours.acks, ours.timeout_ms), (acks, timeout_ms));
            let found: Vec<_> = ours.topics.into_iter().map(|topic| (topic.name, topic.id.as_u128(), topic.partitions
                .into_iter().map(|p| (p.index, p.records.map(|r| r.to_vec()))).collect::<Vec<_>>())).collect();
            let expected: Vec<_> = topics.into_iter().map(|(name, id, partitions)| match version >= 13 {
                true => (String::new(), id, partitions),
                false => (name, 0, partitions),
            }).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0..=13i16) {
            let _ = decode(BytesMut::from(&bytes[..]), 0, false, version);
        }
    }

    #[test]
    fn a_batch_that_fills_its_frame_is_not_copied() {
        let mut frame = BytesMut::with_capacity(20_000);
        let request = ProduceRequest::default().with_acks(1).with_topic_data(vec![
            TopicProduceData::default().with_name(TopicName(text("t"))).with_partition_data(vec![
                PartitionProduceData::default().with_records(Some(Bytes::from(vec![7; 19_000]))),
            ]),
        ]);
        request.encode(&mut frame, 9).unwrap();
        let place = frame.as_ptr() as usize;
        let decoded = decode(frame, 0, false, 9).unwrap();
        let records = decoded.topics[0].partitions[0].records.as_ref().unwrap();
        assert!((place..place + 200).contains(&(records.as_ptr() as usize)), "the records were copied");
    }
}
