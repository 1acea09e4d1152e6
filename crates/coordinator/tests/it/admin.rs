//! Groups seen from outside.

use millpond_coordinator::*;

use crate::harness::*;

fn list(node: &mut Node, states: &[&str], types: &[&str]) -> Vec<(String, String, GroupState)> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let token = node.send(GroupRequest::List(ListRequest { states: owned(states), types: owned(types) }));
    let GroupResponse::List(response) = node.reply(token) else { panic!() };
    response.groups.into_iter().map(|group| (group.group_id, group.protocol_type, group.state)).collect()
}

fn delete(node: &mut Node, groups: &[&str]) -> Vec<Option<GroupError>> {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    let token = node.send(GroupRequest::DeleteGroups(DeleteGroupsRequest { groups }));
    let GroupResponse::DeleteGroups(response) = node.reply(token) else { panic!() };
    response.groups.into_iter().map(|(_, error)| error).collect()
}

#[test]
fn groups_are_listed_by_state_and_type_in_any_case() {
    let mut node = Node::new();
    node.stable_pair();
    node.commit(simple_commit("simple", &[("t", 0, 1)]));
    let stable = (GROUP.to_owned(), "consumer".to_owned(), GroupState::Stable);
    let simple = ("simple".to_owned(), String::new(), GroupState::Empty);
    assert_eq!(list(&mut node, &[], &[]), [stable.clone(), simple.clone()]);
    assert_eq!(list(&mut node, &["STABLE"], &["Classic"]), [stable]);
    assert_eq!(list(&mut node, &["empty", "dead"], &[]), [simple]);
    assert_eq!(list(&mut node, &[], &["consumer"]), []);
}

#[test]
fn a_group_that_is_not_there_is_dead() {
    let mut node = Node::new();
    let described = node.describe();
    assert_eq!((described.state, described.error), (GroupState::Dead, Some(GroupError::GroupIdNotFound)));
}

#[test]
fn a_rebalancing_group_shows_its_members_but_not_what_they_do() {
    let mut node = Node::new();
    let (leader, _) = node.stable_pair();
    node.join(&leader, |_| ());
    let described = node.describe();
    assert_eq!((described.state, described.protocol_name.as_str()), (GroupState::PreparingRebalance, ""));
    assert_eq!(described.members.len(), 2);
    assert!(described.members.iter().all(|member| member.assignment.is_empty() && member.metadata.is_empty()));
    assert_eq!(
        (described.members[0].client_id.as_str(), described.members[0].client_host.as_str()),
        ("c", "/127.0.0.1")
    );
}

#[test]
fn only_groups_without_members_can_be_deleted() {
    let mut node = Node::new();
    let (leader, follower) = node.stable_pair();
    node.commit(member_commit(&leader, &[("t", 0, 1)]));
    assert_eq!(
        delete(&mut node, &[GROUP, "nobody"]),
        [Some(GroupError::NonEmptyGroup), Some(GroupError::GroupIdNotFound)]
    );
    node.leave(&[(&leader.id, None), (&follower.id, None)]);
    assert_eq!(delete(&mut node, &[GROUP, GROUP]), [None, Some(GroupError::GroupIdNotFound)]);
    assert_eq!((node.coordinator.group_count(), node.coordinator.offset_count()), (0, 0));
    assert_eq!(node.restarted().coordinator.group_count(), 0);
    assert_eq!(node.coordinator.next_deadline_ms(), None);
}
