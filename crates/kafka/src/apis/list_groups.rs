//! ListGroups: which groups there are.
//!
//! Versions 0 to 5; v3 brings flexible fields, v4 a filter by state (KIP-518), v5 one by type (KIP-848). All groups are
//! classic ones.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use millpond_coordinator as coordinator;

use super::Api;
use crate::call::{Call, text};
use crate::error_code::ErrorCode;
use crate::groups;
use crate::shape::Field::{Since, Text, Values};

pub(crate) static API: Api = Api {
    key: 16,
    name: "ListGroups",
    versions: (0, 5),
    flexible_from: 3,
    fields: &[Since(4, &Values(&Text)), Since(5, &Values(&Text))],
    serve: |call, frame| call.serve(frame, handle),
};

async fn handle(call: Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let version = call.version;
    let request = coordinator::ListRequest {
        states: request.states_filter.iter().map(|state| state.to_string()).collect(),
        types: request.types_filter.iter().map(|group_type| group_type.to_string()).collect(),
    };
    let listed = groups::list(&call, request).await;
    let group = |group: coordinator::ListedGroup| {
        let entry = ListedGroup::default()
            .with_group_id(GroupId(text(group.group_id)))
            .with_protocol_type(text(group.protocol_type));
        let entry = if version >= 4 { entry.with_group_state(text(group.state.name())) } else { entry };
        if version >= 5 { entry.with_group_type(text(group.group_type)) } else { entry }
    };
    ListGroupsResponse::default()
        .with_error_code(call.code(ErrorCode::of_group(listed.error)))
        .with_groups(listed.groups.into_iter().map(group).collect())
}
