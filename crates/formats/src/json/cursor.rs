//! The grammar of JSON (RFC 8259), read byte by byte from a slice without a copy.
//!
//! Owns: where a value begins and ends, what a number or a string says. Knows no columns. The text must be valid
//! UTF-8: [`Cursor::new`] checks it once for the whole record, so that nobody below has to.
//!
//! What is skipped is checked as strictly as what is kept: whether a record is valid does not depend on which columns
//! a query asks for.

use super::scan::plain_len;

/// Values nested deeper than this are refused, so that no record can exhaust a thread's stack.
pub const JSON_DEPTH_MAX: usize = 128;

/// Digits that a number's [`Number::mantissa`] can hold whatever they are.
const MANTISSA_DIGITS_MAX: u32 = 19;

/// Exponents beyond this are cut to it; no type of ours reaches so far.
const EXPONENT_MAX: i64 = 100_000;

/// Where and why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON at byte {position}: {problem}")]
pub(crate) struct Malformed {
    /// The place, in bytes from the record's start.
    pub(crate) position: usize,
    /// What was expected there, or what is wrong.
    pub(crate) problem: &'static str,
}

/// What a value is, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

/// A string as it stands between its quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawString<'a> {
    /// The bytes between the quotes.
    pub(crate) raw: &'a [u8],
    /// Whether there are escapes in it; they are known to be right.
    pub(crate) escaped: bool,
}

/// A number: `± mantissa × 10^exponent` when `exact`, and its text in any case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) negative: bool,
    /// The digits before and after the point, as one number.
    pub(crate) mantissa: u64,
    pub(crate) exponent: i32,
    /// Whether all digits fitted into the mantissa.
    pub(crate) exact: bool,
    /// Whether it is written without a point and without an exponent.
    pub(crate) integral: bool,
}

/// A place in a JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    depth: usize,
}

type Result<T> = std::result::Result<T, Malformed>;

