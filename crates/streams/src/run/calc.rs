//! Filter and projection.

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;

use super::chunk::Chunk;
use super::failure::evaluate_or_bisect;
use super::pipeline::Effects;
use crate::plan::Calc;

/// The rows of `chunk` that pass, projected; in several pieces only when rows between them failed.
pub(crate) fn push(calc: &Calc, chunk: Chunk, effects: &mut Effects) -> Vec<Chunk> {
    let mut good = Vec::with_capacity(1);
    evaluate_or_bisect(chunk, &mut |chunk| evaluate(calc, chunk), &mut good, &mut effects.failures);
    let mut passed = Vec::with_capacity(good.len());
    for (chunk, filtered) in good {
        effects.rows_filtered += filtered;
        if !chunk.is_empty() {
            passed.push(chunk);
        }
    }
    passed
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
