//! Filter and projection.

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::expressions::Column;

use super::chunk::{Chunk, column_bytes};
use super::failure::{QueryFailure, evaluate_or_bisect};
use super::pipeline::Effects;
use crate::plan::Calc;

/// Rows that are evaluated together, at most.
const PIECE_ROWS_MAX: usize = 1024;
/// Rows that are evaluated together at first, when nothing is known of what becomes of them.
const PIECE_ROWS_FIRST: usize = 64;
/// What a piece's rows should take in memory when they are projected, bytes.
const PIECE_BYTES: usize = 8 << 20;

/// How many rows are evaluated at a time. An expression can make a megabyte of two letters (`repeat`), so the rows of
/// a piece are as many as their results have room for, judged by the pieces before. Some aggregates tell how the rows
/// were cut, and a step that is taken again must give the same bytes, so nothing but the step's rows may be looked at.
#[derive(Debug)]
pub(crate) struct PieceRows(usize);

impl PieceRows {
    /// Of the first piece of a step, each of whose rows is evaluated `times` times.
    pub(crate) fn first(times: usize) -> PieceRows {
        PieceRows((PIECE_ROWS_FIRST / times.max(1)).max(1))
    }

    /// How many rows the next piece may have.
    pub(crate) fn get(&self) -> usize {
        self.0
    }

    /// Takes note of what became of `rows` rows.
    pub(crate) fn note(&mut self, rows: usize, bytes: usize) {
        let room_for = PIECE_BYTES / (bytes / rows.max(1) + 1);
        self.0 = room_for.min(4 * self.0).clamp(1, PIECE_ROWS_MAX);
    }
}

/// The rows of `piece` that pass, projected. A query fails whose expressions have made more than `bytes_max` of rows
/// that are not written yet.
pub(crate) fn push(
    calc: &Calc,
    bytes_max: usize,
    piece: Chunk,
    effects: &mut Effects,
) -> Result<Vec<Chunk>, QueryFailure> {
    let Effects { failures, rows_filtered, made_bytes, .. } = effects;
    let mut good = Vec::with_capacity(1);
    let mut evaluate = |piece: &Chunk| {
        // Of a piece that failed, parts can succeed that together are too much: none is begun then.
        if *made_bytes > bytes_max {
            return Err(DataFusionError::ResourcesExhausted(String::new()));
        }
        let (chunk, filtered) = evaluate(calc, piece)?;
        *made_bytes += bytes_made(calc, &chunk);
        Ok((chunk, filtered))
    };
    evaluate_or_bisect(piece, &mut evaluate, &mut good, failures);
    if *made_bytes > bytes_max {
        return Err(QueryFailure::Memory(format!(
            "what its expressions make of the rows of one step takes more than query_memory_bytes_max = {bytes_max} \
             bytes at a time"
        )));
    }
    *rows_filtered += good.iter().map(|(_, filtered)| filtered).sum::<u64>();
    Ok(good.into_iter().map(|(chunk, _)| chunk).filter(|chunk| !chunk.is_empty()).collect())
}

/// What the expressions have made. A column that is only passed on takes nothing.
fn bytes_made(calc: &Calc, chunk: &Chunk) -> usize {
    let made = calc.projection.iter().zip(chunk.batch.columns()).filter(|(expression, _)| !expression.is::<Column>());
    made.map(|(_, column)| column_bytes(column)).sum()
}

/// The projected rows that pass, and how many did not. The projection sees only rows that passed.
fn evaluate(calc: &Calc, chunk: &Chunk) -> Result<(Chunk, u64), DataFusionError> {
    let before = chunk.len();
    let passed = match &calc.filter {
        None => chunk.clone(),
        Some(filter) => {
            let mask = filter.evaluate(&chunk.batch)?.into_array(before)?;
            match mask.as_any().downcast_ref::<BooleanArray>() {
                Some(mask) => chunk.filter(mask)?,
                // The literal NULL has a type of its own; it is not true for any row.
                None if mask.data_type() == &DataType::Null => chunk.slice(0, 0),
                None => return Err(DataFusionError::Execution(format!("a filter gave {}", mask.data_type()))),
            }
        }
    };
    let filtered = (before - passed.len()) as u64;
    if passed.is_empty() {
        return Ok((passed, filtered));
    }
    let rows = passed.len();
    let columns = calc
        .projection
        .iter()
        .map(|expression| expression.evaluate(&passed.batch)?.into_array(rows))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((passed.with_columns(calc.schema.clone(), columns)?, filtered))
}
