//! Fetch sessions (KIP-227): the client sends only what changed since its last request, and gets only what changed.
//!
//! A session remembers what the client wants of each partition and what it was last told. It is made with a full
//! fetch, if there is room; it goes when the client ends it or makes another, or when it was left alone for a while
//! and another needs its place. A request that does not fit its session is told so, and the client begins anew.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::request::{Partition, Request, TopicRef, Wanted};
use super::response::{self, Found, Response};
use crate::error_code::ErrorCode;
use crate::limits::{FETCH_SESSION_EVICTION_MS_MIN, FETCH_SESSION_PARTITIONS_MAX};
use crate::metrics::Metrics;

/// Epoch of a request that makes a session.
const INITIAL_EPOCH: i32 = 0;
/// Epoch of a request that has none, and ends the one that it names.
const FINAL_EPOCH: i32 = -1;
/// "No session".
const NO_SESSION: i32 = 0;

/// All sessions of the node. One lock, held while partitions are listed, not while they are read.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots_max: usize,
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<i32, Session>,
    /// Partitions of all sessions.
    partitions: usize,
}

#[derive(Debug)]
struct Session {
    /// What the next request must carry.
    epoch: i32,
    by_topic_id: bool,
    last_used_ms: i64,
    slots: HashMap<(TopicRef, i32), Slot>,
    /// The next turn to be given out.
    turn: u64,
}

/// One partition of a session.
#[derive(Debug)]
struct Slot {
    wanted: Wanted,
    /// Partitions are read in this order; one that gave records goes to the end.
    turn: u64,
    /// What the client was last told; none after an error, so that the end of the error is told.
    told: Option<(i64, i64)>,
}

/// What a request asks for, with its session.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The partitions to read, in order.
    pub(crate) partitions: Vec<Partition>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Sessionless,
    /// A session is wanted.
    New {
        by_topic_id: bool,
    },
    Incremental {
        id: i32,
        /// The epoch after this request, by which a session that was made anew under the same id is told apart.
        epoch: i32,
    },
}

impl Sessions {
    pub(crate) fn new(slots_max: usize, metrics: Arc<Metrics>) -> Sessions {
        Sessions { slots_max, metrics, inner: Mutex::default() }
    }

    /// Takes note of a request, and says what to read for it.
    pub(crate) fn begin(&self, request: Request, by_topic_id: bool, now_ms: i64) -> Result<Begun, ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            if id != NO_SESSION {
                self.remove(&mut self.inner.lock(), id);
            }
            let kind = if epoch == INITIAL_EPOCH { Kind::New { by_topic_id } } else { Kind::Sessionless };
            return Ok(Begun { partitions: request.partitions, kind });
        }
        let mut inner = self.inner.lock();
        let Inner { by_id, partitions } = &mut *inner;
        let session = by_id.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_topic_id != by_topic_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.epoch = next_epoch(epoch);
        session.last_used_ms = now_ms;
        let before = session.slots.len();
        session.update(request.partitions);
        for forgotten in &request.forgotten {
            session.slots.remove(forgotten);
        }
        *partitions = *partitions + session.slots.len() - before;
        let (kind, too_many) =
            (Kind::Incremental { id, epoch: session.epoch }, *partitions > FETCH_SESSION_PARTITIONS_MAX);
        let listed = session.list();
        if too_many {
            self.remove(&mut inner, id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        if listed.is_empty() {
            self.remove(&mut inner, id);
            return Ok(Begun { partitions: listed, kind: Kind::Sessionless });
        }
        Ok(Begun { partitions: listed, kind })
    }

    /// Makes the answer out of what was found; of an incremental fetch only what the client does not know yet.
    pub(crate) fn finish(
        &self,
        kind: SessionKind,
        found: Vec<(Partition, Found)>,
        read_committed: bool,
        now_ms: i64,
    ) -> Response {
        let answer = |session_id, found: Vec<(Partition, Found)>| Response {
            error: ErrorCode::None,
            session_id,
            read_committed,
            partitions: found
                .into_iter()
                .map(|(partition, found)| response::Partition { topic: partition.topic, index: partition.index, found })
                .collect(),
        };
        match kind.0 {
            Kind::Sessionless => answer(NO_SESSION, found),
            Kind::New { by_topic_id } => answer(self.make(by_topic_id, &found, now_ms), found),
            Kind::Incremental { id, epoch } => {
                let mut inner = self.inner.lock();
                let session = inner.by_id.get_mut(&id).filter(|session| session.epoch == epoch);
                // A session that another took the place of meanwhile: the client learns it with its next request.
                let Some(session) = session else { return answer(id, found) };
                let news = found.into_iter().filter(|(partition, found)| session.tell(partition, found)).collect();
                answer(id, news)
            }
        }
    }

    /// Makes a session for a client that was just told what is in `found`, if there is room.
    fn make(&self, by_topic_id: bool, found: &[(Partition, Found)], now_ms: i64) -> i32 {
        let mut inner = self.inner.lock();
        if found.is_empty() || !self.make_room(&mut inner, found.len(), now_ms) {
            return NO_SESSION;
        }
        let id = loop {
            let id = (uuid::Uuid::new_v4().as_u128() as u32 >> 1) as i32;
            if id != NO_SESSION && !inner.by_id.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            by_topic_id,
            last_used_ms: now_ms,
            slots: HashMap::with_capacity(found.len()),
            turn: 0,
        };
        session.update(found.iter().map(|(partition, _)| partition.clone()));
        for (partition, found) in found {
            session.tell(partition, found);
        }
        inner.partitions += session.slots.len();
        inner.by_id.insert(id, session);
        self.metrics.fetch_sessions.set(inner.by_id.len() as i64);
        id
    }

    /// Sees to a free place, if need be by taking that of the session that was left alone longest.
    fn make_room(&self, inner: &mut Inner, partitions: usize, now_ms: i64) -> bool {
        let has_room = |inner: &Inner| {
            inner.by_id.len() < self.slots_max && inner.partitions + partitions <= FETCH_SESSION_PARTITIONS_MAX
        };
        if !has_room(inner) {
            let oldest = inner.by_id.iter().min_by_key(|(_, session)| session.last_used_ms);
            let due = oldest.filter(|(_, session)| now_ms - session.last_used_ms > FETCH_SESSION_EVICTION_MS_MIN);
            if let Some(id) = due.map(|(id, _)| *id) {
                self.remove(inner, id);
                self.metrics.fetch_sessions_evicted.inc();
            }
        }
        has_room(inner)
    }

    fn remove(&self, inner: &mut Inner, id: i32) {
        if let Some(session) = inner.by_id.remove(&id) {
            inner.partitions -= session.slots.len();
            self.metrics.fetch_sessions.set(inner.by_id.len() as i64);
        }
    }
}

