//! Consumer groups, from the handshake to the end.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    SyncGroupRequest,
};

use crate::client::{Client, Node, text, topic_name, versions_of};

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

fn join_request(version: i16, group_id: &str, member_id: &str) -> JoinGroupRequest {
    let protocol =
        JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"meta"));
    let request = JoinGroupRequest::default()
        .with_group_id(group(group_id))
        .with_member_id(text(member_id))
        .with_session_timeout_ms(30_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    if version >= 1 { request.with_rebalance_timeout_ms(30_000) } else { request }
}

/// Joins, with the handshake of v4 and up.
fn join(client: &mut Client, version: i16, group_id: &str) -> JoinGroupResponse {
    let first = client.call(version, &join_request(version, group_id, ""));
    if version < 4 {
        return first;
    }
    assert_eq!(first.error_code, 79, "MEMBER_ID_REQUIRED");
    client.call(version, &join_request(version, group_id, &first.member_id))
}

fn sync_request(
    version: i16,
    group_id: &str,
    joined: &JoinGroupResponse,
    assignments: &[(&str, &str)],
) -> SyncGroupRequest {
    let assignments = assignments.iter().map(|(member, assignment)| {
        let assignment = Bytes::copy_from_slice(assignment.as_bytes());
        SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(assignment)
    });
    let request = SyncGroupRequest::default()
        .with_group_id(group(group_id))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(assignments.collect());
    match version {
        5.. => request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range"))),
        _ => request,
    }
}

fn heartbeat(client: &mut Client, version: i16, group_id: &str, joined: &JoinGroupResponse) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(group(group_id))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    client.call(version, &request).error_code
}

fn leave(client: &mut Client, version: i16, group_id: &str, joined: &JoinGroupResponse) -> i16 {
    let request = LeaveGroupRequest::default().with_group_id(group(group_id));
    let response = match version {
        3.. => {
            let member = MemberIdentity::default().with_member_id(joined.member_id.clone());
            client.call(version, &request.with_members(vec![member]))
        }
        _ => client.call(version, &request.with_member_id(joined.member_id.clone())),
    };
    response.members.first().map_or(response.error_code, |member| member.error_code)
}

#[test]
fn a_member_lives_through_its_group_in_every_version() {
    let node = Node::start();
    let mut client = node.client();
    for version in versions_of(11) {
        let name = format!("g{version}");
        let joined = join(&mut client, version, &name);
        assert_eq!(joined.error_code, 0, "v{version}");
        assert_eq!((joined.generation_id, &joined.leader), (1, &joined.member_id));
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.members[0].metadata, &b"meta"[..]);
        let sync = version.min(*versions_of(14).end());
        let synced = client.call(sync, &sync_request(sync, &name, &joined, &[(&joined.member_id, "mine")]));
        assert_eq!((synced.error_code, synced.assignment), (0, Bytes::from_static(b"mine")));
        assert_eq!(heartbeat(&mut client, version.min(4), &name, &joined), 0);
        assert_eq!(leave(&mut client, version.min(5), &name, &joined), 0);
        assert_eq!(heartbeat(&mut client, version.min(4), &name, &joined), 25, "UNKNOWN_MEMBER_ID");
    }
    let nowhere = join(&mut client, 3, "");
    assert_eq!(nowhere.error_code, 24, "INVALID_GROUP_ID");
}

#[test]
fn a_group_of_two_shares_and_rebalances() {
    let node = Node::start();
    let (mut first, mut second) = (node.client(), node.client());
    let alone = join(&mut first, 9, "g");
    first.call(5, &sync_request(5, "g", &alone, &[(&alone.member_id, "all")]));
    let welcome = second.call(9, &join_request(9, "g", ""));
    let waits = second.send(9, &join_request(9, "g", &welcome.member_id));
    // The first hears of it with its heartbeat, and joins again.
    while heartbeat(&mut first, 4, "g", &alone) != 27 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let leader = first.call(9, &join_request(9, "g", &alone.member_id));
    let follower = second.receive::<JoinGroupRequest>(9, waits);
    assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0), "the leader alone sees the members");
    // The follower waits for the leader's assignment.
    let waits = second.send(5, &sync_request(5, "g", &follower, &[]));
    let parts = [(&*leader.member_id, "left"), (&*follower.member_id, "right")];
    let left = first.call(5, &sync_request(5, "g", &leader, &parts));
    let right = second.receive::<SyncGroupRequest>(5, waits);
    assert_eq!((left.assignment, right.assignment), (Bytes::from_static(b"left"), Bytes::from_static(b"right")));
    assert_eq!(leave(&mut second, 5, "g", &follower), 0);
    assert_eq!(heartbeat(&mut first, 4, "g", &leader), 27, "REBALANCE_IN_PROGRESS");
}

