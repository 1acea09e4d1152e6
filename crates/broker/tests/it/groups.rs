use std::sync::Arc;

use millpond_broker::{Broker, Clock, OFFSETS_TOPIC};
use millpond_coordinator::{
    CommitPartition, CommitTopic, FetchGroup, GroupError, GroupRequest, GroupResponse, HeartbeatRequest, JoinRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncRequest,
};
use millpond_metadata::Actor;

use crate::support::{NOW_MS, PATIENCE, copy, create, open, open_with};

async fn commit(broker: &Broker, group: &str, topic: &str, offset: i64) -> Option<GroupError> {
    let partitions = vec![CommitPartition { partition: 0, offset, leader_epoch: 0, metadata: None }];
    let request = OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id: -1,
        topics: vec![CommitTopic { topic: topic.to_owned(), partitions }],
        ..OffsetCommitRequest::default()
    };
    match broker.group_request(GroupRequest::OffsetCommit(request)).await {
        GroupResponse::OffsetCommit(response) => response.topics[0].partitions[0].1,
        other => panic!("{other:?}"),
    }
}

async fn committed(broker: &Broker, group: &str, topic: &str) -> i64 {
    let group = FetchGroup { group_id: group.to_owned(), topics: Some(vec![(topic.to_owned(), vec![0])]) };
    let request = OffsetFetchRequest { groups: vec![group], require_stable: false };
    match broker.group_request(GroupRequest::OffsetFetch(request)).await {
        GroupResponse::OffsetFetch(response) => {
            assert_eq!(response.groups[0].error, None);
            response.groups[0].topics[0].partitions[0].offset
        }
        other => panic!("{other:?}"),
    }
}

