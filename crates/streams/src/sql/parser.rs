//! From text to a [`Statement`]: our statements here, queries by sqlparser.

use datafusion::sql::sqlparser::ast::{self, Spanned};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

use super::dialect::MillpondDialect;
use super::error::{Place, SqlResult, StatementError, did_you_mean};
use super::statement::{
    ColumnDefinition, CreateMaterialized, CreateStream, Name, Statement, StatementOption, Watermark,
};

/// The longest statement in bytes.
pub(crate) const STATEMENT_BYTES_MAX: usize = 64 * 1024;

/// How deep expressions and queries may be nested.
const NESTING_MAX: usize = 50;

/// The words that a statement can begin with.
const FIRST_WORDS: &[&str] = &["SELECT", "WITH", "CREATE", "DROP", "PAUSE", "RESUME", "SHOW", "DESCRIBE", "EXPLAIN"];

/// Reads exactly one statement; a `;` may follow it, a second statement may not.
pub(crate) fn parse(text: &str) -> SqlResult<Statement> {
    if text.len() > STATEMENT_BYTES_MAX {
        return Err(StatementError::limit(format!(
            "the statement is {} bytes long; at most {STATEMENT_BYTES_MAX} are read",
            text.len()
        )));
    }
    let tokens = tokenize(text)?;
    if tokens.iter().all(|token| matches!(token.token, Token::Whitespace(_) | Token::SemiColon | Token::EOF)) {
        return Err(StatementError::syntax("the statement is empty"));
    }
    let parser = Parser::new(&MillpondDialect).with_recursion_limit(NESTING_MAX).with_tokens_with_locations(tokens);
    let mut reader = Reader { parser, end: end_of(text) };
    let statement = reader.statement()?;
    reader.end_of_statement()?;
    Ok(statement)
}

/// The statements of a script, each with its text; what lies between them (`;`, blanks, comments alone) is left out.
pub(crate) fn split(script: &str) -> SqlResult<Vec<String>> {
    let tokens = tokenize(script)?;
    let mut statements = Vec::new();
    let mut start: Option<Location> = None;
    let mut cursor = Cursor::new(script);
    let mut from = 0;
    for token in &tokens {
        match token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => {
                let position = cursor.position_of(token.span.start);
                if start.take().is_some() {
                    statements.push(script[from..position].trim().to_owned());
                }
            }
            _ if start.is_none() => {
                start = Some(token.span.start);
                from = cursor.position_of(token.span.start);
            }
            _ => {}
        }
    }
    if start.is_some() {
        statements.push(script[from..].trim().to_owned());
    }
    Ok(statements)
}

/// Finds byte positions of places, which must be asked for in ascending order.
struct Cursor<'a> {
    characters: std::iter::Peekable<std::str::CharIndices<'a>>,
    len: usize,
    line: u64,
    column: u64,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Cursor<'a> {
        Cursor { characters: text.char_indices().peekable(), len: text.len(), line: 1, column: 1 }
    }

    fn position_of(&mut self, place: Location) -> usize {
        while (self.line, self.column) < (place.line, place.column) {
            match self.characters.next() {
                Some((_, '\n')) => {
                    self.line += 1;
                    self.column = 1;
                }
                Some(_) => self.column += 1,
                None => return self.len,
            }
        }
        self.characters.peek().map_or(self.len, |(position, _)| *position)
    }
}

/// The tokens of `text`; `ROW<` is told as `STRUCT<`, which is what the parser knows.
fn tokenize(text: &str) -> SqlResult<Vec<TokenWithSpan>> {
    let mut tokens = Tokenizer::new(&MillpondDialect, text)
        .tokenize_with_location()
        .map_err(|error| StatementError::syntax(lower_first(&error.message)).at(Place::of(error.location)))?;
    for index in 0..tokens.len().saturating_sub(1) {
        let next = tokens[index + 1..].iter().find(|token| !matches!(token.token, Token::Whitespace(_)));
        if next.is_some_and(|next| next.token == Token::Lt)
            && let Token::Word(word) = &mut tokens[index].token
            && word.quote_style.is_none()
            && word.value.eq_ignore_ascii_case("ROW")
        {
            *word = Word { value: "STRUCT".to_owned(), quote_style: None, keyword: Keyword::STRUCT };
        }
    }
    Ok(tokens)
}

