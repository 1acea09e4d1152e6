//! The tables in README.md are what the code does. `MILLPOND_REWRITE=1` brings them up to date:
//!
//!     MILLPOND_REWRITE=1 cargo test --release -p millpond --test it readme

use std::fmt::Write;
use std::path::PathBuf;

use millpond_metadata::config::{Honoured, TOPIC_CONFIGS};

fn readme() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"))
}

/// The text between the marks of a generated table.
fn check(name: &str, table: &str) {
    let text = std::fs::read_to_string(readme()).expect("README.md");
    let begin = format!("<!-- {name}: begin -->\n");
    let end = format!("<!-- {name}: end -->");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("README.md has no mark {begin}"));
    let (current, after) = rest.split_once(&end).unwrap_or_else(|| panic!("README.md has no mark {end}"));
    if current == table {
        return;
    }
    if std::env::var_os("MILLPOND_REWRITE").is_some() {
        std::fs::write(readme(), format!("{before}{begin}{table}{end}{after}")).expect("README.md is written");
    } else {
        panic!("README.md's table of {name} is old: run with MILLPOND_REWRITE=1. It should be\n{table}");
    }
}

/// One test for both, since both may write the file.
#[test]
fn the_tables_are_current() {
    let mut apis = "| API | key | versions |\n|---|---:|---|\n".to_owned();
    for (name, key, first, last) in millpond_kafka::supported_apis() {
        let versions = if first == last { first.to_string() } else { format!("{first}–{last}") };
        writeln!(apis, "| {name} | {key} | {versions} |").expect("written to a string");
    }
    check("supported APIs", &apis);

    let mut honoured = "| topic configuration | default |\n|---|---|\n".to_owned();
    let mut fixed = "| topic configuration | only values | why |\n|---|---|---|\n".to_owned();
    for config in TOPIC_CONFIGS {
        let default =
            config.default.filter(|default| !default.is_empty()).map_or(String::new(), |value| format!("`{value}`"));
        match &config.honoured {
            Honoured::Yes => writeln!(honoured, "| `{}` | {default} |", config.name),
            Honoured::DefaultOnly(reason) => writeln!(fixed, "| `{}` | {default} | {reason} |", config.name),
        }
        .expect("written to a string");
    }
    check("topic configurations honoured", &honoured);
    check("topic configurations not honoured", &fixed);
}