/// `suffix` makes the id of a new member its own.
fn join(group: &str, member: &str, suffix: &str) -> GroupRequest {
    GroupRequest::Join(JoinRequest {
        group_id: group.to_owned(),
        member_id: member.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Default::default())],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        new_member_suffix: suffix.to_owned(),
        ..JoinRequest::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_offsets_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    assert_eq!(committed(&broker, "g0", "t").await, -1);
    assert!(broker.topic(OFFSETS_TOPIC).is_none(), "made only when there is something to keep");
    let commits: Vec<_> = (0..200)
        .map(|number| {
            let broker = broker.clone();
            tokio::spawn(async move { commit(&broker, &format!("g{}", number % 20), "t", number).await })
        })
        .collect();
    for commit in commits {
        assert_eq!(commit.await.unwrap(), None);
    }
    let before = committed(&broker, "g7", "t").await;
    assert!(before >= 7 && before % 20 == 7);
    let offsets_topic = broker.topic(OFFSETS_TOPIC).unwrap();
    assert_eq!((offsets_topic.partition_count, offsets_topic.internal), (50, true));

    let killed = copy(dir.path());
    let after = open(killed.path());
    for group in 0..20 {
        let group = format!("g{group}");
        assert_eq!(committed(&after, &group, "t").await, committed(&broker, &group, "t").await);
    }
    assert!(broker.metrics().syncs.get() <= 200, "one sync serves many commits at best, one each at worst");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_falls_silent_is_put_out_when_its_time_is_up() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::standing_at(NOW_MS);
    let broker = open_with(dir.path(), &[("offsets.topic.num.partitions", "2")], clock.clone());
    let (member_id, generation_id) = match broker.group_request(join("g", "", "1")).await {
        GroupResponse::Join(joined) => {
            assert_eq!(joined.error, None);
            (joined.member_id, joined.generation_id)
        }
        other => panic!("{other:?}"),
    };
    let assign = SyncRequest {
        group_id: "g".to_owned(),
        generation_id,
        member_id: member_id.clone(),
        assignments: vec![(member_id.clone(), "mine".into())],
        ..SyncRequest::default()
    };
    match broker.group_request(GroupRequest::Sync(assign)).await {
        GroupResponse::Sync(synced) => assert_eq!((synced.error, &synced.assignment[..]), (None, &b"mine"[..])),
        other => panic!("{other:?}"),
    }
    let beat = || {
        let request = HeartbeatRequest {
            group_id: "g".to_owned(),
            generation_id,
            member_id: member_id.clone(),
            group_instance_id: None,
        };
        broker.group_request(GroupRequest::Heartbeat(request))
    };
    assert_eq!(beat().await, GroupResponse::Heartbeat(Default::default()));
    clock.advance(60_000);
    // The thread looks at the time at its next deadline or request, whatever comes first.
    let _ = committed(&broker, "other", "t").await;
    match beat().await {
        GroupResponse::Heartbeat(answer) => assert_eq!(answer.error, Some(GroupError::UnknownMemberId)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_while_it_joins_does_not_keep_the_others_waiting_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let leader = match broker.group_request(join("g", "", "1")).await {
        GroupResponse::Join(joined) => joined.member_id,
        other => panic!("{other:?}"),
    };
    // The second waits for the first to join again, and its connection dies.
    let second = {
        let broker = broker.clone();
        tokio::spawn(async move { broker.group_request(join("g", "", "2")).await })
    };
    while broker.metrics().group_requests.get() < 2 {
        tokio::task::yield_now().await;
    }
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    let again = tokio::time::timeout(PATIENCE, broker.group_request(join("g", &leader, "1"))).await.unwrap();
    match again {
        GroupResponse::Join(joined) => {
            assert_eq!(joined.error, None);
            assert_eq!(joined.members.len(), 1, "whoever never learned its id is no member");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn offsets_of_a_deleted_topic_do_not_haunt_the_next_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    assert_eq!(commit(&broker, "g", "t", 5).await, None);
    broker.delete_topic("t", Actor::Client).await.unwrap();
    create(&broker, "t", 1).await;
    assert_eq!(committed(&broker, "g", "t").await, -1);
    drop(broker);
    assert_eq!(committed(&open(dir.path()), "g", "t").await, -1);
}

#[tokio::test]
async fn offsets_of_a_deleted_topic_are_forgotten_even_if_its_folder_cannot_be_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 2).await;
    assert_eq!(commit(&broker, "g", "t", 5).await, None);
    // What is not there cannot be renamed.
    std::fs::remove_dir_all(dir.path().join("t-0")).unwrap();
    broker.delete_topic("t", Actor::Client).await.unwrap();
    assert!(!dir.path().join("t-1").exists(), "the other folder goes");
    create(&broker, "t", 1).await;
    assert_eq!(committed(&broker, "g", "t").await, -1);
}

#[tokio::test]
async fn requests_to_a_node_that_stopped_are_refused_and_not_left_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let broker: Arc<Broker> = open(dir.path());
    broker.shutdown().await.unwrap();
    assert_eq!(commit(&broker, "g", "t", 5).await, Some(GroupError::CoordinatorNotAvailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_groups_had_read_of_a_deleted_topic_is_not_found_by_a_later_one_whenever_the_node_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    assert_eq!(commit(&broker, "g", "t", 17).await, None);
    broker.delete_topic("t", Actor::Client).await.unwrap();
    create(&broker, "t", 1).await;
    // At once: no request to the coordinator came in between.
    let killed = copy(dir.path());
    assert_eq!(committed(&open(killed.path()), "g", "t").await, -1);

    // And when the node ends after the topic and before its offsets: the offsets' log as it was before.
    assert_eq!(commit(&broker, "g", "t", 18).await, None);
    let offsets_before = copy(dir.path());
    broker.delete_topic("t", Actor::Client).await.unwrap();
    let killed = copy(dir.path());
    for entry in std::fs::read_dir(offsets_before.path()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(OFFSETS_TOPIC) || name.starts_with("millpond-journal") {
            let target = killed.path().join(&name);
            if entry.path().is_dir() {
                for file in std::fs::read_dir(entry.path()).unwrap().map(Result::unwrap) {
                    std::fs::copy(file.path(), target.join(file.file_name())).unwrap();
                }
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let after = open(killed.path());
    assert_eq!(committed(&after, "g", "t").await, -1);
    create(&after, "t", 1).await;
    assert_eq!(committed(&after, "g", "t").await, -1);
}
