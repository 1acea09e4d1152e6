//! Any order of operations against a model that is a list of batches.

use bytes::Bytes;
use millpond_log::{Appended, LogOptions, PartitionLog, Recovery};
use millpond_types::Offset;
use proptest::prelude::*;

use crate::committed::{Abort, Commit, check_committed, marker, transactional};
use crate::scratch::{NOW, Scratch, append, batch_at, joined, produced};

#[derive(Debug, Clone)]
enum Step {
    Append {
        records: usize,
        len: usize,
        age_ms: i64,
    },
    Produce {
        id: i64,
    },
    ProduceAgain {
        id: i64,
    },
    /// A batch of a transaction, which it begins if none is open.
    Transact {
        id: i64,
    },
    End {
        id: i64,
        committed: bool,
    },
    Sync,
    Checkpoint,
    Truncate {
        back: i64,
    },
    AdvanceStart {
        by: i64,
    },
    DeleteBySize {
        bytes: i64,
    },
    ReopenClean,
    /// The synced bytes stay, and of the others a part.
    Crash {
        keep: f64,
    },
    ReadFrom {
        place: f64,
        bytes_max: usize,
    },
    FindTime {
        age_ms: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..5usize, 0..400usize, 0..100i64).prop_map(|(records, len, age_ms)| Step::Append { records, len, age_ms }),
        3 => (0..3i64).prop_map(|id| Step::Produce { id }),
        1 => (0..3i64).prop_map(|id| Step::ProduceAgain { id }),
        4 => (3..6i64).prop_map(|id| Step::Transact { id }),
        3 => (3..6i64, any::<bool>()).prop_map(|(id, committed)| Step::End { id, committed }),
        2 => Just(Step::Sync),
        1 => Just(Step::Checkpoint),
        1 => (0..20i64).prop_map(|back| Step::Truncate { back }),
        1 => (0..8i64).prop_map(|by| Step::AdvanceStart { by }),
        1 => (500..4000i64).prop_map(|bytes| Step::DeleteBySize { bytes }),
        1 => Just(Step::ReopenClean),
        2 => (0.0..1.0f64).prop_map(|keep| Step::Crash { keep }),
        4 => (0.0..1.0f64, 0..3000usize).prop_map(|(place, bytes_max)| Step::ReadFrom { place, bytes_max }),
        2 => (0..110i64).prop_map(|age_ms| Step::FindTime { age_ms }),
    ];
    proptest::collection::vec(step, 1..60)
}

struct Batch {
    base: Offset,
    next: Offset,
    bytes: Bytes,
    /// First and last timestamp; they grow by one a record.
    times: (i64, i64),
    producer: Option<(i64, i32)>,
}

#[derive(Default)]
struct Model {
    batches: Vec<Batch>,
    start: Offset,
    synced: Offset,
    sequences: [i32; 6],
}

impl Model {
    fn end(&self) -> Offset {
        self.batches.last().map_or(self.start, |batch| batch.next)
    }

    fn cut(&mut self, end: Offset) {
        self.batches.retain(|batch| batch.next <= end);
        self.synced = self.synced.min(end).min(self.end());
        for id in 0..6 {
            let of_id = self.batches.iter().rev().find_map(|b| b.producer.filter(|(i, _)| *i == id));
            self.sequences[id as usize] = of_id.map_or(-1, |(_, sequence)| sequence);
        }
    }
}