/// Where the text ends, for errors about what is missing.
fn end_of(text: &str) -> Place {
    let text = text.trim_end();
    let line = text.matches('\n').count() as u32 + 1;
    let last = text.rsplit('\n').next().unwrap_or_default();
    Place { line, column: last.chars().count() as u32 + 1 }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

struct Reader<'a> {
    parser: Parser<'a>,
    end: Place,
}

impl Reader<'_> {
    fn statement(&mut self) -> SqlResult<Statement> {
        let first = self.parser.peek_token();
        let word = self.peek_word(0).unwrap_or_default();
        match word.as_str() {
            "SELECT" | "WITH" => self.query().map(Statement::Query),
            "CREATE" => self.create(),
            "DROP" => {
                self.parser.next_token();
                if !(self.take("STREAM") || self.take("TABLE") || self.take_all(&["MATERIALIZED", "VIEW"])) {
                    self.take("MATERIALIZED");
                    self.expect("STREAM")?;
                }
                let if_exists = self.take_all(&["IF", "EXISTS"]);
                Ok(Statement::DropStream { name: self.name()?, if_exists })
            }
            "PAUSE" | "RESUME" => {
                self.parser.next_token();
                self.expect("STREAM")?;
                let name = self.name()?;
                Ok(if word == "PAUSE" { Statement::PauseStream { name } } else { Statement::ResumeStream { name } })
            }
            "SHOW" => {
                self.parser.next_token();
                if !(self.take("TABLES") || self.take("VIEWS")) {
                    self.expect("STREAMS")?;
                }
                Ok(Statement::ShowStreams)
            }
            "DESCRIBE" | "DESC" => {
                self.parser.next_token();
                // `DESCRIBE STREAM x`, but also a stream that is called `stream`.
                if self.peek_word(0).as_deref() == Some("STREAM") && !self.ends_after(1) {
                    self.parser.next_token();
                }
                Ok(Statement::Describe { name: self.name()? })
            }
            "EXPLAIN" => {
                self.parser.next_token();
                let place = self.here();
                match self.statement()? {
                    inner @ (Statement::Query(_) | Statement::CreateMaterialized(_)) => {
                        Ok(Statement::Explain(Box::new(inner)))
                    }
                    _ => Err(StatementError::unsupported(
                        "EXPLAIN shows what a SELECT or a CREATE MATERIALIZED STREAM would do, and nothing else",
                    )
                    .at(place)),
                }
            }
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" => Err(StatementError::unsupported(format!(
                "{word} is not supported"
            ))
            .with_hint("produce records to the topic with a Kafka client, or let a CREATE MATERIALIZED STREAM … AS SELECT write them")
            .at(Place::start(first.span))),
            "ALTER" => Err(StatementError::unsupported("ALTER is not supported yet")
                .with_hint("DROP the stream and create it again")
                .at(Place::start(first.span))),
            "EMIT" | "SET" | "USE" | "BEGIN" | "COMMIT" | "GRANT" | "REVOKE" | "TRUNCATE" => {
                Err(StatementError::unsupported(format!("{word} is not supported")).at(Place::start(first.span)))
            }
            _ if first.token == Token::LParen => self.query().map(Statement::Query),
            _ => {
                let error = StatementError::syntax(format!(
                    "a statement begins with SELECT, CREATE, DROP, PAUSE, RESUME, SHOW, DESCRIBE or EXPLAIN, not with {}",
                    told(&first.token)
                ))
                .at(Place::start(first.span));
                Err(match did_you_mean(&word, FIRST_WORDS.iter().copied()) {
                    Some(hint) if !word.is_empty() => error.with_hint(hint),
                    _ => error,
                })
            }
        }
    }

    fn create(&mut self) -> SqlResult<Statement> {
        self.parser.next_token();
        if self.peek_word(0).as_deref() == Some("OR") {
            return Err(StatementError::unsupported("OR REPLACE is not supported yet")
                .with_hint("DROP the stream first, or create one with a new name beside it")
                .at(self.here()));
        }
        let word = self.peek_word(0).unwrap_or_default();
        match word.as_str() {
            "STREAM" => {
                self.parser.next_token();
                self.refuse_if_not_exists()?;
                self.create_stream()
            }
            "MATERIALIZED" => {
                self.parser.next_token();
                if !self.take("VIEW") {
                    self.expect("STREAM")?;
                }
                self.refuse_if_not_exists()?;
                let name = self.name()?;
                if self.parser.peek_token().token == Token::LParen {
                    return Err(StatementError::unsupported(
                        "a materialized stream takes its columns from its SELECT; a column list is not supported",
                    )
                    .at(self.here()));
                }
                let options = self.options()?;
                self.expect("AS")?;
                let query = self.query()?;
                Ok(Statement::CreateMaterialized(Box::new(CreateMaterialized { name, options, query })))
            }
            "TABLE" => Err(StatementError::unsupported("CREATE TABLE (the latest row per key) is not supported yet")
                .with_hint("CREATE STREAM declares a topic whose records are all kept")
                .at(self.here())),
            "VIEW" => Err(StatementError::unsupported("CREATE VIEW is not supported yet")
                .with_hint("CREATE MATERIALIZED STREAM … AS SELECT keeps the results in a topic")
                .at(self.here())),
            _ => {
                let error = StatementError::syntax(format!(
                    "CREATE is followed by STREAM or MATERIALIZED STREAM, not by {}",
                    told(&self.parser.peek_token().token)
                ))
                .at(self.here());
                Err(match did_you_mean(&word, ["STREAM", "MATERIALIZED"]) {
                    Some(hint) if !word.is_empty() => error.with_hint(hint),
                    _ => error,
                })
            }
        }
    }

    fn create_stream(&mut self) -> SqlResult<Statement> {
        let name = self.name()?;
        if self.peek_word(0).as_deref() == Some("AS") {
            return Err(StatementError::unsupported("CREATE STREAM declares a topic and computes nothing")
                .with_hint("write CREATE MATERIALIZED STREAM … AS SELECT")
                .at(self.here()));
        }
        let mut columns = Vec::new();
        let mut watermark = None;
        if self.parser.consume_token(&Token::LParen) {
            loop {
                self.column_or_constraint(&mut columns, &mut watermark)?;
                if !self.parser.consume_token(&Token::Comma) {
                    break;
                }
            }
            self.token(&Token::RParen)?;
        }
        let options = self.options()?;
        Ok(Statement::CreateStream(Box::new(CreateStream { name, columns, watermark, options })))
    }

    fn column_or_constraint(
        &mut self,
        columns: &mut Vec<ColumnDefinition>,
        watermark: &mut Option<Watermark>,
    ) -> SqlResult<()> {
        let place = self.here();
        let (word, next) = (self.peek_word(0).unwrap_or_default(), self.peek_word(1).unwrap_or_default());
        if word == "WATERMARK" && next == "FOR" {
            self.parser.next_token();
            self.parser.next_token();
            let column = self.name()?;
            self.expect("AS")?;
            let expression = self.expression()?;
            if watermark.replace(Watermark { column, expression }).is_some() {
                return Err(StatementError::invalid("a stream has one WATERMARK, and this is the second").at(place));
            }
            return Ok(());
        }
        if (word == "PRIMARY" && next == "KEY") || (word == "CONSTRAINT") {
            return Err(primary_key().at(place));
        }
        let name = self.identifier()?;
        if self.peek_word(0).as_deref() == Some("AS") {
            return Err(StatementError::unsupported("computed columns are not supported yet")
                .with_hint("compute it in the SELECT that reads the stream")
                .at(self.here()));
        }
        let data_type = self.parser.parse_data_type().map_err(|error| self.said(error))?;
        let mut metadata = None;
        loop {
            let place = self.here();
            if self.take("METADATA") {
                metadata = Some(name.clone());
                if self.take("FROM") {
                    let from = self.here();
                    let text = self.literal("what METADATA FROM takes, such as 'key'")?;
                    metadata = Some(Name { text, place: from });
                }
                self.take("VIRTUAL");
            } else if self.take_all(&["NOT", "NULL"]) || self.take("NULL") {
                // A field that a JSON record lacks is NULL; whether that may be is not declared yet.
                return Err(StatementError::unsupported("NULL and NOT NULL are not supported in CREATE STREAM yet")
                    .with_hint("a field that a record lacks is NULL; filter with WHERE … IS NOT NULL")
                    .at(place));
            } else if self.take_all(&["PRIMARY", "KEY"]) {
                return Err(primary_key().at(place));
            } else {
                break;
            }
        }
        columns.push(ColumnDefinition { name, data_type, metadata });
        Ok(())
    }

    /// `WITH (name = value, …)`, or nothing.
    fn options(&mut self) -> SqlResult<Vec<StatementOption>> {
        let mut options: Vec<StatementOption> = Vec::new();
        if !self.take("WITH") {
            return Ok(options);
        }
        self.token(&Token::LParen)?;
        if self.parser.consume_token(&Token::RParen) {
            return Ok(options);
        }
        loop {
            let place = self.here();
            let text = self.dotted_or_literal()?;
            let name = Name { text: text.to_lowercase(), place };
            self.token(&Token::Eq)?;
            let value_place = self.here();
            let value = self.literal("a value")?;
            if options.iter().any(|other| other.name.text == name.text) {
                return Err(StatementError::invalid(format!("the option `{}` is given twice", name.text)).at(place));
            }
            options.push(StatementOption { name, value, value_place });
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.token(&Token::RParen)?;
        Ok(options)
    }

    fn dotted_or_literal(&mut self) -> SqlResult<String> {
        if let Token::SingleQuotedString(text) = self.parser.peek_token().token {
            self.parser.next_token();
            return Ok(text);
        }
        self.name().map(|name| name.text)
    }

    /// A string, a number or a bare word, as text.
    fn literal(&mut self, wanted: &str) -> SqlResult<String> {
        let token = self.parser.next_token();
        match token.token {
            Token::SingleQuotedString(text) | Token::Number(text, false) => Ok(text),
            Token::Word(word) => Ok(word.value),
            Token::Minus => match self.parser.next_token().token {
                Token::Number(text, false) => Ok(format!("-{text}")),
                other => Err(StatementError::syntax(format!("expected {wanted}, found -{other}"))
                    .at(self.place(token.span.start))),
            },
            other => Err(StatementError::syntax(format!("expected {wanted}, found {}", told(&other)))
                .at(self.place(token.span.start))),
        }
    }

    fn query(&mut self) -> SqlResult<Box<ast::Query>> {
        self.parser.parse_query().map_err(|error| self.said(error))
    }

    fn expression(&mut self) -> SqlResult<ast::Expr> {
        self.parser.parse_expr().map_err(|error| self.said(error))
    }

    fn identifier(&mut self) -> SqlResult<Name> {
        let token = self.parser.peek_token();
        let ident = self.parser.parse_identifier().map_err(|_| {
            StatementError::syntax(format!("expected a name, found {}", told(&token.token)))
                .at(self.place(token.span.start))
        })?;
        Ok(Name { place: Place::start(ident.span), text: ident.value })
    }

    /// A stream's or topic's name. Topics' names may have dots and dashes without quotes here: `my.topic-1`.
    fn name(&mut self) -> SqlResult<Name> {
        let mut name = self.identifier()?;
        loop {
            let token = self.parser.peek_token_no_skip().token;
            if token == Token::Period {
                self.parser.next_token();
                name.text.push('.');
                let part = self.identifier()?;
                name.text.push_str(&part.text);
            } else if token == Token::Minus
                && matches!(self.parser.peek_nth_token(1).token, Token::Word(_) | Token::Number(..))
            {
                self.parser.next_token();
                name.text.push('-');
                match self.parser.next_token().token {
                    Token::Word(word) => name.text.push_str(&word.value),
                    Token::Number(digits, _) => name.text.push_str(&digits),
                    other => unreachable!("{other} was a word or a number when looked at"),
                }
            } else {
                return Ok(name);
            }
        }
    }

    fn refuse_if_not_exists(&mut self) -> SqlResult<()> {
        if self.peek_word(0).as_deref() == Some("IF") && self.peek_word(1).as_deref() == Some("NOT") {
            return Err(StatementError::unsupported("IF NOT EXISTS is not supported yet")
                .with_hint("leave it out; a stream that exists already is reported")
                .at(self.here()));
        }
        Ok(())
    }

    fn end_of_statement(&mut self) -> SqlResult<()> {
        let mut ended = false;
        while self.parser.consume_token(&Token::SemiColon) {
            ended = true;
        }
        let rest = self.parser.peek_token();
        match rest.token {
            Token::EOF => Ok(()),
            _ if ended => Err(StatementError::syntax(format!(
                "one statement at a time; a second one begins here with {}",
                told(&rest.token)
            ))
            .with_hint("send each statement as a record of its own")
            .at(Place::start(rest.span))),
            Token::Word(Word { ref value, .. }) if value.eq_ignore_ascii_case("EMIT") => {
                Err(StatementError::unsupported("EMIT is not supported yet")
                    .with_hint("the rows of a window are written once, when the watermark has passed its end")
                    .at(Place::start(rest.span)))
            }
            _ => {
                Err(StatementError::syntax(format!("the statement should end here, but {} follows", told(&rest.token)))
                    .at(Place::start(rest.span)))
            }
        }
    }

    /// The unquoted word `ahead` tokens from here, in upper case.
    fn peek_word(&self, ahead: usize) -> Option<String> {
        match self.parser.peek_nth_token(ahead).token {
            Token::Word(Word { value, quote_style: None, .. }) => Some(value.to_uppercase()),
            _ => None,
        }
    }

    fn ends_after(&self, ahead: usize) -> bool {
        matches!(self.parser.peek_nth_token(ahead).token, Token::EOF | Token::SemiColon)
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.peek_word(0).as_deref() == Some(word);
        if there {
            self.parser.next_token();
        }
        there
    }

    fn take_all(&mut self, words: &[&str]) -> bool {
        let there = words.iter().enumerate().all(|(ahead, word)| self.peek_word(ahead).as_deref() == Some(*word));
        if there {
            words.iter().for_each(|_| drop(self.parser.next_token()));
        }
        there
    }

    fn expect(&mut self, word: &str) -> SqlResult<()> {
        if self.take(word) {
            return Ok(());
        }
        let found = self.parser.peek_token();
        Err(StatementError::syntax(format!("expected {word}, found {}", told(&found.token)))
            .at(self.place(found.span.start)))
    }

    fn token(&mut self, token: &Token) -> SqlResult<()> {
        if self.parser.consume_token(token) {
            return Ok(());
        }
        let found = self.parser.peek_token();
        Err(StatementError::syntax(format!("expected {token}, found {}", told(&found.token)))
            .at(self.place(found.span.start)))
    }

    fn here(&self) -> Option<Place> {
        let token = self.parser.peek_token();
        Some(self.place(token.span.start))
    }

    /// The place, or the end of the text where the parser has none.
    fn place(&self, location: Location) -> Place {
        Place::of(location).unwrap_or(self.end)
    }

    /// sqlparser's error in our words: its place stands at the end of its message.
    fn said(&self, error: ParserError) -> StatementError {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
            ParserError::RecursionLimitExceeded => {
                return StatementError::limit(format!("the statement is nested more than {NESTING_MAX} levels deep"));
            }
        };
        let (message, place) = match text.rsplit_once(" at Line: ") {
            Some((message, place)) => (message, read_place(place)),
            None => (text.as_str(), None),
        };
        let message = message.replace("found: EOF", "but the statement ends here").replace("found: ", "found ");
        StatementError::syntax(lower_first(&message).replace("expected: ", "expected ")).at(place.unwrap_or(self.end))
    }
}

