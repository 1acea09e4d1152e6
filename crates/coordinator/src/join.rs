//! JoinGroup and LeaveGroup: who is in the next generation.

use millpond_types::TimestampMs;

use crate::coordinator::{Coordinator, Outcome, Step, Token};
use crate::error::GroupError;
use crate::group::{Group, InitialDelay, Member, metadata_bytes};
use crate::records::STRING_BYTES_MAX;
use crate::request::{JoinRequest, LeaveRequest, LeavingMember};
use crate::response::{GroupResponse, GroupState, JoinResponse, LeaveResponse, LeftMember, SyncResponse};

impl Coordinator {
    /// Answers now or when the rebalance has its members.
    pub(crate) fn join(&mut self, token: Token, request: JoinRequest, now_ms: TimestampMs, outcome: &mut Outcome) {
        let refusal = match self.check_join(&request) {
            Ok(()) if request.member_id.is_empty() => self.ensure_group(&request.group_id).err(),
            Ok(()) if !self.groups.contains_key(request.group_id.as_str()) => Some(GroupError::UnknownMemberId),
            Ok(()) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = refusal {
            outcome.replies.push((token, GroupResponse::Join(JoinResponse::refused(request.member_id, error))));
            return;
        }
        let group_id = request.group_id.clone();
        self.with_group(&group_id, now_ms, outcome, |group, step| group.join(token, request, step));
    }

    fn check_join(&self, request: &JoinRequest) -> Result<(), GroupError> {
        let options = &self.options;
        if request.group_id.is_empty() || request.group_id.len() > STRING_BYTES_MAX {
            return Err(GroupError::InvalidGroupId);
        }
        let session_timeouts = options.session_timeout_ms_min..=options.session_timeout_ms_max;
        if !session_timeouts.contains(&request.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        // What goes into the group's record must fit its strings.
        let mut strings = [&request.member_id, &request.protocol_type, &request.client_id, &request.client_host]
            .into_iter()
            .chain(&request.group_instance_id)
            .chain(request.protocols.iter().map(|(name, _)| name));
        if strings.any(|string| string.len() > STRING_BYTES_MAX) {
            return Err(GroupError::InvalidRequest);
        }
        let brought_bytes = metadata_bytes(&request.protocols);
        let member = self.groups.get(request.group_id.as_str()).and_then(|group| group.members.get(&request.member_id));
        let known_bytes = member.map_or(0, |member| metadata_bytes(&member.protocols));
        let added_bytes = brought_bytes.saturating_sub(known_bytes);
        if brought_bytes > options.member_metadata_bytes_max || !self.has_room_for_bytes(added_bytes) {
            return Err(GroupError::PolicyViolation);
        }
        if self.has_room_to_wait() { Ok(()) } else { Err(GroupError::CoordinatorNotAvailable) }
    }

    pub(crate) fn leave(
        &mut self,
        request: &LeaveRequest,
        now_ms: TimestampMs,
        outcome: &mut Outcome,
    ) -> LeaveResponse {
        if request.group_id.is_empty() {
            return LeaveResponse { error: Some(GroupError::InvalidGroupId), members: Vec::new() };
        }
        let left = self.with_group(&request.group_id, now_ms, outcome, |group, step| group.leave(request, step));
        let unknown = |member: &LeavingMember| left_member(member, Err(GroupError::UnknownMemberId));
        let members = left.unwrap_or_else(|| request.members.iter().map(unknown).collect());
        LeaveResponse { error: None, members }
    }
}

fn left_member(member: &LeavingMember, result: Result<(), GroupError>) -> LeftMember {
    LeftMember {
        member_id: member.member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        error: result.err(),
    }
}

impl Group {
    fn join(&mut self, token: Token, request: JoinRequest, step: &mut Step<'_>) {
        let refuse = |step: &mut Step<'_>, member_id: &str, error| {
            step.reply(token, GroupResponse::Join(JoinResponse::refused(member_id, error)));
        };
        if !self.has_room_for(&request, step.options.members_max) {
            refuse(step, "", GroupError::GroupMaxSizeReached);
            if self.members.contains_key(&request.member_id) || self.pending.contains_key(&request.member_id) {
                self.remove_member(&request.member_id, GroupError::GroupMaxSizeReached, step);
                self.complete_join_if_all_joined(step);
            }
            return;
        }
        if !self.supports_protocols(&request.protocol_type, &request.protocols) {
            return refuse(step, &request.member_id, GroupError::InconsistentGroupProtocol);
        }
        if request.member_id.is_empty() {
            self.join_as_new(token, request, step);
        } else if self.pending.contains_key(&request.member_id) {
            if request.group_instance_id.is_some() {
                // Only members without an instance id are told to join again with an id.
                return refuse(step, &request.member_id, GroupError::InvalidRequest);
            }
            let member_id = request.member_id.clone();
            self.add_member(token, member_id, request, true, step);
        } else if let Err(error) = self.check_member(&request.member_id, request.group_instance_id.as_deref()) {
            refuse(step, &request.member_id, error);
        } else {
            self.join_again(token, request, step);
        }
    }

    /// Counts as Kafka does: while a rebalance waits, those who have joined it, so that members that were in before
    /// have no advantage.
    fn has_room_for(&self, request: &JoinRequest, members_max: usize) -> bool {
        if request.member_id.is_empty() && request.require_known_member_id && self.pending.len() >= members_max {
            return false;
        }
        let known = self.members.get(&request.member_id);
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                let joined = |member: &&Member| member.waiting_join.is_some();
                known.as_ref().is_some_and(joined) || self.members.values().filter(joined).count() < members_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => known.is_some() || self.members.len() < members_max,
        }
    }

