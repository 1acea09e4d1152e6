//! What a group is asked, and what it answers.
//!
//! Plain data, named as Kafka's protocol names it, without its versions: where an API's versions differ in behaviour
//! (not only in form), a field says so and the `kafka` crate sets it.

use bytes::Bytes;

use crate::error::GroupError;

/// A request to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRequest {
    /// JoinGroup; may be answered later.
    Join(JoinRequest),
    /// SyncGroup; may be answered later.
    Sync(SyncRequest),
    /// Heartbeat.
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup.
    Leave(LeaveRequest),
    /// OffsetCommit.
    OffsetCommit(OffsetCommitRequest),
    /// OffsetFetch.
    OffsetFetch(OffsetFetchRequest),
    /// DescribeGroups.
    Describe(DescribeRequest),
    /// ListGroups.
    List(ListRequest),
    /// DeleteGroups.
    DeleteGroups(DeleteGroupsRequest),
    /// OffsetDelete.
    OffsetDelete(OffsetDeleteRequest),
}

/// The answer to the [`GroupRequest`] of the same name.
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

/// JoinGroup: be part of the group's next generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// The group.
    pub group_id: String,
    /// The member's id, empty at its first request.
    pub member_id: String,
    /// Of a static member (KIP-345): its name across restarts.
    pub group_instance_id: Option<String>,
    /// What the group is for: `consumer`, `connect`, `sr`, anything.
    pub protocol_type: String,
    /// The protocols (assignors) that the member knows, the preferred first, each with its opaque metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// How long in milliseconds the member may be silent.
    pub session_timeout_ms: i32,
    /// How long in milliseconds a rebalance waits for the member; before JoinGroup v1 its session timeout.
    pub rebalance_timeout_ms: i32,
    /// The client's id; a new member's id begins with it.
    pub client_id: String,
    /// The client's address, as `/127.0.0.1`.
    pub client_host: String,
    /// JoinGroup v4 and up: a new member without a group instance id first gets its id and then joins with it.
    pub require_known_member_id: bool,
    /// JoinGroup v9 and up: a returning static leader is told that it must not assign (KIP-814).
    pub supports_skip_assignment: bool,
    /// Why the client joins, for logs (v8 and up).
    pub reason: Option<String>,
    /// The end of the member's id if it gets a new one: a random uuid, made by the caller.
    pub new_member_suffix: String,
}

/// The answer to [`JoinRequest`].
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

/// SyncGroup: bring (as the leader) or get the assignment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncRequest {
    /// The group.
    pub group_id: String,
    /// The generation that the member joined.
    pub generation_id: i32,
    /// The member.
    pub member_id: String,
    /// Of a static member: its name across restarts.
    pub group_instance_id: Option<String>,
    /// v5 and up: must be the group's.
    pub protocol_type: Option<String>,
    /// v5 and up: must be the elected one.
    pub protocol_name: Option<String>,
    /// From the leader: the assignment by member id.
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer to [`SyncRequest`].
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

/// Heartbeat: the member is still there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: String,
    /// The member's generation.
    pub generation_id: i32,
    /// The member.
    pub member_id: String,
    /// Of a static member: its name across restarts.
    pub group_instance_id: Option<String>,
}

/// The answer to [`HeartbeatRequest`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// Why not, or [`GroupError::RebalanceInProgress`].
    pub error: Option<GroupError>,
}

/// LeaveGroup: these members go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveRequest {
    /// The group.
    pub group_id: String,
    /// Who goes; one member before v3.
    pub members: Vec<LeavingMember>,
}

/// A member that goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id; empty to name a static member by its instance id alone.
    pub member_id: String,
    /// Its name across restarts.
    pub group_instance_id: Option<String>,
    /// Why, for logs (v5 and up).
    pub reason: Option<String>,
}

/// The answer to [`LeaveRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveResponse {
    /// Why nobody could go.
    pub error: Option<GroupError>,
    /// What became of each, in the order asked. Before v3, the first one's error is the answer's.
    pub members: Vec<LeftMember>,
}

/// What became of a [`LeavingMember`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    /// Its id as it was asked.
    pub member_id: String,
    /// Its instance id as it was asked.
    pub group_instance_id: Option<String>,
    /// Why it did not go.
    pub error: Option<GroupError>,
}

/// OffsetCommit: remember how far the group has read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetCommitRequest {
    /// The group.
    pub group_id: String,
    /// The member, empty outside of group management.
    pub member_id: String,
    /// Of a static member: its name across restarts.
    pub group_instance_id: Option<String>,
    /// The member's generation, −1 outside of group management.
    pub generation_id: i32,
    /// v2 to v4: for how many milliseconds to keep the offsets; `None` for the node's rule.
    pub retention_time_ms: Option<i64>,
    /// v9 and up: a generation of an unknown group is [`GroupError::GroupIdNotFound`], before
    /// [`GroupError::IllegalGeneration`].
    pub reports_unknown_group: bool,
    /// The offsets by topic. Whether topics and partitions exist is for the caller to check.
    pub topics: Vec<CommitTopic>,
}

