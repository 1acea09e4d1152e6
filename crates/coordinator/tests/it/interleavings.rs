//! Whatever clients do and in whatever order: no panic, each request is answered at most once and none waits for
//! ever, one assignment a generation, and the log tells the same offsets.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millpond_coordinator::*;
use proptest::prelude::*;

use crate::harness::{GROUP, join_request, simple_commit, subscription};

/// One thing that one of a few clients does. Numbers choose the client, its protocols, and so on.
#[derive(Debug, Clone)]
enum Act {
    Join {
        client: usize,
        protocols: usize,
        known_id: bool,
        skip: bool,
    },
    Sync {
        client: usize,
    },
    Heartbeat {
        client: usize,
        stale: bool,
    },
    Leave {
        client: usize,
        by_name: bool,
    },
    Commit {
        client: usize,
        partition: i32,
        offset: i64,
        simple: bool,
    },
    DeleteOffset {
        partition: i32,
    },
    DeleteGroup,
    /// The connection dies under a waiting request.
    Forget {
        which: usize,
    },
    /// The client starts anew and forgets its id.
    Restart {
        client: usize,
    },
    Pass {
        milliseconds: i64,
    },
}

const CLIENTS: usize = 5;

fn act() -> impl Strategy<Value = Act> {
    let client = || 0..CLIENTS;
    prop_oneof![
        8 => (client(), 0..3usize, any::<bool>(), any::<bool>())
            .prop_map(|(client, protocols, known_id, skip)| Act::Join { client, protocols, known_id, skip }),
        8 => client().prop_map(|client| Act::Sync { client }),
        3 => (client(), any::<bool>()).prop_map(|(client, stale)| Act::Heartbeat { client, stale }),
        2 => (client(), any::<bool>()).prop_map(|(client, by_name)| Act::Leave { client, by_name }),
        3 => (client(), 0..3i32, 0..100i64, any::<bool>())
            .prop_map(|(client, partition, offset, simple)| Act::Commit { client, partition, offset, simple }),
        1 => (0..3i32).prop_map(|partition| Act::DeleteOffset { partition }),
        1 => Just(Act::DeleteGroup),
        2 => (0..8usize).prop_map(|which| Act::Forget { which }),
        2 => client().prop_map(|client| Act::Restart { client }),
        4 => prop_oneof![0..100i64, 5_000..15_000i64, 50_000..700_000i64]
            .prop_map(|milliseconds| Act::Pass { milliseconds }),
    ]
}

#[derive(Debug, Clone, Default)]
struct Client {
    /// The first two are static members.
    instance: Option<String>,
    id: String,
    generation: i32,
    /// What the leader brings: whom it saw.
    members: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Asked {
    Join(usize),
    Sync(usize, i32),
}

struct World {
    coordinator: Coordinator,
    now_ms: i64,
    log: Vec<OffsetsRecord>,
    clients: Vec<Client>,
    /// Requests that are neither answered nor forgotten.
    open: BTreeMap<Token, Asked>,
    next_token: Token,
    /// Per generation, who made the assignment that members got.
    assigners: BTreeMap<i32, BTreeSet<Bytes>>,
    /// The newest generation that anybody was told of.
    newest: i32,
}

impl World {
    fn new(initial_rebalance_delay_ms: i32) -> World {
        let named = |index: usize| Client { instance: (index < 2).then(|| format!("i{index}")), ..Client::default() };
        World {
            coordinator: Coordinator::new(GroupOptions {
                initial_rebalance_delay_ms,
                members_max: 4,
                ..GroupOptions::default()
            }),
            now_ms: 0,
            log: Vec::new(),
            clients: (0..CLIENTS).map(named).collect(),
            open: BTreeMap::new(),
            next_token: 1,
            assigners: BTreeMap::new(),
            newest: 0,
        }
    }

    fn ask(&mut self, request: GroupRequest, asked: Option<Asked>) -> Option<GroupResponse> {
        let token = self.next_token;
        self.next_token += 1;
        if let Some(asked) = asked {
            self.open.insert(token, asked);
        }
        let outcome = self.coordinator.request(token, request, self.now_ms);
        self.take(outcome, (asked.is_none()).then_some(token))
    }