fn run(steps: Vec<Step>, tail_bytes_max: usize, all_shown: bool) {
    let mut scratch = Scratch::with(LogOptions {
        segment_bytes: 1500,
        index_interval_bytes: 200,
        retention_ms: -1,
        tail_bytes_max,
        ..LogOptions::default()
    });
    let mut log = scratch.create();
    let mut model = Model { sequences: [-1; 6], ..Model::default() };
    for step in steps {
        apply(&mut scratch, &mut log, &mut model, step.clone());
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (model.start, model.end()), "after {step:?}");
        assert!(log.durable_end_offset() >= model.synced && log.durable_end_offset() <= model.end(), "after {step:?}");
        // Readers see everything, or what is durable.
        let high_watermark = if all_shown { model.end() } else { log.durable_end_offset().max(model.start) };
        check_committed(&log, high_watermark, &format!("after {step:?}"));
    }
    let mut from = model.start;
    for batch in model.batches.iter().filter(|batch| batch.next > model.start) {
        let fetched = log.read(from, 1, Offset::MAX, true).unwrap();
        assert_eq!(joined(&fetched), batch.bytes);
        from = fetched.next_offset;
    }
}

fn push(
    model: &mut Model,
    log: &PartitionLog,
    batch: bytes::BytesMut,
    times: (i64, i64),
    producer: Option<(i64, i32)>,
) {
    let stamped = batch.clone();
    let appended = append(log, batch);
    assert!(!appended.duplicate);
    assert_eq!(appended.base_offset, model.end());
    keep(model, stamped, appended, times, producer);
}

fn keep(
    model: &mut Model,
    mut stamped: bytes::BytesMut,
    appended: Appended,
    times: (i64, i64),
    producer: Option<(i64, i32)>,
) {
    millpond_records::stamp(&mut stamped, appended.base_offset, 0);
    let (base, next) = (appended.base_offset, appended.last_offset + 1);
    model.batches.push(Batch { base, next, bytes: stamped.freeze(), times, producer });
}

fn apply(scratch: &mut Scratch, log: &mut PartitionLog, model: &mut Model, step: Step) {
    match step {
        Step::Append { records, len, age_ms } => {
            let first = NOW - age_ms;
            let times = (first, first + records as i64 - 1);
            push(model, log, batch_at(first, records, &vec![5; len]), times, None);
        }
        Step::Produce { id } => {
            let sequence = model.sequences[id as usize] + 1;
            push(model, log, produced((id, 0, sequence), 1), (NOW, NOW), Some((id, sequence)));
            model.sequences[id as usize] = sequence;
        }
        Step::Transact { id } => {
            // Of one of whom only a marker is left, the sequence begins anew, as in Kafka.
            let known = log.active_producers().into_iter().find(|producer| producer.producer_id == id);
            let sequence = known.map_or(model.sequences[id as usize], |known| known.last_sequence) + 1;
            push(model, log, transactional((id, 0, sequence), 1), (NOW, NOW), Some((id, sequence)));
            model.sequences[id as usize] = sequence;
        }
        Step::End { id, committed } => {
            let marker = marker((id, 0), if committed { Commit } else { Abort });
            let appended = log.append_marker(&marker, 0, NOW).unwrap();
            assert_eq!(appended.base_offset, model.end());
            keep(model, bytes::BytesMut::from(&marker.build(NOW)[..]), appended, (NOW, NOW), None);
        }
        Step::ProduceAgain { id } => {
            let sequence = model.sequences[id as usize];
            let known = model.batches.iter().rev().find(|b| b.producer == Some((id, sequence)));
            // Nothing is known of a producer whose batches were deleted and then not seen by a recovery.
            if let Some(known) = known.filter(|known| known.base >= model.start) {
                let again = append(log, produced((id, 0, sequence), 1));
                assert!(again.duplicate && again.base_offset == known.base);
            }
        }
        Step::Sync => {
            model.synced = log.sync().unwrap();
            assert_eq!(model.synced, model.end());
        }
        Step::Checkpoint => {
            model.synced = log.checkpoint().unwrap();
            assert_eq!(model.synced, model.end());
        }
        Step::Truncate { back } => {
            let to = (model.end() - back).max(model.start);
            let end = log.truncate_to(to).unwrap();
            model.cut(to);
            assert_eq!(end, model.batches.last().map_or(end, |batch| batch.next));
            // Lower only if the cut was within the batch that holds the log's start.
            model.start = model.start.min(end);
            model.synced = model.synced.min(end);
        }
        Step::AdvanceStart { by } => {
            let to = (model.start + by).min(model.synced).max(model.start);
            model.start = log.advance_log_start(to).unwrap();
            assert_eq!(model.start, to);
        }
        Step::DeleteBySize { bytes } => {
            log.set_options(LogOptions { retention_bytes: bytes, ..scratch.options.clone() });
            log.enforce_retention(NOW, Offset::MAX).unwrap();
            log.set_options(scratch.options.clone());
            assert!(log.log_start_offset() >= model.start && log.log_start_offset() <= model.synced.max(model.start));
            model.start = log.log_start_offset();
        }
        Step::ReopenClean => {
            let recovery_point = log.close(NOW).unwrap();
            let recovery =
                Recovery { clean: true, recovery_point, log_start_offset: model.start, refuse_damage: false };
            let (opened, recovered) = scratch.open(recovery);
            assert_eq!(recovered.reason, None);
            (*log, model.synced) = (opened, recovery_point);
        }
        Step::Crash { keep } => crash(scratch, log, model, keep),
        Step::ReadFrom { place, bytes_max } => {
            let from = model.start + ((model.end() - model.start) as f64 * place) as Offset;
            let fetched = log.read(from, bytes_max, Offset::MAX, true).unwrap();
            let mut expected = Vec::new();
            for batch in model.batches.iter().filter(|batch| batch.next > from) {
                if !expected.is_empty() && expected.len() + batch.bytes.len() > bytes_max {
                    break;
                }
                expected.extend_from_slice(&batch.bytes);
            }
            // A piece of it is fine, too, where files end.
            let found = joined(&fetched);
            assert!(expected.starts_with(&found) && (expected.is_empty() || !found.is_empty()), "from {from}");
        }
        Step::FindTime { age_ms } => {
            let wanted = NOW - age_ms;
            let expected =
                model.batches.iter().filter(|b| b.next > model.start && b.times.1 >= wanted).find_map(|batch| {
                    let offset = (batch.base + (wanted - batch.times.0).max(0)).max(model.start);
                    (offset < batch.next).then_some((offset, batch.times.0 + offset - batch.base))
                });
            assert_eq!(log.offset_for_timestamp(wanted, Offset::MAX).unwrap(), expected, "{wanted}");
        }
    }
}