/// `1, Column: 13`.
fn read_place(text: &str) -> Option<Place> {
    let (line, column) = text.split_once(", Column: ")?;
    let (line, column) = (line.trim().parse().ok()?, column.trim().parse().ok()?);
    (line > 0).then_some(Place { line, column })
}

fn told(token: &Token) -> String {
    match token {
        Token::EOF => "the end of the statement".to_owned(),
        token => format!("`{token}`"),
    }
}

fn primary_key() -> StatementError {
    StatementError::unsupported("PRIMARY KEY and other constraints are not supported yet")
        .with_hint("a stream keeps every record; the latest row per key is what CREATE TABLE will give")
}

/// Where a part of a query stands.
pub(crate) fn place_of(part: &impl Spanned) -> Option<Place> {
    Place::start(part.span())
}

/// The type that a text names; the counterpart of [`super::types::sql_name`].
pub(crate) fn parse_type(text: &str) -> SqlResult<datafusion::arrow::datatypes::DataType> {
    let parser = Parser::new(&MillpondDialect).with_tokens_with_locations(tokenize(text)?);
    let mut reader = Reader { parser, end: end_of(text) };
    let data_type = reader.parser.parse_data_type().map_err(|error| reader.said(error))?;
    super::types::arrow_type(&data_type)
}
