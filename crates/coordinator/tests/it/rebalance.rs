//! Members come and go.

use bytes::Bytes;
use millpond_coordinator::*;

use crate::harness::*;

#[test]
fn a_first_member_is_told_its_id_and_then_leads_without_delay() {
    let mut node = Node::new();
    let (mut client, token) = node.join_new();
    let response = node.in_generation(&mut client, token);
    assert_eq!((response.generation_id, response.leader.as_str()), (1, client.id.as_str()));
    assert_eq!(response.members.len(), 1);
    assert_eq!(response.members[0].metadata, subscription(&["t"]));
    assert_eq!(
        (response.protocol_type.as_deref(), response.protocol_name.as_deref()),
        (Some("consumer"), Some("range"))
    );
    assert!(client.id.starts_with("c-"), "{}", client.id);
}

#[test]
fn an_old_client_joins_without_the_handshake() {
    let mut node = Node::new();
    let token = node.join(&Client::default(), |request| request.require_known_member_id = false);
    assert_eq!(node.joined(token).error, None);
}

#[test]
fn two_members_share_and_only_the_leader_sees_both() {
    let mut node = Node::new();
    let (leader, follower) = node.stable_pair();
    assert_eq!(node.state(), GroupState::Stable);
    assert_eq!((node.heartbeat(&leader), node.heartbeat(&follower)), (None, None));
    let described = node.describe();
    let assigned: Vec<&[u8]> = described.members.iter().map(|member| &member.assignment[..]).collect();
    assert_eq!(assigned, [b"left".as_slice(), b"right"]);
    assert_eq!(described.protocol_name, "range");
}

#[test]
fn a_rebalance_waits_for_the_slowest_member_and_then_goes_on_without_it() {
    let mut node = Node::new();
    let (mut leader, follower) = node.stable_pair();
    let waiting = node.join(&leader, |_| ());
    // The follower lives, but does not join.
    for _ in 0..11 {
        assert!(node.waits(waiting));
        assert_eq!(node.heartbeat(&follower), Some(GroupError::RebalanceInProgress));
        node.pass(5_000);
    }
    node.pass(5_000);
    let response = node.in_generation(&mut leader, waiting);
    assert_eq!(response.members.len(), 1);
    assert_eq!(node.heartbeat(&follower), Some(GroupError::UnknownMemberId));
}

#[test]
fn a_silent_member_is_gone_after_its_session() {
    let mut node = Node::new();
    let (leader, follower) = node.stable_pair();
    node.pass(9_000);
    assert_eq!(node.heartbeat(&leader), None);
    node.pass(2_000);
    assert_eq!(node.heartbeat(&leader), Some(GroupError::RebalanceInProgress));
    assert_eq!(node.heartbeat(&follower), Some(GroupError::UnknownMemberId));
}

#[test]
fn a_group_whose_last_member_leaves_is_empty_and_says_so_in_the_log() {
    let mut node = Node::new();
    let (leader, follower) = node.stable_pair();
    assert_eq!(node.leave(&[(&leader.id, None), (&follower.id, None)]), [None, None]);
    assert_eq!(node.state(), GroupState::Empty);
    let last = node.log.last().unwrap();
    let key = OffsetsKey::decode(&last.key).unwrap();
    assert_eq!(key, OffsetsKey::Group { group: GROUP.to_owned() });
    let OffsetsValue::Group(value) = OffsetsValue::decode(&key, last.value.as_ref().unwrap()).unwrap() else {
        panic!()
    };
    assert_eq!((value.generation_id, value.members.len(), value.protocol_name), (3, 0, None));
    assert_eq!(
        node.coordinator.next_deadline_ms().map(|at| at > node.now_ms + 100_000),
        Some(true),
        "nothing else waits"
    );
}

