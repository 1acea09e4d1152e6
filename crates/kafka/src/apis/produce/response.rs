//! ProduceResponse, encoded by hand into the connection's own buffer.

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use super::request::{FLEXIBLE_FROM, TOPIC_IDS_FROM};
use crate::error_code::ErrorCode;
use crate::wire::{put_len, put_no_tags, put_nullable_string, put_string};

/// The answer to a Produce request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) topics: Vec<Topic>,
}

/// The answers for one topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Partition>,
}

/// The answer for one partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    pub(crate) error: ErrorCode,
    /// The offset of the first record; −1 on errors.
    pub(crate) base_offset: i64,
    /// −1 unless the topic's records carry the time of their arrival.
    pub(crate) log_append_time_ms: i64,
    /// −1 on errors.
    pub(crate) log_start_offset: i64,
    /// Which records of the batch were wrong, and why (v8+).
    pub(crate) record_errors: Vec<(i32, String)>,
    /// What was wrong with the batch (v8+).
    pub(crate) message: Option<String>,
}

impl Partition {
    /// The answer for a partition whose records were not taken.
    pub(crate) fn refused(index: i32, error: ErrorCode, message: Option<String>) -> Partition {
        let (base_offset, log_append_time_ms, log_start_offset) = (-1, -1, -1);
        Partition { index, error, base_offset, log_append_time_ms, log_start_offset, record_errors: vec![], message }
    }
}

impl Response {
    /// Writes the response's body. No throttling, no other leaders.
    pub(crate) fn encode(&self, out: &mut BytesMut, version: i16) {
        let flexible = version >= FLEXIBLE_FROM;
        put_len(out, flexible, self.topics.len());
        for topic in &self.topics {
            match version >= TOPIC_IDS_FROM {
                true => out.put_u128(topic.id.as_u128()),
                false => put_string(out, flexible, &topic.name),
            }
            put_len(out, flexible, topic.partitions.len());
            for partition in &topic.partitions {
                partition.encode(out, version);
            }
            put_no_tags(out, flexible);
        }
        if version >= 1 {
            out.put_i32(0); // throttle_time_ms
        }
        put_no_tags(out, flexible);
    }
}

impl Partition {
    fn encode(&self, out: &mut BytesMut, version: i16) {
        let flexible = version >= FLEXIBLE_FROM;
        out.put_i32(self.index);
        out.put_i16(self.error.code());
        out.put_i64(self.base_offset);
        if version >= 2 {
            out.put_i64(self.log_append_time_ms);
        }
        if version >= 5 {
            out.put_i64(self.log_start_offset);
        }
        if version >= 8 {
            put_len(out, flexible, self.record_errors.len());
            for (index, message) in &self.record_errors {
                out.put_i32(*index);
                put_string(out, flexible, short(message));
                put_no_tags(out, flexible);
            }
            put_nullable_string(out, flexible, self.message.as_deref().map(short));
        }
        put_no_tags(out, flexible);
    }
}

/// At most as much of a message as a string of the older versions can hold.
fn short(message: &str) -> &str {
    let mut end = message.len().min(i16::MAX as usize);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ProduceResponse;
    use kafka_protocol::protocol::Decodable;
    use proptest::prelude::*;

    use super::*;

    fn partition() -> impl Strategy<Value = Partition> {
        let record_errors = proptest::collection::vec((any::<i32>(), ".{0,9}"), 0..3);
        let offsets = (any::<i64>(), any::<i64>(), any::<i64>());
        (any::<i32>(), any::<bool>(), offsets, record_errors, proptest::option::of(".{0,200}")).prop_map(
            |(index, wrong, (base_offset, log_append_time_ms, log_start_offset), record_errors, message)| Partition {
                index,
                error: if wrong { ErrorCode::InvalidRecord } else { ErrorCode::None },
                base_offset,
                log_append_time_ms,
                log_start_offset,
                record_errors,
                message,
            },
        )
    }

    proptest! {
        #[test]
        fn the_generic_codec_reads_what_is_written(
            version in 3..=13i16,
            topics in proptest::collection::vec(("[a-z]{1,9}", any::<u128>(), proptest::collection::vec(partition(), 0..3)), 0..3),
        ) {
            let topics = topics.into_iter()
                .map(|(name, id, partitions)| Topic { name, id: Uuid::from_u128(id), partitions }).collect();
            let ours = Response { topics };
            let mut out = BytesMut::new();
            ours.encode(&mut out, version);
            let mut bytes = out.freeze();
            let theirs = ProduceResponse::decode(&mut bytes, version).unwrap();
            prop_assert!(bytes.is_empty());
            prop_assert_eq!(theirs.responses.len(), ours.topics.len());
            for (theirs, ours) in theirs.responses.iter().zip(&ours.topics) {
                if version >= 13 {
                    prop_assert_eq!(theirs.topic_id, ours.id);
                } else {
                    prop_assert_eq!(theirs.name.as_str(), ours.name.as_str());
                }
                prop_assert_eq!(theirs.partition_responses.len(), ours.partitions.len());
                for (theirs, ours) in theirs.partition_responses.iter().zip(&ours.partitions) {
                    prop_assert_eq!(theirs.index, ours.index);
                    prop_assert_eq!(theirs.error_code, ours.error.code());
                    prop_assert_eq!(theirs.base_offset, ours.base_offset);
                    prop_assert_eq!(theirs.log_append_time_ms, ours.log_append_time_ms);
                    if version >= 5 {
                        prop_assert_eq!(theirs.log_start_offset, ours.log_start_offset);
                    }
                    if version >= 8 {
                        prop_assert_eq!(theirs.error_message.as_deref(), ours.message.as_deref());
                        let errors: Vec<_> = theirs.record_errors.iter()
                            .map(|e| (e.batch_index, e.batch_index_error_message.as_deref().unwrap().to_owned())).collect();
                        prop_assert_eq!(&errors, &ours.record_errors);
                    }
                }
            }
        }
    }
}
