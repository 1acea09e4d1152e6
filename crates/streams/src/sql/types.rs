//! SQL's type names and Arrow's types.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, TimezoneInfo};

use super::error::{SqlResult, StatementError};

/// The type of event time, of window bounds, and of `timestamp`.
pub(crate) const MILLISECONDS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// Greatest number of digits of a DECIMAL kept in 128 bits.
const DECIMAL128_PRECISION_MAX: u64 = 38;
/// Greatest number of digits of a DECIMAL.
const DECIMAL256_PRECISION_MAX: u64 = 76;

/// Gives DataFusion our reading of type names, so that a CAST means the same as a column's declaration.
#[derive(Debug)]
pub(crate) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &SqlType) -> DataFusionResult<Option<FieldRef>> {
        let data_type = arrow_type(sql_type).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}

/// The Arrow type that a SQL type stands for.
///
/// TIMESTAMP without a precision has milliseconds, as records' timestamps and JSON results do; TIMESTAMP_LTZ is the
/// same, an instant written in UTC.
pub(crate) fn arrow_type(sql_type: &SqlType) -> SqlResult<DataType> {
    Ok(match sql_type {
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::TinyInt(_) => DataType::Int8,
        SqlType::SmallInt(_) | SqlType::Int2(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => DataType::Int32,
        SqlType::BigInt(_) | SqlType::Int8(_) => DataType::Int64,
        SqlType::TinyIntUnsigned(_) => DataType::UInt8,
        SqlType::SmallIntUnsigned(_) => DataType::UInt16,
        SqlType::IntUnsigned(_) | SqlType::IntegerUnsigned(_) => DataType::UInt32,
        SqlType::BigIntUnsigned(_) => DataType::UInt64,
        SqlType::Float(ExactNumberInfo::None) | SqlType::Real | SqlType::Float4 => DataType::Float32,
        SqlType::Double(ExactNumberInfo::None) | SqlType::DoublePrecision | SqlType::Float8 => DataType::Float64,
        SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Character(_)
        | SqlType::CharVarying(_)
        | SqlType::CharacterVarying(_)
        | SqlType::Text
        | SqlType::String(_) => DataType::Utf8,
        SqlType::Bytes(_) | SqlType::Bytea | SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => {
            DataType::Binary
        }
        SqlType::Date => DataType::Date32,
        SqlType::Time(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Time64(TimeUnit::Nanosecond)
        }
        SqlType::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone)
        | SqlType::TimestampNtz(precision) => timestamp(*precision, sql_type)?,
        SqlType::Custom(name, arguments) if name.to_string().eq_ignore_ascii_case("TIMESTAMP_LTZ") => {
            let precision = match arguments.as_slice() {
                [] => None,
                [digits] => Some(digits.parse().map_err(|_| unknown(sql_type))?),
                _ => return Err(unknown(sql_type)),
            };
            timestamp(precision, sql_type)?
        }
        SqlType::Decimal(digits) | SqlType::Numeric(digits) | SqlType::Dec(digits) => decimal(*digits, sql_type)?,
        SqlType::Array(ArrayElemTypeDef::AngleBracket(element) | ArrayElemTypeDef::SquareBracket(element, None)) => {
            DataType::List(Arc::new(Field::new("item", arrow_type(element)?, true)))
        }
        SqlType::Struct(fields, _) => {
            let mut columns = Vec::with_capacity(fields.len());
            for field in fields {
                let Some(name) = &field.field_name else {
                    return Err(StatementError::invalid(format!("every field of `{sql_type}` needs a name")));
                };
                columns.push(Field::new(&name.value, arrow_type(&field.field_type)?, true));
            }
            DataType::Struct(Fields::from(columns))
        }
        SqlType::Map(key, value) => {
            let entries = Fields::from(vec![
                Field::new("key", arrow_type(key)?, false),
                Field::new("value", arrow_type(value)?, true),
            ]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
        }
        SqlType::Interval { fields: None, precision: None } => {
            DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano)
        }
        _ => return Err(unknown(sql_type)),
    })
}

fn unknown(sql_type: &SqlType) -> StatementError {
    StatementError::unknown(format!("there is no type `{sql_type}`")).with_hint(
        "types are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), STRING, BYTES, DATE, TIME, \
         TIMESTAMP(3), ARRAY<t>, MAP<k, v>, ROW<name t, …>",
    )
}

fn timestamp(precision: Option<u64>, sql_type: &SqlType) -> SqlResult<DataType> {
    let unit = match precision {
        Some(0) => TimeUnit::Second,
        None | Some(3) => TimeUnit::Millisecond,
        Some(6) => TimeUnit::Microsecond,
        Some(9) => TimeUnit::Nanosecond,
        Some(_) => {
            return Err(StatementError::invalid(format!("`{sql_type}`: a timestamp has a precision of 0, 3, 6 or 9")));
        }
    };
    Ok(DataType::Timestamp(unit, None))
}

fn decimal(digits: ExactNumberInfo, sql_type: &SqlType) -> SqlResult<DataType> {
    let (precision, scale) = match digits {
        ExactNumberInfo::None => (DECIMAL128_PRECISION_MAX, 10),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let fits = (1..=DECIMAL256_PRECISION_MAX).contains(&precision) && (0..=precision as i64).contains(&scale);
    if !fits {
        return Err(StatementError::invalid(format!(
            "`{sql_type}`: a decimal has 1 to {DECIMAL256_PRECISION_MAX} digits, of which 0 to all stand after the point"
        )));
    }
    Ok(if precision <= DECIMAL128_PRECISION_MAX {
        DataType::Decimal128(precision as u8, scale as i8)
    } else {
        DataType::Decimal256(precision as u8, scale as i8)
    })
}

/// How the type is written in SQL; what [`arrow_type`] makes of it is the same type again.
pub(crate) fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INT UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float16 | DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "VARBINARY".to_owned()
        }
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => "TIMESTAMP(0)".to_owned(),
            TimeUnit::Millisecond => "TIMESTAMP(3)".to_owned(),
            TimeUnit::Microsecond => "TIMESTAMP(6)".to_owned(),
            TimeUnit::Nanosecond => "TIMESTAMP(9)".to_owned(),
        },
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            format!("ARRAY<{}>", sql_name(element.data_type()))
        }
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{} {}", quoted(field.name()), sql_name(field.data_type())))
                .collect();
            format!("ROW<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP<{}, {}>", sql_name(fields[0].data_type()), sql_name(fields[1].data_type()))
            }
            other => other.to_string(),
        },
        DataType::Interval(_) => "INTERVAL".to_owned(),
        other => other.to_string(),
    }
}

/// A name as it must be written: in backticks unless it is a plain word that is no keyword of ours.
pub(crate) fn quoted(name: &str) -> String {
    let mut characters = name.chars();
    let plain = characters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && characters.all(|character| character.is_alphanumeric() || character == '_')
        && !super::dialect::is_reserved(name);
    if plain { name.to_owned() } else { format!("`{}`", name.replace('`', "``")) }
}
