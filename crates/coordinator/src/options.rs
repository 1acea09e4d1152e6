//! The coordinator's rules and bounds.

/// How groups are run; each bound has a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    /// `group.min.session.timeout.ms`: the shortest session timeout a member may ask for.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`: the longest.
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`: how long a group without members waits for others after the first one
    /// joined. Kafka's default is 3 s, which every single consumer pays; here it is 0.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: the most members of one group.
    pub members_max: usize,
    /// `offset.metadata.max.bytes`: the longest metadata of one committed offset.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`, in milliseconds: how long an offset is kept once nobody uses it.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`: how often [`tick`](crate::Coordinator::tick) looks for such offsets.
    pub offsets_retention_check_interval_ms: i64,
    /// `millpond.groups.max`: the most groups.
    pub groups_max: usize,
    /// `millpond.group.offsets.max`: the most committed offsets of all groups together.
    pub offsets_max: usize,
    /// `millpond.group.waiting.max`: the most JoinGroup and SyncGroup requests that wait for their answer.
    pub waiting_max: usize,
    /// `millpond.group.member.metadata.bytes.max`: the most bytes of metadata (all protocols) of one member.
    pub member_metadata_bytes_max: usize,
    /// `millpond.group.assignment.bytes.max`: the most bytes of assignments (all members) of one generation.
    pub assignment_bytes_max: usize,
    /// `millpond.group.bytes.max`: the most bytes that the members of all groups take together.
    pub member_bytes_max: usize,
    /// How long in milliseconds a new member's JoinGroup may wait before it is taken for gone (Kafka: 5 minutes).
    pub new_member_join_timeout_ms: i64,
}

impl Default for GroupOptions {
    fn default() -> GroupOptions {
        GroupOptions {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 0,
            members_max: 10_000,
            offset_metadata_bytes_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            offsets_retention_check_interval_ms: 600_000,
            groups_max: 100_000,
            offsets_max: 1_000_000,
            waiting_max: 100_000,
            member_metadata_bytes_max: 1024 * 1024,
            assignment_bytes_max: 16 * 1024 * 1024,
            member_bytes_max: 256 * 1024 * 1024,
            new_member_join_timeout_ms: 5 * 60 * 1000,
        }
    }
}