    fn join_as_new(&mut self, token: Token, request: JoinRequest, step: &mut Step<'_>) {
        let stem = request.group_instance_id.as_deref().unwrap_or(&request.client_id);
        let room = STRING_BYTES_MAX.saturating_sub(request.new_member_suffix.len() + 1);
        let stem = stem.get(..stem.floor_char_boundary(room)).unwrap_or_default();
        let member_id = format!("{stem}-{}", request.new_member_suffix);
        if self.members.contains_key(&member_id) || self.pending.contains_key(&member_id) {
            // The caller's random suffix was not random; whoever has the id keeps it.
            let response = JoinResponse::refused("", GroupError::CoordinatorNotAvailable);
            return step.reply(token, GroupResponse::Join(response));
        }
        let holder = request.group_instance_id.as_ref().and_then(|instance_id| self.static_members.get(instance_id));
        if let Some(holder) = holder.cloned() {
            self.replace_static_member(token, &holder, member_id, request, step);
        } else if request.group_instance_id.is_none() && request.require_known_member_id {
            self.pending.insert(member_id.clone(), step.after(request.session_timeout_ms));
            let response = JoinResponse::refused(member_id, GroupError::MemberIdRequired);
            step.reply(token, GroupResponse::Join(response));
        } else {
            self.add_member(token, member_id, request, false, step);
        }
    }

    fn add_member(
        &mut self,
        token: Token,
        member_id: String,
        request: JoinRequest,
        knows_id: bool,
        step: &mut Step<'_>,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
        }
        if let Some(delay) = &mut self.initial_delay {
            delay.member_added = true;
        }
        if let Some(instance_id) = &request.group_instance_id {
            self.static_members.insert(instance_id.clone(), member_id.clone());
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        self.pending.remove(&member_id);
        step.wait(token, &self.id, &member_id);
        let member = Member {
            group_instance_id: request.group_instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: rebalance_timeout_ms(request.rebalance_timeout_ms, request.session_timeout_ms),
            protocols: request.protocols,
            assignment: Default::default(),
            waiting_join: Some(token),
            waiting_sync: None,
            is_new: true,
            knows_id,
            owes_sync: false,
            // A client that never comes back for its answer must not stay for ever.
            session_deadline_ms: Some(step.after(step.options.new_member_join_timeout_ms)),
        };
        self.members.insert(member_id, member);
        self.rebalance_or_complete_join(step);
    }

    fn join_again(&mut self, token: Token, request: JoinRequest, step: &mut Step<'_>) {
        let Some(member) = self.members.get(&request.member_id) else { return };
        let unchanged = member.protocols == request.protocols;
        let current = match self.state {
            // It may not have got the answer to its first JoinGroup.
            GroupState::CompletingRebalance => unchanged,
            // A leader that joins wants a rebalance: what it assigns (partitions of a topic, say) has changed.
            GroupState::Stable => unchanged && !self.is_leader(&request.member_id),
            _ => false,
        };
        if current {
            let response = self.join_response(&request.member_id);
            if let Some(member) = self.members.get_mut(&request.member_id) {
                member.touch(step.now_ms);
            }
            return step.reply(token, GroupResponse::Join(response));
        }
        let member_id = request.member_id.clone();
        self.update_member(token, &member_id, request, step);
        self.rebalance_or_complete_join(step);
    }

