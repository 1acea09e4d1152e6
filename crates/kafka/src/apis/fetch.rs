//! Fetch: read records.
//!
//! Versions 4 to 18. v7 brings sessions (KIP-227, `session.rs`), v9 checks the client's leader epoch (KIP-320), v12
//! flexible fields and the check for diverged logs, v13 topics by id (KIP-516).
//!
//! Answers whole batches: the first one of an answer even if it is larger than every limit (KIP-74), all others
//! within `max_bytes`, the partition's limit and `fetch.max.bytes`. If there is less than `min_bytes`, the request
//! waits up to `max_wait_ms` for partitions to move, without looking at them in between.
//!
//! Who reads committed records gets what lies below the last stable offset, with a list of the aborted transactions in it,
//! whose batches the client leaves out (KIP-98).
//!
//! Ignored: what only followers send (replica id and epoch, cluster id, log start offset, high watermark), and the rack,
//! as there is one.

mod request;
mod response;
mod session;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use millpond_broker::{AbortedTransactions, Partition as BrokerPartition, Waiter};
use millpond_types::TopicId;
use tokio::time::Instant;

use self::request::{Partition, TOPIC_IDS_FROM, TopicRef, Wanted};
use self::response::Found;
pub(crate) use self::response::Response;
pub(crate) use self::session::Sessions;
use super::Api;
use crate::call::{Answer, Call, Frame, Serving, Unanswerable};
use crate::error_code::ErrorCode;
use crate::limits::FETCH_WAIT_MAX;

pub(crate) static API: Api = Api {
    key: 1,
    name: "Fetch",
    versions: (4, 18),
    flexible_from: request::FLEXIBLE_FROM,
    fields: &[],
    serve: |call, frame| Serving::Later(Box::pin(serve(call, frame))),
};

async fn serve(call: Call, frame: Frame) -> Result<Answer, Unanswerable> {
    let request = request::decode(&frame.bytes, frame.body, call.version)?;
    // The wait must not hold the connection's read buffer.
    drop(frame);
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(call.node.fetch_bytes_max);
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max);
    let wait_max = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(FETCH_WAIT_MAX);
    let read_committed = request.read_committed;
    let sessions = &call.node.sessions;
    let by_topic_id = call.version >= TOPIC_IDS_FROM;
    let begun = match sessions.begin(request, by_topic_id, call.broker().now_ms()) {
        Ok(begun) => begun,
        Err(error) => {
            call.code(error);
            let nothing = call.node.fetch_memory.take(0);
            return Ok(Answer::Fetch(Response::session_error(error), nothing));
        }
    };
    let (partitions, kind) = begun.into_parts();
    let mut reading = Reading::new(&call, &partitions, bytes_max, read_committed);
    let memory = reading.until(bytes_min, wait_max).await;
    let found = partitions.into_iter().zip(reading.places).map(|(partition, place)| {
        let found = place.found.expect("every partition was read");
        call.code(found.error);
        (partition, found)
    });
    let response = sessions.finish(kind, found.collect(), read_committed, call.broker().now_ms());
    Ok(Answer::Fetch(response, memory))
}

/// The partitions of one request, and what was found in them so far.
struct Reading<'a> {
    call: &'a Call,
    bytes_max: usize,
    read_committed: bool,
    places: Vec<Place>,
}

struct Place {
    partition: Result<Arc<BrokerPartition>, ErrorCode>,
    wanted: Wanted,
    found: Option<Found>,
}

