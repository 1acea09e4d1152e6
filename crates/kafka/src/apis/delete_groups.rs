//! DeleteGroups: forget groups without members, and their offsets.
//!
//! Versions 0 to 2; v2 brings flexible fields.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use millpond_coordinator as coordinator;

use super::Api;
use crate::call::{Call, text};
use crate::error_code::ErrorCode;
use crate::groups;
use crate::shape::Field::{Text, Values};

pub(crate) static API: Api = Api {
    key: 42,
    name: "DeleteGroups",
    versions: (0, 2),
    flexible_from: 2,
    fields: &[Values(&Text)],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let groups = request.groups_names.iter().map(|group| group.to_string()).collect();
    let deleted = groups::delete(&call, coordinator::DeleteGroupsRequest { groups }).await;
    let result = |(group, error): (String, Option<coordinator::GroupError>)| {
        DeletableGroupResult::default()
            .with_group_id(GroupId(text(group)))
            .with_error_code(call.code(ErrorCode::of_group(error)))
    };
    DeleteGroupsResponse::default().with_results(deleted.groups.into_iter().map(result).collect())
}