impl<'a> Cursor<'a> {
    /// At the start of a record.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Cursor<'a>> {
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(Cursor { bytes, position: 0, depth: 0 }),
            Err(error) => Err(Malformed { position: error.valid_up_to(), problem: "this is not UTF-8" }),
        }
    }

    pub(crate) fn malformed<T>(&self, problem: &'static str) -> Result<T> {
        Err(Malformed { position: self.position, problem })
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    /// Skips white space; the byte after it, not consumed.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.position += 1,
                other => return other,
            }
        }
    }

    /// What value comes next.
    #[inline]
    pub(crate) fn kind(&mut self) -> Result<Kind> {
        match self.peek() {
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b't' | b'f') => Ok(Kind::Boolean),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => self.malformed("a value was expected"),
            None => self.malformed("the text ends where a value was expected"),
        }
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.malformed("text follows after the value"),
        }
    }

    /// `null`; to be called at [`Kind::Null`].
    #[inline]
    pub(crate) fn null(&mut self) -> Result<()> {
        self.word(b"null")
    }

    /// `true` or `false`; to be called at [`Kind::Boolean`].
    #[inline]
    pub(crate) fn boolean(&mut self) -> Result<bool> {
        if self.byte() == Some(b't') { self.word(b"true").map(|()| true) } else { self.word(b"false").map(|()| false) }
    }

    #[inline]
    fn word(&mut self, word: &'static [u8]) -> Result<()> {
        if self.bytes[self.position..].starts_with(word) {
            self.position += word.len();
            Ok(())
        } else {
            self.malformed("a value was expected")
        }
    }

    /// A number; to be called at [`Kind::Number`].
    #[inline]
    pub(crate) fn number(&mut self) -> Result<Number<'a>> {
        let start = self.position;
        let negative = self.byte() == Some(b'-');
        if negative {
            self.position += 1;
        }
        let mut mantissa = 0u64;
        let mut digits = 0u32;
        let first = self.byte();
        let whole = self.digits(&mut mantissa, &mut digits);
        if whole == 0 {
            return self.malformed("a digit was expected");
        }
        if first == Some(b'0') && whole > 1 {
            self.position = start;
            return self.malformed("a number may not begin with 0");
        }
        let mut exponent = 0i64;
        let mut integral = true;
        if self.byte() == Some(b'.') {
            integral = false;
            self.position += 1;
            let fraction = self.digits(&mut mantissa, &mut digits);
            if fraction == 0 {
                return self.malformed("a digit was expected after the point");
            }
            exponent = -(fraction.min(EXPONENT_MAX as usize) as i64);
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            integral = false;
            self.position += 1;
            exponent += self.exponent()?;
        }
        Ok(Number {
            text: &self.bytes[start..self.position],
            negative,
            mantissa,
            exponent: exponent.clamp(-EXPONENT_MAX, EXPONENT_MAX) as i32,
            exact: digits <= MANTISSA_DIGITS_MAX,
            integral,
        })
    }

    /// Reads digits into the mantissa; how many there were. Leading zeros do not count against the mantissa.
    #[inline]
    fn digits(&mut self, mantissa: &mut u64, digits: &mut u32) -> usize {
        let start = self.position;
        while let Some(byte @ b'0'..=b'9') = self.byte() {
            // 20 digits and more wrap round; `exact` says so.
            *mantissa = mantissa.wrapping_mul(10).wrapping_add((byte - b'0') as u64);
            *digits = digits.saturating_add((*mantissa != 0 || *digits != 0) as u32);
            self.position += 1;
        }
        self.position - start
    }

    #[cold]
    fn exponent(&mut self) -> Result<i64> {
        let negative = self.byte() == Some(b'-');
        if matches!(self.byte(), Some(b'-' | b'+')) {
            self.position += 1;
        }
        let start = self.position;
        let mut exponent = 0i64;
        while let Some(byte @ b'0'..=b'9') = self.byte() {
            exponent = (exponent * 10 + (byte - b'0') as i64).min(EXPONENT_MAX);
            self.position += 1;
        }
        if self.position == start {
            return self.malformed("a digit was expected in the exponent");
        }
        Ok(if negative { -exponent } else { exponent })
    }

    /// A string; to be called at [`Kind::String`].
    #[inline]
    pub(crate) fn string(&mut self) -> Result<RawString<'a>> {
        self.position += 1;
        let start = self.position;
        let mut escaped = false;
        loop {
            self.position += plain_len(&self.bytes[self.position..]);
            match self.byte() {
                Some(b'"') => {
                    let raw = &self.bytes[start..self.position];
                    self.position += 1;
                    return Ok(RawString { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.malformed("a control character stands in a string"),
                None => return self.malformed("the text ends within a string"),
            }
        }
    }

    /// Reads one escape, from the backslash on.
    #[cold]
    fn escape(&mut self) -> Result<char> {
        let start = self.position;
        self.position += 1;
        let byte = self.byte();
        self.position += 1;
        let plain = match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.four_hex_digits()?;
                let code = match first {
                    0xd800..=0xdbff if self.bytes[self.position..].starts_with(b"\\u") => {
                        self.position += 2;
                        match self.four_hex_digits()? {
                            second @ 0xdc00..=0xdfff => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                            _ => first,
                        }
                    }
                    code => code,
                };
                match char::from_u32(code) {
                    Some(character) => character,
                    None => {
                        self.position = start;
                        return self.malformed("half of a surrogate pair stands alone");
                    }
                }
            }
            _ => {
                self.position = start;
                return self.malformed("there is no such escape");
            }
        };
        Ok(plain)
    }

    fn four_hex_digits(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = match self.byte() {
                Some(byte @ b'0'..=b'9') => byte - b'0',
                Some(byte @ b'a'..=b'f') => byte - b'a' + 10,
                Some(byte @ b'A'..=b'F') => byte - b'A' + 10,
                _ => return self.malformed("four hexadecimal digits were expected"),
            };
            code = code << 4 | digit as u32;
            self.position += 1;
        }
        Ok(code)
    }

    /// Walks over an object; `member` is called at every value, and has to consume it, or to leave it all.
    ///
    /// To be called at [`Kind::Object`]. `member` gets the field's place in the object, for those who remember the order.
    #[inline]
    pub(crate) fn object<E: From<Malformed>>(
        &mut self,
        mut member: impl FnMut(&mut Cursor<'a>, usize, RawString<'a>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.enter()?;
        if self.peek() == Some(b'}') {
            self.leave();
            return Ok(());
        }
        let mut place = 0;
        loop {
            if self.peek() != Some(b'"') {
                return Ok(self.malformed("a field's name in quotes was expected")?);
            }
            let name = self.string()?;
            if self.peek() != Some(b':') {
                return Ok(self.malformed("':' was expected")?);
            }
            self.position += 1;
            member(self, place, name)?;
            place += 1;
            match self.peek() {
                Some(b',') => self.position += 1,
                Some(b'}') => {
                    self.leave();
                    return Ok(());
                }
                _ => return Ok(self.malformed("',' or '}' was expected")?),
            }
        }
    }

    /// Walks over an array; `item` is called at every value, and has to consume it. To be called at [`Kind::Array`].
    pub(crate) fn array<E: From<Malformed>>(
        &mut self,
        mut item: impl FnMut(&mut Cursor<'a>, usize) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.enter()?;
        if self.peek() == Some(b']') {
            self.leave();
            return Ok(());
        }
        let mut place = 0;
        loop {
            item(self, place)?;
            place += 1;
            match self.peek() {
                Some(b',') => self.position += 1,
                Some(b']') => {
                    self.leave();
                    return Ok(());
                }
                _ => return Ok(self.malformed("',' or ']' was expected")?),
            }
        }
    }

    fn enter(&mut self) -> Result<()> {
        if self.depth == JSON_DEPTH_MAX {
            return self.malformed("values nest deeper than 128 levels");
        }
        self.depth += 1;
        self.position += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.position += 1;
    }

    /// Walks over any value, checking it.
    #[inline]
    pub(crate) fn skip(&mut self) -> Result<()> {
        match self.kind()? {
            Kind::String => self.string().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::Boolean => self.boolean().map(drop),
            Kind::Null => self.null(),
            Kind::Array => self.array(|cursor, _| cursor.skip()),
            Kind::Object => self.object(|cursor, _, _| cursor.skip()),
        }
    }

    /// Walks over any value; its text, without the white space around it.
    pub(crate) fn text(&mut self) -> Result<&'a [u8]> {
        self.kind()?;
        let start = self.position;
        self.skip()?;
        Ok(&self.bytes[start..self.position])
    }
}

