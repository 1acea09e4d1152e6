//! One group: its members, its state, and how one becomes the next.
//!
//! ```text
//!             join                all have joined            leader's sync
//!   Empty ----------> Preparing ------------------> Completing ------------> Stable
//!     ^                Rebalance <------------------ Rebalance                 |
//!     |                    ^ |     join, leave, session                        |
//!     +------ nobody ------|-+     or sync time over                           |
//!                          +---------------------------------------------------+
//! ```
//!
//! A member's session clock runs only while the member owes us a sign of life: a request of its that waits here
//! stops the clock, and the answer starts it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millpond_types::TimestampMs;

use crate::coordinator::{Step, Token};
use crate::error::GroupError;
use crate::offsets::CommittedOffset;
use crate::records::{GroupValue, MemberValue, OffsetsRecord};
use crate::request::HeartbeatRequest;
use crate::response::{GroupResponse, GroupState, JoinResponse, JoinedMember, SyncResponse};
use crate::subscription::subscribed_topics;

/// The protocol type of consumers, whose subscriptions we can read.
pub(crate) const CONSUMER: &str = "consumer";

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    pub(crate) state: GroupState,
    /// Since when it has been in this state; unset for a group that never had members.
    pub(crate) state_since_ms: Option<TimestampMs>,
    pub(crate) generation_id: i32,
    /// Unset for a group that never had members.
    pub(crate) protocol_type: Option<String>,
    /// The protocol elected for the generation.
    pub(crate) protocol_name: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// By group instance id, the member that has it.
    pub(crate) static_members: BTreeMap<String, String>,
    /// Member ids that were given out and not used yet, with the time at which they lapse.
    pub(crate) pending: BTreeMap<String, TimestampMs>,
    /// What its consumers read; unset if it has none, or they say it in a way that we cannot read.
    pub(crate) subscribed_topics: Option<BTreeSet<String>>,
    /// Until when a rebalance waits for members to join.
    pub(crate) join_deadline_ms: Option<TimestampMs>,
    /// The first rebalance of an empty group waits for more members on purpose.
    pub(crate) initial_delay: Option<InitialDelay>,
    /// Until when members that joined may fetch their assignment.
    pub(crate) sync_deadline_ms: Option<TimestampMs>,
    /// By topic and partition.
    pub(crate) offsets: BTreeMap<String, BTreeMap<i32, CommittedOffset>>,
    /// Whether the log has a record of the group (besides its offsets), so that its end needs a tombstone.
    pub(crate) recorded: bool,
    /// When it is due in the coordinator's list.
    pub(crate) wake_ms: Option<TimestampMs>,
    /// The bytes that its members have in the coordinator's sum.
    pub(crate) counted_bytes: usize,
}

/// What a member or an id that was given out takes besides its texts, roughly: its fields and its places in maps.
const MEMBER_BYTES: usize = 512;

/// How much longer the first rebalance may be put off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InitialDelay {
    pub(crate) remaining_ms: i64,
    pub(crate) member_added: bool,
}

/// One member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) group_instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// The preferred first.
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    /// Its JoinGroup that waits; then it has joined the next generation.
    pub(crate) waiting_join: Option<Token>,
    /// Its SyncGroup that waits.
    pub(crate) waiting_sync: Option<Token>,
    /// It has not been in any generation yet.
    pub(crate) is_new: bool,
    /// It knows its id, so it can come back under it.
    pub(crate) knows_id: bool,
    /// It has joined the generation and not fetched its assignment.
    pub(crate) owes_sync: bool,
    /// When it is taken for gone; unset while a request of its waits here.
    pub(crate) session_deadline_ms: Option<TimestampMs>,
}

/// What protocols and their metadata take.
pub(crate) fn metadata_bytes(protocols: &[(String, Bytes)]) -> usize {
    protocols.iter().map(|(name, bytes)| name.len() + bytes.len()).sum()
}

impl Member {
    /// The metadata that it brought for a protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    pub(crate) fn knows_protocol(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(crate) fn restart_session(&mut self, now_ms: TimestampMs) {
        self.session_deadline_ms = Some(now_ms.saturating_add(i64::from(self.session_timeout_ms)));
    }

    /// The member showed up; its clock starts anew unless it stands still.
    pub(crate) fn touch(&mut self, now_ms: TimestampMs) {
        if self.waiting_join.is_none() && self.waiting_sync.is_none() {
            self.restart_session(now_ms);
        }
    }
}

