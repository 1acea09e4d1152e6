//! Why a group's request is refused.

/// One variant for each of Kafka's error codes that groups use; the name is Kafka's.
///
/// The numbers are chosen in the `kafka` crate alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GroupError {
    /// The member is asked to join again with the id that the answer carries (KIP-394).
    #[error("join again with the member id given")]
    MemberIdRequired,
    /// The group has no such member.
    #[error("the group has no such member")]
    UnknownMemberId,
    /// The member's generation is not the group's.
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    /// Another member has taken over this group instance id (KIP-345).
    #[error("another member has taken over the group instance id")]
    FencedInstanceId,
    /// The group forms a new generation; the member must join it.
    #[error("the group is rebalancing; join again")]
    RebalanceInProgress,
    /// The protocol type differs from the group's, or no protocol is known to all members.
    #[error("the protocols do not fit those of the other members")]
    InconsistentGroupProtocol,
    /// The session timeout is outside the bounds.
    #[error("the session timeout is outside group.min.session.timeout.ms to group.max.session.timeout.ms")]
    InvalidSessionTimeout,
    /// The group id is empty or too long.
    #[error("the group id is empty or too long")]
    InvalidGroupId,
    /// The group has as many members as it may.
    #[error("the group has group.max.size members")]
    GroupMaxSizeReached,
    /// There is no such group.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// The group has members.
    #[error("the group has members")]
    NonEmptyGroup,
    /// A member of the group is subscribed to the topic.
    #[error("a member of the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// The metadata of a committed offset is longer than `offset.metadata.max.bytes`.
    #[error("the metadata of the offset is longer than offset.metadata.max.bytes")]
    OffsetMetadataTooLarge,
    /// The coordinator cannot take the request now; the client may try again.
    #[error("the coordinator cannot take the request now; try again")]
    CoordinatorNotAvailable,
    /// A bound of this node would be passed: groups, offsets, or bytes of a member.
    #[error("a limit of the node on groups, offsets or the size of a member is reached")]
    PolicyViolation,
    /// The request contradicts itself.
    #[error("the request contradicts itself")]
    InvalidRequest,
    /// The records of the answer could not be written; for the caller, who writes them.
    #[error("the coordinator could not write its log")]
    UnknownServerError,
}
