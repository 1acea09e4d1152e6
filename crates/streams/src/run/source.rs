//! From records to columns: decodes slices of one source, and moves the watermarks of its partitions.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Int32Array, Int64Array, MapBuilder,
    MapFieldNames, StringBuilder, TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Int64Type, TimestampMillisecondType};
use datafusion::error::DataFusionError;
use millpond_formats::{Column, JsonDecoder};
use millpond_types::{PartitionIndex, TimestampMs};

use super::chunk::{Chunk, Origin, RowKinds, batch_of};
use super::failure::{QueryFailure, RowFailure, evaluate_or_bisect};
use super::slice::Slice;
use crate::plan::{ColumnOrigin, Format, SourceColumn, SourcePlan, WatermarkPlan};

const OPERATOR: &str = "decoding";

/// Decodes the records of one source.
pub(crate) struct Source {
    pub(crate) plan: SourcePlan,
    /// Its place in the plan.
    index: usize,
    decoder: JsonDecoder,
    /// Per column of the source, its place among the decoder's columns; none for metadata.
    places: Vec<Option<usize>>,
    /// Whether a column needs the records' headers.
    pub(crate) with_headers: bool,
}

impl Source {
    /// Of a plan; an error says what cannot be decoded.
    pub(crate) fn new(index: usize, plan: SourcePlan) -> Result<Source, String> {
        let mut fields: Vec<Column> = Vec::new();
        let mut places = Vec::with_capacity(plan.columns.len());
        for column in &plan.columns {
            places.push(match &column.origin {
                ColumnOrigin::Value { field } => Some(match fields.iter().position(|known| known.name == *field) {
                    Some(place) if fields[place].data_type == column.data_type => place,
                    Some(_) => return Err(format!("the field `{field}` is read with two types")),
                    None => {
                        fields.push(Column::new(field.clone(), column.data_type.clone()));
                        fields.len() - 1
                    }
                }),
                _ => None,
            });
        }
        let Format::Json = plan.format;
        let decoder = JsonDecoder::new(fields).map_err(|error| error.to_string())?;
        let with_headers = plan.columns.iter().any(|column| column.origin == ColumnOrigin::Headers);
        Ok(Source { plan, index, decoder, places, with_headers })
    }

    /// The rows of a slice of partition `partition`, and what could not be decoded. `watermark` moves on.
    pub(crate) fn decode(
        &mut self,
        partition: PartitionIndex,
        slice: &Slice,
        watermark: &mut Option<TimestampMs>,
        failures: &mut Vec<RowFailure>,
    ) -> Result<Vec<Chunk>, QueryFailure> {
        let origin = Origin::Partition { source: self.index as u32, partition };
        for broken in &slice.broken {
            let reason = match broken.records {
                1 => format!("the record's batch cannot be read: {}", broken.reason),
                more => format!("this record and {} more of its batch cannot be read: {}", more - 1, broken.reason),
            };
            failures.push(RowFailure { origin, offset: Some(broken.offset), column: None, reason, row: None });
        }
        if slice.len() == 0 {
            return Ok(Vec::new());
        }
        let decoded = self.decoder.decode(slice.values());
        failures.extend(decoded.failures.into_iter().map(|failure| RowFailure {
            origin,
            offset: Some(slice.offset(failure.row as usize)),
            column: failure.column,
            reason: failure.reason,
            row: None,
        }));
        let mut rows = decoded.rows;
        let mut values: Vec<ArrayRef> = decoded.batch.columns().to_vec();
        self.drop_unreadable_keys(slice, origin, &mut rows, &mut values, failures)?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let columns = self.plan.columns.iter().zip(&self.places).map(|(column, place)| match place {
            Some(place) => Ok(values[*place].clone()),
            None => metadata(column, partition, slice, &rows),
        });
        let columns = columns.collect::<Result<Vec<_>, QueryFailure>>()?;
        let chunk = Chunk {
            batch: batch_of(self.plan.schema.clone(), columns, rows.len()).map_err(QueryFailure::arrow(OPERATOR))?,
            origin,
            kinds: RowKinds::AllInsert,
            offsets: Some(rows.iter().map(|row| slice.offset(*row as usize)).collect()),
            timestamps: rows.iter().map(|row| slice.timestamp(*row as usize)).collect(),
            watermarks: None,
        };
        match &self.plan.watermark {
            None => Ok(vec![chunk]),
            Some(plan) => with_watermarks(plan, chunk, watermark, failures),
        }
    }