/// A crash that keeps what was synced, and `keep` of the bytes that were written to the last segment since.
fn crash(scratch: &mut Scratch, log: &mut PartitionLog, model: &mut Model, keep: f64) {
    let image = scratch.crash_image();
    let recovery_point = log.recovery_point();
    let segment = image.logs().pop().unwrap();
    let base = log.segments().last().unwrap().base_offset;
    let bytes = std::fs::read(&segment).unwrap();
    let in_segment = model.batches.iter().filter(|batch| batch.base >= base);
    let synced: usize = in_segment.clone().filter(|b| b.next <= recovery_point).map(|b| b.bytes.len()).sum();
    let len = synced + ((bytes.len() - synced) as f64 * keep) as usize;
    std::fs::write(&segment, &bytes[..len]).unwrap();

    let mut left = len;
    let mut end = base.max(model.start);
    for batch in in_segment {
        match left.checked_sub(batch.bytes.len()) {
            Some(rest) => (left, end) = (rest, batch.next),
            None => break,
        }
    }
    let recovery = Recovery { clean: false, recovery_point, log_start_offset: model.start, refuse_damage: false };
    let (opened, recovered) = image.open(recovery);
    assert_eq!(recovered.truncated_bytes, left as u64);
    *log = opened;
    *scratch = image;
    model.cut(end);
    model.synced = log.durable_end_offset();
    assert_eq!(model.synced, end, "what was found was synced");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_list_of_batches_whatever_happens(
        steps in steps(),
        tail in prop_oneof![Just(0usize), Just(2000), Just(1 << 20)],
        all_shown: bool,
    ) {
        run(steps, tail, all_shown);
    }
}
