//! What a group answers. Plain data, as in `request.rs`.

use bytes::Bytes;

use crate::error::GroupError;

/// The answer to the [`GroupRequest`](crate::GroupRequest) of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupResponse {
    /// JoinGroup.
    Join(JoinResponse),
    /// SyncGroup.
    Sync(SyncResponse),
    /// Heartbeat.
    Heartbeat(HeartbeatResponse),
    /// LeaveGroup.
    Leave(LeaveResponse),
    /// OffsetCommit.
    OffsetCommit(OffsetCommitResponse),
    /// OffsetFetch.
    OffsetFetch(OffsetFetchResponse),
    /// DescribeGroups.
    Describe(DescribeResponse),
    /// ListGroups.
    List(ListResponse),
    /// DeleteGroups.
    DeleteGroups(DeleteGroupsResponse),
    /// OffsetDelete.
    OffsetDelete(OffsetDeleteResponse),
}

/// The answer to [`JoinRequest`](crate::JoinRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinResponse {
    /// Why not.
    pub error: Option<GroupError>,
    /// The generation that the member is part of; −1 with an error.
    pub generation_id: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol that was elected.
    pub protocol_name: Option<String>,
    /// The member id of the leader.
    pub leader: String,
    /// The leader must not make an assignment, the old one holds.
    pub skip_assignment: bool,
    /// The member's id; with [`GroupError::MemberIdRequired`] the one to join with.
    pub member_id: String,
    /// For the leader: everybody's metadata for the elected protocol.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its name across restarts.
    pub group_instance_id: Option<String>,
    /// Its metadata for the elected protocol.
    pub metadata: Bytes,
}

/// The answer to [`SyncRequest`](crate::SyncRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncResponse {
    /// Why not.
    pub error: Option<GroupError>,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The elected protocol.
    pub protocol_name: Option<String>,
    /// The member's assignment, opaque.
    pub assignment: Bytes,
}

/// The answer to [`HeartbeatRequest`](crate::HeartbeatRequest).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// Why not, or [`GroupError::RebalanceInProgress`].
    pub error: Option<GroupError>,
}

/// The answer to [`LeaveRequest`](crate::LeaveRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveResponse {
    /// Why nobody could go.
    pub error: Option<GroupError>,
    /// What became of each, in the order asked. Before v3, the first one's error is the answer's.
    pub members: Vec<LeftMember>,
}

/// What became of a [`LeavingMember`](crate::LeavingMember).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    /// Its id as it was asked.
    pub member_id: String,
    /// Its instance id as it was asked.
    pub group_instance_id: Option<String>,
    /// Why it did not go.
    pub error: Option<GroupError>,
}

/// The answer to [`OffsetCommitRequest`](crate::OffsetCommitRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetCommitResponse {
    /// In the order asked.
    pub topics: Vec<PartitionErrors>,
}

/// For each partition of a topic: why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionErrors {
    /// The topic's name.
    pub topic: String,
    /// The partition and what went wrong with it.
    pub partitions: Vec<(i32, Option<GroupError>)>,
}

/// The answer to [`OffsetFetchRequest`](crate::OffsetFetchRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetFetchResponse {
    /// In the order asked.
    pub groups: Vec<FetchedGroup>,
}

/// One group's offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchedGroup {
    /// The group.
    pub group_id: String,
    /// Why not.
    pub error: Option<GroupError>,
    /// Its offsets by topic, in the order asked.
    pub topics: Vec<FetchedTopic>,
}

/// One topic's offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The topic's name.
    pub topic: String,
    /// Its partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// One partition's offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: i32,
    /// The offset of the record to read next, −1 if none was committed.
    pub offset: i64,
    /// The leader epoch committed with it, −1 if unknown.
    pub leader_epoch: i32,
    /// The metadata committed with it.
    pub metadata: String,
}

/// The answer to [`DescribeRequest`](crate::DescribeRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribeResponse {
    /// In the order asked.
    pub groups: Vec<DescribedGroup>,
}

