//! Kafka's error codes: the only place where they are chosen.
//!
//! The crates below say what went wrong in their own words; here each becomes the code that clients act upon.
//! Codes and names are those of Kafka's `org.apache.kafka.common.protocol.Errors`.

use millpond_broker::{FetchError, ProduceError, TopicError, TrimError};
use millpond_coordinator::GroupError;
use millpond_log::AppendError;
use millpond_metadata::MetadataError;
use millpond_records::ProducedError;

/// The codes that this broker answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub(crate) enum ErrorCode {
    UnknownServerError = -1,
    None = 0,
    OffsetOutOfRange = 1,
    CorruptMessage = 2,
    UnknownTopicOrPartition = 3,
    NotLeaderOrFollower = 6,
    RequestTimedOut = 7,
    MessageTooLarge = 10,
    OffsetMetadataTooLarge = 12,
    CoordinatorNotAvailable = 15,
    InvalidTopic = 17,
    InvalidRequiredAcks = 21,
    IllegalGeneration = 22,
    InconsistentGroupProtocol = 23,
    InvalidGroupId = 24,
    UnknownMemberId = 25,
    InvalidSessionTimeout = 26,
    RebalanceInProgress = 27,
    InvalidTimestamp = 32,
    UnsupportedVersion = 35,
    TopicAlreadyExists = 36,
    InvalidPartitions = 37,
    InvalidReplicationFactor = 38,
    InvalidReplicaAssignment = 39,
    InvalidConfig = 40,
    InvalidRequest = 42,
    UnsupportedForMessageFormat = 43,
    PolicyViolation = 44,
    OutOfOrderSequenceNumber = 45,
    InvalidProducerEpoch = 47,
    InvalidTxnState = 48,
    TransactionCoordinatorFenced = 52,
    TransactionalIdAuthorizationFailed = 53,
    KafkaStorage = 56,
    NonEmptyGroup = 68,
    GroupIdNotFound = 69,
    FetchSessionIdNotFound = 70,
    InvalidFetchSessionEpoch = 71,
    TopicDeletionDisabled = 73,
    FencedLeaderEpoch = 74,
    UnknownLeaderEpoch = 75,
    MemberIdRequired = 79,
    GroupMaxSizeReached = 81,
    FencedInstanceId = 82,
    GroupSubscribedToTopic = 86,
    InvalidRecord = 87,
    UnknownTopicId = 100,
    FetchSessionTopicIdError = 106,
    MismatchedEndpointType = 114,
    UnsupportedEndpointType = 115,
    TransactionAbortable = 120,
}

impl ErrorCode {
    /// The number on the wire.
    pub(crate) fn code(self) -> i16 {
        self as i16
    }

    /// The code for a topic that was looked for and could not be made on the way.
    pub(crate) fn of_lookup(error: &TopicError) -> ErrorCode {
        match error {
            // The node makes its own topics when it needs them; until then there is none.
            TopicError::Reserved(_) => ErrorCode::UnknownTopicOrPartition,
            other => ErrorCode::from(other),
        }
    }

    /// The code of a group's answer.
    pub(crate) fn of_group(error: Option<GroupError>) -> ErrorCode {
        error.map_or(ErrorCode::None, ErrorCode::from)
    }
}

impl From<GroupError> for ErrorCode {
    fn from(error: GroupError) -> ErrorCode {
        match error {
            GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
            GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
            GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
            GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
            GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
            GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
            GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
            GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
            GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
            GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
            GroupError::PolicyViolation => ErrorCode::PolicyViolation,
            GroupError::InvalidRequest => ErrorCode::InvalidRequest,
            GroupError::UnknownServerError => ErrorCode::UnknownServerError,
        }
    }
}

