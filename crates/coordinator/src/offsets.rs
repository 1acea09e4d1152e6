//! Committed offsets: come, asked for, deleted, expired.

use std::collections::BTreeSet;
use std::sync::Arc;

use millpond_types::TimestampMs;

use crate::coordinator::{Coordinator, Outcome};
use crate::error::GroupError;
use crate::group::Group;
use crate::records::{OffsetValue, OffsetsRecord, STRING_BYTES_MAX};
use crate::request::{FetchGroup, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest};
use crate::response::{
    FetchedGroup, FetchedPartition, FetchedTopic, GroupState, OffsetCommitResponse, OffsetDeleteResponse,
    OffsetFetchResponse, PartitionErrors,
};

/// What a group committed for a partition: the form that its record's value has.
pub(crate) type CommittedOffset = OffsetValue;

impl Coordinator {
    pub(crate) fn commit(
        &mut self,
        request: &OffsetCommitRequest,
        now_ms: TimestampMs,
        outcome: &mut Outcome,
    ) -> OffsetCommitResponse {
        if request.group_id.len() > STRING_BYTES_MAX {
            return request.refuse(GroupError::InvalidGroupId);
        }
        let checked = match self.groups.get_mut(request.group_id.as_str()) {
            Some(group) => group.check_commit(request, now_ms),
            // Whoever names a generation believes in a group that is not there.
            None if request.generation_id >= 0 && request.reports_unknown_group => Err(GroupError::GroupIdNotFound),
            None if request.generation_id >= 0 => Err(GroupError::IllegalGeneration),
            None => Ok(()),
        };
        if let Err(error) = checked.and_then(|()| self.ensure_group(&request.group_id)) {
            return request.refuse(error);
        }
        let metadata_bytes_max = self.options.offset_metadata_bytes_max.min(STRING_BYTES_MAX);
        let room = self.options.offsets_max.saturating_sub(self.offset_count);
        let Some(group) = self.groups.get_mut(request.group_id.as_str()) else {
            return request.refuse(GroupError::CoordinatorNotAvailable);
        };
        let mut added = 0;
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let metadata = partition.metadata.as_deref().unwrap_or_default();
                let is_new = group.offset(&topic.topic, partition.partition).is_none();
                let error = if metadata.len() > metadata_bytes_max {
                    Some(GroupError::OffsetMetadataTooLarge)
                } else if topic.topic.len() > STRING_BYTES_MAX {
                    Some(GroupError::InvalidRequest)
                } else if is_new && added >= room {
                    Some(GroupError::PolicyViolation)
                } else {
                    let value = OffsetValue {
                        offset: partition.offset,
                        leader_epoch: partition.leader_epoch,
                        metadata: metadata.to_owned(),
                        commit_timestamp_ms: now_ms,
                        expire_timestamp_ms: request.retention_time_ms.map(|kept_ms| now_ms.saturating_add(kept_ms)),
                    };
                    let record = OffsetsRecord::offset(&group.id, &topic.topic, partition.partition, Some(&value));
                    outcome.records.push(record);
                    group.put_offset(&topic.topic, partition.partition, value);
                    added += usize::from(is_new);
                    None
                };
                partitions.push((partition.partition, error));
            }
            topics.push(PartitionErrors { topic: topic.topic.clone(), partitions });
        }
        self.offset_count += added;
        self.settle(&request.group_id);
        OffsetCommitResponse { topics }
    }

    pub(crate) fn fetch(&self, request: &OffsetFetchRequest) -> OffsetFetchResponse {
        OffsetFetchResponse { groups: request.groups.iter().map(|group| self.fetch_group(group)).collect() }
    }

    fn fetch_group(&self, request: &FetchGroup) -> FetchedGroup {
        let group = self.groups.get(request.group_id.as_str());
        let topics = match &request.topics {
            Some(topics) => {
                let fetched = |(topic, partitions): &(String, Vec<i32>)| FetchedTopic {
                    topic: topic.clone(),
                    partitions: partitions
                        .iter()
                        .map(|partition| fetched(*partition, group.and_then(|group| group.offset(topic, *partition))))
                        .collect(),
                };
                topics.iter().map(fetched).collect()
            }
            None => group.map(Group::all_offsets).unwrap_or_default(),
        };
        FetchedGroup { group_id: request.group_id.clone(), error: None, topics }
    }

    pub(crate) fn delete_offsets(
        &mut self,
        request: &OffsetDeleteRequest,
        outcome: &mut Outcome,
    ) -> OffsetDeleteResponse {
        let refused = |error| OffsetDeleteResponse { error: Some(error), topics: Vec::new() };
        let Some(group) = self.groups.get_mut(request.group_id.as_str()) else {
            return refused(GroupError::GroupIdNotFound);
        };
        // Of other protocol types nobody knows what their members use.
        if group.state != GroupState::Empty && !group.uses_consumer_protocol() {
            return refused(GroupError::NonEmptyGroup);
        }
        let mut deleted = 0;
        let mut topics = Vec::with_capacity(request.topics.len());
        for (topic, partitions) in &request.topics {
            let error = group.is_subscribed_to(topic).then_some(GroupError::GroupSubscribedToTopic);
            for partition in partitions.iter().filter(|_| error.is_none()) {
                deleted += usize::from(group.delete_offset(topic, *partition, outcome));
            }
            let partitions = partitions.iter().map(|partition| (*partition, error)).collect();
            topics.push(PartitionErrors { topic: topic.clone(), partitions });
        }
        self.offset_count -= deleted;
        self.settle(&request.group_id);
        OffsetDeleteResponse { error: None, topics }
    }

    /// Says that these topics are gone: nobody needs their offsets any more.
    pub fn topics_deleted(&mut self, topics: &[&str]) -> Outcome {
        let mut outcome = Outcome::default();
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            for topic in topics {
                let partitions: Vec<i32> =
                    group.offsets.get(*topic).map(|found| found.keys().copied().collect()).unwrap_or_default();
                for partition in partitions {
                    self.offset_count -= usize::from(group.delete_offset(topic, partition, &mut outcome));
                }
            }
            self.settle(&id);
        }
        outcome
    }

    /// The topics that groups have committed offsets of.
    pub fn topics_with_offsets(&self) -> BTreeSet<String> {
        self.groups.values().flat_map(|group| group.offsets.keys().cloned()).collect()
    }

    pub(crate) fn replay_offset(&mut self, group_id: &str, topic: String, partition: i32, value: Option<OffsetValue>) {
        let found = self.groups.entry(Arc::from(group_id));
        let group = found.or_insert_with_key(|id| Group::new(id.clone()));
        match value {
            Some(value) => {
                let is_new = group.offset(&topic, partition).is_none();
                group.put_offset(&topic, partition, value);
                self.offset_count += usize::from(is_new);
            }
            None => self.offset_count -= usize::from(group.take_offset(&topic, partition)),
        }
        self.settle(group_id);
    }

    /// Deletes what nobody has used for the retention's time, and groups of which nothing is left then.
    pub(crate) fn expire_offsets(&mut self, now_ms: TimestampMs, outcome: &mut Outcome) {
        let retention_ms = self.options.offsets_retention_ms;
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            for (topic, partition) in group.expired_offsets(now_ms, retention_ms) {
                self.offset_count -= usize::from(group.delete_offset(&topic, partition, outcome));
            }
            let is_over = group.state == GroupState::Empty && group.pending.is_empty() && group.offsets.is_empty();
            if is_over && group.recorded {
                group.recorded = false;
                outcome.records.push(OffsetsRecord::group(&id, None));
            }
            self.settle(&id);
        }
    }
}

