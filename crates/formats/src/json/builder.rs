//! A column as it grows: takes values from a cursor, takes them back when the rest of a record turns out bad.

use std::sync::Arc;

use arrow::array::builder::BooleanBufferBuilder;
use arrow::array::{
    ArrayData, ArrayRef, BooleanArray, ListArray, MapArray, NullBufferBuilder, StructArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, FieldRef, TimeUnit, i256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::bytes::{BytesBuilder, take_offsets, take_vec};
use super::cursor::{Cursor, JSON_DEPTH_MAX, Kind, Number};
use super::number::Misfit;
use super::object::ObjectBuilder;
use super::trouble::Trouble;
use crate::calendar::{Moment, parse_date, parse_moment, parse_time};
use crate::column::{UnsupportedColumn, sql_type_name};

const DAY_MS: i64 = 86_400_000;

/// A growing column.
///
/// After an error it may hold part of a value: the caller takes it back with [`ColumnBuilder::truncate`].
#[derive(Debug)]
pub(crate) struct ColumnBuilder {
    data_type: DataType,
    nullable: bool,
    validity: NullBufferBuilder,
    values: Values,
    /// Unescaped text, reused.
    scratch: Vec<u8>,
}

#[derive(Debug)]
enum Values {
    Boolean(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal32(Vec<i32>, u8, i8),
    Decimal64(Vec<i64>, u8, i8),
    Decimal128(Vec<i128>, u8, i8),
    Decimal256(Vec<i256>, u8, i8),
    Timestamp(Vec<i64>, TimeUnit),
    Date32(Vec<i32>),
    Date64(Vec<i64>),
    Time32(Vec<i32>, TimeUnit),
    Time64(Vec<i64>, TimeUnit),
    Text(BytesBuilder),
    Binary(BytesBuilder),
    Struct(ObjectBuilder),
    List { offsets: Vec<i32>, item: Box<ColumnBuilder>, field: FieldRef },
    Map { offsets: Vec<i32>, keys: BytesBuilder, values: Box<ColumnBuilder>, entries: FieldRef, sorted: bool },
}

impl ColumnBuilder {
    /// For a column of this type, `depth` levels below the record.
    pub(crate) fn new(
        name: &str,
        data_type: &DataType,
        nullable: bool,
        depth: usize,
    ) -> Result<ColumnBuilder, UnsupportedColumn> {
        if depth >= JSON_DEPTH_MAX {
            return Err(UnsupportedColumn::TooDeep { column: name.to_owned(), depth_max: JSON_DEPTH_MAX });
        }
        let unsupported =
            || UnsupportedColumn::Type { column: name.to_owned(), type_name: sql_type_name(data_type), format: "JSON" };
        let values = match data_type {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::UInt8 => Values::UInt8(Vec::new()),
            DataType::UInt16 => Values::UInt16(Vec::new()),
            DataType::UInt32 => Values::UInt32(Vec::new()),
            DataType::UInt64 => Values::UInt64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal32(precision, scale) => Values::Decimal32(Vec::new(), *precision, *scale),
            DataType::Decimal64(precision, scale) => Values::Decimal64(Vec::new(), *precision, *scale),
            DataType::Decimal128(precision, scale) => Values::Decimal128(Vec::new(), *precision, *scale),
            DataType::Decimal256(precision, scale) => Values::Decimal256(Vec::new(), *precision, *scale),
            DataType::Timestamp(unit, _) => Values::Timestamp(Vec::new(), *unit),
            DataType::Date32 => Values::Date32(Vec::new()),
            DataType::Date64 => Values::Date64(Vec::new()),
            DataType::Time32(unit) => Values::Time32(Vec::new(), *unit),
            DataType::Time64(unit) => Values::Time64(Vec::new(), *unit),
            DataType::Utf8 => Values::Text(BytesBuilder::with_offsets()),
            DataType::Utf8View => Values::Text(BytesBuilder::with_views()),
            DataType::Binary => Values::Binary(BytesBuilder::with_offsets()),
            DataType::BinaryView => Values::Binary(BytesBuilder::with_views()),
            DataType::Struct(fields) => Values::Struct(ObjectBuilder::new(fields, depth + 1)?),
            DataType::List(field) => Values::List {
                offsets: vec![0],
                item: Box::new(ColumnBuilder::new(name, field.data_type(), field.is_nullable(), depth + 1)?),
                field: field.clone(),
            },
            DataType::Map(entries, sorted) => {
                let DataType::Struct(fields) = entries.data_type() else { return Err(unsupported()) };
                let [key, value] = &fields[..] else { return Err(unsupported()) };
                let keys = match key.data_type() {
                    DataType::Utf8 => BytesBuilder::with_offsets(),
                    DataType::Utf8View => BytesBuilder::with_views(),
                    _ => return Err(unsupported()),
                };
                Values::Map {
                    offsets: vec![0],
                    keys,
                    values: Box::new(ColumnBuilder::new(name, value.data_type(), value.is_nullable(), depth + 1)?),
                    entries: entries.clone(),
                    sorted: *sorted,
                }
            }
            _ => return Err(unsupported()),
        };
        Ok(ColumnBuilder {
            data_type: data_type.clone(),
            nullable,
            validity: NullBufferBuilder::new(0),
            values,
            scratch: Vec::new(),
        })
    }

    /// How many values it holds, part of one not counted.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.validity.len()
    }

    /// Appends the value before the cursor.
    #[inline]
    pub(crate) fn push(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Trouble> {
        let kind = cursor.kind()?;
        match (&mut self.values, kind) {
            (_, Kind::Null) => {
                cursor.null()?;
                return self.push_missing();
            }
            (Values::Int64(values), Kind::Number) => {
                let number = cursor.number()?;
                values.push(number.to_i64().map_err(|misfit| misfits(&self.data_type, number, misfit))?);
            }
            (Values::Float64(values), Kind::Number) => {
                let number = cursor.number()?;
                values.push(number.to_f64().map_err(|misfit| misfits(&self.data_type, number, misfit))?);
            }
            (Values::Text(values), Kind::String) => {
                let string = cursor.string()?;
                if string.escaped {
                    self.scratch.clear();
                    string.unescape_into(&mut self.scratch);
                    values.push(&self.scratch)?;
                } else {
                    values.push(string.raw)?;
                }
            }
            (Values::Text(values), _) => values.push(cursor.text()?)?,
            (Values::Boolean(values), Kind::Boolean) => values.append(cursor.boolean()?),
            (Values::Timestamp(..), Kind::Number | Kind::String) => self.push_timestamp(cursor, kind)?,
            (Values::Struct(object), Kind::Object) => object.push(cursor, self.validity.len())?,
            (Values::List { offsets, item, .. }, Kind::Array) => {
                cursor.array(|cursor, place| {
                    item.push(cursor).map_err(|trouble| trouble.within(&format!("[{place}]")))
                })?;
                offsets.push(offset(item.len())?);
            }
            (Values::Map { .. }, Kind::Object) => self.push_map(cursor)?,
            (_, Kind::Number) => self.push_number(cursor)?,
            (_, Kind::String) => self.push_string(cursor)?,
            _ => return Err(Trouble::expected_at(&self.data_type, cursor)),
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// Numbers of the rarer types.
    fn push_number(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Trouble> {
        fn narrow<T: TryFrom<i64>>(number: Number<'_>) -> Result<T, Misfit> {
            T::try_from(number.to_i64()?).map_err(|_| Misfit::Range)
        }
        fn narrow_unsigned<T: TryFrom<u64>>(number: Number<'_>) -> Result<T, Misfit> {
            T::try_from(number.to_u64()?).map_err(|_| Misfit::Range)
        }
        fn decimal<T>(value: i256, narrow: impl Fn(i128) -> Option<T>) -> Result<T, Misfit> {
            value.to_i128().and_then(narrow).ok_or(Misfit::Range)
        }
        if !matches!(
            self.values,
            Values::Int8(_)
                | Values::Int16(_)
                | Values::Int32(_)
                | Values::UInt8(_)
                | Values::UInt16(_)
                | Values::UInt32(_)
                | Values::UInt64(_)
                | Values::Float32(_)
                | Values::Decimal32(..)
                | Values::Decimal64(..)
                | Values::Decimal128(..)
                | Values::Decimal256(..)
        ) {
            return Err(Trouble::expected_at(&self.data_type, cursor));
        }
        let number = cursor.number()?;
        let pushed = match &mut self.values {
            Values::Int8(values) => narrow(number).map(|value| values.push(value)),
            Values::Int16(values) => narrow(number).map(|value| values.push(value)),
            Values::Int32(values) => narrow(number).map(|value| values.push(value)),
            Values::UInt8(values) => narrow_unsigned(number).map(|value| values.push(value)),
            Values::UInt16(values) => narrow_unsigned(number).map(|value| values.push(value)),
            Values::UInt32(values) => narrow_unsigned(number).map(|value| values.push(value)),
            Values::UInt64(values) => number.to_u64().map(|value| values.push(value)),
            Values::Float32(values) => number.to_f32().map(|value| values.push(value)),
            Values::Decimal32(values, precision, scale) => number
                .to_decimal(*precision, *scale)
                .and_then(|value| decimal(value, |value| i32::try_from(value).ok()))
                .map(|value| values.push(value)),
            Values::Decimal64(values, precision, scale) => number
                .to_decimal(*precision, *scale)
                .and_then(|value| decimal(value, |value| i64::try_from(value).ok()))
                .map(|value| values.push(value)),
            Values::Decimal128(values, precision, scale) => number
                .to_decimal(*precision, *scale)
                .and_then(|value| decimal(value, Some))
                .map(|value| values.push(value)),
            Values::Decimal256(values, precision, scale) => {
                number.to_decimal(*precision, *scale).map(|value| values.push(value))
            }
            _ => unreachable!("the types that take numbers were told apart above"),
        };
        pushed.map_err(|misfit| misfits(&self.data_type, number, misfit))
    }

    fn push_timestamp(&mut self, cursor: &mut Cursor<'_>, kind: Kind) -> Result<(), Trouble> {
        let Values::Timestamp(values, unit) = &mut self.values else {
            unreachable!("called for timestamps only");
        };
        if kind == Kind::Number {
            let number = cursor.number()?;
            let converted = number.to_i64().and_then(|ms| milliseconds_in(ms, unit).ok_or(Misfit::Range));
            values.push(converted.map_err(|misfit| misfits(&self.data_type, number, misfit))?);
            return Ok(());
        }
        let string = cursor.string()?;
        self.scratch.clear();
        let text = if string.escaped {
            string.unescape_into(&mut self.scratch);
            &self.scratch[..]
        } else {
            string.raw
        };
        match parse_moment(text).and_then(|moment| moment_in(moment, unit)) {
            Some(value) => values.push(value),
            None => return Err(expected_string(&self.data_type, text)),
        }
        Ok(())
    }

    /// Strings of the rarer types.
    fn push_string(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Trouble> {
        if !matches!(
            self.values,
            Values::Date32(_) | Values::Date64(_) | Values::Time32(..) | Values::Time64(..) | Values::Binary(_)
        ) {
            return Err(Trouble::expected_at(&self.data_type, cursor));
        }
        let string = cursor.string()?;
        self.scratch.clear();
        string.unescape_into(&mut self.scratch);
        let text = &self.scratch[..];
        let pushed = match &mut self.values {
            Values::Date32(values) => {
                parse_date(text).and_then(|days| i32::try_from(days).ok()).map(|days| values.push(days))
            }
            Values::Date64(values) => {
                parse_date(text).and_then(|days| days.checked_mul(DAY_MS)).map(|ms| values.push(ms))
            }
            Values::Time32(values, unit) => {
                let divisor = nanoseconds_per(unit);
                parse_time(text)
                    .and_then(|nanoseconds| i32::try_from(nanoseconds / divisor).ok())
                    .map(|time| values.push(time))
            }
            Values::Time64(values, unit) => {
                let divisor = nanoseconds_per(unit);
                parse_time(text).map(|nanoseconds| values.push(nanoseconds / divisor))
            }
            Values::Binary(values) => match STANDARD.decode(text) {
                Ok(bytes) => Some(values.push(&bytes)?),
                Err(_) => {
                    return Err(Trouble::value(format!(
                        "expected VARBINARY as base64, found {}",
                        super::trouble::shown(string.raw)
                    )));
                }
            },
            _ => unreachable!("the types that take strings were told apart above"),
        };
        pushed.ok_or_else(|| expected_string(&self.data_type, text))
    }

    fn push_map(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Trouble> {
        let Values::Map { offsets, keys, values, .. } = &mut self.values else {
            unreachable!("called for maps only");
        };
        let scratch = &mut self.scratch;
        let mut seen = std::collections::HashSet::new();
        cursor.object(|cursor, _, name| {
            scratch.clear();
            name.unescape_into(scratch);
            if !seen.insert(scratch.clone()) {
                let key = super::trouble::shown(scratch);
                return Err(Trouble::value(format!("the key \"{key}\" stands twice in a MAP")));
            }
            keys.push(scratch)?;
            values.push(cursor).map_err(|trouble| trouble.within(&String::from_utf8_lossy(scratch)))
        })?;
        offsets.push(offset(values.len())?);
        Ok(())
    }

    /// Appends NULL, where the record has `null` or nothing.
    #[inline]
    pub(crate) fn push_missing(&mut self) -> Result<(), Trouble> {
        if !self.nullable {
            return Err(Trouble::value(format!(
                "expected {} NOT NULL, found no value",
                sql_type_name(&self.data_type)
            )));
        }
        self.push_null();
        Ok(())
    }

    /// Appends NULL whatever the column allows: what lies below a NULL has no value either.
    pub(crate) fn push_null(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Decimal32(values, ..) => values.push(0),
            Values::Int64(values) | Values::Decimal64(values, ..) => values.push(0),
            Values::UInt8(values) => values.push(0),
            Values::UInt16(values) => values.push(0),
            Values::UInt32(values) => values.push(0),
            Values::UInt64(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal128(values, ..) => values.push(0),
            Values::Decimal256(values, ..) => values.push(i256::ZERO),
            Values::Timestamp(values, _) | Values::Date64(values) | Values::Time64(values, _) => values.push(0),
            Values::Date32(values) | Values::Time32(values, _) => values.push(0),
            Values::Text(values) | Values::Binary(values) => values.push_empty(),
            Values::Struct(object) => object.push_null(),
            Values::List { offsets, .. } | Values::Map { offsets, .. } => offsets.push(offsets[offsets.len() - 1]),
        }
        self.validity.append_null();
    }

    /// Keeps the first `len` values, and no part of another.
    pub(crate) fn truncate(&mut self, len: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(len),
            Values::Int8(values) => values.truncate(len),
            Values::Int16(values) => values.truncate(len),
            Values::Int32(values) | Values::Decimal32(values, ..) => values.truncate(len),
            Values::Int64(values) | Values::Decimal64(values, ..) => values.truncate(len),
            Values::UInt8(values) => values.truncate(len),
            Values::UInt16(values) => values.truncate(len),
            Values::UInt32(values) => values.truncate(len),
            Values::UInt64(values) => values.truncate(len),
            Values::Float32(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Decimal128(values, ..) => values.truncate(len),
            Values::Decimal256(values, ..) => values.truncate(len),
            Values::Timestamp(values, _) | Values::Date64(values) | Values::Time64(values, _) => values.truncate(len),
            Values::Date32(values) | Values::Time32(values, _) => values.truncate(len),
            Values::Text(values) | Values::Binary(values) => values.truncate(len),
            Values::Struct(object) => object.truncate(len),
            Values::List { offsets, item, .. } => {
                offsets.truncate(len + 1);
                item.truncate(offsets[offsets.len() - 1] as usize);
            }
            Values::Map { offsets, keys, values, .. } => {
                offsets.truncate(len + 1);
                keys.truncate(offsets[offsets.len() - 1] as usize);
                values.truncate(offsets[offsets.len() - 1] as usize);
            }
        }
        self.validity.truncate(len);
    }

    /// The values so far as an array; the builder is empty then.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        let len = self.validity.len();
        let nulls = self.validity.finish();
        let data_type = &self.data_type;
        match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int8(values) => primitive(data_type, values, nulls),
            Values::Int16(values) => primitive(data_type, values, nulls),
            Values::Int32(values) | Values::Decimal32(values, ..) => primitive(data_type, values, nulls),
            Values::Int64(values) | Values::Decimal64(values, ..) => primitive(data_type, values, nulls),
            Values::UInt8(values) => primitive(data_type, values, nulls),
            Values::UInt16(values) => primitive(data_type, values, nulls),
            Values::UInt32(values) => primitive(data_type, values, nulls),
            Values::UInt64(values) => primitive(data_type, values, nulls),
            Values::Float32(values) => primitive(data_type, values, nulls),
            Values::Float64(values) => primitive(data_type, values, nulls),
            Values::Decimal128(values, ..) => primitive(data_type, values, nulls),
            Values::Decimal256(values, ..) => primitive(data_type, values, nulls),
            Values::Timestamp(values, _) | Values::Date64(values) | Values::Time64(values, _) => {
                primitive(data_type, values, nulls)
            }
            Values::Date32(values) | Values::Time32(values, _) => primitive(data_type, values, nulls),
            Values::Text(values) => values.finish_text(nulls),
            Values::Binary(values) => values.finish_binary(nulls),
            Values::Struct(object) => Arc::new(object.finish_struct(len, nulls)),
            Values::List { offsets, item, field } => {
                Arc::new(ListArray::new(field.clone(), take_offsets(offsets), item.finish(), nulls))
            }
            Values::Map { offsets, keys, values, entries, sorted } => {
                let DataType::Struct(fields) = entries.data_type() else {
                    unreachable!("a map's entries were seen to be a struct");
                };
                let columns = vec![keys.finish_text(None), values.finish()];
                let pairs = StructArray::new(fields.clone(), columns, None);
                Arc::new(MapArray::new(entries.clone(), take_offsets(offsets), pairs, nulls, *sorted))
            }
        }
    }
}

fn primitive<T: ArrowNativeType>(data_type: &DataType, values: &mut Vec<T>, nulls: Option<NullBuffer>) -> ArrayRef {
    let len = values.len();
    let data = ArrayData::builder(data_type.clone())
        .len(len)
        .add_buffer(Buffer::from_vec(take_vec(values)))
        .nulls(nulls)
        .build()
        .expect("a builder holds values of its own type, as many as it has validities");
    make_array(data)
}

#[cold]
fn misfits(data_type: &DataType, number: Number<'_>, misfit: Misfit) -> Trouble {
    match misfit {
        Misfit::Fraction => Trouble::expected(data_type, number.text),
        Misfit::Range => Trouble::value(format!(
            "{} is out of the range of {}",
            super::trouble::shown(number.text),
            sql_type_name(data_type)
        )),
    }
}

#[cold]
fn expected_string(data_type: &DataType, text: &[u8]) -> Trouble {
    Trouble::value(format!("expected {}, found \"{}\"", sql_type_name(data_type), super::trouble::shown(text)))
}

fn offset(len: usize) -> Result<i32, Trouble> {
    i32::try_from(len).map_err(|_| Trouble::value("more than 2^31 items came together in one batch".to_owned()))
}

fn nanoseconds_per(unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

fn milliseconds_in(milliseconds: i64, unit: &TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => Some(milliseconds.div_euclid(1000)),
        TimeUnit::Millisecond => Some(milliseconds),
        TimeUnit::Microsecond => milliseconds.checked_mul(1_000),
        TimeUnit::Nanosecond => milliseconds.checked_mul(1_000_000),
    }
}

#[inline]
fn moment_in(moment: Moment, unit: &TimeUnit) -> Option<i64> {
    let per_second = 1_000_000_000 / nanoseconds_per(unit);
    let fraction = moment.nanoseconds as i64 / nanoseconds_per(unit);
    // In 128 bits: the least value's second may begin before what 64 bits hold.
    i64::try_from(moment.seconds as i128 * per_second as i128 + fraction as i128).ok()
}
