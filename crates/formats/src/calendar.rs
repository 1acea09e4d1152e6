//! Dates and times of day as text: ISO 8601, and SQL's spelling with a blank for the T. No zones but offsets.

/// Seconds of a day.
const DAY_SECONDS: i64 = 86_400;

/// A date-time as it was written, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Seconds since 1970-01-01T00:00:00Z; an offset in the text is subtracted already.
    pub(crate) seconds: i64,
    /// Nanoseconds after that, less than a second.
    pub(crate) nanoseconds: u32,
    /// How many digits of a second's fraction were written.
    pub(crate) fraction_digits: u32,
    /// Whether a time of day was written, not just a date.
    pub(crate) has_time: bool,
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar.
///
/// Counts years from March on, so that the leap day is a year's last (Howard Hinnant, "chrono-compatible low-level
/// date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse: year, month, day.
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + (month <= 2) as i64, month as u32, day as u32)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads fixed-width digits.
fn digits(text: &[u8], width: usize) -> Option<(i64, &[u8])> {
    if text.len() < width {
        return None;
    }
    let (head, rest) = text.split_at(width);
    let mut value = 0;
    for byte in head {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + (byte - b'0') as i64;
    }
    Some((value, rest))
}

fn character<'a>(text: &'a [u8], allowed: &[u8]) -> Option<&'a [u8]> {
    match text.split_first() {
        Some((first, rest)) if allowed.contains(first) => Some(rest),
        _ => None,
    }
}

/// Reads `YYYY-MM-DD`, and other years as [`write_date`] writes them; the day's number since 1970-01-01.
pub(crate) fn parse_date(text: &[u8]) -> Option<i64> {
    let (days, rest) = date(text)?;
    rest.is_empty().then_some(days)
}

fn date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, text) = match digits(text, 4) {
        Some(read) => read,
        None => signed_year(text)?,
    };
    let (month, text) = digits(character(text, b"-")?, 2)?;
    let (day, text) = digits(character(text, b"-")?, 2)?;
    let valid = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    valid.then(|| (days_from_civil(year, month, day), text))
}

/// How many digits the year of a 64-bit number of seconds has at most.
const YEAR_DIGITS_MAX: usize = 12;

/// Reads a year beyond four digits or before year 0, as [`write_date`] writes it: each year in one spelling only.
#[cold]
fn signed_year(text: &[u8]) -> Option<(i64, &[u8])> {
    let (sign, text) = text.split_first()?;
    let width = text.iter().take(YEAR_DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if width > YEAR_DIGITS_MAX || (width > 4 && text[0] == b'0') {
        return None;
    }
    let (magnitude, rest) = digits(text, width)?;
    match sign {
        b'+' if width > 4 => Some((magnitude, rest)),
        b'-' if width >= 4 && magnitude > 0 => Some((-magnitude, rest)),
        _ => None,
    }
}

/// Reads `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fffffffff`; nanoseconds since midnight.
pub(crate) fn parse_time(text: &[u8]) -> Option<i64> {
    let time = time(text)?;
    time.rest.is_empty().then_some(time.seconds * 1_000_000_000 + time.nanoseconds as i64)
}

struct Time<'a> {
    seconds: i64,
    nanoseconds: u32,
    fraction_digits: u32,
    rest: &'a [u8],
}

fn time(text: &[u8]) -> Option<Time<'_>> {
    let (hour, text) = digits(text, 2)?;
    let (minute, text) = digits(character(text, b":")?, 2)?;
    if hour > 23 || minute > 59 {
        return None;
    }
    let minutes = hour * 60 + minute;
    let Some(text) = character(text, b":") else {
        return Some(Time { seconds: minutes * 60, nanoseconds: 0, fraction_digits: 0, rest: text });
    };
    let (second, text) = digits(text, 2)?;
    if second > 59 {
        return None;
    }
    let seconds = minutes * 60 + second;
    let Some(text) = character(text, b".,") else {
        return Some(Time { seconds, nanoseconds: 0, fraction_digits: 0, rest: text });
    };
    let width = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if width == 0 || width > 9 {
        return None;
    }
    let (fraction, rest) = digits(text, width)?;
    let nanoseconds = fraction as u32 * 10u32.pow(9 - width as u32);
    Some(Time { seconds, nanoseconds, fraction_digits: width as u32, rest })
}