/// One group, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    /// [`GroupError::GroupIdNotFound`] for an unknown group, whose state is `Dead`; shown from v6 on.
    pub error: Option<GroupError>,
    /// The group.
    pub group_id: String,
    /// Its state.
    pub state: GroupState,
    /// Its protocol type, empty if it never had members.
    pub protocol_type: String,
    /// The elected protocol while it is stable, otherwise empty.
    pub protocol_name: String,
    /// Its members; their metadata and assignment while it is stable, otherwise empty.
    pub members: Vec<DescribedMember>,
}

/// One member, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: String,
    /// Its name across restarts.
    pub group_instance_id: Option<String>,
    /// Its client's id.
    pub client_id: String,
    /// Its client's address.
    pub client_host: String,
    /// Its metadata for the elected protocol.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// The answer to [`ListRequest`](crate::ListRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListResponse {
    /// Why not.
    pub error: Option<GroupError>,
    /// In the order of their names.
    pub groups: Vec<ListedGroup>,
}

/// One group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group_id: String,
    /// Its protocol type, empty if it never had members.
    pub protocol_type: String,
    /// Its state.
    pub state: GroupState,
    /// Its type: always [`GROUP_TYPE`].
    pub group_type: &'static str,
}

/// The type of all groups here, as ListGroups v5 names it.
pub const GROUP_TYPE: &str = "classic";

/// The answer to [`DeleteGroupsRequest`](crate::DeleteGroupsRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteGroupsResponse {
    /// In the order asked: the group, and why it was not deleted.
    pub groups: Vec<(String, Option<GroupError>)>,
}

/// The answer to [`OffsetDeleteRequest`](crate::OffsetDeleteRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetDeleteResponse {
    /// Why nothing was deleted.
    pub error: Option<GroupError>,
    /// In the order asked; empty with an error.
    pub topics: Vec<PartitionErrors>,
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// It has no members, perhaps offsets.
    Empty,
    /// It waits for its members to join the next generation.
    PreparingRebalance,
    /// It waits for the leader's assignment.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// There is no such group (any more).
    Dead,
}

impl GroupState {
    /// The state as Kafka spells it.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

impl JoinResponse {
    /// The answer to a member that cannot join.
    pub fn refused(member_id: impl Into<String>, error: GroupError) -> JoinResponse {
        JoinResponse { error: Some(error), generation_id: -1, member_id: member_id.into(), ..JoinResponse::default() }
    }
}

impl SyncResponse {
    /// The answer to a member that gets no assignment.
    pub fn refused(error: GroupError) -> SyncResponse {
        SyncResponse { error: Some(error), ..SyncResponse::default() }
    }
}

impl DescribedGroup {
    /// A group of which nothing is told, for this reason.
    pub(crate) fn refused(group_id: &str, error: GroupError) -> DescribedGroup {
        DescribedGroup {
            error: Some(error),
            group_id: group_id.to_owned(),
            state: GroupState::Dead,
            protocol_type: String::new(),
            protocol_name: String::new(),
            members: Vec::new(),
        }
    }
}

impl GroupResponse {
    /// Turns the answer into a failure, for the caller whose write of the [`Outcome`](crate::Outcome)'s records
    /// failed. Answers that tell of no change stay as they are.
    pub fn fail(&mut self, error: GroupError) {
        match self {
            GroupResponse::Join(response) => {
                *response = JoinResponse::refused(std::mem::take(&mut response.member_id), error);
            }
            GroupResponse::Sync(response) => *response = SyncResponse::refused(error),
            GroupResponse::Heartbeat(response) => response.error = Some(error),
            GroupResponse::Leave(response) => response.error = Some(error),
            GroupResponse::OffsetCommit(response) => fail_partitions(&mut response.topics, error),
            GroupResponse::DeleteGroups(response) => {
                response.groups.iter_mut().for_each(|(_, found)| *found = found.or(Some(error)));
            }
            GroupResponse::OffsetDelete(response) => {
                response.error = response.error.or(Some(error));
                response.topics.clear();
            }
            GroupResponse::OffsetFetch(_) | GroupResponse::Describe(_) | GroupResponse::List(_) => {}
        }
    }
}

fn fail_partitions(topics: &mut [PartitionErrors], error: GroupError) {
    for (_, found) in topics.iter_mut().flat_map(|topic| topic.partitions.iter_mut()) {
        *found = found.or(Some(error));
    }
}
