//! Where the last window begins that a time falls into, as a function that DataFusion calls.
//!
//! `date_bin` computes in nanoseconds, and so knows no time before 1677-09-21 or after 2262-04-11. A registered query
//! computes in milliseconds, and this does the same.

use std::sync::Arc;

use arrow::array::{AsArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, TimestampMillisecondType};
use datafusion::common::{DataFusionError, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use millpond_types::TimestampMs;

use crate::plan::EVENT_TIME_MS_MAX;
use crate::sql::types::MILLISECONDS;

/// The start of the last window with `time` in it, when a window begins every `slide_ms`; NULL of NULL.
pub(super) fn window_start(time: Expr, slide_ms: i64) -> Expr {
    // The slide is an argument, and not a field: two calls that differ are then called differently, too.
    ScalarUDF::new_from_impl(WindowStart::new()).call(vec![time, lit(slide_ms)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowStart {
    signature: Signature,
}

impl WindowStart {
    fn new() -> WindowStart {
        WindowStart { signature: Signature::exact(vec![MILLISECONDS, DataType::Int64], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for WindowStart {
    fn name(&self) -> &str {
        "window_start_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(MILLISECONDS)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [times, ColumnarValue::Scalar(ScalarValue::Int64(Some(slide_ms)))] = args.args.as_slice() else {
            return Err(DataFusionError::Internal("a window's start is asked of a time and a fixed slide".to_owned()));
        };
        let times = times.to_array(args.number_rows)?;
        let starts: TimestampMillisecondArray =
            times.as_primitive::<TimestampMillisecondType>().try_unary(|time| start_of(time, *slide_ms))?;
        Ok(ColumnarValue::Array(Arc::new(starts)))
    }
}

fn start_of(time: TimestampMs, slide_ms: i64) -> DataFusionResult<TimestampMs> {
    if !(-EVENT_TIME_MS_MAX..=EVENT_TIME_MS_MAX).contains(&time) {
        return Err(DataFusionError::Execution(format!("the event time {time} ms is out of range")));
    }
    Ok(time - time.rem_euclid(slide_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_at_or_before_their_times() {
        let cases = [
            (0, 10, 0),
            (9, 10, 0),
            (-1, 10, -10),
            (-10, 10, -10),
            // The first second of the year 1, and the last of 9999.
            (-62_135_596_799_000, 10_000, -62_135_596_800_000),
            (253_402_300_799_999, 10_000, 253_402_300_790_000),
            (EVENT_TIME_MS_MAX, 1, EVENT_TIME_MS_MAX),
            (-EVENT_TIME_MS_MAX, 1, -EVENT_TIME_MS_MAX),
        ];
        for (time, slide_ms, expected) in cases {
            assert_eq!(start_of(time, slide_ms).expect("in range"), expected, "{time} every {slide_ms} ms");
        }
    }

    #[test]
    fn times_whose_windows_could_overflow_are_refused() {
        for time in [EVENT_TIME_MS_MAX + 1, -EVENT_TIME_MS_MAX - 1, i64::MAX, i64::MIN] {
            let error = start_of(time, 10).expect_err("out of range");
            assert!(error.to_string().ends_with(&format!("the event time {time} ms is out of range")), "{error}");
        }
    }
}
