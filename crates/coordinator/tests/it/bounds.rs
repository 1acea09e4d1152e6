//! What the node does not let grow.

use bytes::Bytes;
use millpond_coordinator::*;

use crate::harness::*;

#[test]
fn session_timeouts_and_group_ids_have_bounds() {
    let mut node = Node::new();
    for session_timeout_ms in [5_999, 1_800_001, -1] {
        let token = node.join(&Client::default(), |request| request.session_timeout_ms = session_timeout_ms);
        assert_eq!(node.joined(token).error, Some(GroupError::InvalidSessionTimeout));
    }
    for group in [String::new(), "g".repeat(32_768)] {
        let token = node.join(&Client::default(), |request| request.group_id = group);
        assert_eq!(node.joined(token).error, Some(GroupError::InvalidGroupId));
    }
    let token = node.join(&Client::default(), |request| request.client_id = "c".repeat(32_768));
    assert_eq!(node.joined(token).error, Some(GroupError::InvalidRequest));
    assert_eq!(node.coordinator.group_count(), 0);
}

#[test]
fn the_longest_client_id_still_makes_a_member_id() {
    let mut node = Node::new();
    let token = node.join(&Client::default(), |request| {
        request.client_id = "ä".repeat(16_383);
        request.require_known_member_id = false;
    });
    let response = node.joined(token);
    assert_eq!(response.error, None);
    assert!(response.member_id.len() <= 32_767 && response.member_id.ends_with("-1"));
    let mut client = Client::default();
    node.in_generation(&mut client, token);
    node.sync(&client, &[(&client, "all")]);
    assert_eq!(node.state(), GroupState::Stable);
}

#[test]
fn a_group_has_at_most_as_many_members_as_it_may() {
    let mut node = Node::with(GroupOptions { members_max: 2, ..GroupOptions::default() });
    let (leader, follower) = node.stable_pair();
    let asked = node.join(&Client::default(), |_| ());
    assert_eq!(node.joined(asked).error, Some(GroupError::GroupMaxSizeReached));
    // Whoever is slow to rejoin finds the place taken.
    let waiting = node.join(&leader, |_| ());
    let newcomer = node.join(&Client::default(), |request| request.require_known_member_id = false);
    assert!(node.waits(newcomer));
    let late = node.join(&follower, |_| ());
    assert_eq!(node.joined(late).error, Some(GroupError::GroupMaxSizeReached));
    assert_eq!((node.joined(waiting).error, node.joined(newcomer).error), (None, None));
}

#[test]
fn ids_given_out_and_not_used_count() {
    let mut node = Node::with(GroupOptions { members_max: 3, ..GroupOptions::default() });
    let answers: Vec<_> = (0..4).map(|_| node.join(&Client::default(), |_| ())).collect();
    let errors: Vec<_> = answers.into_iter().map(|token| node.joined(token).error.unwrap()).collect();
    use GroupError::{GroupMaxSizeReached, MemberIdRequired};
    assert_eq!(errors, [MemberIdRequired, MemberIdRequired, MemberIdRequired, GroupMaxSizeReached]);
}

#[test]
fn groups_offsets_and_bytes_have_bounds() {
    let mut node = Node::with(GroupOptions {
        groups_max: 1,
        offsets_max: 2,
        member_metadata_bytes_max: 100,
        assignment_bytes_max: 10,
        ..GroupOptions::default()
    });
    assert_eq!(
        node.commit(simple_commit("a", &[("t", 0, 1), ("t", 1, 1), ("t", 2, 1)])),
        [None, None, Some(GroupError::PolicyViolation)]
    );
    assert_eq!(node.commit(simple_commit("a", &[("t", 0, 9)])), [None], "an offset that is there can move");
    assert_eq!(node.commit(simple_commit("b", &[("t", 0, 1)])), [Some(GroupError::PolicyViolation)]);
    let token = node.join(&Client::default(), |_| ());
    assert_eq!(node.joined(token).error, Some(GroupError::PolicyViolation));

    let mut node = Node::with(GroupOptions {
        assignment_bytes_max: 10,
        member_metadata_bytes_max: 100,
        ..GroupOptions::default()
    });
    let token = node.join(&Client::default(), |request| request.protocols[0].1 = Bytes::from(vec![0; 100]));
    assert_eq!(node.joined(token).error, Some(GroupError::PolicyViolation));
    let (mut leader, token) = node.join_new();
    node.in_generation(&mut leader, token);
    let token = node.sync(&leader, &[(&leader, "eleven bytes")]);
    assert_eq!(node.synced(token).error, Some(GroupError::PolicyViolation));
}

#[test]
fn requests_that_wait_have_a_bound() {
    let mut node = Node::with(GroupOptions { waiting_max: 1, ..GroupOptions::default() });
    let (leader, _) = {
        let (mut leader, token) = node.join_new();
        node.in_generation(&mut leader, token);
        let token = node.sync(&leader, &[(&leader, "all")]);
        (leader, token)
    };
    let first = node.join(&Client::default(), |request| request.require_known_member_id = false);
    assert!(node.waits(first));
    let second = node.join(&leader, |_| ());
    assert_eq!(node.joined(second).error, Some(GroupError::CoordinatorNotAvailable));
    assert_eq!(node.coordinator.waiting_count(), 1);
}

#[test]
fn a_token_that_waits_cannot_be_used_again() {
    let mut node = Node::new();
    node.stable_pair();
    let waiting = node.join(&Client::default(), |request| request.require_known_member_id = false);
    let heartbeat = GroupRequest::Heartbeat(HeartbeatRequest { group_id: GROUP.to_owned(), ..Default::default() });
    let outcome = node.coordinator.request(waiting, heartbeat, node.now_ms);
    let refused = GroupResponse::Heartbeat(HeartbeatResponse { error: Some(GroupError::InvalidRequest) });
    assert_eq!(outcome.replies, [(waiting, refused)]);
}

#[test]
fn the_members_of_all_groups_share_so_many_bytes() {
    let mut node = Node::with(GroupOptions { member_bytes_max: 3_000, ..GroupOptions::default() });
    let ask = |node: &mut Node, group: usize| {
        let token = node.join(&Client::default(), |request| request.group_id = format!("g{group}"));
        node.joined(token).error
    };
    let refused = (0..100).find(|group| ask(&mut node, *group) == Some(GroupError::PolicyViolation));
    assert_eq!(refused, Some(6), "ids that were given out count too");
    node.pass(10_000);
    assert_eq!(node.coordinator.member_bytes(), 0);
    let (mut leader, token) = node.join_new();
    node.in_generation(&mut leader, token);
    let token = node.send(GroupRequest::Sync(SyncRequest {
        group_id: GROUP.to_owned(),
        generation_id: leader.generation,
        member_id: leader.id.clone(),
        assignments: vec![(leader.id.clone(), Bytes::from(vec![0; 2_900]))],
        ..SyncRequest::default()
    }));
    assert_eq!(node.synced(token).error, Some(GroupError::PolicyViolation));
}
