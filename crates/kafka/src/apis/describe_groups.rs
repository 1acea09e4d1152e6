//! DescribeGroups: state and members of groups.
//!
//! Versions 0 to 6; v3 brings authorized operations (KIP-430), v4 static members, v5 flexible fields, v6 the error
//! GROUP_ID_NOT_FOUND (KIP-1043), where older versions show an unknown group as dead.

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use millpond_coordinator::{self as coordinator, GroupError};

use super::Api;
use crate::call::{Call, once, text};
use crate::error_code::ErrorCode;
use crate::shape::BYTE;
use crate::shape::Field::{Since, Text, Values};
use crate::{groups, operations};

pub(crate) static API: Api = Api {
    key: 15,
    name: "DescribeGroups",
    versions: (0, 6),
    flexible_from: 5,
    fields: &[Values(&Text), Since(3, &BYTE)],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let version = call.version;
    let operations_asked = request.include_authorized_operations;
    let groups = once(request.groups, Clone::clone).iter().map(|group| group.to_string()).collect();
    let described = groups::describe(&call, coordinator::DescribeRequest { groups }).await;
    let member = |member: coordinator::DescribedMember| {
        DescribedGroupMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.group_instance_id.filter(|_| version >= 4).map(text))
            .with_client_id(text(member.client_id))
            .with_client_host(text(member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    };
    let group = |group: coordinator::DescribedGroup| {
        let error = group.error.filter(|error| version >= 6 || *error != GroupError::GroupIdNotFound);
        let message = error.filter(|_| version >= 6).map(|error| format!("{}: {error}", group.group_id));
        DescribedGroup::default()
            .with_error_code(call.code(ErrorCode::of_group(error)))
            .with_error_message(message.map(text))
            .with_group_id(GroupId(text(group.group_id)))
            .with_group_state(text(group.state.name()))
            .with_protocol_type(text(group.protocol_type))
            .with_protocol_data(text(group.protocol_name))
            .with_members(group.members.into_iter().map(member).collect())
            .with_authorized_operations(operations::on_group(operations_asked))
    };
    DescribeGroupsResponse::default().with_groups(described.groups.into_iter().map(group).collect())
}