    /// A key that is read as text must be text.
    fn drop_unreadable_keys(
        &self,
        slice: &Slice,
        origin: Origin,
        rows: &mut Vec<u32>,
        values: &mut [ArrayRef],
        failures: &mut Vec<RowFailure>,
    ) -> Result<(), QueryFailure> {
        let text = |column: &&SourceColumn| column.origin == ColumnOrigin::Key && !is_bytes(&column.data_type);
        let Some(column) = self.plan.columns.iter().find(text) else { return Ok(()) };
        let readable = |row: u32| slice.key(row as usize).is_none_or(|key| std::str::from_utf8(key).is_ok());
        if rows.iter().all(|row| readable(*row)) {
            return Ok(());
        }
        let kept: UInt32Array = (0..rows.len() as u32).filter(|place| readable(rows[*place as usize])).collect();
        for row in rows.iter().filter(|row| !readable(**row)) {
            failures.push(RowFailure {
                origin,
                offset: Some(slice.offset(*row as usize)),
                column: Some(column.name.clone()),
                reason: "the record's key is not UTF-8".to_owned(),
                row: None,
            });
        }
        for column in values {
            *column = take(column, &kept, None).map_err(QueryFailure::arrow(OPERATOR))?;
        }
        rows.retain(|row| readable(*row));
        Ok(())
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// A column that does not come from the records' values.
fn metadata(
    column: &SourceColumn,
    partition: PartitionIndex,
    slice: &Slice,
    rows: &[u32],
) -> Result<ArrayRef, QueryFailure> {
    let rows_of = || rows.iter().map(|row| *row as usize);
    let array: ArrayRef = match &column.origin {
        ColumnOrigin::Value { field } => unreachable!("the field `{field}` comes from the value"),
        ColumnOrigin::Key => Arc::new(rows_of().map(|row| slice.key(row)).collect::<BinaryArray>()),
        ColumnOrigin::Partition => Arc::new(Int32Array::from(vec![partition; rows.len()])),
        ColumnOrigin::Offset => Arc::new(rows_of().map(|row| slice.offset(row)).collect::<Int64Array>()),
        ColumnOrigin::Timestamp => {
            Arc::new(TimestampMillisecondArray::from_iter_values(rows_of().map(|row| slice.timestamp(row))))
        }
        ColumnOrigin::Headers => headers(column, slice, rows)?,
    };
    if array.data_type() == &column.data_type {
        return Ok(array);
    }
    cast(&array, &column.data_type).map_err(QueryFailure::arrow(OPERATOR))
}

/// Headers as a map. Of headers with the same key all are kept, in order; keys that are not UTF-8 are mended with �.
fn headers(column: &SourceColumn, slice: &Slice, rows: &[u32]) -> Result<ArrayRef, QueryFailure> {
    let names = match &column.data_type {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => Some(MapFieldNames {
                entry: entries.name().clone(),
                key: fields[0].name().clone(),
                value: fields[1].name().clone(),
            }),
            _ => None,
        },
        _ => None,
    };
    let mut maps = MapBuilder::new(names, StringBuilder::new(), BinaryBuilder::new());
    for row in rows {
        for (key, value) in slice.headers(*row as usize) {
            maps.keys().append_value(String::from_utf8_lossy(key));
            maps.values().append_option(value);
        }
        maps.append(true).map_err(QueryFailure::arrow(OPERATOR))?;
    }
    Ok(Arc::new(maps.finish()))
}

/// Gives each row the partition's watermark before it, and moves `watermark` behind the last. Rows without an event
/// time, and rows whose watermark cannot be computed, fail and do not move it.
fn with_watermarks(
    plan: &WatermarkPlan,
    chunk: Chunk,
    watermark: &mut Option<TimestampMs>,
    failures: &mut Vec<RowFailure>,
) -> Result<Vec<Chunk>, QueryFailure> {
    let times = chunk.batch.column(plan.time_column);
    let chunk = if times.null_count() == 0 {
        chunk
    } else {
        let name = chunk.batch.schema().field(plan.time_column).name().clone();
        for row in (0..chunk.len()).filter(|row| times.is_null(*row)) {
            failures.push(RowFailure {
                origin: chunk.origin,
                offset: chunk.offset(row),
                column: Some(name.clone()),
                reason: "the event time is NULL".to_owned(),
                row: None,
            });
        }
        let there = BooleanArray::from_iter((0..chunk.len()).map(|row| Some(times.is_valid(row))));
        chunk.filter(&there).map_err(QueryFailure::arrow(OPERATOR))?
    };
    let mut evaluate = |chunk: &Chunk| -> Result<(Chunk, ArrayRef), DataFusionError> {
        let marks = plan.expression.evaluate(&chunk.batch)?.into_array(chunk.len())?;
        let milliseconds = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
        let marks = if marks.data_type() == &milliseconds { marks } else { cast(&marks, &milliseconds)? };
        Ok((chunk.clone(), marks))
    };
    let mut good = Vec::with_capacity(1);
    evaluate_or_bisect(chunk, &mut evaluate, &mut good, failures);
    let moved = good.into_iter().map(|(chunk, marks)| {
        let marks = marks.as_primitive::<TimestampMillisecondType>();
        let mut before = Vec::with_capacity(marks.len());
        for row in 0..marks.len() {
            before.push(watermark.unwrap_or(TimestampMs::MIN));
            if marks.is_valid(row) {
                *watermark = Some(watermark.map_or(marks.value(row), |so_far| so_far.max(marks.value(row))));
            }
        }
        let watermarks = arrow::array::PrimitiveArray::<Int64Type>::from(before);
        Chunk { watermarks: Some(watermarks), ..chunk }
    });
    Ok(moved.collect())
}
