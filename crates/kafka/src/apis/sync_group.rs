//! SyncGroup: bring (as the leader) or get the assignment.
//!
//! Versions 0 to 5; v3 brings static members (KIP-345), v4 flexible fields, v5 protocol type and name, which are
//! checked. The answer waits for the leader's assignment.

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use millpond_coordinator as coordinator;

use super::Api;
use crate::call::{Call, text};
use crate::error_code::ErrorCode;
use crate::groups;
use crate::shape::Field::{Blob, Since, Structs, Text};
use crate::shape::INT;

pub(crate) static API: Api = Api {
    key: 14,
    name: "SyncGroup",
    versions: (0, 5),
    flexible_from: 4,
    fields: &[Text, INT, Text, Since(3, &Text), Since(5, &Text), Since(5, &Text), Structs(&[Text, Blob])],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: SyncGroupRequest) -> SyncGroupResponse {
    // Copied out of the frame: the group keeps them for long.
    let assignments =
        request.assignments.iter().map(|a| (a.member_id.to_string(), Bytes::copy_from_slice(&a.assignment)));
    let request = coordinator::SyncRequest {
        group_id: request.group_id.to_string(),
        generation_id: request.generation_id,
        member_id: request.member_id.to_string(),
        group_instance_id: groups::optional(request.group_instance_id),
        protocol_type: groups::optional(request.protocol_type),
        protocol_name: groups::optional(request.protocol_name),
        assignments: assignments.collect(),
    };
    let response = groups::sync(&call, request).await;
    let named = call.version >= 5;
    SyncGroupResponse::default()
        .with_error_code(call.code(ErrorCode::of_group(response.error)))
        .with_protocol_type(response.protocol_type.filter(|_| named).map(text))
        .with_protocol_name(response.protocol_name.filter(|_| named).map(text))
        .with_assignment(response.assignment)
}
