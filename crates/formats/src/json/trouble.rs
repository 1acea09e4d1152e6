//! Why a record could not be read, on its way up from the value to the column.

use super::cursor::{Cursor, Malformed};
use crate::column::sql_type_name;
use arrow::datatypes::DataType;

/// Characters of a value that a message shows.
const SHOWN_CHARS_MAX: usize = 60;

/// Why a value could not be read.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The record is not JSON.
    Malformed(Malformed),
    /// The value is not of the column's type.
    Value(Box<ValueTrouble>),
}

/// Which value, and why.
#[derive(Debug)]
pub(crate) struct ValueTrouble {
    /// From the column down: `order.lines[2].price`.
    pub(crate) path: String,
    /// What was expected, and what was found.
    pub(crate) reason: String,
}

impl From<Malformed> for Trouble {
    fn from(malformed: Malformed) -> Trouble {
        Trouble::Malformed(malformed)
    }
}

impl Trouble {
    /// With a reason, at the place where the value stands.
    #[cold]
    pub(crate) fn value(reason: String) -> Trouble {
        Trouble::Value(Box::new(ValueTrouble { path: String::new(), reason }))
    }

    /// A value that the type does not take.
    #[cold]
    pub(crate) fn expected(data_type: &DataType, found: &[u8]) -> Trouble {
        Trouble::value(format!("expected {}, found {}", sql_type_name(data_type), shown(found)))
    }

    /// The same, with the value still before the cursor.
    #[cold]
    pub(crate) fn expected_at(data_type: &DataType, cursor: &mut Cursor<'_>) -> Trouble {
        match cursor.text() {
            Ok(found) => Trouble::expected(data_type, found),
            Err(malformed) => malformed.into(),
        }
    }

    /// Seen from the object or array around: `step` is a field's name, or `[index]`.
    #[cold]
    pub(crate) fn within(mut self, step: &str) -> Trouble {
        if let Trouble::Value(trouble) = &mut self {
            let separator = if trouble.path.is_empty() || trouble.path.starts_with('[') { "" } else { "." };
            trouble.path = format!("{step}{separator}{}", trouble.path);
        }
        self
    }
}

/// A piece of a record for a message: one line, shortened.
pub(crate) fn shown(found: &[u8]) -> String {
    let text = String::from_utf8_lossy(found);
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    shown.retain(|character| !character.is_control());
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
