//! What one configuration is.

use std::fmt;

/// The type of a configuration's values; the numbers are those of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigKind {
    /// `true` or `false`, in any case.
    Boolean = 1,
    /// Text.
    String = 2,
    /// A 32-bit integer.
    Int = 3,
    /// A 16-bit integer.
    Short = 4,
    /// A 64-bit integer.
    Long = 5,
    /// A floating point number.
    Double = 6,
    /// Values separated by commas.
    List = 7,
}

/// Which values of its kind a configuration may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Valid {
    /// All of them.
    Any,
    /// Integers from this one up.
    AtLeast(i64),
    /// Integers from the first to the last, both allowed.
    Between(i64, i64),
    /// Floating point numbers from the first to the last, both allowed.
    BetweenDouble(f64, f64),
    /// One of these words; of a list, any number of them, each once.
    OneOf(&'static [&'static str]),
}

impl fmt::Display for Valid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Valid::Any => f.write_str("any"),
            Valid::AtLeast(least) => write!(f, "at least {least}"),
            Valid::Between(least, most) => write!(f, "{least} to {most}"),
            Valid::BetweenDouble(least, most) => write!(f, "{least:?} to {most:?}"),
            Valid::OneOf(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

/// Whether this node does what a configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honoured {
    /// Any valid value has its effect.
    Yes,
    /// Only the default; anything else is refused, for the reason given.
    DefaultOnly(&'static str),
}

/// Where a configuration's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From `--set`, the configuration file or a default.
    Setting,
    /// From the running node, which tells it to DescribeConfigs; the text says how a user changes it.
    Runtime(&'static str),
}

/// One configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfigDefinition {
    /// Kafka's name, or one that begins with `millpond.`.
    pub name: &'static str,
    /// The type of its values.
    pub kind: ConfigKind,
    /// What it is when nobody sets it; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Which values it may have.
    pub valid: Valid,
    /// What it does, for users.
    pub documentation: &'static str,
    /// Whether it does it.
    pub honoured: Honoured,
    /// Of a broker's: whether it can be changed while running.
    pub dynamic: bool,
    /// Of a broker's: who says what its value is.
    pub origin: Origin,
}

impl ConfigDefinition {
    /// Checks a value that somebody wants to set and answers how it is written down (trimmed), or why it cannot be.
    pub fn check(&self, value: &str) -> Result<String, String> {
        let value = value.trim();
        self.check_kind(value)?;
        let refusal = match self.honoured {
            Honoured::Yes => return Ok(value.to_owned()),
            _ if self.default.is_some_and(|default| self.same(value, default)) => return Ok(value.to_owned()),
            Honoured::DefaultOnly(reason) => reason,
        };
        let default = self.default.unwrap_or("null");
        Err(format!("'{value}' is refused because {refusal}; only the default '{default}' can be honoured"))
    }

    /// Whether `value` is of this configuration's kind and valid, whatever this node makes of it.
    fn check_kind(&self, value: &str) -> Result<(), String> {
        let wrong = |expected: &str| Err(format!("'{value}' is not {expected}"));
        let integer = match self.kind {
            ConfigKind::Boolean if parse_boolean(value).is_none() => return wrong("'true' or 'false'"),
            ConfigKind::Boolean | ConfigKind::String => None,
            ConfigKind::Short => match parse_integer(value).and_then(|found| i16::try_from(found).ok()) {
                Some(found) => Some(i64::from(found)),
                None => return wrong("a 16-bit integer"),
            },
            ConfigKind::Int => match parse_integer(value).and_then(|found| i32::try_from(found).ok()) {
                Some(found) => Some(i64::from(found)),
                None => return wrong("a 32-bit integer"),
            },
            ConfigKind::Long => match parse_integer(value) {
                Some(found) => Some(found),
                None => return wrong("a 64-bit integer"),
            },
            ConfigKind::Double => {
                let Some(found) = parse_double(value) else { return wrong("a number") };
                return match self.valid {
                    Valid::BetweenDouble(least, most) if !(least..=most).contains(&found) => self.out_of_bounds(value),
                    _ => Ok(()),
                };
            }
            ConfigKind::List => return self.check_list(value),
        };
        let fits = match (self.valid, integer) {
            (Valid::AtLeast(least), Some(found)) => found >= least,
            (Valid::Between(least, most), Some(found)) => (least..=most).contains(&found),
            (Valid::OneOf(words), None) => words.contains(&value),
            _ => true,
        };
        if fits { Ok(()) } else { self.out_of_bounds(value) }
    }

    fn check_list(&self, value: &str) -> Result<(), String> {
        let items = list_items(value);
        for (place, item) in items.iter().enumerate() {
            if item.is_empty() {
                return Err(format!("'{value}' has an empty item"));
            }
            if items.iter().take(place).any(|earlier| earlier == item) {
                return Err(format!("'{value}' names '{item}' twice"));
            }
            if let Valid::OneOf(words) = self.valid
                && !words.contains(item)
            {
                return self.out_of_bounds(item);
            }
        }
        Ok(())
    }

