//! FetchResponse, encoded by hand: the records go to the socket from where the log keeps them.

use bytes::BufMut;
use millpond_broker::{AbortedTransactions, BatchPiece};

use super::request::{FLEXIBLE_FROM, SESSIONS_FROM, TOPIC_IDS_FROM, TopicRef};
use crate::answer::Outgoing;
use crate::error_code::ErrorCode;
use crate::wire::{put_len, put_no_tags, put_string, put_varint, varint_len};

/// The answer to a Fetch request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) error: ErrorCode,
    /// 0: no session.
    pub(crate) session_id: i32,
    /// Whether to list aborted transactions, as the client asked for committed records; else null.
    pub(crate) read_committed: bool,
    /// In the order of the answer; neighbours of one topic become one topic entry.
    pub(crate) partitions: Vec<Partition>,
}

/// What one partition answers.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) topic: TopicRef,
    pub(crate) index: i32,
    pub(crate) found: Found,
}

/// What was found in a partition.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) error: ErrorCode,
    /// −1: unknown, as with the next two.
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start_offset: i64,
    /// Where the client's log left ours (v12+): the epoch, and where it ended (KIP-320).
    pub(crate) diverging_epoch: Option<(i32, i64)>,
    /// The transactions with records among these that were aborted.
    pub(crate) aborted: AbortedTransactions,
    /// Whole batches.
    pub(crate) records: Vec<BatchPiece>,
    pub(crate) records_len: usize,
}

impl Found {
    /// What a partition answers that could not be read.
    pub(crate) fn error(error: ErrorCode) -> Found {
        Found {
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            aborted: AbortedTransactions::default(),
            records: Vec::new(),
            records_len: 0,
        }
    }
}

impl Response {
    /// The answer to a request whose session is not as it thinks.
    pub(crate) fn session_error(error: ErrorCode) -> Response {
        Response { error, session_id: 0, read_committed: false, partitions: Vec::new() }
    }

    /// Writes the response's body; `out` gets the records' chunks as they are.
    pub(crate) fn encode(self, out: &mut Outgoing, version: i16) {
        let flexible = version >= FLEXIBLE_FROM;
        out.buffer().put_i32(0); // throttle_time_ms
        if version >= SESSIONS_FROM {
            out.buffer().put_i16(self.error.code());
            out.buffer().put_i32(self.session_id);
        }
        let topics = self.partitions.chunk_by(|left, right| left.topic == right.topic).count();
        put_len(out.buffer(), flexible, topics);
        let mut partitions = self.partitions.into_iter().peekable();
        let mut rest = partitions.len();
        while rest > 0 {
            // Collected into one topic entry: the run of neighbours with one topic.
            let mut run = Vec::with_capacity(1);
            let topic = partitions.peek().map(|partition| partition.topic.clone());
            while let Some(next) = partitions.next_if(|partition| Some(&partition.topic) == topic.as_ref()) {
                run.push(next);
            }
            rest -= run.len();
            match &run[0].topic {
                TopicRef::Id(id) if version >= TOPIC_IDS_FROM => out.buffer().put_u128(id.as_u128()),
                TopicRef::Name(name) => put_string(out.buffer(), flexible, name),
                TopicRef::Id(_) => unreachable!("before version 13 the request names topics, and so does the answer"),
            }
            put_len(out.buffer(), flexible, run.len());
            for partition in run {
                encode_partition(partition, self.read_committed, out, version);
            }
            put_no_tags(out.buffer(), flexible);
        }
        put_no_tags(out.buffer(), flexible);
    }
}

