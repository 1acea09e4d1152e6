//! Functions that could make a lot from a little, with a bound on what one call may give.
//!
//! `repeat('x', 1000000000000)` is a short text, and would take the node's memory before any limit of a query sees a
//! batch. So such functions look at their arguments first. A batch of rows is one call.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::Expr;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// How many bytes one call of a function may give, for all rows of a batch together.
pub(crate) const FUNCTION_RESULT_BYTES_MAX: f64 = (64 << 20) as f64;

/// What a result's size is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// Length of the first argument times the second: repeat.
    Times,
    /// The second argument, times the length of the third: lpad, rpad.
    Padded,
    /// From the first to the second in steps of the third: range, generate_series.
    Steps,
    /// The second argument in elements the size of the first: array_repeat, array_resize.
    Elements,
    /// Each character of the first may become the third: replace, regexp_replace, translate.
    Replaced,
    /// The sum of all arguments: concat and its like, so that doubling ends.
    Joined,
}

const GROWING: &[(&str, Growth)] = &[
    ("repeat", Growth::Times),
    ("lpad", Growth::Padded),
    ("rpad", Growth::Padded),
    ("range", Growth::Steps),
    ("generate_series", Growth::Steps),
    ("array_repeat", Growth::Elements),
    ("array_resize", Growth::Elements),
    ("replace", Growth::Replaced),
    ("regexp_replace", Growth::Replaced),
    ("overlay", Growth::Joined),
    ("concat", Growth::Joined),
    ("concat_ws", Growth::Joined),
    ("array_concat", Growth::Joined),
    ("array_append", Growth::Joined),
    ("array_prepend", Growth::Joined),
    ("make_array", Growth::Joined),
];

/// The bounded forms of those of `state`'s functions that need one.
pub(crate) fn bounded(state: &SessionState) -> Vec<Arc<ScalarUDF>> {
    GROWING
        .iter()
        .filter_map(|(name, growth)| {
            let inner = state.scalar_functions().get(*name)?.clone();
            Some(Arc::new(ScalarUDF::new_from_impl(Bounded { inner, growth: *growth })))
        })
        .collect()
}

/// Puts functions in the place of those with the same names.
pub(crate) fn replace(state: &mut SessionState, functions: Vec<Arc<ScalarUDF>>) {
    for function in functions {
        // Registering fails only where a state does not take functions; this one does.
        state.register_udf(function).expect("a session state takes functions");
    }
}

/// A function that looks at its arguments before it works.
#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Bounded) -> bool {
        self.inner == other.inner && self.growth == other.growth
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
        self.growth.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> DataFusionResult<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DataFusionResult<ExprSimplifyResult> {
        // Only what stays this function is of use: a rewrite could go round the bound.
        match self.inner.simplify(args.clone(), info)? {
            ExprSimplifyResult::Original(args) => Ok(ExprSimplifyResult::Original(args)),
            ExprSimplifyResult::Simplified(_) => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let bytes = result_bytes(self.growth, &args.args, args.number_rows)?;
        if bytes > FUNCTION_RESULT_BYTES_MAX {
            return Err(DataFusionError::Execution(format!(
                "`{}` would give about {:.0} MiB, more than the {:.0} MiB that one call may give",
                self.name(),
                bytes / f64::from(1 << 20),
                FUNCTION_RESULT_BYTES_MAX / f64::from(1 << 20)
            )));
        }
        self.inner.invoke_with_args(args)
    }
}

/// About how many bytes the call gives for its rows, in floating point so that nothing overflows.
fn result_bytes(growth: Growth, args: &[ColumnarValue], rows: usize) -> DataFusionResult<f64> {
    let mut columns = Vec::with_capacity(args.len());
    for arg in args {
        columns.push(Argument::new(arg)?);
    }
    let scalar = columns.iter().all(|column| column.scalar);
    let rows = if scalar { 1 } else { rows };
    let number = |column: usize, row: usize| columns.get(column).map_or(0.0, |argument| argument.number(row));
    let len = |column: usize, row: usize| columns.get(column).map_or(0.0, |argument| argument.bytes(row));
    let mut total = 0.0;
    for row in 0..rows {
        total += match growth {
            Growth::Times => len(0, row) * number(1, row).max(0.0),
            Growth::Padded => number(1, row).max(0.0) * 4.0,
            Growth::Steps => {
                let (first, last) =
                    if columns.len() == 1 { (0.0, number(0, row)) } else { (number(0, row), number(1, row)) };
                let step = if columns.len() > 2 { number(2, row).abs() } else { 1.0 };
                8.0 * (last - first).abs() / step.max(f64::MIN_POSITIVE)
            }
            Growth::Elements => {
                let (element, count) =
                    if columns.len() > 2 { (len(2, row), number(1, row)) } else { (len(0, row), number(1, row)) };
                element.max(8.0) * count.max(0.0)
            }
            Growth::Replaced => len(0, row) * (1.0 + len(2, row)),
            Growth::Joined => (0..columns.len()).map(|column| len(column, row)).sum(),
        };
        if total > FUNCTION_RESULT_BYTES_MAX {
            break;
        }
    }
    Ok(total)
}

/// One argument, for its numbers or its lengths.
struct Argument {
    scalar: bool,
    array: ArrayRef,
    numbers: Option<ArrayRef>,
}

impl Argument {
    fn new(value: &ColumnarValue) -> DataFusionResult<Argument> {
        let (scalar, array) = match value {
            ColumnarValue::Array(array) => (false, array.clone()),
            ColumnarValue::Scalar(scalar) => (true, scalar.to_array()?),
        };
        let numbers = match array.data_type() {
            data_type if data_type.is_numeric() => Some(cast(&array, &DataType::Float64)?),
            // Steps of time are counted in nanoseconds.
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
                let milliseconds = cast(&array, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
                let milliseconds = cast(&cast(&milliseconds, &DataType::Int64)?, &DataType::Float64)?;
                Some(Arc::new(milliseconds.as_primitive::<Float64Type>().unary::<_, Float64Type>(|ms| ms * 1e6)) as _)
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                let steps = array.as_primitive::<IntervalMonthDayNanoType>();
                Some(Arc::new(steps.unary::<_, Float64Type>(|step| {
                    let days = f64::from(step.days) + 28.0 * f64::from(step.months);
                    days * 86_400e9 + step.nanoseconds as f64
                })) as _)
            }
            _ => None,
        };
        Ok(Argument { scalar, array, numbers })
    }

    fn row(&self, row: usize) -> usize {
        if self.scalar { 0 } else { row }
    }

    /// The number in this row; 0 where there is none.
    fn number(&self, row: usize) -> f64 {
        let row = self.row(row);
        match &self.numbers {
            Some(numbers) if numbers.is_valid(row) => numbers.as_primitive::<Float64Type>().value(row),
            _ => 0.0,
        }
    }

    fn bytes(&self, row: usize) -> f64 {
        let row = self.row(row);
        if self.array.is_null(row) {
            return 0.0;
        }
        let len = match self.array.data_type() {
            DataType::Utf8 => self.array.as_string::<i32>().value_length(row) as usize,
            DataType::LargeUtf8 => self.array.as_string::<i64>().value_length(row) as usize,
            DataType::Utf8View => self.array.as_string_view().value(row).len(),
            DataType::Binary => self.array.as_binary::<i32>().value_length(row) as usize,
            DataType::List(_) => self.array.as_list::<i32>().value(row).get_array_memory_size(),
            _ => 16,
        };
        len as f64
    }
}
