//! Which windows does a row fall into?

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampMillisecondArray, UInt32Array};
use arrow::datatypes::TimestampMillisecondType;
use millpond_types::TimestampMs;

use super::chunk::{Chunk, column_bytes};
use super::failure::{QueryFailure, RowFailure};
use super::pipeline::Effects;
use crate::plan::{EVENT_TIME_MS_MAX, Window, WindowAssign};

const OPERATOR: &str = "assigning windows";

/// How large a piece may become when its rows are repeated for every window, in bytes; a single row may exceed it.
const PIECE_BYTES_MAX: usize = 32 << 20;

/// How many rows of `chunk` stay small when they are repeated.
pub(crate) fn rows_max(assign: &WindowAssign, chunk: &Chunk) -> usize {
    let bytes: usize = chunk.batch.columns().iter().map(|column| column_bytes(column)).sum();
    let row_bytes = bytes / chunk.len().max(1) + 1;
    (PIECE_BYTES_MAX / row_bytes / windows_per_row(assign.window)).max(1)
}

/// How many windows a row falls into.
pub(crate) fn windows_per_row(window: Window) -> usize {
    match window {
        Window::Tumble { .. } => 1,
        Window::Hop { size_ms, slide_ms } => {
            usize::try_from(size_ms / slide_ms).expect("the planner refuses windows shorter than their slide")
        }
    }
}

/// The rows of `chunk`, once per window, with their windows.
pub(crate) fn push(assign: &WindowAssign, chunk: Chunk, effects: &mut Effects) -> Result<Chunk, QueryFailure> {
    let chunk = without_bad_times(assign, chunk, effects)?;
    let (size_ms, slide_ms) = match assign.window {
        Window::Tumble { size_ms } => (size_ms, size_ms),
        Window::Hop { size_ms, slide_ms } => (size_ms, slide_ms),
    };
    let per_row = windows_per_row(assign.window);
    let chunk = if per_row == 1 { chunk } else { repeat(&chunk, per_row)? };
    let times = chunk.batch.column(assign.time_column).as_primitive::<TimestampMillisecondType>();
    let mut starts = Vec::with_capacity(times.len());
    for rows in times.values().chunks(per_row) {
        let last = rows[0] - rows[0].rem_euclid(slide_ms);
        starts.extend((0..per_row).rev().map(|back| last - back as i64 * slide_ms));
    }
    let column = |offset_ms: i64| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from_iter_values(starts.iter().map(|start| start + offset_ms)))
    };
    let mut columns = chunk.batch.columns().to_vec();
    columns.extend([column(0), column(size_ms), column(size_ms - 1)]);
    chunk.with_columns(assign.schema.clone(), columns).map_err(QueryFailure::arrow(OPERATOR))
}

/// Each row `times` times, one after the other.
fn repeat(chunk: &Chunk, times: usize) -> Result<Chunk, QueryFailure> {
    let rows: UInt32Array = (0..chunk.len() as u32).flat_map(|row| std::iter::repeat_n(row, times)).collect();
    chunk.take(&rows).map_err(QueryFailure::arrow(OPERATOR))
}

fn without_bad_times(assign: &WindowAssign, chunk: Chunk, effects: &mut Effects) -> Result<Chunk, QueryFailure> {
    let times = chunk.batch.column(assign.time_column).as_primitive::<TimestampMillisecondType>();
    let in_range = |time: TimestampMs| (-EVENT_TIME_MS_MAX..=EVENT_TIME_MS_MAX).contains(&time);
    if times.null_count() == 0 && times.values().iter().all(|time| in_range(*time)) {
        return Ok(chunk);
    }
    let name = chunk.batch.schema().field(assign.time_column).name().clone();
    let good: BooleanArray = times.iter().map(|time| Some(time.is_some_and(in_range))).collect();
    for row in (0..chunk.len()).filter(|row| !good.value(*row)) {
        let reason = match times.is_null(row) {
            true => "the event time is NULL".to_owned(),
            false => format!("the event time {} ms is out of range", times.value(row)),
        };
        let (origin, offset) = (chunk.origin, chunk.offset(row));
        effects.failures.push(RowFailure { origin, offset, column: Some(name.clone()), reason, row: None });
    }
    chunk.filter(&good).map_err(QueryFailure::arrow(OPERATOR))
}