    /// Checks the replies and lets the clients learn from them. `expects` is a request that must be answered now.
    fn take(&mut self, outcome: Outcome, expects: Option<Token>) -> Option<GroupResponse> {
        self.log.extend(outcome.records);
        let mut expected = None;
        for (token, reply) in outcome.replies {
            if Some(token) == expects {
                assert!(expected.replace(reply).is_none(), "answered twice");
                continue;
            }
            let asked = self.open.remove(&token).expect("only open requests are answered, and once");
            match (asked, reply) {
                (Asked::Join(index), GroupResponse::Join(response)) => self.learn_join(index, response),
                (Asked::Sync(index, generation), GroupResponse::Sync(response)) => {
                    self.learn_sync(index, generation, response);
                }
                (asked, reply) => panic!("{asked:?} was answered with {reply:?}"),
            }
        }
        assert!(expects.is_none() || expected.is_some(), "a request that never waits was not answered");
        assert_eq!(self.open.len(), self.coordinator.waiting_count(), "an open request is one that waits");
        expected
    }

    fn learn_join(&mut self, index: usize, response: JoinResponse) {
        let client = &mut self.clients[index];
        match response.error {
            None => {
                assert!(response.generation_id > 0);
                assert!(response.protocol_name.is_some() && !response.leader.is_empty());
                client.id = response.member_id;
                client.generation = response.generation_id;
                client.members = response.members.into_iter().map(|member| member.member_id).collect();
                self.newest = self.newest.max(client.generation);
            }
            Some(GroupError::MemberIdRequired) => client.id = response.member_id,
            Some(GroupError::UnknownMemberId | GroupError::FencedInstanceId) => client.id.clear(),
            Some(_) => {}
        }
    }

    fn learn_sync(&mut self, index: usize, generation: i32, response: SyncResponse) {
        if response.error.is_none() {
            assert_eq!(generation, self.newest, "an assignment of a generation that is over");
            // An empty one is for a member that the leader did not know of.
            if !response.assignment.is_empty() {
                let assigners = self.assigners.entry(generation).or_default();
                assigners.insert(response.assignment);
                assert_eq!(assigners.len(), 1, "two assignments in generation {generation}");
            }
        } else if response.error == Some(GroupError::UnknownMemberId) {
            self.clients[index].id.clear();
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Join { client: index, protocols, known_id, skip } => {
                let client = &self.clients[index];
                let mut request = join_request(&Default::default());
                request.member_id.clone_from(&client.id);
                request.group_instance_id.clone_from(&client.instance);
                request.protocols = [("a", "x"), ("b", "x"), ("c", "y")]
                    .iter()
                    .filter(|(name, _)| *name == "b" || protocols != 0)
                    .map(|(name, topic)| ((*name).to_owned(), subscription(&[topic])))
                    .collect();
                if protocols == 2 {
                    request.protocols.reverse();
                }
                request.require_known_member_id = known_id;
                request.supports_skip_assignment = skip;
                request.new_member_suffix = self.next_token.to_string();
                self.ask(GroupRequest::Join(request), Some(Asked::Join(index)));
            }
            Act::Sync { client: index } => {
                let client = self.clients[index].clone();
                let by = Bytes::from(client.id.clone());
                let request = SyncRequest {
                    group_id: GROUP.to_owned(),
                    generation_id: client.generation,
                    member_id: client.id,
                    group_instance_id: client.instance,
                    assignments: client.members.into_iter().map(|member| (member, by.clone())).collect(),
                    ..SyncRequest::default()
                };
                self.ask(GroupRequest::Sync(request), Some(Asked::Sync(index, client.generation)));
            }
            Act::Heartbeat { client, stale } => {
                let client = &self.clients[client];
                let generation_id = client.generation - i32::from(stale);
                let request = HeartbeatRequest {
                    group_id: GROUP.to_owned(),
                    generation_id,
                    member_id: client.id.clone(),
                    group_instance_id: client.instance.clone(),
                };
                let reply = self.ask(GroupRequest::Heartbeat(request), None);
                if reply == Some(GroupResponse::Heartbeat(HeartbeatResponse { error: None })) {
                    assert_eq!(generation_id, self.newest, "an old generation is called alive");
                }
            }
            Act::Leave { client, by_name } => {
                let client = &self.clients[client];
                let member_id = if by_name { String::new() } else { client.id.clone() };
                let member = LeavingMember { member_id, group_instance_id: client.instance.clone(), reason: None };
                let request = LeaveRequest { group_id: GROUP.to_owned(), members: vec![member] };
                self.ask(GroupRequest::Leave(request), None);
            }
            Act::Commit { client, partition, offset, simple } => {
                let mut request = simple_commit(GROUP, &[("x", partition, offset)]);
                if !simple {
                    let client = &self.clients[client];
                    request.member_id.clone_from(&client.id);
                    request.group_instance_id.clone_from(&client.instance);
                    request.generation_id = client.generation;
                }
                self.ask(GroupRequest::OffsetCommit(request), None);
            }
            Act::DeleteOffset { partition } => {
                let topics = vec![("x".to_owned(), vec![partition])];
                let request = OffsetDeleteRequest { group_id: GROUP.to_owned(), topics };
                self.ask(GroupRequest::OffsetDelete(request), None);
            }
            Act::DeleteGroup => {
                let request = DeleteGroupsRequest { groups: vec![GROUP.to_owned()] };
                let reply = self.ask(GroupRequest::DeleteGroups(request), None);
                if reply
                    == Some(GroupResponse::DeleteGroups(DeleteGroupsResponse {
                        groups: vec![(GROUP.to_owned(), None)],
                    }))
                {
                    self.group_is_gone();
                }
            }
            Act::Forget { which } => {
                let token = self.open.keys().nth(which % self.open.len().max(1)).copied();
                if let Some(token) = token {
                    self.open.remove(&token);
                    let outcome = self.coordinator.forget(token, self.now_ms);
                    self.take(outcome, None);
                }
            }
            Act::Restart { client } => self.clients[client].id.clear(),
            Act::Pass { milliseconds } => self.pass(milliseconds),
        }
        if self.coordinator.group_count() == 0 {
            self.group_is_gone();
        }
    }

