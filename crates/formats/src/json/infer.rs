//! Which columns do records have that nobody declared?

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, TimeUnit};

use super::cursor::{Cursor, Kind, Malformed};
use crate::calendar::parse_moment;
use crate::column::Column;

/// Records that are looked at; what comes later does not change the columns any more.
pub const INFERENCE_RECORDS_MAX: usize = 1_000;

/// Columns of a record, and fields of a nested object. Columns beyond it are left out; an object with more becomes
/// VARCHAR: it is a map, not a structure.
pub const INFERENCE_FIELDS_MAX: usize = 512;

/// Levels of nesting that become STRUCT and ARRAY; what lies deeper becomes VARCHAR.
pub const INFERENCE_DEPTH_MAX: usize = 8;

/// Looks at records and says which columns hold them.
///
/// The answer depends only on the records and their order. Columns stand in the order in which their fields were first seen.
///
/// | seen | column |
/// |---|---|
/// | integers in BIGINT's range | BIGINT |
/// | numbers, some with a fraction or an exponent | DOUBLE |
/// | `true`, `false` | BOOLEAN |
/// | strings, all of them ISO 8601 date-times | TIMESTAMP(3), or (6) or (9) when longer fractions were seen |
/// | other strings | VARCHAR |
/// | objects | STRUCT of their fields |
/// | arrays | ARRAY of what fits all items |
/// | integers beyond BIGINT, or values that agree in nothing | VARCHAR, which takes any value as its JSON text |
/// | only `null`, `[]` or `{}` | VARCHAR; ARRAY of VARCHAR; VARCHAR |
///
/// `null` agrees with everything.
#[derive(Debug, Default)]
pub struct Inference {
    fields: ObjectShape,
    records: usize,
}

/// What was seen of a value so far.
#[derive(Debug, Clone, Default)]
enum Shape {
    #[default]
    Null,
    Boolean,
    Integer,
    Float,
    Timestamp {
        fraction_digits: u32,
    },
    Text,
    Object(ObjectShape),
    Array(Box<Shape>),
    /// Nothing narrower fits.
    Any,
}

#[derive(Debug, Clone, Default)]
struct ObjectShape {
    names: HashMap<Vec<u8>, usize>,
    fields: Vec<(String, Shape)>,
    too_many: bool,
}

impl Inference {
    /// With nothing seen yet.
    pub fn new() -> Inference {
        Inference::default()
    }

    /// Looks at one record's value. Records that are not JSON objects tell nothing, they are passed over.
    pub fn observe(&mut self, value: &[u8]) {
        if self.is_full() {
            return;
        }
        self.records += 1;
        let Ok(mut cursor) = Cursor::new(value) else { return };
        if !matches!(cursor.kind(), Ok(Kind::Object)) {
            return;
        }
        // A record that turns out bad in the middle must leave no trace: look at it alone first.
        let mut seen = ObjectShape::default();
        if seen.observe(&mut cursor, 0).and_then(|()| cursor.end()).is_ok() {
            self.fields.merge(seen);
        }
    }

    /// Whether more records would change nothing, since [`INFERENCE_RECORDS_MAX`] were seen.
    pub fn is_full(&self) -> bool {
        self.records >= INFERENCE_RECORDS_MAX
    }

    /// The columns that hold what was seen. None when no record was an object with fields.
    pub fn columns(&self) -> Vec<Column> {
        self.fields.fields.iter().map(|(name, shape)| Column::new(name.clone(), shape.data_type())).collect()
    }
}