    /// Notes what a member that is in already brings along now, and that it waits.
    fn update_member(&mut self, token: Token, member_id: &str, request: JoinRequest, step: &mut Step<'_>) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.rebalance_timeout_ms = rebalance_timeout_ms(request.rebalance_timeout_ms, request.session_timeout_ms);
        member.session_timeout_ms = request.session_timeout_ms;
        member.protocols = request.protocols;
        // As for a member that is added: a new one that never comes back for its answer must not stay for ever.
        member.session_deadline_ms = member.is_new.then(|| step.after(step.options.new_member_join_timeout_ms));
        let superseded = member.waiting_join.replace(token);
        step.wait(token, &self.id, member_id);
        if let Some(superseded) = superseded {
            // The same member asks again, probably over a new connection: the old one must not wait for ever.
            let response = JoinResponse::refused(member_id, GroupError::RebalanceInProgress);
            step.reply(superseded, GroupResponse::Join(response));
        }
    }

    /// A static member is back under a new id (KIP-345). If that changes nothing for the others, nobody rebalances.
    fn replace_static_member(
        &mut self,
        token: Token,
        old_id: &str,
        new_id: String,
        request: JoinRequest,
        step: &mut Step<'_>,
    ) {
        let leader_before = self.leader.clone();
        let Some(mut member) = self.members.remove(old_id) else { return };
        if let Some(fenced) = member.waiting_join.take() {
            let response = JoinResponse::refused(old_id, GroupError::FencedInstanceId);
            step.reply(fenced, GroupResponse::Join(response));
        }
        if let Some(fenced) = member.waiting_sync.take() {
            step.reply(fenced, GroupResponse::Sync(SyncResponse::refused(GroupError::FencedInstanceId)));
        }
        if let Some(instance_id) = &member.group_instance_id {
            self.static_members.insert(instance_id.clone(), new_id.clone());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        member.client_id.clone_from(&request.client_id);
        member.client_host.clone_from(&request.client_host);
        member.knows_id = false;
        self.members.insert(new_id.clone(), member);
        let supports_skip_assignment = request.supports_skip_assignment;
        self.update_member(token, &new_id, request, step);
        match self.state {
            GroupState::Stable if self.elect_protocol() == self.protocol_name => {
                if let Some(member) = self.members.get_mut(&new_id) {
                    member.waiting_join = None;
                    member.knows_id = true;
                    member.restart_session(step.now_ms);
                }
                self.refresh_subscribed_topics();
                let mut response = self.join_response(&new_id);
                if supports_skip_assignment {
                    response.skip_assignment = self.is_leader(&new_id);
                } else {
                    // A leader that cannot be told to skip must not take itself for one, or it would assign anew; so
                    // it hears of the leader that was.
                    response.members.clear();
                    response.leader = leader_before.unwrap_or_default();
                }
                self.write(step);
                step.reply(token, GroupResponse::Join(response));
            }
            // The leader may be assigning to the old id right now, so the generation cannot be completed.
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(step),
            _ => self.complete_join_if_all_joined(step),
        }
    }

    /// The current generation as this member sees it.
    fn join_response(&self, member_id: &str) -> JoinResponse {
        JoinResponse {
            error: None,
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if self.is_leader(member_id) { self.joined_members() } else { Vec::new() },
        }
    }

    fn rebalance_or_complete_join(&mut self, step: &mut Step<'_>) {
        match self.state {
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(step),
            _ => self.prepare_rebalance(step),
        }
    }

    /// Begins to form the next generation.
    pub(crate) fn prepare_rebalance(&mut self, step: &mut Step<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.members.values_mut().for_each(|member| member.assignment = Default::default());
            self.answer_syncs(Some(GroupError::RebalanceInProgress), step);
        }
        self.sync_deadline_ms = None;
        self.members.values_mut().for_each(|member| member.owes_sync = false);
        let delay_ms = i64::from(step.options.initial_rebalance_delay_ms);
        let is_first = self.state == GroupState::Empty;
        self.become_state(GroupState::PreparingRebalance, step.now_ms);
        if is_first && delay_ms > 0 {
            let remaining_ms = (i64::from(self.rebalance_timeout_ms()) - delay_ms).max(0);
            self.initial_delay = Some(InitialDelay { remaining_ms, member_added: false });
            self.join_deadline_ms = Some(step.after(delay_ms));
        } else if is_first || self.all_have_joined() {
            self.complete_join(step);
        } else {
            self.join_deadline_ms = Some(step.after(self.rebalance_timeout_ms()));
        }
    }

