//! JoinGroup: be part of the group's next generation.
//!
//! Versions 0 to 9. v1 brings the rebalance timeout, v4 new members who must come back with the id that they are given
//! (KIP-394), v5 static members (KIP-345), v6 flexible fields, v7 the protocol type in the answer, v8 the reason
//! (KIP-800), v9 leaders who need not assign (KIP-814). Any protocol type will do. The answer waits for the others.

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use millpond_coordinator as coordinator;

use super::Api;
use crate::call::{Call, text};
use crate::error_code::ErrorCode;
use crate::groups;
use crate::shape::Field::{Blob, Since, Structs, Text};
use crate::shape::INT;

pub(crate) static API: Api = Api {
    key: 11,
    name: "JoinGroup",
    versions: (0, 9),
    flexible_from: 6,
    fields: &[Text, INT, Since(1, &INT), Text, Since(5, &Text), Text, Structs(&[Text, Blob]), Since(8, &Text)],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let version = call.version;
    // Copied out of the frame: the group keeps them for long.
    let protocols = request.protocols.iter().map(|p| (p.name.to_string(), bytes::Bytes::copy_from_slice(&p.metadata)));
    let request = coordinator::JoinRequest {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: groups::optional(request.group_instance_id),
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        client_id: call.client.client_id.clone(),
        client_host: call.client.host.clone(),
        require_known_member_id: version >= 4,
        supports_skip_assignment: version >= 9,
        reason: groups::optional(request.reason),
        new_member_suffix: uuid::Uuid::new_v4().to_string(),
    };
    let response = groups::join(&call, request).await;
    let member = |member: coordinator::JoinedMember| {
        let instance = member.group_instance_id.filter(|_| version >= 5).map(text);
        JoinGroupResponseMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(instance)
            .with_metadata(member.metadata)
    };
    // Before v7 the protocol's name cannot be null.
    let protocol_name = match response.protocol_name {
        None if version < 7 => Some(String::new()),
        name => name,
    };
    JoinGroupResponse::default()
        .with_error_code(call.code(ErrorCode::of_group(response.error)))
        .with_generation_id(response.generation_id)
        .with_protocol_type(response.protocol_type.filter(|_| version >= 7).map(text))
        .with_protocol_name(protocol_name.map(text))
        .with_leader(text(response.leader))
        .with_skip_assignment(response.skip_assignment && version >= 9)
        .with_member_id(text(response.member_id))
        .with_members(response.members.into_iter().map(member).collect())
}
