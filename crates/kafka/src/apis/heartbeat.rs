//! Heartbeat: a member is still there.
//!
//! Versions 0 to 4; v3 brings static members (KIP-345), v4 flexible fields.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use millpond_coordinator as coordinator;

use super::Api;
use crate::call::Call;
use crate::error_code::ErrorCode;
use crate::groups;
use crate::shape::Field::{Since, Text};
use crate::shape::INT;

pub(crate) static API: Api = Api {
    key: 12,
    name: "Heartbeat",
    versions: (0, 4),
    flexible_from: 4,
    fields: &[Text, INT, Text, Since(3, &Text)],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let request = coordinator::HeartbeatRequest {
        group_id: request.group_id.to_string(),
        generation_id: request.generation_id,
        member_id: request.member_id.to_string(),
        group_instance_id: groups::optional(request.group_instance_id),
    };
    let response = groups::heartbeat(&call, request).await;
    HeartbeatResponse::default().with_error_code(call.code(ErrorCode::of_group(response.error)))
}
