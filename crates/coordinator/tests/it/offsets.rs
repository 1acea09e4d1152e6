//! Offsets are committed, asked for, deleted and forgotten.

use bytes::Bytes;
use millpond_coordinator::*;

use crate::harness::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn delete(node: &mut Node, topics: &[(&str, i32)]) -> Result<Vec<Option<GroupError>>, GroupError> {
    let topics = topics.iter().map(|(topic, partition)| ((*topic).to_owned(), vec![*partition])).collect();
    let token = node.send(GroupRequest::OffsetDelete(OffsetDeleteRequest { group_id: GROUP.to_owned(), topics }));
    match node.reply(token) {
        GroupResponse::OffsetDelete(OffsetDeleteResponse { error: Some(error), .. }) => Err(error),
        GroupResponse::OffsetDelete(response) => {
            Ok(response.topics.iter().flat_map(|topic| topic.partitions.iter().map(|(_, error)| *error)).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_simple_consumer_commits_and_finds_its_offsets_again() {
    let mut node = Node::new();
    assert_eq!(node.commit(simple_commit(GROUP, &[("t", 0, 42), ("u", 3, 7)])), [None, None]);
    assert_eq!(node.offsets(GROUP), [("t".to_owned(), 0, 42), ("u".to_owned(), 3, 7)]);
    assert_eq!(node.log.len(), 2);
    let mut node = node.restarted();
    assert_eq!(node.offsets(GROUP), [("t".to_owned(), 0, 42), ("u".to_owned(), 3, 7)]);
}

#[test]
fn unknown_offsets_are_minus_one() {
    let mut node = Node::new();
    let topics = Some(vec![("t".to_owned(), vec![0, 1])]);
    let groups = vec![FetchGroup { group_id: "nobody".to_owned(), topics }];
    let token = node.send(GroupRequest::OffsetFetch(OffsetFetchRequest { groups, require_stable: true }));
    let GroupResponse::OffsetFetch(response) = node.reply(token) else { panic!() };
    let partitions = &response.groups[0].topics[0].partitions;
    assert_eq!(partitions.iter().map(|found| (found.offset, found.leader_epoch)).collect::<Vec<_>>(), [(-1, -1); 2]);
    assert_eq!(response.groups[0].error, None);
}

#[test]
fn a_member_commits_in_its_generation_only() {
    let mut node = Node::new();
    let (leader, _) = node.stable_pair();
    assert_eq!(node.commit(member_commit(&leader, &[("t", 0, 1)])), [None]);
    let stale = Client { generation: leader.generation - 1, ..leader.clone() };
    assert_eq!(node.commit(member_commit(&stale, &[("t", 0, 2)])), [Some(GroupError::IllegalGeneration)]);
    let stranger = Client { id: "x".to_owned(), ..leader.clone() };
    assert_eq!(node.commit(member_commit(&stranger, &[("t", 0, 2)])), [Some(GroupError::UnknownMemberId)]);
    assert_eq!(node.commit(simple_commit(GROUP, &[("t", 0, 2)])), [Some(GroupError::UnknownMemberId)]);
    assert_eq!(node.offsets(GROUP), [("t".to_owned(), 0, 1)]);
}

#[test]
fn a_generation_of_a_group_that_is_not_there_is_refused_as_the_version_wants() {
    let mut node = Node::new();
    let ghost = Client { id: "m".to_owned(), generation: 3, ..Client::default() };
    let request = member_commit(&ghost, &[("t", 0, 1)]);
    assert_eq!(node.commit(request.clone()), [Some(GroupError::IllegalGeneration)]);
    let newer = OffsetCommitRequest { reports_unknown_group: true, ..request };
    assert_eq!(node.commit(newer), [Some(GroupError::GroupIdNotFound)]);
    assert_eq!(node.coordinator.group_count(), 0);
}

#[test]
fn a_commit_between_join_and_sync_must_wait() {
    let mut node = Node::new();
    let (mut leader, token) = node.join_new();
    node.in_generation(&mut leader, token);
    assert_eq!(node.commit(member_commit(&leader, &[("t", 0, 1)])), [Some(GroupError::RebalanceInProgress)]);
}

#[test]
fn commits_keep_a_member_alive() {
    let mut node = Node::new();
    let (leader, _) = node.stable_pair();
    for offset in 0..5 {
        node.pass(9_000);
        assert_eq!(node.commit(member_commit(&leader, &[("t", 0, offset)])), [None]);
    }
}

#[test]
fn metadata_that_is_too_long_refuses_its_partition_alone() {
    let mut node = Node::new();
    let mut request = simple_commit(GROUP, &[("t", 0, 1), ("t", 1, 1)]);
    request.topics[0].partitions[0].metadata = Some("x".repeat(4097));
    request.topics[1].partitions[0].metadata = Some("x".repeat(4096));
    assert_eq!(node.commit(request), [Some(GroupError::OffsetMetadataTooLarge), None]);
    assert_eq!(node.offsets(GROUP), [("t".to_owned(), 1, 1)]);
}

#[test]
fn offsets_of_topics_that_nobody_reads_can_be_deleted() {
    let mut node = Node::new();
    let (leader, _) = node.stable_pair();
    node.commit(member_commit(&leader, &[("t", 0, 1), ("old", 0, 1)]));
    let deleted = delete(&mut node, &[("t", 0), ("old", 0), ("old", 9)]);
    assert_eq!(deleted, Ok(vec![Some(GroupError::GroupSubscribedToTopic), None, None]));
    assert_eq!(node.offsets(GROUP), [("t".to_owned(), 0, 1)]);
    assert_eq!(node.restarted().offsets(GROUP), [("t".to_owned(), 0, 1)]);
}

#[test]
fn offsets_of_members_that_do_not_say_what_they_read_cannot_be_deleted() {
    let mut node = Node::new();
    assert_eq!(delete(&mut node, &[("t", 0)]), Err(GroupError::GroupIdNotFound));
    node.join(&Client::default(), |request| {
        request.require_known_member_id = false;
        request.protocol_type = "connect".to_owned();
    });
    assert_eq!(delete(&mut node, &[("t", 0)]), Err(GroupError::NonEmptyGroup));
}

#[test]
fn consumers_whose_subscription_cannot_be_read_may_read_anything() {
    let mut node = Node::new();
    let token = node.join(&Client::default(), |request| {
        request.require_known_member_id = false;
        request.protocols[0].1 = Bytes::from_static(b"?");
    });
    let mut client = Client::default();
    node.in_generation(&mut client, token);
    assert_eq!(delete(&mut node, &[("t", 0)]), Ok(vec![Some(GroupError::GroupSubscribedToTopic)]));
}

#[test]
fn offsets_of_an_empty_group_expire_after_the_retention_and_the_group_with_them() {
    let mut node = Node::new();
    let (leader, follower) = node.stable_pair();
    node.commit(member_commit(&leader, &[("t", 0, 1)]));
    for _ in 0..8 * 24 * 60 * 6 {
        node.pass(9_900);
        assert_eq!((node.heartbeat(&leader), node.heartbeat(&follower)), (None, None));
    }
    assert_eq!(node.offsets(GROUP).len(), 1, "the group lives");
    node.leave(&[(&leader.id, None), (&follower.id, None)]);
    node.pass(7 * DAY_MS - 600_000);
    assert_eq!(node.offsets(GROUP).len(), 1);
    node.pass(1_200_000);
    assert_eq!((node.offsets(GROUP).len(), node.coordinator.group_count()), (0, 0));
    let node = node.restarted();
    assert_eq!((node.coordinator.group_count(), node.coordinator.offset_count()), (0, 0));
}

#[test]
fn offsets_of_a_simple_consumer_expire_each_after_its_own_commit() {
    let mut node = Node::new();
    node.commit(simple_commit(GROUP, &[("t", 0, 1), ("t", 1, 1)]));
    node.pass(4 * DAY_MS);
    node.commit(simple_commit(GROUP, &[("t", 1, 2)]));
    node.pass(4 * DAY_MS);
    assert_eq!(node.offsets(GROUP), [("t".to_owned(), 1, 2)]);
    node.pass(4 * DAY_MS);
    assert_eq!((node.coordinator.group_count(), node.coordinator.offset_count()), (0, 0));
}

#[test]
fn offsets_of_topics_that_a_living_group_has_dropped_expire() {
    let mut node = Node::new();
    let (leader, follower) = node.stable_pair();
    node.commit(member_commit(&leader, &[("t", 0, 1), ("old", 0, 1)]));
    for _ in 0..8 * 24 * 60 * 7 {
        node.pass(9_000);
        node.heartbeat(&leader);
        node.heartbeat(&follower);
    }
    assert_eq!(node.offsets(GROUP), [("t".to_owned(), 0, 1)]);
}

#[test]
fn a_client_may_say_how_long_its_offsets_are_kept() {
    let mut node = Node::new();
    node.commit(OffsetCommitRequest { retention_time_ms: Some(DAY_MS), ..simple_commit(GROUP, &[("t", 0, 1)]) });
    let mut node = node.restarted();
    node.pass(DAY_MS - 600_000);
    assert_eq!(node.offsets(GROUP).len(), 1);
    node.pass(1_200_000);
    assert_eq!(node.offsets(GROUP).len(), 0);
}

#[test]
fn offsets_go_with_their_topic() {
    let mut node = Node::new();
    node.commit(simple_commit(GROUP, &[("t", 0, 1), ("t", 1, 1), ("u", 0, 1)]));
    node.commit(simple_commit("other", &[("t", 0, 1)]));
    let outcome = node.coordinator.topics_deleted(&["t"]);
    assert_eq!(outcome.records.len(), 3);
    node.take(outcome);
    assert_eq!(node.offsets(GROUP), [("u".to_owned(), 0, 1)]);
    assert_eq!((node.coordinator.group_count(), node.coordinator.offset_count()), (1, 1));
}
