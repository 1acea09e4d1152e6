//! What fails: single rows, which go to the errors topic, and whole queries, which stop.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use millpond_broker::{FetchError, ProduceError, TopicError, TrimError};
use millpond_state::StateError;
use millpond_types::Offset;

use super::chunk::{Chunk, Origin};

/// Why a query stops. It is shown as the query's error; the node and other queries go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryFailure {
    /// A topic that it needs cannot be used.
    #[error("topic `{topic}`: {reason}")]
    Topic { topic: String, reason: String },
    /// Results could not be written.
    #[error("writing to topic `{topic}` failed: {source}")]
    Produce { topic: String, source: ProduceError },
    /// It needs more memory than it may have.
    #[error("{0}")]
    Memory(String),
    /// An operator failed as a whole, and not on single rows.
    #[error("{operator}: {reason}")]
    Operator { operator: &'static str, reason: String },
    /// Its state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its steps could not be read or written, or are not what they should be.
    #[error("the step log: {0}")]
    Steps(String),
    /// Steps that were taken again gave something else than the first time.
    #[error(
        "step {step} was taken again and gave something else than the first time: {what}. This is a bug in Millpond; the results that were shown are kept, drop the stream and register it anew to compute them again"
    )]
    Diverged { step: u64, what: String },
    /// Only in tests: the query stopped as if the process had died.
    #[error("the process died (in a test)")]
    Crashed,
}

impl QueryFailure {
    pub(crate) fn produce(topic: &str, source: ProduceError) -> QueryFailure {
        QueryFailure::Produce { topic: topic.to_owned(), source }
    }

    pub(crate) fn fetch(topic: &str, source: FetchError) -> QueryFailure {
        QueryFailure::Topic { topic: topic.to_owned(), reason: source.to_string() }
    }

    pub(crate) fn topic(topic: &str, source: TopicError) -> QueryFailure {
        QueryFailure::Topic { topic: topic.to_owned(), reason: source.to_string() }
    }

    pub(crate) fn trim(topic: &str, source: TrimError) -> QueryFailure {
        QueryFailure::Topic { topic: topic.to_owned(), reason: source.to_string() }
    }

    pub(crate) fn operator(operator: &'static str) -> impl Fn(DataFusionError) -> QueryFailure {
        move |error| QueryFailure::Operator { operator, reason: plain_message(&error) }
    }

    pub(crate) fn arrow(operator: &'static str) -> impl Fn(ArrowError) -> QueryFailure {
        move |error| QueryFailure::Operator { operator, reason: error.to_string() }
    }
}

/// One row that could not be decoded or computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowFailure {
    /// Where the row came from.
    pub(crate) origin: Origin,
    /// The record's offset; a row of a closed window has none.
    pub(crate) offset: Option<Offset>,
    /// The column that is to blame, if one is.
    pub(crate) column: Option<String>,
    /// What is wrong.
    pub(crate) reason: String,
    /// The row itself, where it is no record that could be looked up.
    pub(crate) row: Option<String>,
}

/// What an evaluation said, without the layers of DataFusion's and Arrow's names round it.
pub(crate) fn plain_message(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::DivideByZero => "divide by zero".to_owned(),
            ArrowError::CastError(what) | ArrowError::ComputeError(what) | ArrowError::ArithmeticOverflow(what) => {
                what.clone()
            }
            other => other.to_string(),
        },
        DataFusionError::Execution(what) => what.clone(),
        other => other.strip_backtrace(),
    }
}

/// Evaluates a chunk; if that fails, its halves, and so on down to the single rows that fail. Gives what could
/// be evaluated, in order, and adds the failures. Costs nothing while nothing fails.
pub(crate) fn evaluate_or_bisect<T>(
    chunk: Chunk,
    evaluate: &mut dyn FnMut(&Chunk) -> Result<T, DataFusionError>,
    good: &mut Vec<T>,
    failures: &mut Vec<RowFailure>,
) {
    if chunk.is_empty() {
        return;
    }
    match evaluate(&chunk) {
        Ok(evaluated) => good.push(evaluated),
        Err(error) if chunk.len() == 1 => failures.push(RowFailure {
            origin: chunk.origin,
            offset: chunk.offset(0),
            column: None,
            reason: plain_message(&error),
            row: chunk.offsets.is_none().then(|| row_text(&chunk)),
        }),
        Err(_) => {
            let half = chunk.len() / 2;
            evaluate_or_bisect(chunk.slice(0, half), evaluate, good, failures);
            evaluate_or_bisect(chunk.slice(half, chunk.len() - half), evaluate, good, failures);
        }
    }
}

/// The first row of a chunk as text, for rows that are no records.
fn row_text(chunk: &Chunk) -> String {
    let columns = chunk.batch.schema();
    let values = chunk.batch.columns().iter().zip(columns.fields()).map(|(column, field)| {
        let value = arrow::util::display::array_value_to_string(column, 0).unwrap_or_else(|error| error.to_string());
        format!("{}: {value}", field.name())
    });
    format!("{{{}}}", values.collect::<Vec<_>>().join(", "))
}