impl Group {
    pub(crate) fn new(id: Arc<str>) -> Group {
        Group {
            id,
            state: GroupState::Empty,
            state_since_ms: None,
            generation_id: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            subscribed_topics: None,
            join_deadline_ms: None,
            initial_delay: None,
            sync_deadline_ms: None,
            offsets: BTreeMap::new(),
            recorded: false,
            wake_ms: None,
            counted_bytes: 0,
        }
    }

    /// Whether nothing would be lost if it were forgotten.
    pub(crate) fn is_vacant(&self) -> bool {
        self.state == GroupState::Empty && !self.recorded && self.pending.is_empty() && self.offsets.is_empty()
    }

    pub(crate) fn earliest_deadline_ms(&self) -> Option<TimestampMs> {
        let sessions = self.members.values().filter_map(|member| member.session_deadline_ms);
        let pending = self.pending.values().copied();
        sessions.chain(pending).chain(self.join_deadline_ms).chain(self.sync_deadline_ms).min()
    }

    /// What its members and the ids that it gave out take in memory, about.
    pub(crate) fn member_bytes(&self) -> usize {
        let members = self.members.iter().map(|(member_id, member)| {
            let texts = member_id.len() + member.client_id.len() + member.client_host.len();
            let name = member.group_instance_id.as_ref().map_or(0, String::len);
            MEMBER_BYTES + texts + name + metadata_bytes(&member.protocols) + member.assignment.len()
        });
        let pending = self.pending.keys().map(|member_id| MEMBER_BYTES + member_id.len());
        members.chain(pending).sum()
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(crate) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Whether a member reads the topic, as far as we know; consumers whose subscriptions we cannot read may.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    pub(crate) fn become_state(&mut self, state: GroupState, now_ms: TimestampMs) {
        self.state = state;
        self.state_since_ms = Some(now_ms);
    }

    /// Checks that a request comes from a member, and of a static member from the latest with its instance id.
    pub(crate) fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(holder) if holder != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    pub(crate) fn heartbeat(&mut self, request: &HeartbeatRequest, now_ms: TimestampMs) -> Result<(), GroupError> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation_id {
            return Err(GroupError::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(&request.member_id) {
            member.touch(now_ms);
        }
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Takes a member out and answers what it waits for. What follows for the group is the caller's to do.
    pub(crate) fn remove_member(&mut self, member_id: &str, error: GroupError, step: &mut Step<'_>) {
        self.pending.remove(member_id);
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(token) = member.waiting_join {
            // Without an id, so that the client joins as a new member.
            step.reply(token, GroupResponse::Join(JoinResponse::refused("", error)));
        }
        if let Some(token) = member.waiting_sync {
            step.reply(token, GroupResponse::Sync(SyncResponse::refused(error)));
        }
        if let Some(instance_id) = &member.group_instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Members went; the rest needs a new generation, or has it already under way.
    pub(crate) fn after_departure(&mut self, step: &mut Step<'_>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(step),
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(step),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// A connection died while a request of the member waited.
    pub(crate) fn forget(&mut self, token: Token, member_id: &str, step: &mut Step<'_>) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if member.waiting_sync == Some(token) {
            member.waiting_sync = None;
        } else if member.waiting_join == Some(token) {
            member.waiting_join = None;
            // A static member comes back under its name, and keeps its place for as long as its session.
            if !member.knows_id && member.group_instance_id.is_none() {
                self.remove_member(member_id, GroupError::UnknownMemberId, step);
                self.after_departure(step);
                return;
            }
        }
        member.touch(step.now_ms);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, step: &mut Step<'_>) {
        let now_ms = step.now_ms;
        let pending_before = self.pending.len();
        self.pending.retain(|_, deadline_ms| *deadline_ms > now_ms);
        let over = |deadline_ms: Option<TimestampMs>| deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms);
        let gone: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| over(member.session_deadline_ms))
            .map(|(member_id, _)| member_id.clone())
            .collect();
        for member_id in &gone {
            self.remove_member(member_id, GroupError::UnknownMemberId, step);
        }
        if !gone.is_empty() {
            self.after_departure(step);
        } else if self.pending.len() < pending_before {
            self.complete_join_if_all_joined(step);
        }
        if over(self.join_deadline_ms) {
            self.join_time_is_over(step);
        }
        if over(self.sync_deadline_ms) {
            self.sync_time_is_over(step);
        }
    }

    /// The group is deleted: nobody is in it any more.
    pub(crate) fn clear(&mut self, step: &mut Step<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            self.remove_member(&id, GroupError::UnknownMemberId, step);
        }
        self.pending.clear();
    }

    /// The protocols that every member knows get each member's vote; the most votes win, the leader's order decides
    /// between equals.
    pub(crate) fn elect_protocol(&self) -> Option<String> {
        let known_to_all = |name: &str| self.members.values().all(|member| member.knows_protocol(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| known_to_all(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let mut elected: Option<(&str, usize)> = None;
        for (name, _) in leader.into_iter().flat_map(|leader| &leader.protocols) {
            let count = votes.get(name.as_str()).copied().unwrap_or_default();
            if count > elected.map_or(0, |(_, most)| most) {
                elected = Some((name, count));
            }
        }
        elected.map(|(name, _)| name.to_owned())
    }

    /// Whether somebody with these protocols fits in.
    pub(crate) fn supports_protocols(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| self.members.values().all(|member| member.knows_protocol(name)))
    }

    pub(crate) fn all_have_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.waiting_join.is_some())
    }

    /// A rebalance waits for the slowest.
    pub(crate) fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// Everybody as the leader sees them.
    pub(crate) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let joined = |(member_id, member): (&String, &Member)| JoinedMember {
            member_id: member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.iter().map(joined).collect()
    }

    /// Reads from the members' metadata what they are subscribed to.
    pub(crate) fn refresh_subscribed_topics(&mut self) {
        self.subscribed_topics = match (&self.protocol_type, &self.protocol_name) {
            (Some(kind), _) if kind != CONSUMER => None,
            (Some(_), _) if self.members.is_empty() => Some(BTreeSet::new()),
            (Some(_), Some(protocol)) => {
                let mut topics = BTreeSet::new();
                let readable =
                    self.members.values().all(|member| match subscribed_topics(&member.metadata(protocol)) {
                        Some(found) => {
                            topics.extend(found);
                            true
                        }
                        None => false,
                    });
                readable.then_some(topics)
            }
            _ => None,
        };
    }

    /// The group as the log keeps it.
    pub(crate) fn to_record(&self) -> OffsetsRecord {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let member = |(member_id, member): (&String, &Member)| MemberValue {
            member_id: member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: member.assignment.clone(),
        };
        let value = GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation_id: self.generation_id,
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms,
            members: self.members.iter().map(member).collect(),
        };
        OffsetsRecord::group(&self.id, Some(&value))
    }

