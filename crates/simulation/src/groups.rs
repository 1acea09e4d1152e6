//! What consumer groups do: commit offsets, and ask for them.

use std::pin::pin;

use millpond_broker::Driver;
use millpond_coordinator::{
    CommitPartition, CommitTopic, FetchGroup, GroupRequest, GroupResponse, OffsetCommitRequest, OffsetFetchRequest,
};
use millpond_types::Offset;

use crate::model::Existence;
use crate::node::poll_once;
use crate::world::Shared;

/// The groups there are.
const GROUPS: u64 = 3;

fn commit(group: &str, topic: &str, partition: i32, offset: Offset) -> GroupRequest {
    let partition = CommitPartition { partition, offset, leader_epoch: -1, metadata: None };
    GroupRequest::OffsetCommit(OffsetCommitRequest {
        group_id: group.to_owned(),
        member_id: String::new(),
        group_instance_id: None,
        generation_id: -1,
        retention_time_ms: None,
        reports_unknown_group: false,
        topics: vec![CommitTopic { topic: topic.to_owned(), partitions: vec![partition] }],
    })
}

impl Shared {
    /// The coordinator's answer; none if it gave none, since its disk went off.
    fn ask_coordinator(&self, driver: &Driver, request: GroupRequest) -> Option<GroupResponse> {
        let broker = self.world.lock().broker.clone()?;
        let mut answer = pin!(broker.group_request(request));
        if let Some(at_once) = poll_once(answer.as_mut()) {
            return Some(at_once);
        }
        driver.groups(Driver::sync_all);
        poll_once(answer.as_mut())
    }

    /// A group commits an offset.
    pub(crate) fn commit_offset(&self, driver: &Driver) {
        let (key, offset) = {
            let mut world = self.world.lock();
            let known: Vec<(String, usize)> = world
                .model
                .topics
                .iter()
                .filter(|(_, topic)| topic.existence == Existence::Yes)
                .map(|(name, topic)| (name.clone(), topic.partitions.len()))
                .collect();
            let place = world.random.index(known.len());
            let Some((topic, count)) = known.get(place).cloned() else { return };
            let partition = world.random.index(count) as i32;
            let group = format!("group-{}", world.random.below(GROUPS));
            let offset = world.random.below(1_000_000) as i64;
            let key = (group, topic, partition);
            world.model.committed.entry(key.clone()).or_default().in_doubt.push(offset);
            (key, offset)
        };
        let answer = self.ask_coordinator(driver, commit(&key.0, &key.1, key.2, offset));
        let mut world = self.world.lock();
        let off = world.disk.is_off();
        let done = match answer {
            Some(GroupResponse::OffsetCommit(response)) => {
                response.topics.iter().flat_map(|topic| &topic.partitions).all(|(_, error)| error.is_none())
            }
            _ => false,
        };
        world.event(format!("commit {key:?} at {offset}: {done}"));
        if done && !off {
            let committed = world.model.committed.entry(key).or_default();
            committed.acknowledged = Some(offset);
            committed.in_doubt.clear();
            world.summary.commits += 1;
        }
    }

    /// All offsets that groups have committed are asked for. After a start, what was in doubt is not any more. While the node
    /// runs it stays: an offset that could not be stored, as its group was told, is shown until the node ends.
    pub(crate) fn check_offsets(&self, driver: &Driver, after_start: bool) {
        for number in 0..GROUPS {
            let group = format!("group-{number}");
            let request = FetchGroup { group_id: group.clone(), topics: None };
            let request = OffsetFetchRequest { groups: vec![request], require_stable: false };
            let answer = self.ask_coordinator(driver, GroupRequest::OffsetFetch(request));
            let mut world = self.world.lock();
            if world.disk.is_off() {
                return;
            }
            let Some(GroupResponse::OffsetFetch(response)) = answer else {
                world.violated(format!("no answer to OffsetFetch of {group}: {answer:?}"));
                return;
            };
            let mut found = std::collections::BTreeMap::new();
            for topic in response.groups.iter().flat_map(|group| &group.topics) {
                for partition in &topic.partitions {
                    found.insert((group.clone(), topic.topic.clone(), partition.partition), partition.offset);
                }
            }
            let mut wrong = None;
            for (key, committed) in world.model.committed.iter_mut().filter(|(key, _)| key.0 == group) {
                let offset = found.get(key).copied().filter(|offset| *offset >= 0);
                if offset == committed.acknowledged || offset.is_some_and(|offset| committed.in_doubt.contains(&offset))
                {
                    if after_start {
                        committed.acknowledged = offset;
                        committed.in_doubt.clear();
                    }
                } else {
                    wrong.get_or_insert(format!(
                        "{key:?}: {:?} was acknowledged (in doubt: {:?}), {offset:?} is there",
                        committed.acknowledged, committed.in_doubt
                    ));
                }
            }
            if let Some(wrong) = wrong {
                world.violated(wrong);
            }
        }
    }
}
