//! Rows to records.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Field,
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::cursor::JSON_DEPTH_MAX;
use super::scan::plain_len;
use crate::calendar::{write_date, write_moment, write_time};
use crate::column::{UnsupportedColumn, sql_type_name};

const DAY_MS: i64 = 86_400_000;

/// Writes rows as JSON objects, or single columns as JSON values. The forms stand at [`crate::json`].
///
/// The same row is the same text always. It serves values and keys alike.
#[derive(Debug)]
pub struct JsonEncoder {
    members: Vec<Member>,
}

/// A column or a struct's field as an object's member.
#[derive(Debug)]
struct Member {
    /// Which column of the batch, or field of the struct.
    index: usize,
    /// `{"name":` or `,"name":`.
    prefix: Vec<u8>,
    form: Form,
}

/// How a column's values are written.
#[derive(Debug)]
enum Form {
    Null,
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float16,
    Float32,
    Float64,
    Decimal32(i8),
    Decimal64(i8),
    Decimal128(i8),
    Decimal256(i8),
    Text,
    LargeText,
    TextView,
    Binary,
    LargeBinary,
    BinaryView,
    FixedSizeBinary,
    Date32,
    Date64,
    Time(DataType),
    Timestamp {
        unit: TimeUnit,
        zoned: bool,
    },
    /// As Arrow shows it, in quotes.
    Shown,
    List(Box<Form>),
    LargeList(Box<Form>),
    ListView(Box<Form>),
    LargeListView(Box<Form>),
    FixedSizeList(Box<Form>),
    Struct(Vec<Member>),
    Map {
        keys: Box<Form>,
        values: Box<Form>,
    },
    Dictionary(Box<Form>),
}

impl JsonEncoder {
    /// For all columns of batches of this schema.
    ///
    /// # Errors
    /// When a column's type has no JSON form.
    pub fn new(schema: &Schema) -> Result<JsonEncoder, UnsupportedColumn> {
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        JsonEncoder::of_columns(schema, &all)
    }

    /// For some columns of batches of this schema, by their places, in this order.
    ///
    /// # Errors
    /// When a column's type has no JSON form.
    ///
    /// # Panics
    /// When the schema has no column at one of the places.
    pub fn of_columns(schema: &Schema, columns: &[usize]) -> Result<JsonEncoder, UnsupportedColumn> {
        let members = columns
            .iter()
            .enumerate()
            .map(|(place, index)| Member::new(place, *index, schema.field(*index), 0))
            .collect::<Result<_, _>>()?;
        Ok(JsonEncoder { members })
    }

    /// Appends a row as an object.
    ///
    /// # Panics
    /// When the batch has no such row, or not the schema that this encoder was made for.
    pub fn encode(&mut self, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
        assert!(row < batch.num_rows(), "row {row} of a batch of {} rows", batch.num_rows());
        write_object(&self.members, |index| batch.column(index).as_ref(), row, out);
    }

    /// Appends one value of a row, without the column's name: `place` counts the columns this encoder was made for.
    ///
    /// # Panics
    /// As [`JsonEncoder::encode`], and when there is no such column.
    pub fn encode_value(&mut self, batch: &RecordBatch, row: usize, place: usize, out: &mut Vec<u8>) {
        let member = &self.members[place];
        member.form.write(batch.column(member.index).as_ref(), row, out);
    }
}

impl Member {
    fn new(place: usize, index: usize, field: &Field, depth: usize) -> Result<Member, UnsupportedColumn> {
        let mut prefix = vec![if place == 0 { b'{' } else { b',' }];
        write_string(field.name().as_bytes(), &mut prefix);
        prefix.push(b':');
        Ok(Member { index, prefix, form: Form::new(field.name(), field.data_type(), depth)? })
    }
}