    /// Takes over what the log says of the group; `None` is a tombstone. Offsets have their own records.
    pub(crate) fn restore(&mut self, value: Option<GroupValue>) {
        let mut restored = Group::new(self.id.clone());
        restored.offsets = std::mem::take(&mut self.offsets);
        restored.wake_ms = self.wake_ms;
        restored.counted_bytes = self.counted_bytes;
        if let Some(value) = value {
            restored.recorded = true;
            restored.generation_id = value.generation_id;
            restored.state_since_ms = value.state_since_ms;
            restored.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
            // A generation without a protocol cannot have members; Kafka writes none such.
            let protocol = value.protocol_name.clone().filter(|_| restored.protocol_type.is_some());
            if let Some(protocol) = &protocol {
                value.members.into_iter().for_each(|member| restored.restore_member(protocol, member));
            }
            if !restored.members.is_empty() {
                restored.state = GroupState::Stable;
                restored.protocol_name = protocol;
                let leader = value.leader.filter(|leader| restored.members.contains_key(leader));
                restored.leader = leader.or_else(|| restored.members.keys().next().cloned());
            }
            restored.refresh_subscribed_topics();
        }
        *self = restored;
    }

    fn restore_member(&mut self, protocol: &str, value: MemberValue) {
        if let Some(instance_id) = &value.group_instance_id {
            self.static_members.insert(instance_id.clone(), value.member_id.clone());
        }
        let rebalance_timeout_ms =
            if value.rebalance_timeout_ms < 0 { value.session_timeout_ms } else { value.rebalance_timeout_ms };
        let member = Member {
            group_instance_id: value.group_instance_id,
            client_id: value.client_id,
            client_host: value.client_host,
            session_timeout_ms: value.session_timeout_ms,
            rebalance_timeout_ms,
            protocols: vec![(protocol.to_owned(), value.subscription)],
            assignment: value.assignment,
            waiting_join: None,
            waiting_sync: None,
            is_new: false,
            knows_id: true,
            owes_sync: false,
            session_deadline_ms: None,
        };
        self.members.insert(value.member_id, member);
    }
}
