//! Groups seen from outside: DescribeGroups, ListGroups, DeleteGroups.

use millpond_types::TimestampMs;

use crate::coordinator::{Coordinator, Outcome};
use crate::error::GroupError;
use crate::group::{Group, Member};
use crate::records::OffsetsRecord;
use crate::request::{DeleteGroupsRequest, DescribeRequest, ListRequest};
use crate::response::{
    DeleteGroupsResponse, DescribeResponse, DescribedGroup, DescribedMember, GROUP_TYPE, GroupState, ListResponse,
    ListedGroup,
};

impl Coordinator {
    pub(crate) fn describe(&self, request: &DescribeRequest) -> DescribeResponse {
        let describe = |group_id: &String| match self.groups.get(group_id.as_str()) {
            Some(group) => group.describe(),
            None => DescribedGroup::refused(group_id, GroupError::GroupIdNotFound),
        };
        DescribeResponse { groups: request.groups.iter().map(describe).collect() }
    }

    pub(crate) fn list(&self, request: &ListRequest) -> ListResponse {
        let wanted = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(name))
        };
        let listed = |group: &Group| ListedGroup {
            group_id: group.id.to_string(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state,
            group_type: GROUP_TYPE,
        };
        let groups = self.groups.values();
        let groups =
            groups.filter(|group| wanted(&request.states, group.state.name()) && wanted(&request.types, GROUP_TYPE));
        ListResponse { error: None, groups: groups.map(listed).collect() }
    }

    pub(crate) fn delete_groups(
        &mut self,
        request: &DeleteGroupsRequest,
        now_ms: TimestampMs,
        outcome: &mut Outcome,
    ) -> DeleteGroupsResponse {
        let mut delete = |group_id: &String| {
            let deleted = self.delete_group(group_id, now_ms, outcome);
            (group_id.clone(), deleted.err())
        };
        DeleteGroupsResponse { groups: request.groups.iter().map(&mut delete).collect() }
    }

    fn delete_group(&mut self, group_id: &str, now_ms: TimestampMs, outcome: &mut Outcome) -> Result<(), GroupError> {
        let group = self.groups.get_mut(group_id).ok_or(GroupError::GroupIdNotFound)?;
        if group.state != GroupState::Empty {
            return Err(GroupError::NonEmptyGroup);
        }
        let partitions = group
            .offsets
            .iter()
            .flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (topic.clone(), *partition)));
        for (topic, partition) in partitions.collect::<Vec<_>>() {
            self.offset_count -= usize::from(group.delete_offset(&topic, partition, outcome));
        }
        if group.recorded {
            outcome.records.push(OffsetsRecord::group(group_id, None));
        }
        self.drop_group(group_id, now_ms, outcome);
        Ok(())
    }
}

impl Group {
    fn describe(&self) -> DescribedGroup {
        let protocol = self.protocol_name.as_deref().filter(|_| self.state == GroupState::Stable);
        let member = |(member_id, member): (&String, &Member)| DescribedMember {
            member_id: member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol.map(|protocol| member.metadata(protocol)).unwrap_or_default(),
            assignment: protocol.map(|_| member.assignment.clone()).unwrap_or_default(),
        };
        DescribedGroup {
            error: None,
            group_id: self.id.to_string(),
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol.unwrap_or_default().to_owned(),
            members: self.members.iter().map(member).collect(),
        }
    }
}
