//! A node that has nothing but a coordinator: a clock that the test turns, a log in memory, and the replies so far.

use std::collections::BTreeMap;

use bytes::Bytes;
use millpond_coordinator::*;

/// The group of most stories.
pub(crate) const GROUP: &str = "g";

pub(crate) struct Node {
    pub(crate) coordinator: Coordinator,
    pub(crate) now_ms: i64,
    pub(crate) log: Vec<OffsetsRecord>,
    replies: BTreeMap<Token, GroupResponse>,
    next_token: Token,
}

/// What a client knows of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) generation: i32,
}

impl Node {
    pub(crate) fn new() -> Node {
        Node::with(GroupOptions::default())
    }

    pub(crate) fn with(options: GroupOptions) -> Node {
        let coordinator = Coordinator::new(options);
        Node { coordinator, now_ms: 1_000_000, log: Vec::new(), replies: BTreeMap::new(), next_token: 1 }
    }

    /// The node that starts from this one's log.
    pub(crate) fn restarted(&self) -> Node {
        let mut node = Node::new();
        node.now_ms = self.now_ms;
        for record in &self.log {
            node.coordinator.replay(&record.key, record.value.as_deref()).unwrap();
        }
        node.coordinator.loaded(node.now_ms);
        node.log.clone_from(&self.log);
        node.next_token = self.next_token;
        node
    }

    pub(crate) fn send(&mut self, request: GroupRequest) -> Token {
        let token = self.next_token;
        self.next_token += 1;
        let outcome = self.coordinator.request(token, request, self.now_ms);
        self.take(outcome);
        token
    }

    pub(crate) fn take(&mut self, outcome: Outcome) {
        self.log.extend(outcome.records);
        for (token, reply) in outcome.replies {
            assert!(self.replies.insert(token, reply).is_none(), "token {token} was answered twice");
        }
    }

    /// Time passes, with a tick whenever the coordinator wants one.
    pub(crate) fn pass(&mut self, milliseconds: i64) {
        let end_ms = self.now_ms + milliseconds;
        for _ in 0..10_000 {
            match self.coordinator.next_deadline_ms() {
                Some(deadline_ms) if deadline_ms <= end_ms => {
                    self.now_ms = self.now_ms.max(deadline_ms);
                    let outcome = self.coordinator.tick(self.now_ms);
                    self.take(outcome);
                }
                _ => {
                    self.now_ms = end_ms;
                    return;
                }
            }
        }
        panic!("the coordinator wants ticks without end");
    }

    pub(crate) fn forget(&mut self, token: Token) {
        let outcome = self.coordinator.forget(token, self.now_ms);
        self.take(outcome);
    }

    pub(crate) fn waits(&self, token: Token) -> bool {
        !self.replies.contains_key(&token)
    }

    pub(crate) fn joined(&self, token: Token) -> JoinResponse {
        match self.replies.get(&token) {
            Some(GroupResponse::Join(response)) => response.clone(),
            other => panic!("no answer to JoinGroup, but {other:?}"),
        }
    }

    pub(crate) fn synced(&self, token: Token) -> SyncResponse {
        match self.replies.get(&token) {
            Some(GroupResponse::Sync(response)) => response.clone(),
            other => panic!("no answer to SyncGroup, but {other:?}"),
        }
    }

    pub(crate) fn reply(&self, token: Token) -> GroupResponse {
        self.replies.get(&token).cloned().expect("an answer")
    }

    pub(crate) fn join(&mut self, client: &Client, change: impl FnOnce(&mut JoinRequest)) -> Token {
        let mut request = join_request(client);
        request.new_member_suffix = format!("{}", self.next_token);
        change(&mut request);
        self.send(GroupRequest::Join(request))
    }

    /// A new dynamic member asks for its id and joins with it.
    pub(crate) fn join_new(&mut self) -> (Client, Token) {
        let asked = self.join(&Client::default(), |_| ());
        let response = self.joined(asked);
        assert_eq!(response.error, Some(GroupError::MemberIdRequired));
        let client = Client { id: response.member_id, ..Client::default() };
        let token = self.join(&client, |_| ());
        (client, token)
    }

    /// The answer to a JoinGroup that succeeded; the client is in its generation now.
    pub(crate) fn in_generation(&self, client: &mut Client, token: Token) -> JoinResponse {
        let response = self.joined(token);
        assert_eq!(response.error, None, "{response:?}");
        client.id.clone_from(&response.member_id);
        client.generation = response.generation_id;
        response
    }

