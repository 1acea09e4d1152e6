//! The way to the coordinator: one function for each request, each with the answer of its kind.

use kafka_protocol::protocol::StrBytes;
use millpond_coordinator::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeRequest, DescribeResponse, GroupRequest, GroupResponse,
    HeartbeatRequest, HeartbeatResponse, JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, ListRequest,
    ListResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, SyncRequest, SyncResponse,
};

use crate::call::Call;

macro_rules! requests {
    ($($function:ident: $kind:ident($request:ty) -> $response:ty,)*) => {
        $(
            #[doc = concat!("Asks the coordinator a ", stringify!($kind), " request.")]
            pub(crate) async fn $function(call: &Call, request: $request) -> $response {
                match call.broker().group_request(GroupRequest::$kind(request)).await {
                    GroupResponse::$kind(response) => response,
                    other => unreachable!("the coordinator answers a request with its own kind, not {other:?}"),
                }
            }
        )*
    };
}

requests! {
    join: Join(JoinRequest) -> JoinResponse,
    sync: Sync(SyncRequest) -> SyncResponse,
    heartbeat: Heartbeat(HeartbeatRequest) -> HeartbeatResponse,
    leave: Leave(LeaveRequest) -> LeaveResponse,
    commit: OffsetCommit(OffsetCommitRequest) -> OffsetCommitResponse,
    offsets: OffsetFetch(OffsetFetchRequest) -> OffsetFetchResponse,
    describe: Describe(DescribeRequest) -> DescribeResponse,
    list: List(ListRequest) -> ListResponse,
    delete: DeleteGroups(DeleteGroupsRequest) -> DeleteGroupsResponse,
    delete_offsets: OffsetDelete(OffsetDeleteRequest) -> OffsetDeleteResponse,
}

/// A string that may be null, copied out of the frame.
pub(crate) fn optional(text: Option<StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}
