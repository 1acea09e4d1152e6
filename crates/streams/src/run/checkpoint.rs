//! Writing down what the windows hold, and reading it back.
//!
//! A checkpoint holds what changed since the last one, and becomes durable as one write: a window's share is written
//! whole when it changed, and deleted when its window closed. With it go the step it stands at and how far
//! windows are closed.
//!
//! ```text
//! operator 0   "record"               the step record
//!              "closed" + operator    up to which watermark its windows are closed
//! operator n   window and origin      GroupState::encode
//! ```

use std::collections::BTreeMap;
use std::time::Instant;

use millpond_state::{QUERY_OPERATOR, QueryState, StateBatch, StateError};
use millpond_types::TimestampMs;

use super::chunk::Origin;
use super::crash::CrashPoint;
use super::failure::QueryFailure;
use super::group_state::GroupState;
use super::pipeline::Pipeline;
use super::query::Query;
use super::step_record::StepRecord;
use super::window_aggregate::{OPERATOR, WindowBounds};

const RECORD_KEY: &[u8] = b"record";
const CLOSED_KEY: &[u8] = b"closed";
/// From one checkpoint to the next at least so many times what the last one took, so that they never take more than a
/// few per cent of a query's time, however large its state is.
const PAUSE_FACTOR: i64 = 20;

impl Query {
    /// Writes a checkpoint of the last step.
    pub(crate) fn checkpoint(&mut self) -> Result<(), QueryFailure> {
        let Some(state) = self.state.clone() else { return Ok(()) };
        let crash = self.around.options.crash_points.clone();
        crash.reached(CrashPoint::CheckpointDue)?;
        let started = Instant::now();
        let mut batch = StateBatch::default();
        for aggregate in self.pipeline.aggregates() {
            for (window, origin) in std::mem::take(&mut aggregate.stored_but_closed) {
                batch.delete(aggregate.operator, &state_key(window, origin));
            }
            let mut bytes_before = 0;
            let mut bytes_after = 0;
            for (window, inputs) in &mut aggregate.windows {
                for (origin, share) in inputs.iter_mut().filter(|(_, share)| share.dirty) {
                    bytes_before += share.bytes;
                    let states = share.fold(&aggregate.set).map_err(QueryFailure::operator(OPERATOR))?;
                    let encoded = share.encode(&states).map_err(QueryFailure::operator(OPERATOR))?;
                    batch.put(aggregate.operator, &state_key(*window, *origin), &encoded);
                    share.stored = true;
                    share.bytes = share.size();
                    bytes_after += share.bytes;
                }
            }
            aggregate.recount(bytes_before, bytes_after);
            batch.put(QUERY_OPERATOR, &closed_key(aggregate.operator), &aggregate.closed_to.to_le_bytes());
        }
        batch.put(QUERY_OPERATOR, RECORD_KEY, &self.last.encode());
        state.commit(batch, self.last.step)?;
        crash.reached(CrashPoint::CheckpointWritten)?;
        self.dirty = false;
        // The last step stays: it tells that the query has run, should somebody delete the state.
        self.around.steps.forget_before(self.spec.id, self.last.step);
        self.inputs.pin(&self.last);
        let took_ms = self.around.waits.took_ms(started);
        let pause_ms = self.around.options.checkpoint_interval_ms.max(took_ms.saturating_mul(PAUSE_FACTOR));
        self.next_checkpoint_ms = self.around.broker.now_ms().saturating_add(pause_ms);
        Ok(())
    }
}

/// The step of the last checkpoint, if there was one.
pub(crate) fn last_record(state: &QueryState) -> Result<Option<StepRecord>, QueryFailure> {
    let Some(bytes) = state.get(QUERY_OPERATOR, RECORD_KEY)? else { return Ok(None) };
    let record = StepRecord::decode(&bytes).map_err(|error| state.damaged(QUERY_OPERATOR, error.to_string()))?;
    Ok(Some(record))
}

/// Puts back what the last checkpoint held.
pub(crate) fn restore(state: &QueryState, pipeline: &mut Pipeline) -> Result<(), StateError> {
    for aggregate in pipeline.aggregates() {
        let operator = aggregate.operator;
        if let Some(bytes) = state.get(QUERY_OPERATOR, &closed_key(operator))? {
            let time = bytes.as_slice().try_into().map_err(|_| state.damaged(operator, "no time".to_owned()))?;
            aggregate.closed_to = TimestampMs::from_le_bytes(time);
        }
        let mut restored: BTreeMap<(WindowBounds, Origin), GroupState> = BTreeMap::new();
        for entry in state.scan(operator, &[]) {
            let (key, value) = entry?;
            let place =
                parse_state_key(&key).ok_or_else(|| state.damaged(operator, "a key names no window".to_owned()))?;
            let share = GroupState::decode(&aggregate.set, &value).map_err(|reason| state.damaged(operator, reason))?;
            restored.insert(place, share);
        }
        for ((window, origin), share) in restored {
            aggregate.restore(window, origin, share);
        }
    }
    Ok(())
}

fn closed_key(operator: u16) -> Vec<u8> {
    [CLOSED_KEY, &operator.to_be_bytes()].concat()
}

/// End, start (8 bytes each, ordered as the times are), kind of origin (1 byte), its numbers (4 bytes each).
fn state_key(window: WindowBounds, origin: Origin) -> Vec<u8> {
    let ordered = |time: TimestampMs| ((time as u64) ^ (1 << 63)).to_be_bytes();
    let (kind, first, second) = match origin {
        Origin::Partition { source, partition } => (0, source, partition as u32),
        Origin::Windows { operator } => (1, u32::from(operator), 0),
    };
    let mut key = Vec::with_capacity(25);
    key.extend_from_slice(&ordered(window.end));
    key.extend_from_slice(&ordered(window.start));
    key.push(kind);
    key.extend_from_slice(&first.to_be_bytes());
    key.extend_from_slice(&second.to_be_bytes());
    key
}

fn parse_state_key(key: &[u8]) -> Option<(WindowBounds, Origin)> {
    let (end, rest) = key.split_first_chunk::<8>()?;
    let (start, rest) = rest.split_first_chunk::<8>()?;
    let (kind, rest) = rest.split_first()?;
    let (first, rest) = rest.split_first_chunk::<4>()?;
    let second = <[u8; 4]>::try_from(rest).ok()?;
    let time = |bytes: &[u8; 8]| (u64::from_be_bytes(*bytes) ^ (1 << 63)) as TimestampMs;
    let (first, second) = (u32::from_be_bytes(*first), u32::from_be_bytes(second));
    let origin = match kind {
        0 => Origin::Partition { source: first, partition: second as i32 },
        1 => Origin::Windows { operator: u16::try_from(first).ok()? },
        _ => return None,
    };
    Some((WindowBounds { end: time(end), start: time(start) }, origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_sort_by_time() {
        let origins = [Origin::Partition { source: 1, partition: 70_000 }, Origin::Windows { operator: 9 }];
        for origin in origins {
            for end in [i64::MIN, -1, 0, 1_700_000_000_000, i64::MAX] {
                let window = WindowBounds { end, start: end.saturating_sub(1) };
                assert_eq!(parse_state_key(&state_key(window, origin)), Some((window, origin)));
            }
        }
        let keys = [-5, -1, 0, 7].map(|end| state_key(WindowBounds { end, start: end - 1 }, origins[0]));
        assert!(keys.is_sorted());
        assert_eq!(parse_state_key(b"garbage"), None);
        assert_eq!(parse_state_key(&[9; 25]), None);
    }
}
