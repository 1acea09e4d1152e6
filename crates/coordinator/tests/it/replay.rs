//! The node starts from its log.

use millpond_coordinator::*;

use crate::harness::*;

#[test]
fn a_stable_group_goes_on_after_a_restart() {
    let mut node = Node::new();
    let (leader, follower) = node.stable_pair();
    let before = node.describe();
    let mut node = node.restarted();
    assert_eq!(node.describe(), before);
    assert_eq!((node.heartbeat(&leader), node.heartbeat(&follower)), (None, None));
    assert_eq!(node.commit(member_commit(&leader, &[("t", 0, 1)])), [None]);
}

#[test]
fn sessions_begin_when_the_log_is_read() {
    let mut node = Node::new();
    let (leader, follower) = node.stable_pair();
    node.now_ms += 3_600_000;
    let mut node = node.restarted();
    node.pass(9_999);
    assert_eq!(node.heartbeat(&leader), None);
    node.pass(9_000);
    assert_eq!(node.heartbeat(&leader), Some(GroupError::RebalanceInProgress));
    assert_eq!(node.heartbeat(&follower), Some(GroupError::UnknownMemberId));
}

#[test]
fn a_generation_without_an_assignment_is_not_in_the_log() {
    let mut node = Node::new();
    let (mut leader, token) = node.join_new();
    node.in_generation(&mut leader, token);
    assert!(node.log.is_empty());
    let mut node = node.restarted();
    assert_eq!(node.heartbeat(&leader), Some(GroupError::UnknownMemberId));
}

#[test]
fn a_rebalance_after_a_restart_makes_the_next_generation() {
    let mut node = Node::new();
    let (mut leader, mut follower) = node.stable_pair();
    let generation = leader.generation;
    let mut node = node.restarted();
    let (one, two) = (node.join(&leader, |_| ()), node.join(&follower, |_| ()));
    node.in_generation(&mut leader, one);
    node.in_generation(&mut follower, two);
    assert_eq!((leader.generation, follower.generation), (generation + 1, generation + 1));
}

#[test]
fn records_of_others_are_errors_that_change_nothing() {
    let mut node = Node::new();
    let unknown = node.coordinator.replay(&[0, 3, 0, 1, b'g'], Some(&[0, 0])).unwrap_err();
    assert_eq!(unknown, RecordError::UnknownVersion { what: "a record key", version: 3 });
    let offset = OffsetsKey::Offset { group: "g".to_owned(), topic: "t".to_owned(), partition: 0 }.encode();
    let group = OffsetsKey::Group { group: "g".to_owned() }.encode();
    for key in [&offset, &group] {
        for value in [&b""[..], b"\0\x09", b"\xff\xff", b"\0\x03\0"] {
            assert!(node.coordinator.replay(key, Some(value)).is_err(), "{value:?}");
        }
        node.coordinator.replay(key, None).unwrap();
    }
    assert!(node.coordinator.replay(&[], None).is_err());
    assert_eq!((node.coordinator.group_count(), node.coordinator.offset_count()), (0, 0));
}

#[test]
fn a_group_of_kafkas_without_protocol_cannot_have_members() {
    let mut node = Node::new();
    let value = GroupValue {
        protocol_type: "consumer".to_owned(),
        generation_id: 4,
        protocol_name: None,
        leader: Some("m".to_owned()),
        state_since_ms: None,
        members: vec![MemberValue {
            member_id: "m".to_owned(),
            group_instance_id: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout_ms: -1,
            session_timeout_ms: 10_000,
            subscription: subscription(&["t"]),
            assignment: Default::default(),
        }],
    };
    let key = OffsetsKey::Group { group: GROUP.to_owned() }.encode();
    node.coordinator.replay(&key, Some(&value.encode())).unwrap();
    node.coordinator.loaded(node.now_ms);
    assert_eq!(node.state(), GroupState::Empty);
    let (mut client, token) = node.join_new();
    assert_eq!(node.in_generation(&mut client, token).generation_id, 5);
}