impl RawString<'_> {
    /// Appends the text that is meant.
    #[inline]
    pub(crate) fn unescape_into(&self, out: &mut Vec<u8>) {
        if self.escaped {
            self.unescape_slowly_into(out);
        } else {
            out.extend_from_slice(self.raw);
        }
    }

    #[cold]
    fn unescape_slowly_into(&self, out: &mut Vec<u8>) {
        let mut cursor = Cursor { bytes: self.raw, position: 0, depth: 0 };
        while cursor.position < self.raw.len() {
            if self.raw[cursor.position] == b'\\' {
                let character = cursor.escape().expect("escapes are checked when a string is read");
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                let plain = plain_len(&self.raw[cursor.position..]);
                out.extend_from_slice(&self.raw[cursor.position..cursor.position + plain]);
                cursor.position += plain;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> Result<()> {
        let mut cursor = Cursor::new(bytes)?;
        cursor.skip()?;
        cursor.end()
    }

    #[test]
    fn texts_that_are_json() {
        for text in [
            "{}",
            "[]",
            "0",
            "-0",
            "1.5e+10",
            "\"\"",
            " { \"a\" : [ 1 , true , null , \"\\u00e9\\ud83d\\ude00\" ] } ",
            "1E5",
            "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
            "123456789012345678901234567890",
        ] {
            assert_eq!(whole(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn texts_that_are_not_json_say_where() {
        let cases: &[(&str, usize)] = &[
            ("", 0),
            ("{", 1),
            ("{\"a\"", 4),
            ("{\"a\" 1}", 5),
            ("{\"a\":1,}", 7),
            ("[1,]", 3),
            ("[1 2]", 3),
            ("01", 0),
            ("1.", 2),
            ("-", 1),
            ("1e", 2),
            ("tru", 0),
            ("nul", 0),
            ("\"a", 2),
            ("\"\\x\"", 1),
            ("\"\\u12g4\"", 5),
            ("\"\\ud800\"", 1),
            ("\"\\ud800\\u0041\"", 1),
            ("\"a\u{1}\"", 2),
            ("{} x", 3),
            ("'a'", 0),
            ("NaN", 0),
        ];
        for (text, position) in cases {
            let error = whole(text.as_bytes()).expect_err(text);
            assert_eq!(error.position, *position, "{text}: {error}");
        }
        assert_eq!(whole(b"\"\xff\"").expect_err("not UTF-8").position, 1);
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert_eq!(whole(&nested(JSON_DEPTH_MAX)), Ok(()));
        assert!(whole(&nested(JSON_DEPTH_MAX + 1)).is_err());
        assert!(whole(&vec![b'['; 1_000_000]).is_err());
    }

    proptest! {
        /// serde_json is the oracle: the same texts are JSON. (It takes numbers out of f64's range for an error, we do not.)
        #[test]
        fn accepts_what_others_accept(text in "[\\[\\]{}:,\"\\\\a0-9eE.\\-+ utrfalsn\u{1}é]{0,12}") {
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(_) => prop_assert!(whole(text.as_bytes()).is_ok()),
                Err(error) if error.to_string().contains("number out of range") => {}
                Err(_) => prop_assert!(whole(text.as_bytes()).is_err()),
            }
        }

        #[test]
        fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = whole(&bytes);
        }

        #[test]
        fn strings_mean_what_others_read(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let mut cursor = Cursor::new(json.as_bytes()).unwrap();
            let mut meant = Vec::new();
            cursor.string().unwrap().unescape_into(&mut meant);
            prop_assert_eq!(meant, text.into_bytes());
        }
    }
}
