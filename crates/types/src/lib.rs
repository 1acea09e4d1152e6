//! What are things called?
//!
//! Owns the names that every other crate uses for the field's nouns: topics, partitions, offsets,
//! producers. It holds no logic beyond saying which values are names at all; what a name stands for
//! is the business of the crates above.
//!
//! Start with [`TopicName`] and [`TopicPartition`].

mod producer;
mod topic;

pub use producer::{
    CoordinatorEpoch, NO_COORDINATOR_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, ProducerEpoch, ProducerId,
};
pub use topic::{InvalidTopicName, TOPIC_NAME_LEN_MAX, TopicId, TopicName, TopicPartition};

/// The place of a record in a partition: the first is 0, and each record has the next number.
///
/// An alias and not a newtype: offsets are counted with, compared and subtracted on every path, and
/// the field calls nothing else of this type by the same word (a place in a file is a *position*).
pub type Offset = i64;

/// Which partition of a topic: 0 to the topic's number of partitions − 1.
pub type PartitionIndex = i32;

/// Milliseconds since 1970-01-01T00:00:00Z, as Kafka's records and Flink's watermarks count time.
pub type TimestampMs = i64;

/// Which leader's reign a batch was written in; it grows with each start of the node that is not clean.
pub type LeaderEpoch = i32;

/// This node's id, as clients see it in Metadata.
pub type NodeId = i32;