impl Form {
    fn new(column: &str, data_type: &DataType, depth: usize) -> Result<Form, UnsupportedColumn> {
        if depth >= JSON_DEPTH_MAX {
            return Err(UnsupportedColumn::TooDeep { column: column.to_owned(), depth_max: JSON_DEPTH_MAX });
        }
        let item = |item: &Field| Form::new(column, item.data_type(), depth + 1).map(Box::new);
        Ok(match data_type {
            DataType::Null => Form::Null,
            DataType::Boolean => Form::Boolean,
            DataType::Int8 => Form::Int8,
            DataType::Int16 => Form::Int16,
            DataType::Int32 => Form::Int32,
            DataType::Int64 => Form::Int64,
            DataType::UInt8 => Form::UInt8,
            DataType::UInt16 => Form::UInt16,
            DataType::UInt32 => Form::UInt32,
            DataType::UInt64 => Form::UInt64,
            DataType::Float16 => Form::Float16,
            DataType::Float32 => Form::Float32,
            DataType::Float64 => Form::Float64,
            DataType::Decimal32(_, scale) => Form::Decimal32(*scale),
            DataType::Decimal64(_, scale) => Form::Decimal64(*scale),
            DataType::Decimal128(_, scale) => Form::Decimal128(*scale),
            DataType::Decimal256(_, scale) => Form::Decimal256(*scale),
            DataType::Utf8 => Form::Text,
            DataType::LargeUtf8 => Form::LargeText,
            DataType::Utf8View => Form::TextView,
            DataType::Binary => Form::Binary,
            DataType::LargeBinary => Form::LargeBinary,
            DataType::BinaryView => Form::BinaryView,
            DataType::FixedSizeBinary(_) => Form::FixedSizeBinary,
            DataType::Date32 => Form::Date32,
            DataType::Date64 => Form::Date64,
            DataType::Time32(_) | DataType::Time64(_) => Form::Time(data_type.clone()),
            DataType::Timestamp(unit, zone) => Form::Timestamp { unit: *unit, zoned: zone.is_some() },
            DataType::Interval(_) | DataType::Duration(_) => Form::Shown,
            DataType::List(field) => Form::List(item(field)?),
            DataType::LargeList(field) => Form::LargeList(item(field)?),
            DataType::ListView(field) => Form::ListView(item(field)?),
            DataType::LargeListView(field) => Form::LargeListView(item(field)?),
            DataType::FixedSizeList(field, _) => Form::FixedSizeList(item(field)?),
            DataType::Struct(fields) => Form::Struct(
                fields
                    .iter()
                    .enumerate()
                    .map(|(place, field)| Member::new(place, place, field, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => {
                    Form::Map { keys: item(&fields[0])?, values: item(&fields[1])? }
                }
                _ => return Err(unsupported(column, data_type)),
            },
            DataType::Dictionary(_, values) => Form::Dictionary(Box::new(Form::new(column, values, depth + 1)?)),
            DataType::RunEndEncoded(..) | DataType::Union(..) => return Err(unsupported(column, data_type)),
        })
    }

    fn write(&self, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
        if array.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match self {
            Form::Null => out.extend_from_slice(b"null"),
            Form::Boolean => out.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" }),
            Form::Int8 => write_integer(array.as_primitive::<Int8Type>().value(row), out),
            Form::Int16 => write_integer(array.as_primitive::<Int16Type>().value(row), out),
            Form::Int32 => write_integer(array.as_primitive::<Int32Type>().value(row), out),
            Form::Int64 => write_integer(array.as_primitive::<Int64Type>().value(row), out),
            Form::UInt8 => write_integer(array.as_primitive::<UInt8Type>().value(row), out),
            Form::UInt16 => write_integer(array.as_primitive::<UInt16Type>().value(row), out),
            Form::UInt32 => write_integer(array.as_primitive::<UInt32Type>().value(row), out),
            Form::UInt64 => write_integer(array.as_primitive::<UInt64Type>().value(row), out),
            Form::Float16 => write_float(array.as_primitive::<Float16Type>().value(row).to_f32(), f32::is_finite, out),
            Form::Float32 => write_float(array.as_primitive::<Float32Type>().value(row), f32::is_finite, out),
            Form::Float64 => write_float(array.as_primitive::<Float64Type>().value(row), f64::is_finite, out),
            Form::Decimal32(scale) => {
                write_decimal::<Decimal32Type>(array.as_primitive::<Decimal32Type>().value(row), *scale, out)
            }
            Form::Decimal64(scale) => {
                write_decimal::<Decimal64Type>(array.as_primitive::<Decimal64Type>().value(row), *scale, out)
            }
            Form::Decimal128(scale) => {
                write_decimal::<Decimal128Type>(array.as_primitive::<Decimal128Type>().value(row), *scale, out)
            }
            Form::Decimal256(scale) => {
                write_decimal::<Decimal256Type>(array.as_primitive::<Decimal256Type>().value(row), *scale, out)
            }
            Form::Text => write_string(array.as_string::<i32>().value(row).as_bytes(), out),
            Form::LargeText => write_string(array.as_string::<i64>().value(row).as_bytes(), out),
            Form::TextView => write_string(array.as_string_view().value(row).as_bytes(), out),
            Form::Binary => write_bytes(array.as_binary::<i32>().value(row), out),
            Form::LargeBinary => write_bytes(array.as_binary::<i64>().value(row), out),
            Form::BinaryView => write_bytes(array.as_binary_view().value(row), out),
            Form::FixedSizeBinary => write_bytes(array.as_fixed_size_binary().value(row), out),
            Form::Date32 => quoted(out, |out| write_date(array.as_primitive::<Date32Type>().value(row) as i64, out)),
            Form::Date64 => quoted(out, |out| {
                write_date(array.as_primitive::<Date64Type>().value(row).div_euclid(DAY_MS), out);
            }),
            Form::Time(data_type) => write_time_of_day(array, row, data_type, out),
            Form::Timestamp { unit, zoned } => write_timestamp(array, row, unit, *zoned, out),
            Form::Shown => write_shown(array, row, out),
            Form::List(item) => item.write_items(array.as_list::<i32>().value(row).as_ref(), out),
            Form::LargeList(item) => item.write_items(array.as_list::<i64>().value(row).as_ref(), out),
            Form::ListView(item) => item.write_items(array.as_list_view::<i32>().value(row).as_ref(), out),
            Form::LargeListView(item) => item.write_items(array.as_list_view::<i64>().value(row).as_ref(), out),
            Form::FixedSizeList(item) => item.write_items(array.as_fixed_size_list().value(row).as_ref(), out),
            Form::Struct(members) => {
                let object = array.as_struct();
                write_object(members, |index| object.column(index).as_ref(), row, out);
            }
            Form::Map { keys, values } => write_map(array, row, keys, values, out),
            Form::Dictionary(values) => {
                let dictionary = array.as_any_dictionary();
                match dictionary.normalized_keys().get(row) {
                    Some(key) => values.write(dictionary.values().as_ref(), *key, out),
                    None => out.extend_from_slice(b"null"),
                }
            }
        }
    }

    fn write_items(&self, items: &dyn Array, out: &mut Vec<u8>) {
        out.push(b'[');
        for place in 0..items.len() {
            if place > 0 {
                out.push(b',');
            }
            self.write(items, place, out);
        }
        out.push(b']');
    }
}

fn unsupported(column: &str, data_type: &DataType) -> UnsupportedColumn {
    UnsupportedColumn::Type { column: column.to_owned(), type_name: sql_type_name(data_type), format: "JSON" }
}

fn write_object<'a>(members: &[Member], column: impl Fn(usize) -> &'a dyn Array, row: usize, out: &mut Vec<u8>) {
    if members.is_empty() {
        out.push(b'{');
    }
    for member in members {
        out.extend_from_slice(&member.prefix);
        member.form.write(column(member.index), row, out);
    }
    out.push(b'}');
}

fn write_map(array: &dyn Array, row: usize, keys: &Form, values: &Form, out: &mut Vec<u8>) {
    let entries = array.as_map().value(row);
    out.push(b'{');
    for place in 0..entries.len() {
        if place > 0 {
            out.push(b',');
        }
        let start = out.len();
        keys.write(entries.column(0).as_ref(), place, out);
        if out.get(start) != Some(&b'"') {
            // A key must be a string: what is none is written as the text of its JSON form.
            let key = out.split_off(start);
            write_string(&key, out);
        }
        out.push(b':');
        values.write(entries.column(1).as_ref(), place, out);
    }
    out.push(b'}');
}

fn write_integer<T: itoa::Integer>(value: T, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_float<T: zmij::Float + Copy>(value: T, is_finite: impl Fn(T) -> bool, out: &mut Vec<u8>) {
    if is_finite(value) {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Plain digits with as many after the point as the type has; a negative scale gives zeros.
fn write_decimal<T: DecimalType>(value: T::Native, scale: i8, out: &mut Vec<u8>) {
    // The greatest precision of the type: the text must show whatever stands there.
    out.extend_from_slice(T::format_decimal(value, T::MAX_PRECISION, scale).as_bytes());
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn write_time_of_day(array: &dyn Array, row: usize, data_type: &DataType, out: &mut Vec<u8>) {
    let (value, per_second) = match data_type {
        DataType::Time32(TimeUnit::Second) => (array.as_primitive::<Time32SecondType>().value(row) as i64, 1),
        DataType::Time32(_) => (array.as_primitive::<Time32MillisecondType>().value(row) as i64, 1_000),
        DataType::Time64(TimeUnit::Microsecond) => {
            (array.as_primitive::<Time64MicrosecondType>().value(row), 1_000_000)
        }
        _ => (array.as_primitive::<Time64NanosecondType>().value(row), 1_000_000_000),
    };
    let (seconds, nanoseconds) = split(value, per_second);
    quoted(out, |out| write_time(seconds.rem_euclid(86_400), nanoseconds, out));
}

fn write_timestamp(array: &dyn Array, row: usize, unit: &TimeUnit, zoned: bool, out: &mut Vec<u8>) {
    let (seconds, nanoseconds) = match unit {
        TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 0),
        TimeUnit::Millisecond => split(array.as_primitive::<TimestampMillisecondType>().value(row), 1_000),
        TimeUnit::Microsecond => split(array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000),
        TimeUnit::Nanosecond => split(array.as_primitive::<TimestampNanosecondType>().value(row), 1_000_000_000),
    };
    quoted(out, |out| {
        write_moment(seconds, nanoseconds, out);
        if zoned {
            out.push(b'Z');
        }
    });
}

/// Whole seconds, and nanoseconds after them.
fn split(value: i64, per_second: i64) -> (i64, u32) {
    (value.div_euclid(per_second), (value.rem_euclid(per_second) * (1_000_000_000 / per_second)) as u32)
}

/// Intervals and durations, as ISO 8601 durations where Arrow does so.
#[cold]
fn write_shown(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    let options = FormatOptions::new().with_duration_format(DurationFormat::ISO8601);
    let shown = ArrayFormatter::try_new(array, &options)
        .expect("intervals and durations can be shown")
        .value(row)
        .try_to_string();
    match shown {
        Ok(shown) => write_string(shown.as_bytes(), out),
        // Beyond what the calendar can say.
        Err(_) => out.extend_from_slice(b"null"),
    }
}

/// A JSON string of UTF-8 text.
fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        write_escape(*byte, out);
        rest = after;
    }
    out.push(b'"');
}

#[cold]
fn write_escape(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        8 => out.extend_from_slice(b"\\b"),
        12 => out.extend_from_slice(b"\\f"),
        byte => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.push(HEX[(byte >> 4) as usize]);
            out.push(HEX[(byte & 15) as usize]);
        }
    }
}
