//! FindCoordinator: which node runs a group.
//!
//! Versions 0 to 6; v1 brings types of keys, v3 flexible fields, v4 several keys (KIP-699), v6 share groups. It is
//! always this node. There are no transactions and no share groups: those types are refused, the first with
//! TRANSACTIONAL_ID_AUTHORIZATION_FAILED, the one code that no client's library retries for ever.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::Api;
use crate::call::{Call, text};
use crate::error_code::ErrorCode;
use crate::node::NODE_ID;
use crate::shape::BYTE;
use crate::shape::Field::{Since, Text, Until, Values};

pub(crate) static API: Api = Api {
    key: 10,
    name: "FindCoordinator",
    versions: (0, 6),
    flexible_from: 3,
    fields: &[Until(3, &Text), Since(1, &BYTE), Since(4, &Values(&Text))],
    serve: |call, frame| call.serve(frame, handle),
};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

async fn handle(call: Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    if call.version >= 4 {
        let keys = request.coordinator_keys.into_iter();
        let coordinators = keys.map(|key| find(&call, request.key_type, key)).collect();
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let found = find(&call, request.key_type, request.key);
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn find(call: &Call, key_type: i8, key: StrBytes) -> Coordinator {
    let (error, message) = match key_type {
        GROUP => {
            return Coordinator::default()
                .with_key(key)
                .with_node_id(NODE_ID.into())
                .with_host(text(&*call.endpoint.host))
                .with_port(call.endpoint.port.into())
                .with_error_message(None);
        }
        TRANSACTION => (ErrorCode::TransactionalIdAuthorizationFailed, "transactions are not supported"),
        _ => (ErrorCode::InvalidRequest, "only groups have coordinators here (key type 0)"),
    };
    Coordinator::default()
        .with_key(key)
        .with_node_id((-1).into())
        .with_port(-1)
        .with_error_code(call.code(error))
        .with_error_message(Some(StrBytes::from_static_str(message)))
}
