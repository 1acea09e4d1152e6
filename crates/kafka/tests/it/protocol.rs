//! What comes before any API: headers, versions, and bytes that are no request.

use std::io::Write;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, HeartbeatRequest, MetadataRequest};
use kafka_protocol::protocol::{Decodable, StrBytes};
use millpond_kafka::supported_apis;
use proptest::prelude::*;

use crate::client::{Client, Node, frame, versions_of};

fn api_versions(version: i16) -> ApiVersionsRequest {
    match version {
        3.. => ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("tests"))
            .with_client_software_version(StrBytes::from_static_str("1.0")),
        _ => ApiVersionsRequest::default(),
    }
}

fn ranges(response: &ApiVersionsResponse) -> Vec<(i16, i16, i16)> {
    response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect()
}

fn advertised() -> Vec<(i16, i16, i16)> {
    supported_apis().into_iter().map(|(_, key, min, max)| (key, min, max)).collect()
}

#[test]
fn api_versions_tells_the_list_in_every_version() {
    let node = Node::start();
    let mut client = node.client();
    for version in versions_of(18) {
        let response = client.call(version, &api_versions(version));
        assert_eq!(response.error_code, 0);
        assert_eq!(ranges(&response), advertised());
        if version >= 3 {
            assert!(response.finalized_features_epoch >= 0, "a lower epoch makes clients ignore the features");
            let feature = &response.finalized_features[0];
            assert_eq!((feature.name.as_str(), feature.max_version_level), ("metadata.version", 30));
            assert!(response.supported_features.iter().all(|feature| feature.min_version > 0), "KAFKA-17011");
        }
    }
}

#[test]
fn no_transactions_are_advertised() {
    assert!(advertised().iter().all(|(key, _, _)| !(24..=28).contains(key)));
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let node = Node::start();
    let mut client = node.client();
    // Version 99 with a header of whatever form.
    client.stream.write_all(&[0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 5, 0, 0, 0]).unwrap();
    let mut bytes = client.receive_bytes().unwrap();
    assert_eq!(bytes.get_i32(), 5);
    let response = ApiVersionsResponse::decode(&mut bytes, 0).unwrap();
    assert!(bytes.is_empty());
    assert_eq!(response.error_code, 35);
    assert_eq!(ranges(&response), advertised());
    assert_eq!(client.call(4, &api_versions(4)).error_code, 0, "the connection lives on");
}

#[test]
fn software_without_a_proper_name_is_refused() {
    let node = Node::start();
    let response = node.client().call(3, &api_versions(0));
    assert_eq!(response.error_code, 42);
}

#[test]
fn apis_and_versions_that_are_not_served_close_the_connection() {
    let node = Node::start();
    for (key, version) in [(24i16, 0i16), (999, 0), (3, 14), (1, 3), (-1, 0)] {
        let mut client = node.client();
        let mut bytes = vec![0, 0, 0, 10];
        bytes.extend(key.to_be_bytes());
        bytes.extend(version.to_be_bytes());
        bytes.extend([0, 0, 0, 1, 0xff, 0xff]);
        client.stream.write_all(&bytes).unwrap();
        assert_eq!(client.receive_bytes(), None, "key {key} v{version}");
    }
}

/// Sends `bytes`, whatever becomes of them, and then checks that the node serves others.
fn survives(node: &Node, bytes: &[u8]) {
    let mut client = node.client();
    // The node may have closed the connection before all of it was sent.
    let _ = client.stream.write_all(bytes);
    let _ = client.stream.shutdown(std::net::Shutdown::Write);
    while client.receive_bytes_if_any().is_some() {}
    assert_eq!(node.client().call(0, &api_versions(0)).error_code, 0);
}

impl Client {
    fn receive_bytes_if_any(&mut self) -> Option<Bytes> {
        let mut len = [0; 4];
        std::io::Read::read_exact(&mut self.stream, &mut len).ok()?;
        let mut bytes = vec![0; i32::from_be_bytes(len) as usize];
        std::io::Read::read_exact(&mut self.stream, &mut bytes).ok()?;
        Some(bytes.into())
    }
}

#[test]
fn garbage_leaves_the_node_serving() {
    let node = Node::start();
    for len in [-1i32, 0, 1, 7, i32::MAX, i32::MIN, 104_857_601] {
        let mut bytes = len.to_be_bytes().to_vec();
        bytes.resize(64, 0xff);
        survives(&node, &bytes);
    }
    // A length that is allowed, and nothing after it.
    survives(&node, &[6, 0, 0, 0, 1, 2, 3]);
    // An array of four billion topics in a Metadata request of every version.
    for version in versions_of(3) {
        let mut bytes = vec![0, 3, 0, version as u8, 0, 0, 0, 1, 0xff, 0xff];
        bytes.extend(if version >= 9 { vec![0, 0xff, 0xff, 0xff, 0xff, 0x0f] } else { vec![0x7f, 0xff, 0xff, 0xff] });
        bytes.extend([0; 20]);
        let mut whole = (bytes.len() as i32).to_be_bytes().to_vec();
        whole.extend(bytes);
        survives(&node, &whole);
    }
    let mut client = node.client();
    client.stream.write_all(&[0, 0, 0, 8, 0, 3, 0, 1, 0, 0, 0, 1]).unwrap();
    assert_eq!(client.receive_bytes(), None, "a Metadata request without its fields");
}

#[test]
fn malformed_frames_are_counted_and_so_are_requests() {
    let node = Node::start();
    for _ in 0..3 {
        survives(&node, &[0, 0, 0, 1, 0]);
    }
    let shown = node.metrics();
    assert!(shown.contains("millpond_kafka_malformed_frames_total 3"), "{shown}");
    assert!(shown.contains("millpond_kafka_requests_total{api=\"ApiVersions\"} 3"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_with_random_bodies_leave_the_node_serving(
        place in 0..28usize, version_seed: u16, body in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let node = shared_node();
        let (_, key, first, last) = supported_apis()[place];
        let version = first + (version_seed % (last - first + 1) as u16) as i16;
        let mut bytes = ((10 + body.len()) as i32).to_be_bytes().to_vec();
        bytes.extend(key.to_be_bytes());
        bytes.extend(version.to_be_bytes());
        bytes.extend([0, 0, 0, 1, 0xff, 0xff]);
        bytes.extend(&body);
        survives(node, &bytes);
    }
}

/// One node for all cases of a property.
fn shared_node() -> &'static Node {
    static NODE: std::sync::OnceLock<Node> = std::sync::OnceLock::new();
    NODE.get_or_init(Node::start)
}

#[test]
fn requests_that_are_cut_or_changed_anywhere_leave_the_node_serving() {
    let node = Node::start();
    for version in [0, 1, 9, 12] {
        let whole = frame(1, version, &MetadataRequest::default());
        for end in 0..whole.len() {
            survives(&node, &whole[..end]);
        }
    }
    let whole = frame(1, 4, &HeartbeatRequest::default());
    for place in 4..whole.len() {
        let mut changed = whole.to_vec();
        changed[place] ^= 0xff;
        survives(&node, &changed);
    }
}
