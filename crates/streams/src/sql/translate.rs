//! DataFusion's errors in our words: what, where, what was meant; never advice about DataFusion itself.

use datafusion::common::{DataFusionError, SchemaError};

use super::case::{UnknownColumn, place};
use super::definition::METADATA_COLUMNS;
use super::error::{ErrorKind, StatementError, did_you_mean};
use super::session::Session;
use super::window_function::WINDOW_ALIAS;

/// What `error` means for who wrote the statement.
pub(crate) fn translate(error: &DataFusionError, session: &Session) -> StatementError {
    let place = error.diagnostic().and_then(|diagnostic| diagnostic.span).map(place);
    let error = match ours(error) {
        Some(ours) => ours.clone(),
        None => match UnknownColumn::of(error) {
            Some(unknown) => unknown_column(&unknown),
            None => by_root(error, session),
        },
    };
    error.at(place)
}

/// An error of our own that went through DataFusion.
fn ours(error: &DataFusionError) -> Option<&StatementError> {
    match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref::<StatementError>(),
        _ => None,
    }
}

fn unknown_column(unknown: &UnknownColumn<'_>) -> StatementError {
    let name = unknown.column.name();
    let mut names: Vec<&str> = unknown.valid.iter().map(|column| column.name()).collect();
    names.dedup();
    let written = match &unknown.column.relation {
        Some(relation) if !relation.table().starts_with(WINDOW_ALIAS) => format!("{}.{name}", relation.table()),
        _ => name.to_owned(),
    };
    let error = StatementError::unknown(format!("unknown column `{written}`")).at(unknown.place());
    match did_you_mean(name, names.iter().copied().chain(METADATA_COLUMNS.iter().copied())) {
        Some(hint) => error.with_hint(hint),
        None if names.is_empty() => error.with_hint("there is no column here"),
        None => error.with_hint(columns_are(&names)),
    }
}

/// "the columns here are …", shortened.
fn columns_are(names: &[&str]) -> String {
    const SHOWN_MAX: usize = 12;
    let mut shown: Vec<String> = names.iter().take(SHOWN_MAX).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN_MAX {
        shown.push(format!("and {} more", names.len() - SHOWN_MAX));
    }
    format!("the columns here are {}", shown.join(", "))
}

fn by_root(error: &DataFusionError, session: &Session) -> StatementError {
    if let Some(diagnostic) = error.diagnostic()
        && let Some(found) = by_text(&diagnostic.message, session)
    {
        return found;
    }
    let root = error.find_root();
    if let DataFusionError::SchemaError(inner, _) = root {
        return by_schema(inner);
    }
    let text = root.strip_backtrace();
    by_text(&text, session).unwrap_or_else(|| {
        let message = error.diagnostic().map_or(text, |diagnostic| diagnostic.message.clone());
        StatementError::new(kind_of(root), tidy(&message))
    })
}

fn kind_of(error: &DataFusionError) -> ErrorKind {
    match error {
        DataFusionError::NotImplemented(_) => ErrorKind::Unsupported,
        DataFusionError::ResourcesExhausted(_) => ErrorKind::Limit,
        DataFusionError::Execution(_) | DataFusionError::ArrowError(..) | DataFusionError::IoError(_) => {
            ErrorKind::Execution
        }
        _ => ErrorKind::Invalid,
    }
}

fn by_schema(error: &SchemaError) -> StatementError {
    match error {
        SchemaError::AmbiguousReference { field } => {
            StatementError::invalid(format!("the column `{}` is in more than one of the relations here", field.name()))
                .with_hint(format!("say which: t.`{}`", field.name()))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            twice(name)
        }
        SchemaError::FieldNotFound { field, .. } => {
            StatementError::unknown(format!("unknown column `{}`", field.name()))
        }
    }
}

/// Two columns of one name.
pub(crate) fn twice(name: &str) -> StatementError {
    StatementError::invalid(format!("two columns of the result are called `{name}`"))
        .with_hint("give one of them another name with AS")
}

