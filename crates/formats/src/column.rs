//! What a column is called and which values it takes.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

/// A column that records are decoded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name of the record's field, in the record's own case.
    pub name: String,
    /// The type of its values.
    pub data_type: DataType,
    /// Whether a record may lack it, or have `null` there. If not, such a record is a failure.
    pub nullable: bool,
}

impl Column {
    /// A column that may be NULL.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Column {
        Column { name: name.into(), data_type, nullable: true }
    }
}

/// A column that no decoder or encoder can be made for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedColumn {
    /// JSON has no form for values of this type, or we give it none.
    #[error("column `{column}` is of type {type_name}, which {format} cannot hold")]
    Type {
        /// The column's name, with the path to the nested field.
        column: String,
        /// The type as SQL spells it.
        type_name: String,
        /// The format that was asked for, "JSON".
        format: &'static str,
    },
    /// Two columns would be read from the same field.
    #[error("column `{column}` stands twice in the list of columns")]
    Twice {
        /// The name.
        column: String,
    },
    /// Types nest deeper than records may.
    #[error("column `{column}` nests types deeper than {depth_max} levels")]
    TooDeep {
        /// The name.
        column: String,
        /// The bound.
        depth_max: usize,
    },
}

/// How SQL spells a type: `BIGINT`, `TIMESTAMP(3)`, `ARRAY<VARCHAR>`.
pub fn sql_type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "NULL".to_owned(),
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
        DataType::Time32(unit) | DataType::Time64(unit) => format!("TIME({})", digits(unit)),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", digits(unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP_LTZ({})", digits(unit)),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".to_owned(),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => format!("ARRAY<{}>", sql_type_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{} {}", field.name(), sql_type_name(field.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP<{}, {}>", sql_type_name(fields[0].data_type()), sql_type_name(fields[1].data_type()))
            }
            _ => "MAP".to_owned(),
        },
        DataType::Dictionary(_, values) => sql_type_name(values),
        DataType::RunEndEncoded(_, values) => sql_type_name(values.data_type()),
        other => other.to_string(),
    }
}

fn digits(unit: &TimeUnit) -> u32 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;

    #[test]
    fn types_are_spelled_as_sql_spells_them() {
        let cases = [
            (DataType::Int64, "BIGINT"),
            (DataType::Timestamp(TimeUnit::Millisecond, None), "TIMESTAMP(3)"),
            (DataType::Decimal128(10, 2), "DECIMAL(10, 2)"),
            (DataType::List(Field::new("item", DataType::Utf8View, true).into()), "ARRAY<VARCHAR>"),
            (DataType::Struct(vec![Field::new("a", DataType::Float64, true)].into()), "STRUCT<a DOUBLE>"),
        ];
        for (data_type, expected) in cases {
            assert_eq!(sql_type_name(&data_type), expected);
        }
    }
}
