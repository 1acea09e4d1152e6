//! What is wrong with a statement, said to the person who wrote it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What sort of mistake it is, so that a caller can react.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The text is not a statement.
    Syntax,
    /// A name stands for nothing.
    Unknown,
    /// Types do not fit, or a clause stands where it has no meaning.
    Invalid,
    /// It means something, but Millpond does not do it (yet).
    Unsupported,
    /// It does not fit what exists already.
    Conflict,
    /// A named limit was reached.
    Limit,
    /// It was right, and failed while it ran.
    Execution,
}

/// One mistake in one statement: what it is, where it is, and what may have been meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct StatementError {
    /// What sort of mistake.
    pub kind: ErrorKind,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// The line of the place, from 1.
    pub line: Option<u32>,
    /// The column of the place in characters, from 1.
    pub column: Option<u32>,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
}

impl fmt::Display for StatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
            if let Some(column) = self.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// A result of something that a statement asked for.
pub(crate) type SqlResult<T> = Result<T, StatementError>;

impl StatementError {
    /// A mistake of this kind without a place.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> StatementError {
        StatementError { kind, message: message.into(), line: None, column: None, hint: None }
    }

    /// Text that is no statement.
    pub(crate) fn syntax(message: impl Into<String>) -> StatementError {
        StatementError::new(ErrorKind::Syntax, message)
    }

    /// A name for nothing.
    pub(crate) fn unknown(message: impl Into<String>) -> StatementError {
        StatementError::new(ErrorKind::Unknown, message)
    }

    /// Types or clauses that do not fit.
    pub(crate) fn invalid(message: impl Into<String>) -> StatementError {
        StatementError::new(ErrorKind::Invalid, message)
    }

    /// Something that Millpond does not do.
    pub(crate) fn unsupported(message: impl Into<String>) -> StatementError {
        StatementError::new(ErrorKind::Unsupported, message)
    }

    /// Something that does not fit what exists.
    pub(crate) fn conflict(message: impl Into<String>) -> StatementError {
        StatementError::new(ErrorKind::Conflict, message)
    }

    /// A limit that was reached.
    pub(crate) fn limit(message: impl Into<String>) -> StatementError {
        StatementError::new(ErrorKind::Limit, message)
    }

    /// A failure while running.
    pub(crate) fn execution(message: impl Into<String>) -> StatementError {
        StatementError::new(ErrorKind::Execution, message)
    }

    /// The same with what was meant, or what to do.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> StatementError {
        self.hint = Some(hint.into());
        self
    }

    /// The same with a place, unless it has one or `place` is none.
    pub(crate) fn at(mut self, place: impl Into<Option<Place>>) -> StatementError {
        if self.line.is_none()
            && let Some(place) = place.into()
        {
            self.line = Some(place.line);
            self.column = Some(place.column);
        }
        self
    }
}

/// A place in a statement's text, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    /// sqlparser's location; line 0 stands for "unknown" there.
    pub(crate) fn of(location: datafusion::sql::sqlparser::tokenizer::Location) -> Option<Place> {
        let line = u32::try_from(location.line).ok()?;
        let column = u32::try_from(location.column).ok()?;
        (line > 0).then_some(Place { line, column })
    }

    /// Where a span begins.
    pub(crate) fn start(span: datafusion::sql::sqlparser::tokenizer::Span) -> Option<Place> {
        Place::of(span.start)
    }
}

/// The names of `candidates` nearest to `name`, best first: at most three, and only such as a slip could explain.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let lower = name.to_lowercase();
    let mut scored: Vec<(usize, &str)> = candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(name.chars().count().max(candidate.chars().count()) / 3))
        .collect();
    scored.sort();
    scored.dedup();
    scored.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

/// "did you mean `a`, `b`?" for the nearest names, or nothing.
pub(crate) fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near = nearest(name, candidates);
    let quoted: Vec<String> = near.iter().map(|candidate| format!("`{candidate}`")).collect();
    (!quoted.is_empty()).then(|| format!("did you mean {}?", quoted.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        assert_eq!(nearest("dep_dely", ["dep_delay", "arr_delay", "carrier"]), ["dep_delay"]);
        assert_eq!(nearest("CARRIER", ["dep_delay", "carrier"]), ["carrier"]);
        assert!(nearest("foo", ["dep_delay", "pow_of_two"]).is_empty());
    }

    #[test]
    fn the_whole_error_is_one_line() {
        let error = StatementError::unknown("unknown column `dep_dely`")
            .at(Place { line: 1, column: 8 })
            .with_hint("did you mean `dep_delay`?");
        assert_eq!(error.to_string(), "line 1, column 8: unknown column `dep_dely`; did you mean `dep_delay`?");
    }
}
