//! The WITH clauses of statements.

use millpond_types::TopicName;

use crate::plan::{Format, StartPosition};
use crate::sql::error::{SqlResult, StatementError, did_you_mean};
use crate::sql::statement::StatementOption;

/// How many partitions a stream's topic may have.
const PARTITIONS_MAX: i32 = 1_000;

/// WITH of CREATE STREAM.
#[derive(Debug, Default)]
pub(crate) struct DeclareOptions {
    pub(crate) topic: Option<TopicName>,
    pub(crate) partitions: Option<i32>,
}

/// WITH of CREATE MATERIALIZED STREAM.
#[derive(Debug)]
pub(crate) struct MaterializeOptions {
    pub(crate) topic: Option<TopicName>,
    pub(crate) partitions: i32,
    /// The columns of the key, and the option that named them.
    pub(crate) key: Option<(Vec<String>, StatementOption)>,
    pub(crate) start: StartPosition,
}

pub(crate) fn declare_options(options: &[StatementOption]) -> SqlResult<DeclareOptions> {
    let mut read = DeclareOptions::default();
    for option in options {
        match option.name.text.as_str() {
            "topic" => read.topic = Some(topic(option)?),
            "format" => drop(format(option)?),
            "partitions" => read.partitions = Some(partitions(option)?),
            _ => return Err(unknown(option, &["topic", "format", "partitions"])),
        }
    }
    Ok(read)
}

pub(crate) fn materialize_options(options: &[StatementOption]) -> SqlResult<MaterializeOptions> {
    let mut read = MaterializeOptions { topic: None, partitions: 1, key: None, start: StartPosition::Earliest };
    for option in options {
        match option.name.text.as_str() {
            "topic" => read.topic = Some(topic(option)?),
            "format" => drop(format(option)?),
            "partitions" => read.partitions = partitions(option)?,
            "key" => {
                let columns: Vec<String> = option.value.split(',').map(|name| name.trim().to_owned()).collect();
                read.key = Some((columns, option.clone()));
            }
            "start" => {
                read.start = match option.value.to_lowercase().as_str() {
                    "earliest" => StartPosition::Earliest,
                    "latest" => StartPosition::Latest,
                    _ => {
                        return Err(StatementError::invalid(format!(
                            "start is 'earliest' or 'latest', not '{}'",
                            option.value
                        ))
                        .at(option.value_place));
                    }
                }
            }
            _ => return Err(unknown(option, &["topic", "format", "partitions", "key", "start"])),
        }
    }
    Ok(read)
}

fn topic(option: &StatementOption) -> SqlResult<TopicName> {
    TopicName::new(&option.value).map_err(|error| StatementError::invalid(error.to_string()).at(option.value_place))
}

fn format(option: &StatementOption) -> SqlResult<Format> {
    match option.value.to_lowercase().as_str() {
        "json" => Ok(Format::Json),
        _ => Err(StatementError::unsupported(format!("the format '{}' is not supported yet", option.value))
            .with_hint("the only format so far is 'json'")
            .at(option.value_place)),
    }
}

fn partitions(option: &StatementOption) -> SqlResult<i32> {
    match option.value.parse::<i32>() {
        Ok(count) if (1..=PARTITIONS_MAX).contains(&count) => Ok(count),
        _ => Err(StatementError::invalid(format!(
            "partitions is a number from 1 to {PARTITIONS_MAX}, not '{}'",
            option.value
        ))
        .at(option.value_place)),
    }
}

fn unknown(option: &StatementOption, known: &[&str]) -> StatementError {
    let error = StatementError::unknown(format!("unknown option `{}`", option.name.text)).at(option.name.place);
    match did_you_mean(&option.name.text, known.iter().copied()) {
        Some(hint) => error.with_hint(hint),
        None => error.with_hint(format!("the options here are {}", known.join(", "))),
    }
}