    /// A group of the same name begins again at generation 1.
    fn group_is_gone(&mut self) {
        self.newest = 0;
        self.assigners.clear();
    }

    fn pass(&mut self, milliseconds: i64) {
        let end_ms = self.now_ms + milliseconds;
        for _ in 0..10_000 {
            match self.coordinator.next_deadline_ms() {
                Some(deadline_ms) if deadline_ms <= end_ms => {
                    self.now_ms = self.now_ms.max(deadline_ms);
                    let outcome = self.coordinator.tick(self.now_ms);
                    self.take(outcome, None);
                }
                _ => break,
            }
        }
        self.now_ms = end_ms;
    }

    fn offsets(coordinator: &mut Coordinator) -> GroupResponse {
        let groups = vec![FetchGroup { group_id: GROUP.to_owned(), topics: None }];
        let request = GroupRequest::OffsetFetch(OffsetFetchRequest { groups, require_stable: false });
        coordinator.request(0, request, 0).replies.remove(0).1
    }

    fn describe(coordinator: &mut Coordinator) -> DescribedGroup {
        let request = GroupRequest::Describe(DescribeRequest { groups: vec![GROUP.to_owned()] });
        match coordinator.request(0, request, 0).replies.remove(0).1 {
            GroupResponse::Describe(mut response) => response.groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn check_replay(&mut self) {
        let mut replayed = Coordinator::new(GroupOptions::default());
        for record in &self.log {
            replayed.replay(&record.key, record.value.as_deref()).expect("our own records are readable");
        }
        replayed.loaded(self.now_ms);
        assert_eq!(World::offsets(&mut replayed), World::offsets(&mut self.coordinator));
        assert_eq!(replayed.offset_count(), self.coordinator.offset_count());
        let live = World::describe(&mut self.coordinator);
        if live.state == GroupState::Stable {
            assert_eq!(World::describe(&mut replayed), live);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_requests_is_survived(acts in prop::collection::vec(act(), 1..80), delayed: bool) {
        let mut world = World::new(if delayed { 3_000 } else { 0 });
        for act in acts {
            world.act(act);
        }
        world.check_replay();
        // When everybody falls silent, nobody waits for ever, and nothing but offsets stays.
        world.pass(2_000_000);
        prop_assert_eq!((world.coordinator.waiting_count(), world.coordinator.member_bytes()), (0, 0));
        prop_assert!(matches!(
            World::describe(&mut world.coordinator).state,
            GroupState::Empty | GroupState::Dead
        ));
        world.check_replay();
        world.pass(8 * 24 * 60 * 60 * 1000);
        prop_assert_eq!(world.coordinator.group_count(), 0);
        prop_assert_eq!(world.coordinator.next_deadline_ms(), None);
    }

    #[test]
    fn any_bytes_can_be_replayed(key: Vec<u8>, value: Option<Vec<u8>>, version in 0u8..6, kind in 0u8..4) {
        let mut coordinator = Coordinator::new(GroupOptions::default());
        let _ = coordinator.replay(&key, value.as_deref());
        let versioned = |version: u8, rest: &[u8]| [&[0, version], rest].concat();
        let _ = coordinator.replay(&versioned(kind, &key), value.map(|value| versioned(version, &value)).as_deref());
        coordinator.loaded(0);
        let _ = coordinator.tick(i64::MAX);
    }
}
