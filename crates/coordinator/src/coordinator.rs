//! All groups, their clocks, and the requests that wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millpond_types::TimestampMs;

use crate::error::GroupError;
use crate::group::Group;
use crate::options::GroupOptions;
use crate::records::{OffsetsKey, OffsetsRecord, OffsetsValue, RecordError};
use crate::request::GroupRequest;
use crate::response::{GroupResponse, HeartbeatResponse};

/// What the caller calls a request; no two requests that wait at the same time may have the same.
pub type Token = u64;

/// What came of a request or of time passing.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "records must be made durable, and replies sent"]
pub struct Outcome {
    /// To be made durable before any of the replies is sent.
    pub records: Vec<OffsetsRecord>,
    /// Answers to this request or to earlier ones that waited; each token is answered at most once.
    pub replies: Vec<(Token, GroupResponse)>,
}

/// Every group of the node and their committed offsets.
#[derive(Debug)]
pub struct Coordinator {
    pub(crate) options: GroupOptions,
    pub(crate) groups: BTreeMap<Arc<str>, Group>,
    /// How many offsets all groups have together.
    pub(crate) offset_count: usize,
    /// How many bytes the members of all groups take, about.
    member_bytes: usize,
    /// When each group wants to be looked at, the earliest first. A group may be looked at in vain: members that
    /// show up move their own deadlines only.
    wakes: BTreeSet<(TimestampMs, Arc<str>)>,
    waiting: BTreeMap<Token, Waiting>,
    /// When to look for expired offsets next; unset until there is a now.
    retention_check_ms: Option<TimestampMs>,
}

/// Who waits for the answer to a JoinGroup or SyncGroup.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    group_id: Arc<str>,
    member_id: String,
}

/// What a group can see and do while it changes.
pub(crate) struct Step<'a> {
    pub(crate) options: &'a GroupOptions,
    pub(crate) now_ms: TimestampMs,
    outcome: &'a mut Outcome,
    waiting: &'a mut BTreeMap<Token, Waiting>,
}

impl Step<'_> {
    /// Answers a request, whether it waited or not.
    pub(crate) fn reply(&mut self, token: Token, response: GroupResponse) {
        self.waiting.remove(&token);
        self.outcome.replies.push((token, response));
    }

    /// Notes that a member's request waits from now on.
    pub(crate) fn wait(&mut self, token: Token, group_id: &Arc<str>, member_id: &str) {
        self.waiting.insert(token, Waiting { group_id: group_id.clone(), member_id: member_id.to_owned() });
    }

    pub(crate) fn record(&mut self, record: OffsetsRecord) {
        self.outcome.records.push(record);
    }

    /// The moment so many milliseconds from now.
    pub(crate) fn after(&self, milliseconds: impl Into<i64>) -> TimestampMs {
        self.now_ms.saturating_add(milliseconds.into())
    }
}

impl Coordinator {
    /// A coordinator without groups.
    pub fn new(options: GroupOptions) -> Coordinator {
        Coordinator {
            options,
            groups: BTreeMap::new(),
            offset_count: 0,
            member_bytes: 0,
            wakes: BTreeSet::new(),
            waiting: BTreeMap::new(),
            retention_check_ms: None,
        }
    }

