//! What the Tab key offers: words of the language, streams, their columns, topics.

use rustyline::completion::Completer;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Highlighter, Hinter};

use super::http::Server;

const KEYWORDS: &[&str] = &[
    "AND",
    "AS",
    "AVG",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "CREATE",
    "DAY",
    "DECIMAL",
    "DESCRIBE",
    "DESCRIPTOR",
    "DISTINCT",
    "DOUBLE",
    "DROP",
    "ELSE",
    "END",
    "EXPLAIN",
    "FILTER",
    "FOR",
    "FROM",
    "GROUP",
    "HAVING",
    "HOP",
    "HOUR",
    "IN",
    "INT",
    "INTERVAL",
    "IS",
    "LIKE",
    "LIMIT",
    "MATERIALIZED",
    "MAX",
    "METADATA",
    "MIN",
    "MINUTE",
    "NOT",
    "NULL",
    "OR",
    "PAUSE",
    "RESUME",
    "SECOND",
    "SELECT",
    "SHOW",
    "STREAM",
    "STREAMS",
    "STRING",
    "SUM",
    "TABLE",
    "THEN",
    "TIMESTAMP(3)",
    "TUMBLE",
    "UNION ALL",
    "VARCHAR",
    "VIEW",
    "WATERMARK",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Words offered at a time.
const OFFERED_MAX: usize = 200;

/// Completes words, and knows when a statement is whole.
#[derive(Helper, Hinter, Highlighter)]
pub(crate) struct Assistant {
    /// Names of streams, topics and columns.
    names: Vec<String>,
}

impl Assistant {
    pub(crate) fn new() -> Assistant {
        Assistant { names: Vec::new() }
    }

    /// Asks the node which names there are. Without an answer the old ones stay.
    pub(crate) fn refresh(&mut self, server: &Server) {
        let Ok(answer) = server.streams() else { return };
        let streams = answer["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut names = Vec::new();
        for stream in streams {
            names.extend(
                [&stream["name"], &stream["topic"]].into_iter().filter_map(|name| name.as_str()).map(str::to_owned),
            );
            let columns = stream["columns"].as_array().map(Vec::as_slice).unwrap_or_default();
            names.extend(columns.iter().filter_map(|column| column["name"].as_str()).map(str::to_owned));
        }
        names.sort();
        names.dedup();
        self.names = names;
    }

    /// The words that begin with what stands before the cursor, and where that begins.
    fn offers(&self, line: &str, position: usize) -> (usize, Vec<String>) {
        let start = line[..position]
            .rfind(|character: char| !(character.is_alphanumeric() || character == '_'))
            .map_or(0, |place| place + line[place..].chars().next().map_or(1, char::len_utf8));
        let begun = &line[start..position];
        if begun.is_empty() {
            return (start, Vec::new());
        }
        let lower = begun.to_lowercase();
        let fits = |word: &&str| word.to_lowercase().starts_with(&lower);
        let names = self.names.iter().map(String::as_str).filter(fits).map(str::to_owned);
        // Keywords are offered as the user writes: small after small letters.
        let small = begun.chars().all(|character| !character.is_uppercase());
        let keywords =
            KEYWORDS.iter().copied().filter(fits).map(|word| if small { word.to_lowercase() } else { word.to_owned() });
        (start, names.chain(keywords).take(OFFERED_MAX).collect())
    }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.offers(line, position))
    }
}

impl Validator for Assistant {
    /// A statement goes on over lines until its semicolon.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let whole = is_whole(context.input());
        Ok(if whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

/// Whether a line is to be executed: nothing, a word of the prompt itself, or text that ends with a semicolon.
pub(crate) fn is_whole(input: &str) -> bool {
    let text = input.trim();
    text.is_empty() || (text.ends_with(';') && !ends_in_quotes(text)) || super::prompt::Word::parse(text).is_some()
}

/// Whether the end of the text lies within a string or a quoted name. A doubled quote closes and opens again.
fn ends_in_quotes(text: &str) -> bool {
    let mut open = None;
    for character in text.chars() {
        match open {
            Some(quote) if quote == character => open = None,
            None if matches!(character, '\'' | '"' | '`') => open = Some(character),
            _ => {}
        }
    }
    open.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_names_are_offered() {
        let assistant = Assistant { names: vec!["carrier".to_owned(), "flights".to_owned(), "Été".to_owned()] };
        let offers = |line: &str| assistant.offers(line, line.len());
        assert_eq!(offers("SELECT ca"), (7, vec!["carrier".to_owned(), "case".to_owned(), "cast".to_owned()]));
        assert_eq!(offers("SELECT * FRO"), (9, vec!["FROM".to_owned()]));
        assert_eq!(offers("SELECT é"), (7, vec!["Été".to_owned()]));
        assert_eq!(offers("SELECT "), (7, Vec::<String>::new()));
        assert_eq!(offers("").1.len(), 0);
    }

    #[test]
    fn statements_end_with_a_semicolon() {
        assert!(is_whole("SELECT 1;") && is_whole("") && is_whole("quit") && is_whole(" help "));
        assert!(is_whole("SELECT 'it''s';") && is_whole("SELECT \"a'b\";"));
        assert!(!is_whole("SELECT 1") && !is_whole("SELECT ';\n") && !is_whole("SELECT `a;"));
    }
}