/// Reads `YYYY-MM-DD`, alone or followed by T or a blank and a time, and that perhaps by `Z` or `±HH:MM`. Years beyond
/// four digits or before year 0 have a sign.
///
/// Without an offset the text is taken as UTC. Leap seconds (`:60`) are refused: no type of ours can hold them.
pub(crate) fn parse_moment(text: &[u8]) -> Option<Moment> {
    let (days, rest) = date(text)?;
    if rest.is_empty() {
        let seconds = days.checked_mul(DAY_SECONDS)?;
        return Some(Moment { seconds, nanoseconds: 0, fraction_digits: 0, has_time: false });
    }
    let time = time(character(rest, b"T t")?)?;
    let offset_seconds = offset(time.rest)?;
    // In 128 bits: a day may begin before the least moment that is in it.
    let seconds = days as i128 * DAY_SECONDS as i128 + (time.seconds - offset_seconds) as i128;
    Some(Moment {
        seconds: i64::try_from(seconds).ok()?,
        nanoseconds: time.nanoseconds,
        fraction_digits: time.fraction_digits,
        has_time: true,
    })
}

fn offset(text: &[u8]) -> Option<i64> {
    let sign = match text.first() {
        None => return Some(0),
        Some(b'Z' | b'z') => return (text.len() == 1).then_some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    let (hours, text) = digits(&text[1..], 2)?;
    let (minutes, text) = match text {
        [] => (0, text),
        [b':', rest @ ..] => digits(rest, 2)?,
        rest => digits(rest, 2)?,
    };
    (text.is_empty() && hours <= 18 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Writes `YYYY-MM-DD`. Years beyond four digits get a sign, as ISO 8601 has it.
pub(crate) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if (0..=9999).contains(&year) {
        write_digits(year as u64, 4, out);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        let magnitude = year.unsigned_abs();
        write_digits(magnitude, (magnitude.max(1).ilog10() as usize + 1).max(4), out);
    }
    out.push(b'-');
    write_digits(month as u64, 2, out);
    out.push(b'-');
    write_digits(day as u64, 2, out);
}

/// Writes `HH:MM:SS.fff`: with three digits of the fraction, or six or nine if fewer would lose something.
pub(crate) fn write_time(second_of_day: i64, nanoseconds: u32, out: &mut Vec<u8>) {
    write_digits((second_of_day / 3600) as u64, 2, out);
    out.push(b':');
    write_digits((second_of_day / 60 % 60) as u64, 2, out);
    out.push(b':');
    write_digits((second_of_day % 60) as u64, 2, out);
    out.push(b'.');
    if nanoseconds.is_multiple_of(1_000_000) {
        write_digits((nanoseconds / 1_000_000) as u64, 3, out);
    } else if nanoseconds.is_multiple_of(1_000) {
        write_digits((nanoseconds / 1_000) as u64, 6, out);
    } else {
        write_digits(nanoseconds as u64, 9, out);
    }
}

/// Writes `YYYY-MM-DDTHH:MM:SS.fff` of seconds since 1970 and nanoseconds after that.
pub(crate) fn write_moment(seconds: i64, nanoseconds: u32, out: &mut Vec<u8>) {
    write_date(seconds.div_euclid(DAY_SECONDS), out);
    out.push(b'T');
    write_time(seconds.rem_euclid(DAY_SECONDS), nanoseconds, out);
}

fn write_digits(value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut value = value;
    for place in (start..start + width).rev() {
        out[place] = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(seconds: i64, nanoseconds: u32) -> String {
        let mut out = Vec::new();
        write_moment(seconds, nanoseconds, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn moments_are_read_in_every_spelling() {
        let cases = [
            ("1970-01-01T00:00:00", 0, 0),
            ("2026-01-01 00:00:10", 1_767_225_610, 0),
            ("2026-01-01T00:00:10.5Z", 1_767_225_610, 500_000_000),
            ("2026-01-01T02:00:10.123456789+02:00", 1_767_225_610, 123_456_789),
            ("2025-12-31T18:30:10-0530", 1_767_225_610, 0),
            ("2026-01-01", 1_767_225_600, 0),
            ("2026-01-01T00:00", 1_767_225_600, 0),
            ("1969-12-31T23:59:59.999", -1, 999_000_000),
            ("2000-02-29T00:00:00", 951_782_400, 0),
            ("0000-01-01T00:00:00", -62_167_219_200, 0),
            ("-0001-12-31T23:59:59", -62_167_219_201, 0),
            ("-10000-01-01", -377_736_739_200, 0),
            ("+10000-01-01 00:00Z", 253_402_300_800, 0),
            ("+55840-11-08T22:13:20.000", 1_700_000_000_000, 0),
            ("+292277026596-12-04T15:30:07.999", i64::MAX, 999_000_000),
            ("-292277022657-01-27T08:29:52", i64::MIN, 0),
        ];
        for (text, seconds, nanoseconds) in cases {
            let moment = parse_moment(text.as_bytes()).expect(text);
            assert_eq!((moment.seconds, moment.nanoseconds), (seconds, nanoseconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2026",
            "2026-13-01T00:00:00",
            "2026-02-29",
            "2026-01-00",
            "2026-01-01T24:00:00",
            "2026-01-01T00:60:00",
            "2026-01-01T00:00:60",
            "2026-01-01T00:00:00.",
            "2026-01-01T00:00:00.1234567890",
            "2026-01-01T00:00:00 Z",
            "2026-01-01T00:00:00+19:00",
            "2026-01-01T00:00:00Zx",
            "2026-1-1",
            "20260101T000000",
            "+2026-01-01",
            "-2026",
            "+",
            "-",
            "-0000-01-01",
            "-00001-01-01",
            "-001-01-01",
            "+02026-01-01",
            "+010000-01-01",
            "10000-01-01",
            "++10000-01-01",
            "+1000a-01-01",
            "+10001-02-29",
            "+10000-13-01T00:00:00",
            "+292277026596-12-04T15:30:08",
            "-292277022657-01-27T08:29:51",
            "+999999999999-01-01",
            "+1000000000000-01-01",
            "+99999999999999999999-01-01",
        ] {
            assert_eq!(parse_moment(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn fractions_lose_nothing() {
        assert_eq!(written(0, 0), "1970-01-01T00:00:00.000");
        assert_eq!(written(0, 40_000_000), "1970-01-01T00:00:00.040");
        assert_eq!(written(0, 1_000), "1970-01-01T00:00:00.000001");
        assert_eq!(written(-1, 999_999_999), "1969-12-31T23:59:59.999999999");
        assert_eq!(written(253_402_300_800, 0), "+10000-01-01T00:00:00.000");
        assert_eq!(written(-62_167_219_201, 0), "-0001-12-31T23:59:59.000");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            seconds in prop_oneof![-62_167_219_200i64..253_402_300_800, any::<i64>()],
            nanoseconds in 0u32..1_000_000_000,
        ) {
            let moment = parse_moment(written(seconds, nanoseconds).as_bytes()).unwrap();
            prop_assert_eq!((moment.seconds, moment.nanoseconds), (seconds, nanoseconds));
        }

        #[test]
        fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..40), seconds in any::<i64>()) {
            let _ = (parse_moment(&bytes), parse_time(&bytes), parse_date(&bytes));
            let _ = written(seconds, 0);
        }
    }
}
