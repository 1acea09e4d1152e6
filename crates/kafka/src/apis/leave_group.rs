//! LeaveGroup: members go.
//!
//! Versions 0 to 5; v3 brings several members at once, and static ones (KIP-345), v4 flexible fields, v5 reasons
//! (KIP-800).

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use millpond_coordinator as coordinator;

use super::Api;
use crate::call::{Call, text};
use crate::error_code::ErrorCode;
use crate::groups;
use crate::shape::Field::{Since, Structs, Text, Until};

pub(crate) static API: Api = Api {
    key: 13,
    name: "LeaveGroup",
    versions: (0, 5),
    flexible_from: 4,
    fields: &[Text, Until(2, &Text), Since(3, &Structs(&[Text, Text, Since(5, &Text)]))],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let several = call.version >= 3;
    let members = match several {
        true => request
            .members
            .into_iter()
            .map(|member| coordinator::LeavingMember {
                member_id: member.member_id.to_string(),
                group_instance_id: groups::optional(member.group_instance_id),
                reason: groups::optional(member.reason),
            })
            .collect(),
        false => {
            let member_id = request.member_id.to_string();
            vec![coordinator::LeavingMember { member_id, ..Default::default() }]
        }
    };
    let group_id = request.group_id.to_string();
    let response = groups::leave(&call, coordinator::LeaveRequest { group_id, members }).await;
    let answer = LeaveGroupResponse::default();
    if !several {
        // There is one member, and one place for what happened to it.
        let error = response.error.or(response.members.first().and_then(|member| member.error));
        return answer.with_error_code(call.code(ErrorCode::of_group(error)));
    }
    let member = |member: coordinator::LeftMember| {
        MemberResponse::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.group_instance_id.map(text))
            .with_error_code(call.code(ErrorCode::of_group(member.error)))
    };
    answer
        .with_error_code(call.code(ErrorCode::of_group(response.error)))
        .with_members(response.members.into_iter().map(member).collect())
}