/// What [`Begun`] leaves behind when its partitions are taken out.
#[derive(Debug)]
pub(crate) struct SessionKind(Kind);

impl Begun {
    /// What to read, and what to finish with.
    pub(crate) fn into_parts(self) -> (Vec<Partition>, SessionKind) {
        (self.partitions, SessionKind(self.kind))
    }
}

impl Session {
    /// Adds partitions, or changes what is wanted of them.
    fn update(&mut self, partitions: impl IntoIterator<Item = Partition>) {
        for partition in partitions {
            let turn = self.turn;
            let slot = self.slots.entry((partition.topic, partition.index));
            slot.and_modify(|slot| slot.wanted = partition.fetch).or_insert_with(|| Slot {
                wanted: partition.fetch,
                turn,
                told: None,
            });
            self.turn += 1;
        }
    }

    /// The partitions in the order in which they are to be read.
    fn list(&self) -> Vec<Partition> {
        let mut slots: Vec<_> = self.slots.iter().collect();
        slots.sort_unstable_by_key(|(_, slot)| slot.turn);
        slots
            .into_iter()
            .map(|((topic, index), slot)| Partition { topic: topic.clone(), index: *index, fetch: slot.wanted })
            .collect()
    }

    /// Whether the client must be told what was found, because it is new.
    fn tell(&mut self, partition: &Partition, found: &Found) -> bool {
        let Some(slot) = self.slots.get_mut(&(partition.topic.clone(), partition.index)) else { return false };
        let now = (found.high_watermark, found.log_start_offset);
        let failed = found.error != ErrorCode::None;
        let news = failed || found.records_len > 0 || found.diverging_epoch.is_some() || slot.told != Some(now);
        slot.told = (!failed).then_some(now);
        if found.records_len > 0 {
            slot.turn = self.turn;
            self.turn += 1;
        }
        news
    }
}

