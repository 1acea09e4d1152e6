//! What the tools of `millpond log` write with.

use std::io::{self, BufWriter, StdoutLock, Write};

use millpond_types::TimestampMs;
use serde::Serialize;

/// Buffered standard output. What is not flushed when it is dropped is lost, so each tool flushes at its end.
pub(super) struct Output {
    stdout: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub(super) fn new() -> Output {
        const BUFFER_BYTES: usize = 64 << 10;
        Output { stdout: BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()) }
    }

    /// One line of text.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        self.stdout.write_all(line.as_bytes())?;
        self.stdout.write_all(b"\n")
    }

    /// One line of JSON.
    pub(super) fn json<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        serde_json::to_writer(&mut self.stdout, value).map_err(io::Error::from)?;
        self.stdout.write_all(b"\n")
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// A point in time for people, as in `2026-11-26T18:54:07Z`; seconds are enough.
pub(crate) fn time(timestamp_ms: TimestampMs) -> String {
    const SECONDS_A_DAY: i64 = 86_400;
    let seconds = timestamp_ms.div_euclid(1000);
    let (day, second) = (seconds.div_euclid(SECONDS_A_DAY), seconds.rem_euclid(SECONDS_A_DAY));
    let (year, month, day) = date(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. Years are counted from March, so that the leap day is
/// the last one, and in eras of 400 years, which all have the same length.
fn date(day: i64) -> (i64, i64, i64) {
    const DAYS_AN_ERA: i64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(DAYS_AN_ERA), day.rem_euclid(DAYS_AN_ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

/// Text that came from elsewhere, on one line: what is no character to be seen is shown as an escape, bytes that are not UTF-8
/// as `\x` and two digits.
pub(super) fn visible(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => shown.push_str("\\\\"),
                character if character.is_control() => shown.extend(character.escape_default()),
                character => shown.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| shown.push_str(&format!("\\x{byte:02x}")));
    }
    shown
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        digits.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        digits.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (timestamp_ms, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_700_000_000_000, "2023-11-14T22:13:20Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59Z"),
            (-2_208_988_800_000, "1900-01-01T00:00:00Z"),
            (i64::MAX, "292278994-08-17T07:12:55Z"),
        ] {
            assert_eq!(time(timestamp_ms), expected);
        }
        time(i64::MIN);
    }

    #[test]
    fn days_follow_each_other_over_four_hundred_years() {
        let mut before = date(-1);
        for day in 0..146_097 {
            let now = date(day);
            let is_next_day = now == (before.0, before.1, before.2 + 1);
            let is_next_month = now == (before.0, before.1 + 1, 1) || now == (before.0 + 1, 1, 1) && before.1 == 12;
            assert!(is_next_day || (is_next_month && before.2 >= 28), "{before:?} {now:?}");
            before = now;
        }
        assert_eq!(before, (2369, 12, 31));
    }

    #[test]
    fn nothing_that_moves_a_terminals_cursor_is_shown_as_it_is() {
        assert_eq!(visible("grün\t\u{1b}[2J\r\n\\".as_bytes()), "grün\\t\\u{1b}[2J\\r\\n\\\\");
        assert_eq!(visible(b"a\xff\xc3b"), "a\\xff\\xc3b");
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
    }
}
