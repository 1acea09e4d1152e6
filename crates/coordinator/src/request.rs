//! What a group is asked.
//!
//! Plain data, named as Kafka's protocol names it, without its versions: where an API's versions differ in behaviour
//! (not only in form), a field says so and the `kafka` crate sets it.

use bytes::Bytes;

use crate::error::GroupError;
use crate::response::{
    DeleteGroupsResponse, DescribeResponse, DescribedGroup, FetchedGroup, GroupResponse, HeartbeatResponse,
    JoinResponse, LeaveResponse, ListResponse, OffsetCommitResponse, OffsetDeleteResponse, OffsetFetchResponse,
    PartitionErrors, SyncResponse,
};

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

/// DescribeGroups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribeRequest {
    /// The groups.
    pub groups: Vec<String>,
}

/// ListGroups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only groups in one of these states (in any case); empty for all.
    pub states: Vec<String>,
    /// Only groups of one of these types (in any case; all of ours are `classic`); empty for all.
    pub types: Vec<String>,
}

/// DeleteGroups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteGroupsRequest {
    /// The groups.
    pub groups: Vec<String>,
}

/// OffsetDelete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetDeleteRequest {
    /// The group.
    pub group_id: String,
    /// Topics and their partitions.
    pub topics: Vec<(String, Vec<i32>)>,
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