/// The known texts.
fn by_text(text: &str, session: &Session) -> Option<StatementError> {
    if text.contains("require unique expression names") {
        return Some(twice(&between(text, "expression \"", "\"").map_or("?".to_owned(), strip_qualifiers)));
    }
    if let Some(name) = between(text, "Invalid function '", "'") {
        let state = &session.state;
        let names: Vec<&String> = state
            .scalar_functions()
            .keys()
            .chain(state.aggregate_functions().keys())
            .chain(state.window_functions().keys())
            .collect();
        let error = StatementError::unknown(format!("unknown function `{name}`"));
        return Some(match did_you_mean(name, names.into_iter().map(String::as_str)) {
            Some(hint) => error.with_hint(hint),
            None => error,
        });
    }
    if text.contains("No function matches the given name and argument types") {
        let call = between(text, "argument types '", "'")?;
        let (name, types) = call.split_once('(')?;
        return Some(
            StatementError::invalid(format!("`{name}` does not take ({}", tidy_types(types)))
                .with_hint("CAST the arguments to types that it takes"),
        );
    }
    if text.contains("could not be resolved from available columns") || text.contains("must appear in the GROUP BY") {
        let name = ["column \"", "expression \""].iter().find_map(|before| between(text, before, "\""));
        let name = name.or_else(|| between(text, "'", "'")).unwrap_or("a column");
        return Some(
            StatementError::invalid(format!("`{}` is neither grouped by nor aggregated", strip_qualifiers(name)))
                .with_hint("add it to GROUP BY, or put it into an aggregate function"),
        );
    }
    if let Some(name) = text.strip_suffix(" not found in struct").and_then(|text| text.rsplit("ield ").next()) {
        return Some(StatementError::unknown(format!("unknown field `{name}`")));
    }
    if let Some(predicate) = between(text, "non-boolean predicate '", "' returning ") {
        let data_type = text.rsplit("' returning ").next().unwrap_or_default();
        return Some(
            StatementError::invalid(format!(
                "WHERE and HAVING need a BOOLEAN, and `{}` is {}",
                strip_qualifiers(predicate),
                tidy_types(data_type)
            ))
            .with_hint("compare it with something"),
        );
    }
    None
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let from = text.find(before)? + before.len();
    let rest = &text[from..];
    Some(&rest[..rest.find(after)?])
}

/// `bids.price` as `price`, also inside expressions that are shown.
fn strip_qualifiers(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((_, last)) if name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_')) => last.to_owned(),
        _ => name.to_owned(),
    }
}

/// The first sentence that is ours to show, with SQL's names of types and without prefixes.
fn tidy(text: &str) -> String {
    let mut text = text.trim();
    let prefixes = [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Internal error: ",
        "Arrow error: ",
        "Execution error: ",
        "Cast error: ",
        "Parser error: ",
        "Invalid argument error: ",
        "Compute error: ",
        "Schema error: ",
        "Resources exhausted: ",
        "SQL error: ",
        "External error: ",
    ];
    while let Some(rest) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    let ends = [
        "\n\nThis issue was likely caused",
        ".\nThis issue was likely caused",
        "\nThis issue was likely caused",
        ". This issue was likely caused",
        "\n\nbacktrace",
        "\n\tCandidate functions",
        ". You might need",
    ];
    for end in ends {
        if let Some(position) = text.find(end) {
            text = &text[..position];
        }
    }
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let mut characters = line.trim_end_matches('.').chars();
    let lowered: String = match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    };
    tidy_types(&lowered)
}

/// Arrow's names of types as SQL's, where they stand as words.
fn tidy_types(text: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("Utf8View", "VARCHAR"),
        ("LargeUtf8", "VARCHAR"),
        ("Utf8", "VARCHAR"),
        ("Int8", "TINYINT"),
        ("Int16", "SMALLINT"),
        ("Int32", "INT"),
        ("Int64", "BIGINT"),
        ("UInt8", "TINYINT UNSIGNED"),
        ("UInt16", "SMALLINT UNSIGNED"),
        ("UInt32", "INT UNSIGNED"),
        ("UInt64", "BIGINT UNSIGNED"),
        ("Float32", "FLOAT"),
        ("Float64", "DOUBLE"),
        ("Boolean", "BOOLEAN"),
        ("Date32", "DATE"),
        ("Timestamp(ms)", "TIMESTAMP(3)"),
        ("Timestamp(s)", "TIMESTAMP(0)"),
        ("Timestamp(µs)", "TIMESTAMP(6)"),
        ("Timestamp(us)", "TIMESTAMP(6)"),
        ("Timestamp(ns)", "TIMESTAMP(9)"),
        ("Binary", "VARBINARY"),
    ];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside = false;
    while let Some(first) = rest.chars().next() {
        let found = NAMES.iter().find(|(name, _)| {
            !inside
                && rest.starts_with(name)
                && !rest[name.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
        });
        match found {
            Some((name, shown)) => {
                out.push_str(shown);
                rest = &rest[name.len()..];
                inside = true;
            }
            None => {
                out.push(first);
                inside = first.is_alphanumeric() || first == '_';
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_in_sql() {
        assert_eq!(tidy_types("abs(Utf8, Int64) of UInt64x"), "abs(VARCHAR, BIGINT) of UInt64x");
    }

    #[test]
    fn prefixes_and_advice_are_dropped() {
        let text = "Error during planning: Internal error: Cannot infer.\nThis issue was likely caused by a bug";
        assert_eq!(tidy(text), "cannot infer");
    }
}