fn fetched(partition: i32, committed: Option<&CommittedOffset>) -> FetchedPartition {
    FetchedPartition {
        partition,
        offset: committed.map_or(-1, |committed| committed.offset),
        leader_epoch: committed.map_or(-1, |committed| committed.leader_epoch),
        metadata: committed.map(|committed| committed.metadata.clone()).unwrap_or_default(),
    }
}

impl Group {
    pub(crate) fn offset(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.offsets.get(topic)?.get(&partition)
    }

    fn put_offset(&mut self, topic: &str, partition: i32, value: CommittedOffset) {
        match self.offsets.get_mut(topic) {
            Some(partitions) => partitions.insert(partition, value),
            None => self.offsets.entry(topic.to_owned()).or_default().insert(partition, value),
        };
    }

    /// Whether there was one.
    fn take_offset(&mut self, topic: &str, partition: i32) -> bool {
        let Some(partitions) = self.offsets.get_mut(topic) else { return false };
        let taken = partitions.remove(&partition).is_some();
        if partitions.is_empty() {
            self.offsets.remove(topic);
        }
        taken
    }

    /// Whether there was one; then the outcome has its tombstone.
    pub(crate) fn delete_offset(&mut self, topic: &str, partition: i32, outcome: &mut Outcome) -> bool {
        let taken = self.take_offset(topic, partition);
        if taken {
            outcome.records.push(OffsetsRecord::offset(&self.id, topic, partition, None));
        }
        taken
    }

    fn all_offsets(&self) -> Vec<FetchedTopic> {
        let topic = |(topic, partitions): (&String, &std::collections::BTreeMap<i32, CommittedOffset>)| FetchedTopic {
            topic: topic.clone(),
            partitions: partitions.iter().map(|(partition, value)| fetched(*partition, Some(value))).collect(),
        };
        self.offsets.iter().map(topic).collect()
    }

    /// Who may commit: members of the current generation, and anybody outside of group management while there are
    /// no members. A member's commit is a sign of life.
    fn check_commit(&mut self, request: &OffsetCommitRequest, now_ms: TimestampMs) -> Result<(), GroupError> {
        if request.generation_id < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        let instance_id = request.group_instance_id.as_deref();
        if request.generation_id < 0 && request.member_id.is_empty() && instance_id.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(&request.member_id, instance_id)?;
        if request.generation_id != self.generation_id {
            return Err(GroupError::IllegalGeneration);
        }
        if self.state == GroupState::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(&request.member_id) {
            member.touch(now_ms);
        }
        Ok(())
    }

    fn expired_offsets(&self, now_ms: TimestampMs, retention_ms: i64) -> Vec<(String, i32)> {
        let is_managed = self.protocol_type.is_some();
        let empty_since_ms = self.state_since_ms.filter(|_| is_managed && self.state == GroupState::Empty);
        let may_expire = match self.state {
            GroupState::Empty => true,
            // Consumers that say what they read; an offset of another topic is left from an older subscription.
            GroupState::Stable => self.uses_consumer_protocol() && self.subscribed_topics.is_some(),
            _ => false,
        };
        let expired = |value: &CommittedOffset| match value.expire_timestamp_ms {
            Some(expire_ms) => now_ms >= expire_ms,
            None => now_ms.saturating_sub(empty_since_ms.unwrap_or(value.commit_timestamp_ms)) >= retention_ms,
        };
        let topics = self.offsets.iter().filter(|(topic, _)| may_expire && !self.is_subscribed_to(topic));
        topics
            .flat_map(|(topic, partitions)| {
                let gone = partitions.iter().filter(|(_, value)| expired(value));
                gone.map(|(partition, _)| (topic.clone(), *partition))
            })
            .collect()
    }
}