impl ObjectShape {
    fn observe(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Malformed> {
        let mut name_text = Vec::new();
        cursor.object(|cursor, _, name| {
            name_text.clear();
            name.unescape_into(&mut name_text);
            let shape = Shape::observe(cursor, depth + 1)?;
            // A field that stands twice in one object: as in decoding, the last one counts.
            if let Some(place) = self.place(&name_text) {
                self.fields[place].1 = shape;
            }
            Ok(())
        })
    }

    fn merge(&mut self, other: ObjectShape) {
        self.too_many |= other.too_many;
        for (name, shape) in other.fields {
            if let Some(place) = self.place(name.as_bytes()) {
                self.fields[place].1.merge(shape);
            }
        }
    }

    /// Where a field stands, made if there is room.
    fn place(&mut self, name: &[u8]) -> Option<usize> {
        if let Some(place) = self.names.get(name) {
            return Some(*place);
        }
        let place = self.fields.len();
        if place == INFERENCE_FIELDS_MAX {
            self.too_many = true;
            return None;
        }
        self.names.insert(name.to_vec(), place);
        self.fields.push((String::from_utf8_lossy(name).into_owned(), Shape::Null));
        Some(place)
    }
}

impl Shape {
    fn observe(cursor: &mut Cursor<'_>, depth: usize) -> Result<Shape, Malformed> {
        Ok(match cursor.kind()? {
            Kind::Null => {
                cursor.null()?;
                Shape::Null
            }
            Kind::Boolean => {
                cursor.boolean()?;
                Shape::Boolean
            }
            Kind::Number => {
                let number = cursor.number()?;
                match number.to_i64() {
                    _ if !number.integral => Shape::Float,
                    Ok(_) => Shape::Integer,
                    Err(_) => Shape::Any,
                }
            }
            Kind::String => {
                let string = cursor.string()?;
                match parse_moment(string.raw) {
                    Some(moment) if moment.has_time && !string.escaped => {
                        Shape::Timestamp { fraction_digits: moment.fraction_digits }
                    }
                    _ => Shape::Text,
                }
            }
            Kind::Array | Kind::Object if depth > INFERENCE_DEPTH_MAX => {
                cursor.skip()?;
                Shape::Any
            }
            Kind::Array => {
                let mut items = Shape::Null;
                cursor.array(|cursor, _| {
                    items.merge(Shape::observe(cursor, depth + 1)?);
                    Ok::<(), Malformed>(())
                })?;
                Shape::Array(Box::new(items))
            }
            Kind::Object => {
                let mut object = ObjectShape::default();
                object.observe(cursor, depth)?;
                Shape::Object(object)
            }
        })
    }

    /// Widens to what fits both.
    fn merge(&mut self, other: Shape) {
        let this = std::mem::take(self);
        *self = match (this, other) {
            (Shape::Null, shape) | (shape, Shape::Null) => shape,
            (Shape::Boolean, Shape::Boolean) => Shape::Boolean,
            (Shape::Integer, Shape::Integer) => Shape::Integer,
            (Shape::Integer | Shape::Float, Shape::Integer | Shape::Float) => Shape::Float,
            (Shape::Timestamp { fraction_digits: one }, Shape::Timestamp { fraction_digits: other }) => {
                Shape::Timestamp { fraction_digits: one.max(other) }
            }
            (Shape::Text | Shape::Timestamp { .. }, Shape::Text | Shape::Timestamp { .. }) => Shape::Text,
            (Shape::Object(mut one), Shape::Object(other)) => {
                one.merge(other);
                Shape::Object(one)
            }
            (Shape::Array(mut one), Shape::Array(other)) => {
                one.merge(*other);
                Shape::Array(one)
            }
            _ => Shape::Any,
        };
    }

    fn data_type(&self) -> DataType {
        match self {
            Shape::Boolean => DataType::Boolean,
            Shape::Integer => DataType::Int64,
            Shape::Float => DataType::Float64,
            Shape::Timestamp { fraction_digits } => {
                let unit = match fraction_digits {
                    0..=3 => TimeUnit::Millisecond,
                    4..=6 => TimeUnit::Microsecond,
                    _ => TimeUnit::Nanosecond,
                };
                DataType::Timestamp(unit, None)
            }
            Shape::Object(object) if !object.too_many && !object.fields.is_empty() => DataType::Struct(
                object.fields.iter().map(|(name, shape)| Field::new(name, shape.data_type(), true)).collect(),
            ),
            Shape::Array(items) => DataType::List(Field::new("item", items.data_type(), true).into()),
            Shape::Null | Shape::Text | Shape::Any | Shape::Object(_) => DataType::Utf8View,
        }
    }
}