    pub(crate) fn complete_join_if_all_joined(&mut self, step: &mut Step<'_>) {
        let waits = self.state == GroupState::PreparingRebalance && self.initial_delay.is_none();
        if waits && self.all_have_joined() {
            self.complete_join(step);
        }
    }

    /// The rebalance has waited as long as it may.
    pub(crate) fn join_time_is_over(&mut self, step: &mut Step<'_>) {
        let delay_ms = i64::from(step.options.initial_rebalance_delay_ms);
        match &mut self.initial_delay {
            Some(delay) if delay.member_added && delay.remaining_ms > 0 => {
                let further_ms = delay_ms.min(delay.remaining_ms);
                delay.remaining_ms -= further_ms;
                delay.member_added = false;
                self.join_deadline_ms = Some(step.after(further_ms));
            }
            _ => self.complete_join(step),
        }
    }

    /// Whoever has joined is the next generation.
    fn complete_join(&mut self, step: &mut Step<'_>) {
        self.join_deadline_ms = None;
        self.initial_delay = None;
        let absent = |(_, member): &(&String, &Member)| member.waiting_join.is_none();
        let dynamic = |(_, member): &(&String, &Member)| member.group_instance_id.is_none();
        let late: Vec<String> =
            self.members.iter().filter(absent).filter(dynamic).map(|(member_id, _)| member_id.clone()).collect();
        for member_id in late {
            self.remove_member(&member_id, GroupError::UnknownMemberId, step);
        }
        let joined = |member_id: &&String| self.members.get(*member_id).is_some_and(|m| m.waiting_join.is_some());
        let leader = self.leader.iter().chain(self.members.keys()).find(joined).cloned();
        if leader.is_none() && !self.members.is_empty() {
            // Only static members, none of them back yet: their sessions decide.
            self.join_deadline_ms = Some(step.after(self.rebalance_timeout_ms().max(1)));
            return;
        }
        self.leader = leader;
        // After 2^31 generations the count starts again at 1; members only compare for equality.
        self.generation_id = self.generation_id.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.protocol_name = None;
            self.refresh_subscribed_topics();
            self.become_state(GroupState::Empty, step.now_ms);
            self.write(step);
            return;
        }
        let elected = self.elect_protocol();
        assert!(elected.is_some(), "whoever joins knows a protocol that all members know");
        self.protocol_name = elected;
        self.refresh_subscribed_topics();
        self.become_state(GroupState::CompletingRebalance, step.now_ms);
        self.sync_deadline_ms = Some(step.after(self.rebalance_timeout_ms()));
        let member_ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let response = self.join_response(&member_id);
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            member.is_new = false;
            member.owes_sync = true;
            member.restart_session(step.now_ms);
            if let Some(token) = member.waiting_join.take() {
                member.knows_id = true;
                step.reply(token, GroupResponse::Join(response));
            }
        }
    }

    /// Puts the group as it is now into the log.
    pub(crate) fn write(&mut self, step: &mut Step<'_>) {
        self.recorded = true;
        step.record(self.to_record());
    }

    fn leave(&mut self, request: &LeaveRequest, step: &mut Step<'_>) -> Vec<LeftMember> {
        let members_before = self.members.len();
        let pending_before = self.pending.len();
        let left: Vec<LeftMember> =
            request.members.iter().map(|member| left_member(member, self.leave_one(member, step))).collect();
        if self.members.len() < members_before {
            self.after_departure(step);
        } else if self.pending.len() < pending_before {
            self.complete_join_if_all_joined(step);
        }
        left
    }

    fn leave_one(&mut self, leaving: &LeavingMember, step: &mut Step<'_>) -> Result<(), GroupError> {
        let instance_id = leaving.group_instance_id.as_deref();
        let member_id = if leaving.member_id.is_empty() {
            let holder = instance_id.and_then(|instance_id| self.static_members.get(instance_id));
            holder.cloned().ok_or(GroupError::UnknownMemberId)?
        } else if self.pending.remove(&leaving.member_id).is_some() {
            return Ok(());
        } else {
            self.check_member(&leaving.member_id, instance_id)?;
            leaving.member_id.clone()
        };
        self.remove_member(&member_id, GroupError::UnknownMemberId, step);
        Ok(())
    }
}

/// Before JoinGroup v1 there was no rebalance timeout; the session's stood for it.
fn rebalance_timeout_ms(rebalance_timeout_ms: i32, session_timeout_ms: i32) -> i32 {
    if rebalance_timeout_ms < 0 { session_timeout_ms } else { rebalance_timeout_ms }
}