    pub(crate) fn sync(&mut self, client: &Client, assignments: &[(&Client, &'static str)]) -> Token {
        let assigned =
            |(client, text): &(&Client, &'static str)| (client.id.clone(), Bytes::from_static(text.as_bytes()));
        self.send(GroupRequest::Sync(SyncRequest {
            group_id: GROUP.to_owned(),
            generation_id: client.generation,
            member_id: client.id.clone(),
            group_instance_id: client.instance.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some("range".to_owned()),
            assignments: assignments.iter().map(assigned).collect(),
        }))
    }

    pub(crate) fn heartbeat(&mut self, client: &Client) -> Option<GroupError> {
        let token = self.send(GroupRequest::Heartbeat(HeartbeatRequest {
            group_id: GROUP.to_owned(),
            generation_id: client.generation,
            member_id: client.id.clone(),
            group_instance_id: client.instance.clone(),
        }));
        match self.reply(token) {
            GroupResponse::Heartbeat(response) => response.error,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn leave(&mut self, leaving: &[(&str, Option<&str>)]) -> Vec<Option<GroupError>> {
        let member = |(id, instance): &(&str, Option<&str>)| LeavingMember {
            member_id: (*id).to_owned(),
            group_instance_id: instance.map(str::to_owned),
            reason: None,
        };
        let members = leaving.iter().map(member).collect();
        let token = self.send(GroupRequest::Leave(LeaveRequest { group_id: GROUP.to_owned(), members }));
        match self.reply(token) {
            GroupResponse::Leave(response) => response.members.iter().map(|member| member.error).collect(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn describe(&mut self) -> DescribedGroup {
        let token = self.send(GroupRequest::Describe(DescribeRequest { groups: vec![GROUP.to_owned()] }));
        match self.reply(token) {
            GroupResponse::Describe(mut response) => response.groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn state(&mut self) -> GroupState {
        self.describe().state
    }

    /// A group of two in a stable generation: the leader, the follower.
    pub(crate) fn stable_pair(&mut self) -> (Client, Client) {
        let (mut leader, first) = self.join_new();
        self.in_generation(&mut leader, first);
        self.sync(&leader, &[(&leader, "all")]);
        let (mut follower, second) = self.join_new();
        assert!(self.waits(second));
        assert_eq!(self.heartbeat(&leader), Some(GroupError::RebalanceInProgress));
        let again = self.join(&leader, |_| ());
        self.in_generation(&mut leader, again);
        self.in_generation(&mut follower, second);
        let waiting = self.sync(&follower, &[]);
        assert!(self.waits(waiting));
        let assigned = self.sync(&leader, &[(&leader, "left"), (&follower, "right")]);
        assert_eq!(self.synced(assigned).assignment, "left");
        assert_eq!(self.synced(waiting).assignment, "right");
        (leader, follower)
    }

    pub(crate) fn commit(&mut self, request: OffsetCommitRequest) -> Vec<Option<GroupError>> {
        let token = self.send(GroupRequest::OffsetCommit(request));
        match self.reply(token) {
            GroupResponse::OffsetCommit(response) => {
                response.topics.iter().flat_map(|topic| topic.partitions.iter().map(|(_, error)| *error)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Every committed offset of the group, as (topic, partition, offset).
    pub(crate) fn offsets(&mut self, group: &str) -> Vec<(String, i32, i64)> {
        let groups = vec![FetchGroup { group_id: group.to_owned(), topics: None }];
        let token = self.send(GroupRequest::OffsetFetch(OffsetFetchRequest { groups, require_stable: false }));
        match self.reply(token) {
            GroupResponse::OffsetFetch(response) => {
                let topics = response.groups.into_iter().flat_map(|group| group.topics);
                let offset = |topic: String, found: FetchedPartition| (topic, found.partition, found.offset);
                topics
                    .flat_map(|topic| topic.partitions.into_iter().map(move |found| offset(topic.topic.clone(), found)))
                    .collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn join_request(client: &Client) -> JoinRequest {
    JoinRequest {
        group_id: GROUP.to_owned(),
        member_id: client.id.clone(),
        group_instance_id: client.instance.clone(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), subscription(&["t"]))],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        require_known_member_id: true,
        supports_skip_assignment: true,
        reason: None,
        new_member_suffix: "1".to_owned(),
    }
}

/// A consumer's metadata, version 0.
pub(crate) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    Bytes::from(bytes)
}

/// A commit of these offsets, as (topic, partition, offset), from outside of group management.
pub(crate) fn simple_commit(group: &str, offsets: &[(&str, i32, i64)]) -> OffsetCommitRequest {
    let topic = |(topic, partition, offset): &(&str, i32, i64)| CommitTopic {
        topic: (*topic).to_owned(),
        partitions: vec![CommitPartition { partition: *partition, offset: *offset, leader_epoch: -1, metadata: None }],
    };
    OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id: -1,
        topics: offsets.iter().map(topic).collect(),
        ..OffsetCommitRequest::default()
    }
}

/// The same, as a member.
pub(crate) fn member_commit(client: &Client, offsets: &[(&str, i32, i64)]) -> OffsetCommitRequest {
    OffsetCommitRequest {
        member_id: client.id.clone(),
        group_instance_id: client.instance.clone(),
        generation_id: client.generation,
        ..simple_commit(GROUP, offsets)
    }
}