    /// Takes over one record of `__consumer_offsets`, in the order of the log. One that cannot be read changes
    /// nothing; the caller reports it and goes on with the next.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RecordError> {
        match OffsetsKey::decode(key)? {
            OffsetsKey::Offset { group, topic, partition } => {
                let value = value.map(OffsetsValue::decode_offset).transpose()?;
                self.replay_offset(&group, topic, partition, value);
            }
            OffsetsKey::Group { group } => {
                let value = value.map(OffsetsValue::decode_group).transpose()?;
                let found = self.groups.entry(Arc::from(group.as_str()));
                found.or_insert_with_key(|id| Group::new(id.clone())).restore(value);
                self.settle(&group);
            }
        }
        Ok(())
    }

    /// Says that all records are replayed: the sessions of the members that they tell of begin now.
    pub fn loaded(&mut self, now_ms: TimestampMs) {
        self.retention_check_ms = Some(now_ms.saturating_add(self.options.offsets_retention_check_interval_ms));
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            if let Some(group) = self.groups.get_mut(&id) {
                group.members.values_mut().for_each(|member| member.restart_session(now_ms));
            }
            self.settle(&id);
        }
    }

    /// Takes a request. Its answer is in this outcome or, for JoinGroup and SyncGroup, perhaps in a later one.
    pub fn request(&mut self, token: Token, request: GroupRequest, now_ms: TimestampMs) -> Outcome {
        let interval_ms = self.options.offsets_retention_check_interval_ms;
        self.retention_check_ms.get_or_insert(now_ms.saturating_add(interval_ms));
        let mut outcome = Outcome::default();
        if self.waiting.contains_key(&token) {
            outcome.replies.push((token, request.refuse(GroupError::InvalidRequest)));
            return outcome;
        }
        let reply = match request {
            GroupRequest::Join(request) => {
                self.join(token, request, now_ms, &mut outcome);
                return outcome;
            }
            GroupRequest::Sync(request) => {
                self.sync(token, request, now_ms, &mut outcome);
                return outcome;
            }
            GroupRequest::Heartbeat(request) => {
                // Settling is left out: a heartbeat only moves the member's own deadline, to later.
                let group = self.groups.get_mut(request.group_id.as_str());
                let answer = match group {
                    Some(group) => group.heartbeat(&request, now_ms),
                    None if request.group_id.is_empty() => Err(GroupError::InvalidGroupId),
                    None => Err(GroupError::UnknownMemberId),
                };
                GroupResponse::Heartbeat(HeartbeatResponse { error: answer.err() })
            }
            GroupRequest::Leave(request) => GroupResponse::Leave(self.leave(&request, now_ms, &mut outcome)),
            GroupRequest::OffsetCommit(request) => {
                GroupResponse::OffsetCommit(self.commit(&request, now_ms, &mut outcome))
            }
            GroupRequest::OffsetFetch(request) => GroupResponse::OffsetFetch(self.fetch(&request)),
            GroupRequest::Describe(request) => GroupResponse::Describe(self.describe(&request)),
            GroupRequest::List(request) => GroupResponse::List(self.list(&request)),
            GroupRequest::DeleteGroups(request) => {
                GroupResponse::DeleteGroups(self.delete_groups(&request, now_ms, &mut outcome))
            }
            GroupRequest::OffsetDelete(request) => {
                GroupResponse::OffsetDelete(self.delete_offsets(&request, &mut outcome))
            }
        };
        outcome.replies.push((token, reply));
        outcome
    }

    /// Does what time asks for: sessions end, rebalances stop waiting, offsets expire.
    pub fn tick(&mut self, now_ms: TimestampMs) -> Outcome {
        let mut outcome = Outcome::default();
        // A group that is still due after its turn (a deadline of right now) has its next turn at the next tick.
        let due: Vec<Arc<str>> =
            self.wakes.iter().take_while(|(wake_ms, _)| *wake_ms <= now_ms).map(|(_, id)| id.clone()).collect();
        for id in due {
            self.with_group(&id, now_ms, &mut outcome, |group, step| group.tick(step));
        }
        if self.retention_check_ms.is_some_and(|check_ms| check_ms <= now_ms) {
            let interval_ms = self.options.offsets_retention_check_interval_ms;
            self.retention_check_ms = Some(now_ms.saturating_add(interval_ms));
            self.expire_offsets(now_ms, &mut outcome);
        }
        outcome
    }

    /// When [`tick`](Coordinator::tick) is needed at the latest; `None` while there is nothing to wait for.
    pub fn next_deadline_ms(&self) -> Option<TimestampMs> {
        let wake_ms = self.wakes.first().map(|(wake_ms, _)| *wake_ms);
        let check_ms = if self.groups.is_empty() { None } else { self.retention_check_ms };
        wake_ms.into_iter().chain(check_ms).min()
    }

    /// Says that nobody waits for the answer to this token any more. It will not be answered.
    ///
    /// A member without a name of its own that was never told its id is gone with its connection. Any other has its
    /// session timeout to come back, and a rebalance waits for it that long.
    pub fn forget(&mut self, token: Token, now_ms: TimestampMs) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(waiting) = self.waiting.remove(&token) {
            self.with_group(&waiting.group_id, now_ms, &mut outcome, |group, step| {
                group.forget(token, &waiting.member_id, step);
            });
        }
        outcome
    }

    /// How many groups there are, for metrics.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// How many offsets are committed, for metrics.
    pub fn offset_count(&self) -> usize {
        self.offset_count
    }

    /// How many bytes the members of all groups take, about, for metrics.
    pub fn member_bytes(&self) -> usize {
        self.member_bytes
    }

    /// How many requests wait for their answer, for metrics.
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Lets `act` change a group, if it is there, and settles what follows from the change.
    pub(crate) fn with_group<R>(
        &mut self,
        id: &str,
        now_ms: TimestampMs,
        outcome: &mut Outcome,
        act: impl FnOnce(&mut Group, &mut Step<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(id)?;
        let mut step = Step { options: &self.options, now_ms, outcome, waiting: &mut self.waiting };
        let result = act(group, &mut step);
        self.settle(id);
        Some(result)
    }

    /// The group of this id, new if it was not there and there is room.
    pub(crate) fn ensure_group(&mut self, id: &str) -> Result<(), GroupError> {
        if self.groups.contains_key(id) {
            return Ok(());
        }
        if self.groups.len() >= self.options.groups_max {
            return Err(GroupError::PolicyViolation);
        }
        let id: Arc<str> = Arc::from(id);
        self.groups.insert(id.clone(), Group::new(id));
        Ok(())
    }

    /// Notes when the group wants to be looked at next, and drops one of which nothing is left.
    pub(crate) fn settle(&mut self, id: &str) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let vacant = group.is_vacant();
        let bytes = group.member_bytes();
        self.member_bytes = self.member_bytes - group.counted_bytes + bytes;
        group.counted_bytes = bytes;
        let wake_ms = if vacant { None } else { group.earliest_deadline_ms() };
        if wake_ms != group.wake_ms {
            if let Some(old_ms) = group.wake_ms {
                self.wakes.remove(&(old_ms, group.id.clone()));
            }
            if let Some(new_ms) = wake_ms {
                self.wakes.insert((new_ms, group.id.clone()));
            }
            group.wake_ms = wake_ms;
        }
        if vacant {
            self.groups.remove(id);
            self.member_bytes -= bytes;
        }
    }

    /// Whether members may take so many more bytes.
    pub(crate) fn has_room_for_bytes(&self, bytes: usize) -> bool {
        bytes == 0 || self.member_bytes.saturating_add(bytes) <= self.options.member_bytes_max
    }

    /// Whether one more request may wait.
    pub(crate) fn has_room_to_wait(&self) -> bool {
        self.waiting.len() < self.options.waiting_max
    }

    /// Drops a group of which the outcome says that it is deleted, and answers whoever still waits in it.
    pub(crate) fn drop_group(&mut self, id: &str, now_ms: TimestampMs, outcome: &mut Outcome) {
        self.with_group(id, now_ms, outcome, |group, step| group.clear(step));
        if let Some(group) = self.groups.remove(id) {
            self.member_bytes -= group.counted_bytes;
            if let Some(wake_ms) = group.wake_ms {
                self.wakes.remove(&(wake_ms, group.id));
            }
        }
    }
}