impl From<&ProduceError> for ErrorCode {
    fn from(error: &ProduceError) -> ErrorCode {
        match error {
            ProduceError::Records(error) => match error {
                ProducedError::TooLarge { .. } => ErrorCode::MessageTooLarge,
                ProducedError::UnsupportedMagic(_) => ErrorCode::UnsupportedForMessageFormat,
                ProducedError::Corrupt(_) => ErrorCode::CorruptMessage,
                ProducedError::InvalidRecord { .. } => ErrorCode::InvalidRecord,
            },
            ProduceError::Log(error) => ErrorCode::from(error),
            ProduceError::OwnedByStream { .. } => ErrorCode::PolicyViolation,
            ProduceError::Refused { .. } => ErrorCode::InvalidRecord,
            // Kafka's own code for a client that writes to an internal topic.
            ProduceError::InternalTopic { .. } => ErrorCode::InvalidTopic,
            ProduceError::Poisoned { .. } | ProduceError::DiskFull(_) => ErrorCode::KafkaStorage,
            ProduceError::TimedOut { .. } => ErrorCode::RequestTimedOut,
            ProduceError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            ProduceError::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
            ProduceError::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
            // Retried by every client, against the node that comes back.
            ProduceError::Stopping => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl From<&AppendError> for ErrorCode {
    fn from(error: &AppendError) -> ErrorCode {
        match error {
            AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            AppendError::TransactionOpen { .. } => ErrorCode::InvalidTxnState,
            AppendError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
            // The producer may abort what it has begun elsewhere, and try again (KIP-890).
            AppendError::TooManyTransactions { .. } => ErrorCode::TransactionAbortable,
            AppendError::ControlBatch => ErrorCode::InvalidRecord,
            AppendError::Invalid(_) => ErrorCode::CorruptMessage,
            AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            AppendError::Poisoned { .. } | AppendError::Disk(_) => ErrorCode::KafkaStorage,
        }
    }
}

impl From<&FetchError> for ErrorCode {
    fn from(error: &FetchError) -> ErrorCode {
        match error {
            FetchError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            FetchError::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
            FetchError::Log(_) | FetchError::Search(_) => ErrorCode::KafkaStorage,
        }
    }
}

impl From<&TrimError> for ErrorCode {
    fn from(error: &TrimError) -> ErrorCode {
        match error {
            TrimError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            TrimError::InternalTopic { .. } => ErrorCode::InvalidTopic,
            TrimError::Pinned { .. } | TrimError::Shown { .. } => ErrorCode::PolicyViolation,
            TrimError::Closed => ErrorCode::UnknownTopicOrPartition,
            TrimError::Log(_) | TrimError::Disk(_) => ErrorCode::KafkaStorage,
        }
    }
}

impl From<&TopicError> for ErrorCode {
    fn from(error: &TopicError) -> ErrorCode {
        match error {
            TopicError::Metadata(error) => ErrorCode::from(error),
            TopicError::Reserved(_) => ErrorCode::InvalidTopic,
            TopicError::AutoCreateDisabled(_) => ErrorCode::UnknownTopicOrPartition,
            TopicError::Storage { .. } => ErrorCode::KafkaStorage,
            TopicError::Stopping => ErrorCode::RequestTimedOut,
        }
    }
}

impl From<&MetadataError> for ErrorCode {
    fn from(error: &MetadataError) -> ErrorCode {
        match error {
            MetadataError::TopicExists(_) => ErrorCode::TopicAlreadyExists,
            MetadataError::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            MetadataError::UnknownTopicId(_) => ErrorCode::UnknownTopicId,
            MetadataError::InvalidTopic(_) | MetadataError::NameCollision { .. } => ErrorCode::InvalidTopic,
            MetadataError::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
            MetadataError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
            MetadataError::InvalidReplicaAssignment(_) => ErrorCode::InvalidReplicaAssignment,
            MetadataError::InvalidConfig { .. } => ErrorCode::InvalidConfig,
            MetadataError::InvalidRequest(_) => ErrorCode::InvalidRequest,
            MetadataError::TopicDeletionDisabled => ErrorCode::TopicDeletionDisabled,
            MetadataError::InternalTopic(_) => ErrorCode::InvalidTopic,
            MetadataError::OwnedByStream { .. } | MetadataError::TooManyPartitions { .. } => ErrorCode::PolicyViolation,
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::error::{ParseResponseErrorCode, ResponseError};

    use super::*;

    #[test]
    fn the_numbers_are_kafkas() {
        for (ours, theirs) in [
            (ErrorCode::InvalidTopic, ResponseError::InvalidTopicException),
            (ErrorCode::InvalidRecord, ResponseError::InvalidRecord),
            (ErrorCode::PolicyViolation, ResponseError::PolicyViolation),
            (ErrorCode::KafkaStorage, ResponseError::KafkaStorageError),
            (ErrorCode::FetchSessionTopicIdError, ResponseError::FetchSessionTopicIdError),
            (ErrorCode::GroupSubscribedToTopic, ResponseError::GroupSubscribedToTopic),
            (ErrorCode::TransactionalIdAuthorizationFailed, ResponseError::TransactionalIdAuthorizationFailed),
            (ErrorCode::InvalidTxnState, ResponseError::InvalidTxnState),
            (ErrorCode::TransactionCoordinatorFenced, ResponseError::TransactionCoordinatorFenced),
            (ErrorCode::UnsupportedForMessageFormat, ResponseError::UnsupportedForMessageFormat),
            (ErrorCode::UnknownTopicId, ResponseError::UnknownTopicId),
            (ErrorCode::TopicDeletionDisabled, ResponseError::TopicDeletionDisabled),
        ] {
            assert_eq!(ours.code().err(), Some(theirs));
        }
    }
}