fn commit_request(version: i16, group_id: &str, topic: &str, index: i32, offset: i64) -> OffsetCommitRequest {
    let mut partition = OffsetCommitRequestPartition::default()
        .with_partition_index(index)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("note")));
    if version >= 6 {
        partition = partition.with_committed_leader_epoch(0);
    }
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group(group_id))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// The committed offset of partition 0 of `t`, and its metadata.
fn committed(client: &mut Client, version: i16, group_id: &str, all: bool) -> Option<(i64, String)> {
    if version >= 8 {
        let topic = OffsetFetchRequestTopics::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
        let asked = OffsetFetchRequestGroup::default().with_group_id(group(group_id)).with_topics(if all {
            None
        } else {
            Some(vec![topic])
        });
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let answer = client.call(version, &request).groups.remove(0);
        assert_eq!((answer.group_id.as_str(), answer.error_code), (group_id, 0));
        let partition = answer.topics.first()?.partitions.first()?.clone();
        return Some((partition.committed_offset, partition.metadata.unwrap().to_string()));
    }
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group(group_id)).with_topics(if all {
        None
    } else {
        Some(vec![topic])
    });
    let answer = client.call(version, &request);
    assert_eq!(answer.error_code, 0);
    let partition = answer.topics.first()?.partitions.first()?.clone();
    Some((partition.committed_offset, partition.metadata.unwrap().to_string()))
}

#[test]
fn offsets_are_committed_and_found_in_every_version() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    for version in versions_of(9) {
        assert_eq!(committed(&mut client, version, "nobody", false), Some((-1, String::new())));
    }
    for (offset, version) in (10..).zip(versions_of(8)) {
        let answer = client.call(version, &commit_request(version, "g", "t", 0, offset));
        assert_eq!(answer.topics[0].partitions[0].error_code, 0, "v{version}");
        for version in versions_of(9) {
            assert_eq!(committed(&mut client, version, "g", false), Some((offset, "note".to_owned())));
            if version >= 2 {
                assert_eq!(committed(&mut client, version, "g", true), Some((offset, "note".to_owned())));
            }
        }
        for (topic, index) in [("t", 1), ("nobody", 0)] {
            let unknown = client.call(version, &commit_request(version, "g", topic, index, 1));
            assert_eq!(unknown.topics[0].partitions[0].error_code, 3);
        }
    }
}

#[test]
fn groups_are_listed_described_and_deleted_in_every_version() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    let joined = join(&mut client, 9, "busy");
    client.call(5, &sync_request(5, "busy", &joined, &[(&joined.member_id, "mine")]));
    client.call(8, &commit_request(8, "idle", "t", 0, 5));
    for version in versions_of(16) {
        let all = client.call(version, &ListGroupsRequest::default());
        let names: Vec<_> = all.groups.iter().map(|group| group.group_id.to_string()).collect();
        assert_eq!(names, ["busy", "idle"], "v{version}");
        if version >= 4 {
            let stable = ListGroupsRequest::default().with_states_filter(vec![text("Stable")]);
            let found = client.call(version, &stable);
            assert_eq!((found.groups.len(), &*found.groups[0].group_state), (1, "Stable"));
        }
        if version >= 5 {
            let consumers = ListGroupsRequest::default().with_types_filter(vec![text("consumer")]);
            assert!(client.call(version, &consumers).groups.is_empty(), "all are classic");
        }
    }
    for version in versions_of(15) {
        let request = DescribeGroupsRequest::default().with_groups(vec![group("busy"), group("nobody")]);
        let request = if version >= 3 { request.with_include_authorized_operations(true) } else { request };
        let found = client.call(version, &request);
        let (busy, nobody) = (&found.groups[0], &found.groups[1]);
        assert_eq!((&*busy.group_state, &*busy.protocol_type, &*busy.protocol_data), ("Stable", "consumer", "range"));
        let member = &busy.members[0];
        assert_eq!((&*member.client_id, &*member.client_host), ("tests", "/127.0.0.1"));
        assert_eq!((&member.member_metadata[..], &member.member_assignment[..]), (&b"meta"[..], &b"mine"[..]));
        assert_eq!(&*nobody.group_state, "Dead");
        assert_eq!(nobody.error_code, if version >= 6 { 69 } else { 0 });
        if version >= 3 {
            assert!(busy.authorized_operations > 0);
        }
    }
    for version in versions_of(42) {
        client.call(8, &commit_request(8, "idle", "t", 0, 5));
        let names = vec![group("busy"), group("idle"), group("nobody")];
        let answer = client.call(version, &DeleteGroupsRequest::default().with_groups_names(names));
        let codes: Vec<_> = answer.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [68, 0, 69], "v{version}");
    }
}

#[test]
fn offsets_are_deleted() {
    let node = Node::start();
    let mut client = node.client();
    client.create_topic("t", 1);
    client.call(8, &commit_request(8, "g", "t", 0, 5));
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
    let topic = OffsetDeleteRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(vec![topic]);
    let answer = client.call(0, &request);
    assert_eq!((answer.error_code, answer.topics[0].partitions[0].error_code), (0, 0));
    assert_eq!(committed(&mut client, 5, "g", false), Some((-1, String::new())));
    let nobody = client.call(0, &request.with_group_id(group("nobody")));
    assert_eq!(nobody.error_code, 69);
}

#[test]
fn a_member_whose_connection_ends_does_not_keep_the_others_waiting_for_its_join() {
    let node = Node::start();
    let (mut first, mut second) = (node.client(), node.client());
    let alone = join(&mut first, 3, "g");
    first.call(2, &sync_request(2, "g", &alone, &[(&alone.member_id, "all")]));
    second.send(3, &join_request(3, "g", ""));
    while heartbeat(&mut first, 3, "g", &alone) != 27 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(second);
    let again = first.call(3, &join_request(3, "g", &alone.member_id));
    assert_eq!((again.error_code, again.generation_id), (0, 2));
}
