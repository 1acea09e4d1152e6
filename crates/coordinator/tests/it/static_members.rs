//! Members with a name of their own (KIP-345).

use millpond_coordinator::*;

use crate::harness::*;

fn named(instance: &str) -> Client {
    Client { instance: Some(instance.to_owned()), ..Client::default() }
}

/// A stable group of two static members: the leader `a`, the follower `b`.
fn stable_pair(node: &mut Node) -> (Client, Client) {
    let (mut leader, mut follower) = (named("a"), named("b"));
    let first = node.join(&leader, |_| ());
    node.in_generation(&mut leader, first);
    node.sync(&leader, &[(&leader, "all")]);
    let second = node.join(&follower, |_| ());
    let again = node.join(&leader, |_| ());
    node.in_generation(&mut leader, again);
    node.in_generation(&mut follower, second);
    node.sync(&leader, &[(&leader, "left"), (&follower, "right")]);
    let synced = node.sync(&follower, &[]);
    assert_eq!(node.synced(synced).assignment, "right");
    (leader, follower)
}

#[test]
fn a_static_member_joins_without_the_handshake() {
    let mut node = Node::new();
    let (leader, _) = stable_pair(&mut node);
    assert!(leader.id.starts_with("a-"), "{}", leader.id);
}

#[test]
fn a_restarted_follower_keeps_its_part_and_nobody_rebalances() {
    let mut node = Node::new();
    let (leader, old) = stable_pair(&mut node);
    let records = node.log.len();
    let mut back = named("b");
    let token = node.join(&back, |_| ());
    let response = node.in_generation(&mut back, token);
    assert_eq!((response.generation_id, response.members.len()), (old.generation, 0));
    assert!(!response.skip_assignment);
    assert_ne!(back.id, old.id);
    assert_eq!(node.log.len(), records + 1, "the new id is in the log");
    let synced = node.sync(&back, &[]);
    assert_eq!(node.synced(synced).assignment, "right");
    assert_eq!(node.heartbeat(&leader), None);
    assert_eq!(node.heartbeat(&old), Some(GroupError::FencedInstanceId));
    let late = node.join(&old, |_| ());
    assert_eq!(node.joined(late).error, Some(GroupError::FencedInstanceId));
    assert_eq!(node.commit(member_commit(&old, &[("t", 0, 5)])), [Some(GroupError::FencedInstanceId)]);
}

#[test]
fn a_restarted_leader_is_told_not_to_assign() {
    let mut node = Node::new();
    let (old, follower) = stable_pair(&mut node);
    let mut back = named("a");
    let token = node.join(&back, |_| ());
    let response = node.in_generation(&mut back, token);
    assert!(response.skip_assignment);
    assert_eq!((response.leader.as_str(), response.members.len()), (back.id.as_str(), 2));
    let synced = node.sync(&back, &[]);
    assert_eq!(node.synced(synced).assignment, "left");
    assert_eq!((node.heartbeat(&follower), old.generation), (None, back.generation));
}

#[test]
fn a_restarted_leader_that_cannot_skip_is_not_called_leader() {
    let mut node = Node::new();
    let (old, _) = stable_pair(&mut node);
    let token = node.join(&named("a"), |request| request.supports_skip_assignment = false);
    let response = node.joined(token);
    assert_eq!((response.leader, response.members.len(), response.skip_assignment), (old.id, 0, false));
}

#[test]
fn a_static_member_that_returns_during_the_assignment_starts_it_over() {
    let mut node = Node::new();
    let (mut leader, mut follower) = stable_pair(&mut node);
    let one = node.join(&leader, |_| ());
    let two = node.join(&follower, |_| ());
    node.in_generation(&mut leader, one);
    node.in_generation(&mut follower, two);
    let fenced = node.sync(&follower, &[]);
    let back = node.join(&named("b"), |_| ());
    assert_eq!(node.synced(fenced).error, Some(GroupError::FencedInstanceId));
    assert!(node.waits(back));
    assert_eq!(node.heartbeat(&leader), Some(GroupError::RebalanceInProgress));
}

#[test]
fn a_static_member_that_returns_while_its_old_self_joins_fences_it() {
    let mut node = Node::new();
    let (mut leader, follower) = stable_pair(&mut node);
    let waiting = node.join(&leader, |_| ());
    let old = node.join(&follower, |_| ());
    node.in_generation(&mut leader, waiting);
    assert_eq!(node.joined(old).error, None);
    let waiting = node.join(&leader, |request| request.protocols[0].1 = subscription(&["u"]));
    let back = node.join(&named("a"), |_| ());
    assert_eq!(node.joined(waiting).error, Some(GroupError::FencedInstanceId));
    assert!(node.waits(back));
}

#[test]
fn an_absent_static_member_keeps_its_place_until_its_session_ends() {
    let mut node = Node::new();
    let (mut leader, _) = stable_pair(&mut node);
    let waiting = node.join(&leader, |_| ());
    node.pass(5_000);
    assert!(node.waits(waiting));
    node.pass(5_000);
    assert_eq!(node.in_generation(&mut leader, waiting).members.len(), 1);
}

#[test]
fn a_static_member_whose_connection_dies_while_joining_has_its_session_to_come_back() {
    let mut node = Node::new();
    let (mut leader, follower) = stable_pair(&mut node);
    let waiting = node.join(&leader, |_| ());
    let lost = node.join(&named("c"), |_| ());
    node.forget(lost);
    node.join(&follower, |_| ());
    node.pass(5_000);
    assert!(node.waits(waiting));
    let back = node.join(&named("c"), |_| ());
    assert_eq!(node.in_generation(&mut leader, waiting).members.len(), 3);
    assert_eq!(node.joined(back).error, None);
}

#[test]
fn an_administrator_removes_a_static_member_by_its_name() {
    let mut node = Node::new();
    let (leader, _) = stable_pair(&mut node);
    assert_eq!(node.leave(&[("", Some("b")), ("", Some("nobody"))]), [None, Some(GroupError::UnknownMemberId)]);
    assert_eq!(node.heartbeat(&leader), Some(GroupError::RebalanceInProgress));
    assert_eq!(node.leave(&[("x", Some("a"))]), [Some(GroupError::FencedInstanceId)]);
}

#[test]
fn a_restart_of_the_node_keeps_static_members_in_place() {
    let mut node = Node::new();
    let (leader, follower) = stable_pair(&mut node);
    let mut node = node.restarted();
    assert_eq!((node.heartbeat(&leader), node.heartbeat(&follower)), (None, None));
    let token = node.join(&named("b"), |_| ());
    assert_eq!(node.joined(token).generation_id, follower.generation);
}