fn encode_partition(partition: Partition, read_committed: bool, out: &mut Outgoing, version: i16) {
    let flexible = version >= FLEXIBLE_FROM;
    let found = partition.found;
    let buffer = out.buffer();
    buffer.put_i32(partition.index);
    buffer.put_i16(found.error.code());
    buffer.put_i64(found.high_watermark);
    buffer.put_i64(found.last_stable_offset);
    if version >= 5 {
        buffer.put_i64(found.log_start_offset);
    }
    match (read_committed, flexible) {
        (true, _) => {
            put_len(buffer, flexible, found.aborted.iter().len());
            for aborted in found.aborted.iter() {
                buffer.put_i64(aborted.producer_id);
                buffer.put_i64(aborted.first_offset);
                put_no_tags(buffer, flexible);
            }
        }
        (false, true) => put_varint(buffer, 0),
        (false, false) => buffer.put_i32(-1),
    }
    if version >= 11 {
        buffer.put_i32(-1); // preferred_read_replica: there is no other.
    }
    put_len(buffer, flexible, found.records_len);
    for piece in found.records {
        out.push(piece);
    }
    if flexible {
        let buffer = out.buffer();
        match found.diverging_epoch {
            None => buffer.put_u8(0),
            Some((epoch, end_offset)) => {
                put_varint(buffer, 1);
                put_varint(buffer, 0);
                put_varint(buffer, 4 + 8 + varint_len(0) as u32);
                buffer.put_i32(epoch);
                buffer.put_i64(end_offset);
                buffer.put_u8(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::protocol::Decodable;
    use millpond_broker::AbortedTransaction;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn found() -> impl Strategy<Value = Found> {
        let chunks = proptest::collection::vec(prop_oneof![0..60usize, 4090..4200usize], 0..3);
        let aborted = proptest::collection::vec(any::<(i64, i64)>(), 0..3);
        let diverging_epoch = proptest::option::of(any::<(i32, i64)>());
        (any::<bool>(), any::<(i64, i64, i64)>(), diverging_epoch, aborted, chunks).prop_map(
            |(wrong, (high_watermark, last_stable_offset, log_start_offset), diverging_epoch, aborted, chunks)| {
                let records: Vec<_> = chunks
                    .iter()
                    .enumerate()
                    .map(|(place, len)| BatchPiece::Memory(vec![place as u8; *len].into()))
                    .collect();
                let records_len = records.iter().map(BatchPiece::len).sum();
                let error = if wrong { ErrorCode::OffsetOutOfRange } else { ErrorCode::None };
                let aborted = aborted.into_iter().map(|(producer_id, first_offset)| {
                    let (last_offset, last_stable_offset) = (first_offset.saturating_add(1), 0);
                    AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset }
                });
                let aborted = AbortedTransactions::new(aborted.collect());
                Found {
                    error,
                    high_watermark,
                    last_stable_offset,
                    log_start_offset,
                    diverging_epoch,
                    aborted,
                    records,
                    records_len,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn the_generic_codec_reads_what_is_written(
            version in 4..=18i16, session_id: i32, read_committed: bool,
            topics in proptest::collection::vec((0..3u128, any::<i32>(), found()), 0..6),
        ) {
            let partitions: Vec<_> = topics.into_iter().map(|(topic, index, found)| Partition {
                topic: match version >= 13 {
                    true => TopicRef::Id(Uuid::from_u128(topic)),
                    false => TopicRef::Name(format!("t{topic}").into()),
                },
                index,
                found,
            }).collect();
            let expected: Vec<_> = partitions.iter().map(|p| (p.topic.clone(), p.index, p.found.clone())).collect();
            let mut out = Outgoing::default();
            Response { error: ErrorCode::None, session_id, read_committed, partitions }.encode(&mut out, version);
            let mut bytes = out.into_bytes();
            let theirs = FetchResponse::decode(&mut bytes, version).unwrap();
            prop_assert!(bytes.is_empty());
            prop_assert_eq!(theirs.session_id, if version >= 7 { session_id } else { 0 });
            let found: Vec<_> = theirs.responses.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p))).collect();
            prop_assert_eq!(found.len(), expected.len());
            for ((topic, theirs), (name, index, ours)) in found.into_iter().zip(expected) {
                match name {
                    TopicRef::Id(id) => prop_assert_eq!(topic.topic_id, id),
                    TopicRef::Name(name) => prop_assert_eq!(topic.topic.as_str(), &*name),
                }
                prop_assert_eq!(theirs.partition_index, index);
                prop_assert_eq!(theirs.error_code, ours.error.code());
                let ends = (ours.high_watermark, ours.last_stable_offset);
                prop_assert_eq!((theirs.high_watermark, theirs.last_stable_offset), ends);
                prop_assert_eq!(theirs.log_start_offset, if version >= 5 { ours.log_start_offset } else { -1 });
                let aborted = theirs.aborted_transactions.as_ref().map(|aborted| {
                    aborted.iter().map(|aborted| (aborted.producer_id.0, aborted.first_offset)).collect::<Vec<_>>()
                });
                let expected = ours.aborted.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect();
                prop_assert_eq!(aborted, read_committed.then_some(expected));
                prop_assert_eq!(theirs.preferred_read_replica.0, -1);
                let records: Vec<_> = ours.records.into_iter().map(|piece| piece.read().unwrap()).collect();
                prop_assert_eq!(theirs.records.clone().unwrap(), Bytes::from(records.concat()));
                let (epoch, end) = ours.diverging_epoch.filter(|_| version >= 12).unwrap_or((-1, -1));
                prop_assert_eq!((theirs.diverging_epoch.epoch, theirs.diverging_epoch.end_offset), (epoch, end));
            }
        }
    }
}