#[test]
fn a_leaders_join_makes_everybody_rejoin_a_followers_join_does_not() {
    let mut node = Node::new();
    let (leader, follower) = node.stable_pair();
    let again = node.join(&follower, |_| ());
    assert_eq!(node.joined(again).generation_id, follower.generation);
    assert_eq!(node.state(), GroupState::Stable);
    node.join(&leader, |_| ());
    assert_eq!(node.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_follower_with_a_new_subscription_makes_everybody_rejoin() {
    let mut node = Node::new();
    let (_, follower) = node.stable_pair();
    node.join(&follower, |request| request.protocols = vec![("range".to_owned(), subscription(&["u"]))]);
    assert_eq!(node.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_join_during_the_assignment_sends_waiting_members_back() {
    let mut node = Node::new();
    let (mut leader, mut follower) = node.stable_pair();
    let (one, two) = (node.join(&leader, |_| ()), node.join(&follower, |r| r.protocols[0].1 = subscription(&["u"])));
    node.in_generation(&mut leader, one);
    node.in_generation(&mut follower, two);
    let waiting = node.sync(&follower, &[]);
    let (_, joining) = node.join_new();
    assert_eq!(node.synced(waiting).error, Some(GroupError::RebalanceInProgress));
    // The leader's assignment is for a generation that is being given up.
    let late = node.sync(&leader, &[(&leader, "x")]);
    assert_eq!(node.synced(late).error, Some(GroupError::RebalanceInProgress));
    assert!(node.waits(joining));
}

#[test]
fn members_that_never_fetch_their_assignment_are_gone_after_the_rebalance_timeout() {
    let mut node = Node::new();
    let (mut leader, token) = node.join_new();
    node.in_generation(&mut leader, token);
    for _ in 0..12 {
        assert_eq!(node.heartbeat(&leader), None);
        node.pass(5_000);
    }
    assert_eq!(node.heartbeat(&leader), Some(GroupError::UnknownMemberId));
    assert_eq!(node.state(), GroupState::Empty);
}

#[test]
fn a_stale_generation_and_a_stranger_are_told_so() {
    let mut node = Node::new();
    let (leader, _) = node.stable_pair();
    let stale = Client { generation: leader.generation - 1, ..leader };
    assert_eq!(node.heartbeat(&stale), Some(GroupError::IllegalGeneration));
    let token = node.sync(&stale, &[]);
    assert_eq!(node.synced(token).error, Some(GroupError::IllegalGeneration));
    let stranger = Client { id: "x".to_owned(), ..stale };
    assert_eq!(node.heartbeat(&stranger), Some(GroupError::UnknownMemberId));
    let token = node.join(&stranger, |_| ());
    assert_eq!(node.joined(token).error, Some(GroupError::UnknownMemberId));
    assert_eq!(node.leave(&[("x", None), ("", None)]), [Some(GroupError::UnknownMemberId); 2]);
}

#[test]
fn the_protocol_with_most_votes_among_those_all_know_wins() {
    let protocols = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect::<Vec<_>>();
    let options = GroupOptions { initial_rebalance_delay_ms: 3_000, ..GroupOptions::default() };
    let mut node = Node::with(options);
    let mut tokens = Vec::new();
    for names in [&["a", "b", "c"][..], &["c", "b"], &["b", "c"]] {
        tokens.push(node.join(&Client::default(), |request| {
            request.require_known_member_id = false;
            request.protocols = protocols(names);
        }));
    }
    node.pass(10_000);
    // Only b and c are known to all; the first votes b, the second c, the third b.
    assert_eq!(node.joined(tokens[0]).protocol_name.as_deref(), Some("b"));
    let misfit = node.join(&Client::default(), |request| request.protocols = protocols(&["a"]));
    assert_eq!(node.joined(misfit).error, Some(GroupError::InconsistentGroupProtocol));
    let other_kind = node.join(&Client::default(), |request| request.protocol_type = "connect".to_owned());
    assert_eq!(node.joined(other_kind).error, Some(GroupError::InconsistentGroupProtocol));
    let none = node.join(&Client::default(), |request| request.protocols.clear());
    assert_eq!(node.joined(none).error, Some(GroupError::InconsistentGroupProtocol));
}

#[test]
fn a_sync_for_another_protocol_is_refused() {
    let mut node = Node::new();
    let (mut leader, token) = node.join_new();
    node.in_generation(&mut leader, token);
    for (kind, name) in [("connect", "range"), ("consumer", "sticky")] {
        let token = node.send(GroupRequest::Sync(SyncRequest {
            group_id: GROUP.to_owned(),
            generation_id: leader.generation,
            member_id: leader.id.clone(),
            protocol_type: Some(kind.to_owned()),
            protocol_name: Some(name.to_owned()),
            ..SyncRequest::default()
        }));
        assert_eq!(node.synced(token).error, Some(GroupError::InconsistentGroupProtocol));
    }
}

#[test]
fn the_initial_delay_gathers_members_and_grows_with_each() {
    let options = GroupOptions { initial_rebalance_delay_ms: 3_000, ..GroupOptions::default() };
    let mut node = Node::with(options);
    let (_, first) = node.join_new();
    node.pass(2_000);
    let (_, second) = node.join_new();
    node.pass(1_500);
    assert!(node.waits(first) && node.waits(second));
    node.pass(3_000);
    assert_eq!((node.joined(first).generation_id, node.joined(second).generation_id), (1, 1));
}

#[test]
fn an_id_that_is_never_used_lapses_and_leaves_no_group_behind() {
    let mut node = Node::new();
    node.join(&Client::default(), |_| ());
    assert_eq!(node.coordinator.group_count(), 1);
    node.pass(10_000);
    assert_eq!(node.coordinator.group_count(), 0);
    assert_eq!(node.coordinator.next_deadline_ms(), None);
}

#[test]
fn a_rebalance_waits_for_a_member_that_was_just_given_its_id() {
    let mut node = Node::new();
    let (leader, _) = node.stable_pair();
    let asked = node.join(&Client::default(), |_| ());
    let newcomer = Client { id: node.joined(asked).member_id, ..Client::default() };
    let (one, two) = (node.join(&leader, |_| ()), node.describe());
    assert_eq!(two.state, GroupState::PreparingRebalance);
    assert!(node.waits(one));
    let three = node.join(&newcomer, |_| ());
    assert!(node.waits(three), "the follower has not joined yet");
}

#[test]
fn a_new_member_whose_connection_dies_before_it_knew_its_id_is_gone_at_once() {
    let mut node = Node::new();
    let (mut leader, token) = node.join_new();
    node.in_generation(&mut leader, token);
    node.sync(&leader, &[(&leader, "all")]);
    let orphan = node.join(&Client::default(), |request| request.require_known_member_id = false);
    assert!(node.waits(orphan));
    node.forget(orphan);
    let again = node.join(&leader, |_| ());
    assert_eq!(node.in_generation(&mut leader, again).members.len(), 1);
    assert!(node.waits(orphan), "nobody is there to be answered");
}

#[test]
fn a_member_whose_connection_dies_while_joining_has_its_session_to_come_back() {
    let mut node = Node::new();
    let (mut leader, mut follower) = node.stable_pair();
    let lost = node.join(&leader, |_| ());
    node.forget(lost);
    let waiting = node.join(&follower, |_| ());
    node.pass(5_000);
    assert!(node.waits(waiting));
    let back = node.join(&leader, |_| ());
    assert_eq!(node.in_generation(&mut leader, back).members.len(), 2);
    node.in_generation(&mut follower, waiting);
}

#[test]
fn a_member_whose_connection_dies_while_joining_and_stays_away_is_gone_after_its_session() {
    let mut node = Node::new();
    let (leader, mut follower) = node.stable_pair();
    let lost = node.join(&leader, |_| ());
    node.forget(lost);
    let waiting = node.join(&follower, |_| ());
    node.pass(10_000);
    let response = node.in_generation(&mut follower, waiting);
    assert_eq!((response.members.len(), response.leader), (1, follower.id.clone()));
}

#[test]
fn a_second_request_of_a_waiting_member_takes_the_place_of_the_first() {
    let mut node = Node::new();
    let (leader, mut follower) = node.stable_pair();
    let first = node.join(&leader, |_| ());
    let second = node.join(&leader, |_| ());
    assert_eq!(node.joined(first).error, Some(GroupError::RebalanceInProgress));
    let other = node.join(&follower, |_| ());
    node.in_generation(&mut follower, other);
    assert_eq!(node.joined(second).error, None);
    let one = node.sync(&follower, &[]);
    let two = node.sync(&follower, &[]);
    assert_eq!(node.synced(one).error, Some(GroupError::RebalanceInProgress));
    assert!(node.waits(two));
}

#[test]
fn a_lost_answer_to_join_can_be_asked_for_again() {
    let mut node = Node::new();
    let (mut leader, token) = node.join_new();
    let first = node.in_generation(&mut leader, token);
    let again = node.join(&leader, |_| ());
    assert_eq!(node.joined(again), first);
    assert_eq!(node.state(), GroupState::CompletingRebalance);
}

#[test]
fn whoever_leads_next_is_the_one_that_came() {
    let mut node = Node::new();
    let (leader, mut follower) = node.stable_pair();
    assert_eq!(node.leave(&[(&leader.id, None)]), [None]);
    let token = node.join(&follower, |_| ());
    let response = node.in_generation(&mut follower, token);
    assert_eq!((response.leader, response.members.len()), (follower.id.clone(), 1));
}

#[test]
fn other_protocol_types_are_opaque() {
    let mut node = Node::new();
    let token = node.join(&Client::default(), |request| {
        request.require_known_member_id = false;
        request.protocol_type = "sr".to_owned();
        request.protocols = vec![("v0".to_owned(), Bytes::from_static(&[0xff, 0xfe]))];
    });
    let response = node.joined(token);
    assert_eq!((response.error, response.members[0].metadata.as_ref()), (None, &[0xff, 0xfe][..]));
}