/// The offsets of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitTopic {
    /// The topic's name.
    pub topic: String,
    /// Its partitions.
    pub partitions: Vec<CommitPartition>,
}

/// The offset of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition.
    pub partition: i32,
    /// The offset of the record to read next.
    pub offset: i64,
    /// The leader epoch of the last record read, −1 if unknown.
    pub leader_epoch: i32,
    /// Whatever the client wants to keep with it.
    pub metadata: Option<String>,
}

/// The answer to [`OffsetCommitRequest`].
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

/// OffsetFetch: how far have groups read?
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetFetchRequest {
    /// The groups; one before v8.
    pub groups: Vec<FetchGroup>,
    /// Wait for transactions to end (v7 and up); without transactions all offsets are stable.
    pub require_stable: bool,
}

/// One group's question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchGroup {
    /// The group.
    pub group_id: String,
    /// Topics and their partitions; `None` for all that have offsets.
    pub topics: Option<Vec<(String, Vec<i32>)>>,
}

/// The answer to [`OffsetFetchRequest`].
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

/// DescribeGroups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribeRequest {
    /// The groups.
    pub groups: Vec<String>,
}

/// The answer to [`DescribeRequest`].
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

/// ListGroups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only groups in one of these states (in any case); empty for all.
    pub states: Vec<String>,
    /// Only groups of one of these types (in any case; all of ours are `classic`); empty for all.
    pub types: Vec<String>,
}

/// The answer to [`ListRequest`].
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

/// DeleteGroups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteGroupsRequest {
    /// The groups.
    pub groups: Vec<String>,
}

/// The answer to [`DeleteGroupsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteGroupsResponse {
    /// In the order asked: the group, and why it was not deleted.
    pub groups: Vec<(String, Option<GroupError>)>,
}

/// OffsetDelete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetDeleteRequest {
    /// The group.
    pub group_id: String,
    /// Topics and their partitions.
    pub topics: Vec<(String, Vec<i32>)>,
}

/// The answer to [`OffsetDeleteRequest`].
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

impl GroupRequest {
    /// The group that the request is about, if it is about one.
    pub fn group_id(&self) -> Option<&str> {
        match self {
            GroupRequest::Join(request) => Some(&request.group_id),
            GroupRequest::Sync(request) => Some(&request.group_id),
            GroupRequest::Heartbeat(request) => Some(&request.group_id),
            GroupRequest::Leave(request) => Some(&request.group_id),
            GroupRequest::OffsetCommit(request) => Some(&request.group_id),
            GroupRequest::OffsetDelete(request) => Some(&request.group_id),
            GroupRequest::OffsetFetch(_)
            | GroupRequest::Describe(_)
            | GroupRequest::List(_)
            | GroupRequest::DeleteGroups(_) => None,
        }
    }

    /// The answer that refuses all of the request for one reason.
    pub fn refuse(&self, error: GroupError) -> GroupResponse {
        match self {
            GroupRequest::Join(request) => GroupResponse::Join(JoinResponse::refused(request.member_id.clone(), error)),
            GroupRequest::Sync(_) => GroupResponse::Sync(SyncResponse::refused(error)),
            GroupRequest::Heartbeat(_) => GroupResponse::Heartbeat(HeartbeatResponse { error: Some(error) }),
            GroupRequest::Leave(_) => GroupResponse::Leave(LeaveResponse { error: Some(error), members: Vec::new() }),
            GroupRequest::OffsetCommit(request) => GroupResponse::OffsetCommit(request.refuse(error)),
            GroupRequest::OffsetFetch(request) => {
                let refused = |group: &FetchGroup| FetchedGroup {
                    group_id: group.group_id.clone(),
                    error: Some(error),
                    topics: Vec::new(),
                };
                GroupResponse::OffsetFetch(OffsetFetchResponse { groups: request.groups.iter().map(refused).collect() })
            }
            GroupRequest::Describe(request) => GroupResponse::Describe(DescribeResponse {
                groups: request.groups.iter().map(|group| DescribedGroup::refused(group, error)).collect(),
            }),
            GroupRequest::List(_) => GroupResponse::List(ListResponse { error: Some(error), groups: Vec::new() }),
            GroupRequest::DeleteGroups(request) => GroupResponse::DeleteGroups(DeleteGroupsResponse {
                groups: request.groups.iter().map(|group| (group.clone(), Some(error))).collect(),
            }),
            GroupRequest::OffsetDelete(_) => {
                GroupResponse::OffsetDelete(OffsetDeleteResponse { error: Some(error), topics: Vec::new() })
            }
        }
    }
}

impl OffsetCommitRequest {
    /// The answer that refuses every partition for one reason.
    pub(crate) fn refuse(&self, error: GroupError) -> OffsetCommitResponse {
        let refused = |topic: &CommitTopic| PartitionErrors {
            topic: topic.topic.clone(),
            partitions: topic.partitions.iter().map(|partition| (partition.partition, Some(error))).collect(),
        };
        OffsetCommitResponse { topics: self.topics.iter().map(refused).collect() }
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