    fn out_of_bounds(&self, value: &str) -> Result<(), String> {
        Err(format!("'{value}' is out of bounds; valid: {}", self.valid))
    }

    /// Whether two valid values mean the same: `0.50` is `0.5`, `TRUE` is `true`.
    fn same(&self, one: &str, other: &str) -> bool {
        match self.kind {
            ConfigKind::Boolean => parse_boolean(one) == parse_boolean(other),
            ConfigKind::Short | ConfigKind::Int | ConfigKind::Long => parse_integer(one) == parse_integer(other),
            ConfigKind::Double => parse_double(one) == parse_double(other),
            ConfigKind::List => list_items(one) == list_items(other),
            ConfigKind::String => one == other,
        }
    }
}

/// The items of a list's value, as Kafka splits them: at commas, with the space around them; nothing is no item.
pub(crate) fn list_items(value: &str) -> Vec<&str> {
    if value.trim().is_empty() { Vec::new() } else { value.split(',').map(str::trim).collect() }
}

/// `true` or `false` in any case, as Kafka parses it.
pub(crate) fn parse_boolean(value: &str) -> Option<bool> {
    let value = value.trim();
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// A 64-bit integer as Java's `Long.parseLong` reads it: an optional sign, then digits.
pub(crate) fn parse_integer(value: &str) -> Option<i64> {
    value.trim().parse().ok()
}

/// A number as Java's `Double.parseDouble` reads it, hexadecimal notation apart: an optional suffix `d` or `f`,
/// `NaN` and `Infinity` spelled so.
pub(crate) fn parse_double(value: &str) -> Option<f64> {
    let value = value.trim();
    let digits = value.strip_prefix(['+', '-']).unwrap_or(value);
    if digits == "NaN" {
        return Some(f64::NAN);
    }
    if digits == "Infinity" {
        return Some(if value.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let number = value.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(value);
    // Rust's own spellings `inf`, `infinity` and `nan` in any case are not Java's.
    let written = number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if written { number.parse().ok() } else { None }
}

/// The name that was probably meant by `name`, which is none of `names`.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase().replace('_', ".");
    names
        .map(|candidate| (strsim::jaro_winkler(&wanted, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: ConfigDefinition = ConfigDefinition {
        name: "n",
        kind: ConfigKind::Long,
        default: Some("5"),
        valid: Valid::Any,
        documentation: "",
        honoured: Honoured::Yes,
        dynamic: false,
        origin: Origin::Setting,
    };

    fn accepts(definition: ConfigDefinition, values: &[&str]) {
        for value in values {
            assert_eq!(definition.check(value), Ok(value.trim().to_owned()), "{value}");
        }
    }

    fn refuses(definition: ConfigDefinition, values: &[&str]) {
        for value in values {
            assert!(definition.check(value).is_err(), "{value}");
        }
    }

    #[test]
    fn integers_are_read_as_java_reads_them() {
        accepts(BASE, &["0", "-1", "+7", " 12 ", "9223372036854775807"]);
        refuses(BASE, &["", "1.0", "1L", "0x10", "1_000", "9223372036854775808", "1 2"]);
        let int = ConfigDefinition { kind: ConfigKind::Int, ..BASE };
        accepts(int, &["2147483647", "-2147483648"]);
        refuses(int, &["2147483648"]);
    }

    #[test]
    fn doubles_are_read_as_java_reads_them() {
        let double = ConfigDefinition { kind: ConfigKind::Double, valid: Valid::BetweenDouble(0.0, 1.0), ..BASE };
        accepts(double, &["0", "1", ".5", "5e-1", "0.5d", "1.", "1F"]);
        refuses(double, &["", "x", "inf", "nan", "NaN", "Infinity", "1.1", "-0.1", "0,5", "1e", "."]);
    }

    #[test]
    fn booleans_are_read_in_any_case() {
        let boolean = ConfigDefinition { kind: ConfigKind::Boolean, ..BASE };
        accepts(boolean, &["true", "FALSE", " True "]);
        refuses(boolean, &["1", "yes", ""]);
    }

    #[test]
    fn lists_hold_known_words_each_once() {
        let list = ConfigDefinition { kind: ConfigKind::List, valid: Valid::OneOf(&["compact", "delete"]), ..BASE };
        accepts(list, &["", "compact", "compact,delete", "delete , compact"]);
        refuses(list, &["gone", "delete,", "delete,delete", "Delete"]);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_value_and_reason() {
        let fixed = ConfigDefinition { honoured: Honoured::DefaultOnly("it is not built yet"), ..BASE };
        accepts(fixed, &["5", "+5", "05"]);
        let reason = fixed.check("6").unwrap_err();
        assert!(reason.contains("'6'") && reason.contains("not built yet") && reason.contains("'5'"), "{reason}");
    }

    #[test]
    fn the_nearest_name_is_the_one_meant() {
        let names = || ["retention.ms", "retention.bytes", "segment.ms"].into_iter();
        assert_eq!(nearest("retention_ms", names()), Some("retention.ms"));
        assert_eq!(nearest("retenton.byte", names()), Some("retention.bytes"));
        assert_eq!(nearest("zzz", names()), None);
    }
}
