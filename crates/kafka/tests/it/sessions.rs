//! Fetch sessions over the wire (KIP-227); their rules are tested where they are written.

use kafka_protocol::messages::FetchRequest;
use uuid::Uuid;

use crate::client::{Node, batch, values};
use crate::records::{fetch, id_of, produce};

fn follow(version: i16, id: i32, epoch: i32) -> FetchRequest {
    let mut request = fetch(version, "t", Uuid::nil(), 0).with_session_id(id).with_session_epoch(epoch);
    request.topics.clear();
    request
}

#[test]
fn a_session_tells_only_news() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    let topic_id = id_of(&node, "t");
    for version in 7..=18 {
        let end = node.broker.partition("t", 0).unwrap().visible_end();
        let first = client.call(version, &fetch(version, "t", topic_id, end).with_session_epoch(0));
        let id = first.session_id;
        assert!(id != 0 && first.responses.len() == 1);
        let quiet = client.call(version, &follow(version, id, 1));
        assert_eq!((quiet.error_code, quiet.session_id, quiet.responses.len()), (0, id, 0), "v{version}");
        client.call(version.min(13), &produce(version.min(13), "t", topic_id, 0, -1, batch(&["news"])));
        let news = client.call(version, &follow(version, id, 2));
        let records = news.responses[0].partitions[0].records.as_ref().unwrap();
        assert_eq!(values(records), [(end, "news".to_owned())], "v{version}");
        assert_eq!(client.call(version, &follow(version, id, 2)).error_code, 71, "INVALID_FETCH_SESSION_EPOCH");
        client.call(version, &follow(version, id, -1));
        assert_eq!(client.call(version, &follow(version, id, 3)).error_code, 70, "FETCH_SESSION_ID_NOT_FOUND");
    }
}

#[test]
fn a_node_without_slots_serves_without_sessions() {
    let node = Node::with(&[("max.incremental.fetch.session.cache.slots", "1")]);
    let mut client = node.client();
    client.create_topic("t", 1);
    let mut session = || client.call(12, &fetch(12, "t", Uuid::nil(), 0).with_session_epoch(0)).session_id;
    assert!(session() != 0);
    assert_eq!(session(), 0);
}