impl<'a> Reading<'a> {
    fn new(call: &'a Call, partitions: &[Partition], bytes_max: usize, read_committed: bool) -> Reading<'a> {
        let mut known = HashMap::new();
        let places = partitions
            .iter()
            .map(|partition| Place {
                partition: find(call, partition, &mut known),
                wanted: partition.fetch,
                found: None,
            })
            .collect();
        Reading { call, bytes_max, read_committed, places }
    }

    /// Reads until there are `bytes_min`, an error, or `wait_max` has passed. Returns the memory that was taken.
    async fn until(&mut self, bytes_min: usize, wait_max: Duration) -> crate::budget::Taken {
        let mut memory = self.read();
        if self.is_enough(bytes_min) || wait_max.is_zero() {
            return memory;
        }
        let deadline = Instant::now() + wait_max;
        let waiter = Waiter::new();
        loop {
            // Watched first and read then, so that no move is missed.
            for partition in self.places.iter().flat_map(|place| &place.partition) {
                partition.watch(&waiter);
            }
            if self.forget_moved() {
                drop(memory);
                memory = self.read();
                if self.is_enough(bytes_min) {
                    return memory;
                }
            }
            let stopping = self.call.broker().is_stopping();
            if stopping || tokio::time::timeout_at(deadline, waiter.notified()).await.is_err() {
                return memory;
            }
        }
    }

    /// Reads the partitions that were not read yet, and takes the memory for what all of them hold.
    fn read(&mut self) -> crate::budget::Taken {
        let mut memory = self.call.node.fetch_memory.take(self.bytes_max);
        let mut total = self.len();
        for place in &mut self.places {
            if place.found.is_some() {
                continue;
            }
            // Something must come, however large the first batch is (KIP-74).
            let found = place.read(memory.bytes().saturating_sub(total), total == 0, self.read_committed);
            total += found.records_len;
            place.found = Some(found);
        }
        memory.shrink(total);
        memory
    }

    /// Forgets what was found in partitions that have more to show since. Says whether there were any.
    fn forget_moved(&mut self) -> bool {
        let mut moved = false;
        for place in &mut self.places {
            let Ok(partition) = &place.partition else { continue };
            let is_news = |found: &Found| found.high_watermark != partition.visible_end() || partition.is_deleted();
            if place.found.as_ref().is_some_and(is_news) {
                place.found = None;
                moved = true;
            }
        }
        moved
    }

    fn len(&self) -> usize {
        self.places.iter().flat_map(|place| &place.found).map(|found| found.records_len).sum()
    }

    fn is_enough(&self, bytes_min: usize) -> bool {
        let ends_wait = |found: &Found| found.error != ErrorCode::None || found.diverging_epoch.is_some();
        self.len() >= bytes_min || self.places.is_empty() || self.places.iter().flat_map(|p| &p.found).any(ends_wait)
    }
}

/// The partition that a request names. `known` holds the topics that were looked up before.
fn find(
    call: &Call,
    partition: &Partition,
    known: &mut HashMap<TopicId, bool>,
) -> Result<Arc<BrokerPartition>, ErrorCode> {
    let broker = call.broker();
    match &partition.topic {
        TopicRef::Name(name) => broker.partition(name, partition.index).ok_or(ErrorCode::UnknownTopicOrPartition),
        TopicRef::Id(id) => {
            let id = TopicId::from_uuid(*id);
            broker.partition_by_id(id, partition.index).ok_or_else(|| {
                match *known.entry(id).or_insert_with(|| broker.topic_by_id(id).is_some()) {
                    true => ErrorCode::UnknownTopicOrPartition,
                    false => ErrorCode::UnknownTopicId,
                }
            })
        }
    }
}

impl Place {
    fn read(&self, bytes_left: usize, nothing_yet: bool, read_committed: bool) -> Found {
        match &self.partition {
            Ok(partition) => match self.check_epochs(partition) {
                Ok(None) => read(partition, self.wanted, bytes_left, nothing_yet, read_committed),
                Ok(Some(diverged)) => Found { diverging_epoch: Some(diverged), ..nothing(partition, ErrorCode::None) },
                Err(error) => Found::error(error),
            },
            Err(error) => Found::error(*error),
        }
    }

    /// Whether the client knows the epoch that runs, and where its log left ours, if it says (KIP-320).
    fn check_epochs(&self, partition: &BrokerPartition) -> Result<Option<(i32, i64)>, ErrorCode> {
        check_leader_epoch(self.wanted.current_leader_epoch, partition)?;
        let last_fetched = self.wanted.last_fetched_epoch;
        if last_fetched < 0 {
            return Ok(None);
        }
        let (epoch, end) = partition.epoch_end(last_fetched).ok_or(ErrorCode::OffsetOutOfRange)?;
        let diverged = epoch < last_fetched || end < self.wanted.fetch_offset;
        Ok(diverged.then_some((epoch, end)))
    }
}

/// Checks the epoch that a client believes in, −1 for none, against the one that runs (KIP-320).
pub(crate) fn check_leader_epoch(believed: i32, partition: &BrokerPartition) -> Result<(), ErrorCode> {
    match believed {
        ..0 => Ok(()),
        epoch if epoch < partition.leader_epoch() => Err(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > partition.leader_epoch() => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// No records of a partition, but its offsets.
fn nothing(partition: &BrokerPartition, error: ErrorCode) -> Found {
    // The end is looked at first, and before the records: what comes in between is seen as a move, and read again.
    let high_watermark = partition.visible_end();
    let last_stable_offset = partition.last_stable_offset().min(high_watermark);
    Found { high_watermark, last_stable_offset, log_start_offset: partition.log_start(), ..Found::error(error) }
}

fn read(
    partition: &BrokerPartition,
    wanted: Wanted,
    bytes_left: usize,
    nothing_yet: bool,
    read_committed: bool,
) -> Found {
    let nothing = nothing(partition, ErrorCode::None);
    let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or(0).min(bytes_left);
    let found = match read_committed {
        true => partition.find_committed(wanted.fetch_offset, bytes_max, nothing_yet),
        false => {
            let found = partition.find(wanted.fetch_offset, bytes_max, nothing_yet);
            found.map(|found| (found, AbortedTransactions::default()))
        }
    };
    match found {
        Ok((found, aborted)) => Found { aborted, records_len: found.len, records: found.pieces, ..nothing },
        // OFFSET_OUT_OF_RANGE is told with the offsets that there are.
        Err(error) => Found { error: ErrorCode::from(&error), ..nothing },
    }
}
