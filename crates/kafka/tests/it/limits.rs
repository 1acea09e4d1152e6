//! What one client cannot do to the others.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use kafka_protocol::messages::ApiVersionsRequest;
use uuid::Uuid;

use crate::client::{Node, batch, frame};
use crate::records::{fetch, produce};

fn is_served(node: &Node) -> bool {
    node.client().call(0, &ApiVersionsRequest::default()).error_code == 0
}

#[test]
fn a_client_that_asks_and_does_not_read_is_no_longer_read_from() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    let value = "x".repeat(900_000);
    for _ in 0..4 {
        client.call(12, &produce(12, "t", Uuid::nil(), 0, -1, batch(&[&value])));
    }
    let mut greedy = node.client();
    greedy.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut request = fetch(12, "t", Uuid::nil(), 0);
    request.topics[0].partitions[0].partition_max_bytes = 10 << 20;
    let bytes = frame(1, 12, &request);
    let mut asked = 0;
    // What the node, the sockets and the network hold of requests is bounded; then writing is no longer possible.
    let blocked = (0..2_000_000).any(|_| match greedy.stream.write_all(&bytes) {
        Ok(()) => {
            asked += 1;
            false
        }
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    });
    assert!(blocked, "{asked} requests of 3.6 MB each were taken");
    assert!(is_served(&node));
    // It is served as before once it reads.
    assert!(greedy.receive_bytes().unwrap().len() > 3_000_000);
    assert!(greedy.receive_bytes().unwrap().len() > 3_000_000);
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let node = Node::with(&[("max.connections", "2")]);
    let (mut first, second) = (node.client(), node.client());
    assert_eq!(first.call(0, &ApiVersionsRequest::default()).error_code, 0);
    let mut third = node.client();
    assert_eq!(third.receive_bytes(), None);
    drop(second);
    // Its end is noticed, and makes room for another.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut another = node.client();
        let _ = another.stream.write_all(&frame(1, 0, &ApiVersionsRequest::default()));
        if another.stream.read_exact(&mut [0; 4]).is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "no room was made");
    }
}

#[test]
fn idle_connections_are_closed_and_waiting_ones_are_not() {
    let node = Node::with(&[("connections.max.idle.ms", "300")]);
    let mut client = node.client();
    client.create_topic("t", 1);
    let waits = client.send(12, &fetch(12, "t", Uuid::nil(), 0).with_max_wait_ms(1_000));
    client.receive::<kafka_protocol::messages::FetchRequest>(12, waits);
    assert_eq!(client.receive_bytes(), None, "closed for being idle, after the answer");
    // Half a request is idleness, too.
    let mut half = node.client();
    half.stream.write_all(&[0, 0, 1, 0, 0, 18]).unwrap();
    assert_eq!(half.receive_bytes(), None);
}

#[test]
fn large_requests_wait_for_memory_instead_of_taking_it() {
    // Room for two of these requests at once.
    let node = Node::with(&[("queued.max.request.bytes", "2000000")]);
    node.client().create_topic("t", 1);
    let value = "x".repeat(900_000);
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (mut client, value) = (node.client(), value.clone());
            std::thread::spawn(move || {
                for _ in 0..5 {
                    let response = client.call(12, &produce(12, "t", Uuid::nil(), 0, -1, batch(&[&value])));
                    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(node.broker.partition("t", 0).unwrap().visible_end(), 30);
}
