//! SyncGroup: the leader's assignment reaches the members.

use std::collections::BTreeMap;

use bytes::Bytes;
use millpond_types::TimestampMs;

use crate::coordinator::{Coordinator, Outcome, Step, Token};
use crate::error::GroupError;
use crate::group::Group;
use crate::request::SyncRequest;
use crate::response::{GroupResponse, GroupState, SyncResponse};

impl Coordinator {
    /// Answers now or when the leader has brought the assignment.
    pub(crate) fn sync(&mut self, token: Token, request: SyncRequest, now_ms: TimestampMs, outcome: &mut Outcome) {
        let refusal = if request.group_id.is_empty() {
            Some(GroupError::InvalidGroupId)
        } else if !self.groups.contains_key(request.group_id.as_str()) {
            Some(GroupError::UnknownMemberId)
        } else if !self.has_room_to_wait() {
            Some(GroupError::CoordinatorNotAvailable)
        } else if !self.has_room_for_bytes(request.assignments.iter().map(|(_, bytes)| bytes.len()).sum()) {
            Some(GroupError::PolicyViolation)
        } else {
            None
        };
        if let Some(error) = refusal {
            outcome.replies.push((token, GroupResponse::Sync(SyncResponse::refused(error))));
            return;
        }
        let group_id = request.group_id.clone();
        self.with_group(&group_id, now_ms, outcome, |group, step| group.sync(token, request, step));
    }
}

impl Group {
    fn sync(&mut self, token: Token, request: SyncRequest, step: &mut Step<'_>) {
        if let Err(error) = self.check_sync(&request, step.options.assignment_bytes_max) {
            return step.reply(token, GroupResponse::Sync(SyncResponse::refused(error)));
        }
        let is_stable = self.state == GroupState::Stable;
        let is_leader = self.is_leader(&request.member_id);
        let Some(member) = self.members.get_mut(&request.member_id) else { return };
        member.owes_sync = false;
        if is_stable {
            member.touch(step.now_ms);
            let assignment = member.assignment.clone();
            step.reply(token, GroupResponse::Sync(self.sync_response(assignment)));
        } else {
            member.session_deadline_ms = None;
            let superseded = member.waiting_sync.replace(token);
            step.wait(token, &self.id, &request.member_id);
            if let Some(superseded) = superseded {
                // The same member asks again, probably over a new connection: the old one must not wait for ever.
                let response = SyncResponse::refused(GroupError::RebalanceInProgress);
                step.reply(superseded, GroupResponse::Sync(response));
            }
            if is_leader {
                self.assign(request.assignments, step);
            }
        }
        if self.members.values().all(|member| !member.owes_sync) {
            self.sync_deadline_ms = None;
        }
    }

    fn check_sync(&self, request: &SyncRequest, assignment_bytes_max: usize) -> Result<(), GroupError> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation_id {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |wanted: &Option<String>, ours: &Option<String>| wanted.is_some() && wanted != ours;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol_name, &self.protocol_name)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        if self.state == GroupState::PreparingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        let assignment_bytes: usize = request.assignments.iter().map(|(_, bytes)| bytes.len()).sum();
        if assignment_bytes > assignment_bytes_max { Err(GroupError::PolicyViolation) } else { Ok(()) }
    }

    /// The leader has spoken: the generation is complete. Whoever it left out has nothing to do.
    fn assign(&mut self, assignments: Vec<(String, Bytes)>, step: &mut Step<'_>) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        for (member_id, member) in &mut self.members {
            member.assignment = assignments.remove(member_id).unwrap_or_default();
        }
        self.become_state(GroupState::Stable, step.now_ms);
        self.write(step);
        self.answer_syncs(None, step);
    }

    /// Answers every SyncGroup that waits, with its member's assignment or with an error.
    pub(crate) fn answer_syncs(&mut self, error: Option<GroupError>, step: &mut Step<'_>) {
        let template = self.sync_response(Bytes::new());
        for member in self.members.values_mut() {
            let Some(token) = member.waiting_sync.take() else { continue };
            member.touch(step.now_ms);
            let response = match error {
                Some(error) => SyncResponse::refused(error),
                None => SyncResponse { assignment: member.assignment.clone(), ..template.clone() },
            };
            step.reply(token, GroupResponse::Sync(response));
        }
    }

    /// Members that joined and never fetched their assignment are gone; the others share their part.
    pub(crate) fn sync_time_is_over(&mut self, step: &mut Step<'_>) {
        self.sync_deadline_ms = None;
        let missing: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.owes_sync)
            .map(|(member_id, _)| member_id.clone())
            .collect();
        for member_id in &missing {
            self.remove_member(member_id, GroupError::UnknownMemberId, step);
        }
        if !missing.is_empty() {
            self.after_departure(step);
        }
    }

    fn sync_response(&self, assignment: Bytes) -> SyncResponse {
        SyncResponse {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment,
        }
    }
}