/// Epochs go from 1 up, and begin at 1 again after the largest.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millpond_broker::BatchPiece;

    use super::*;

    fn sessions(slots_max: usize) -> Sessions {
        Sessions::new(slots_max, Arc::new(Metrics::new()))
    }

    fn wanted(index: i32, fetch_offset: i64) -> Partition {
        let fetch = Wanted { current_leader_epoch: -1, fetch_offset, last_fetched_epoch: -1, bytes_max: 100 };
        Partition { topic: TopicRef::Name("t".into()), index, fetch }
    }

    fn request(session_id: i32, session_epoch: i32, partitions: Vec<Partition>, forgotten: &[i32]) -> Request {
        Request {
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: 0,
            read_committed: false,
            session_id,
            session_epoch,
            partitions,
            forgotten: forgotten.iter().map(|index| (TopicRef::Name("t".into()), *index)).collect(),
        }
    }

    fn found(high_watermark: i64, records: &'static [u8]) -> Found {
        Found {
            high_watermark,
            log_start_offset: 0,
            records: vec![BatchPiece::Memory(Bytes::from_static(records))],
            records_len: records.len(),
            ..Found::error(ErrorCode::None)
        }
    }

    /// One request and its answer: the session's id and the partitions that it tells of.
    fn fetch(
        sessions: &Sessions,
        request: Request,
        now_ms: i64,
        find: impl Fn(i32) -> Found,
    ) -> Result<(i32, Vec<i32>), ErrorCode> {
        let (partitions, kind) = sessions.begin(request, false, now_ms)?.into_parts();
        let found = partitions.into_iter().map(|partition| (partition.clone(), find(partition.index))).collect();
        let response = sessions.finish(kind, found, false, now_ms);
        Ok((response.session_id, response.partitions.iter().map(|partition| partition.index).collect()))
    }

    #[test]
    fn only_what_changed_is_told_and_partitions_with_records_go_last() {
        let sessions = sessions(10);
        let all = vec![wanted(0, 0), wanted(1, 0), wanted(2, 0)];
        let (id, told) = fetch(&sessions, request(0, 0, all, &[]), 0, |_| found(5, b"")).unwrap();
        assert!(id != 0);
        assert_eq!(told, [0, 1, 2]);
        let quiet = fetch(&sessions, request(id, 1, vec![], &[]), 0, |_| found(5, b"")).unwrap();
        assert_eq!(quiet, (id, vec![]));
        let records_in_0 = |index| found(if index == 0 { 6 } else { 5 }, if index == 0 { b"r" } else { b"" });
        assert_eq!(fetch(&sessions, request(id, 2, vec![], &[]), 0, records_in_0), Ok((id, vec![0])));
        let all_moved = fetch(&sessions, request(id, 3, vec![wanted(0, 6)], &[]), 0, |_| found(7, b"")).unwrap();
        assert_eq!(all_moved, (id, vec![1, 2, 0]), "partition 0 had its turn");
    }

    #[test]
    fn the_end_of_an_error_is_told_even_if_nothing_else_moved() {
        let sessions = sessions(10);
        let (id, _) = fetch(&sessions, request(0, 0, vec![wanted(0, 0)], &[]), 0, |_| found(5, b"")).unwrap();
        let failing = |_| Found::error(ErrorCode::KafkaStorage);
        assert_eq!(fetch(&sessions, request(id, 1, vec![], &[]), 0, failing), Ok((id, vec![0])));
        assert_eq!(fetch(&sessions, request(id, 2, vec![], &[]), 0, |_| found(5, b"")), Ok((id, vec![0])));
        assert_eq!(fetch(&sessions, request(id, 3, vec![], &[]), 0, |_| found(5, b"")), Ok((id, vec![])));
    }

    #[test]
    fn requests_that_do_not_fit_their_session_are_refused() {
        let sessions = sessions(10);
        let (id, _) = fetch(&sessions, request(0, 0, vec![wanted(0, 0)], &[]), 0, |_| found(5, b"")).unwrap();
        let begin = |id, epoch, by_topic_id| sessions.begin(request(id, epoch, vec![], &[]), by_topic_id, 0).map(drop);
        assert_eq!(begin(id ^ 1, 1, false), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(begin(id, 2, false), Err(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(begin(id, 1, true), Err(ErrorCode::FetchSessionTopicIdError));
        assert_eq!(begin(id, 1, false), Ok(()));
        assert_eq!(begin(id, 1, false), Err(ErrorCode::InvalidFetchSessionEpoch), "an epoch is good once");
        assert_eq!(begin(id, FINAL_EPOCH, false), Ok(()));
        assert_eq!(begin(id, 2, false), Err(ErrorCode::FetchSessionIdNotFound), "the client ended it");
    }

    #[test]
    fn a_session_without_partitions_ends() {
        let sessions = sessions(10);
        let (id, _) = fetch(&sessions, request(0, 0, vec![wanted(0, 0)], &[]), 0, |_| found(5, b"")).unwrap();
        assert_eq!(fetch(&sessions, request(id, 1, vec![], &[0]), 0, |_| found(5, b"")), Ok((0, vec![])));
        assert_eq!(sessions.inner.lock().partitions, 0);
    }

    #[test]
    fn a_full_house_gives_no_sessions_until_one_was_left_alone() {
        let sessions = sessions(1);
        let make = |now| fetch(&sessions, request(0, 0, vec![wanted(0, 0)], &[]), now, |_| found(5, b"")).unwrap().0;
        let first = make(0);
        assert_eq!(make(FETCH_SESSION_EVICTION_MS_MIN), 0);
        let second = make(FETCH_SESSION_EVICTION_MS_MIN + 1);
        assert!(second != 0 && second != first);
        assert_eq!(sessions.inner.lock().partitions, 1);
    }

    #[test]
    fn epochs_begin_again_at_one() {
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
