//! DescribeCluster: the nodes (KIP-700).
//!
//! Versions 0 to 2; v1 brings the type of endpoint (KIP-919), v2 fenced brokers. There is one node, a broker that is
//! never fenced; controllers have no endpoint of their own.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::Api;
use crate::call::{Call, text};
use crate::error_code::ErrorCode;
use crate::node::NODE_ID;
use crate::operations;
use crate::shape::BYTE;
use crate::shape::Field::Since;

pub(crate) static API: Api = Api {
    key: 60,
    name: "DescribeCluster",
    versions: (0, 2),
    flexible_from: 0,
    fields: &[BYTE, Since(1, &BYTE), Since(2, &BYTE)],
    serve: |call, frame| call.serve(frame, handle),
};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

async fn handle(call: Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let endpoint_type = if call.version >= 1 { request.endpoint_type } else { BROKERS };
    if endpoint_type != BROKERS {
        let (error, message) = match endpoint_type {
            CONTROLLERS => (ErrorCode::MismatchedEndpointType, "this endpoint is a broker's"),
            _ => (ErrorCode::UnsupportedEndpointType, "endpoint types are 1 for brokers and 2 for controllers"),
        };
        return DescribeClusterResponse::default()
            .with_error_code(call.code(error))
            .with_error_message(Some(StrBytes::from_static_str(message)))
            .with_endpoint_type(endpoint_type);
    }
    let broker = DescribeClusterBroker::default()
        .with_broker_id(NODE_ID.into())
        .with_host(text(&*call.endpoint.host))
        .with_port(call.endpoint.port.into());
    DescribeClusterResponse::default()
        .with_cluster_id(text(call.broker().cluster_id()))
        .with_controller_id(NODE_ID.into())
        .with_brokers(vec![broker])
        .with_cluster_authorized_operations(operations::on_cluster(request.include_cluster_authorized_operations))
}
