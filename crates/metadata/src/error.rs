//! Why a wish cannot be fulfilled.

use millpond_types::{InvalidTopicName, TopicId};

/// Why no records were planned. Each variant says what was asked, what is in the way and, where there is a way out,
/// which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// A topic of this name is there already.
    #[error("topic '{0}' already exists")]
    TopicExists(String),
    /// No topic has this name.
    #[error("there is no topic '{0}'")]
    UnknownTopic(String),
    /// No topic has this id.
    #[error("there is no topic with the id {0}")]
    UnknownTopicId(TopicId),
    /// The name is not a topic name.
    #[error(transparent)]
    InvalidTopic(#[from] InvalidTopicName),
    /// Two topics whose names differ only in '.' and '_' would share their metrics' names (Kafka's rule).
    #[error("topic '{name}' collides with topic '{existing}': '.' and '_' are one and the same in metric names")]
    NameCollision {
        /// The name asked for.
        name: String,
        /// The topic that is there.
        existing: String,
    },
    /// A number of partitions that cannot be.
    #[error("invalid number of partitions: {0}")]
    InvalidPartitions(String),
    /// A replication factor other than 1.
    #[error(
        "invalid replication factor {0}: this is a single node, so a partition has exactly 1 replica (or -1, the default)"
    )]
    InvalidReplicationFactor(i16),
    /// An assignment that does not put every partition on this node alone.
    #[error("invalid replica assignment: {0}")]
    InvalidReplicaAssignment(String),
    /// A configuration that does not exist, or a value that it cannot have.
    #[error("invalid config '{name}': {reason}")]
    InvalidConfig {
        /// The configuration's name as it was given.
        name: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The request contradicts itself.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// Topics cannot be deleted: `delete.topic.enable` is false.
    #[error("topics cannot be deleted here: delete.topic.enable is false")]
    TopicDeletionDisabled,
    /// The topic belongs to the node itself.
    #[error("the topic '{0}' is the node's own: clients cannot change, trim or delete it")]
    InternalTopic(String),
    /// The topic belongs to a stream, which alone may change it.
    #[error("topic '{topic}' belongs to the stream '{stream}'; drop the stream first")]
    OwnedByStream {
        /// The topic.
        topic: String,
        /// Its stream.
        stream: String,
    },
    /// The node holds as many partitions as it may.
    #[error(
        "the node would hold {wanted} partitions, more than {max} (millpond.partitions.max, or a sixth of the files it may have open)"
    )]
    TooManyPartitions {
        /// How many there would be.
        wanted: u64,
        /// The bound.
        max: u64,
    },
}

impl MetadataError {
    pub(crate) fn config(name: &str, reason: impl Into<String>) -> MetadataError {
        MetadataError::InvalidConfig { name: name.to_owned(), reason: reason.into() }
    }
}
