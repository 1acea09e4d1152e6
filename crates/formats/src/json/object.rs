//! Objects as columns: which field goes where, and what happens to those that are missing or stand twice.

use std::collections::HashMap;

use arrow::array::StructArray;
use arrow::buffer::NullBuffer;
use arrow::datatypes::Fields;

use super::builder::ColumnBuilder;
use super::cursor::{Cursor, RawString};
use super::trouble::Trouble;
use crate::column::UnsupportedColumn;

/// Fields of an object whose place is remembered.
const REMEMBERED_FIELDS_MAX: usize = 256;

/// Names longer than this are not remembered.
const REMEMBERED_NAME_LEN_MAX: usize = 128;

/// The columns that an object's fields go to.
#[derive(Debug)]
pub(crate) struct ObjectBuilder {
    fields: Fields,
    columns: Vec<ColumnBuilder>,
    lookup: Lookup,
}

impl ObjectBuilder {
    /// For objects `depth` levels below the record.
    pub(crate) fn new(fields: &Fields, depth: usize) -> Result<ObjectBuilder, UnsupportedColumn> {
        let mut columns = Vec::with_capacity(fields.len());
        let mut places = HashMap::with_capacity(fields.len());
        for (place, field) in fields.iter().enumerate() {
            columns.push(ColumnBuilder::new(field.name(), field.data_type(), field.is_nullable(), depth)?);
            if places.insert(field.name().as_bytes().into(), place).is_some() {
                return Err(UnsupportedColumn::Twice { column: field.name().clone() });
            }
        }
        Ok(ObjectBuilder { fields: fields.clone(), columns, lookup: Lookup { places, remembered: Vec::new() } })
    }

    /// Appends the object before the cursor as row number `row`, which is how many rows there are.
    #[inline]
    pub(crate) fn push(&mut self, cursor: &mut Cursor<'_>, row: usize) -> Result<(), Trouble> {
        let ObjectBuilder { columns, lookup, fields } = self;
        cursor.object(|cursor, place, name| match lookup.column(place, name) {
            Some(index) => {
                let column = &mut columns[index];
                if column.len() > row {
                    // The field stands twice: the last one counts.
                    column.truncate(row);
                }
                column.push(cursor).map_err(|trouble| trouble.within(fields[index].name()))
            }
            None => cursor.skip().map_err(Trouble::from),
        })?;
        for (index, column) in columns.iter_mut().enumerate() {
            if column.len() == row {
                column.push_missing().map_err(|trouble| trouble.within(fields[index].name()))?;
            }
        }
        Ok(())
    }

    pub(crate) fn push_null(&mut self) {
        for column in &mut self.columns {
            column.push_null();
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        for column in &mut self.columns {
            column.truncate(len);
        }
    }

    /// The columns so far; the builder is empty then.
    pub(crate) fn finish(&mut self) -> Vec<arrow::array::ArrayRef> {
        self.columns.iter_mut().map(ColumnBuilder::finish).collect()
    }

    /// The same as one column.
    pub(crate) fn finish_struct(&mut self, len: usize, nulls: Option<NullBuffer>) -> StructArray {
        let columns = self.finish();
        StructArray::try_new_with_length(self.fields.clone(), columns, nulls, len)
            .expect("an object's columns have one value a row")
    }
}

/// Finds a field's column by its name.
///
/// Records of one topic have the same fields in the same order, mostly. So the name at each place is compared first
/// with the name that stood there in the last record: a few bytes to compare, nothing to hash.
#[derive(Debug)]
struct Lookup {
    places: HashMap<Box<[u8]>, usize>,
    remembered: Vec<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    name: Vec<u8>,
    column: Option<usize>,
}

impl Lookup {
    #[inline]
    fn column(&mut self, place: usize, name: RawString<'_>) -> Option<usize> {
        match self.remembered.get(place) {
            Some(remembered) if !name.escaped && remembered.name == name.raw => remembered.column,
            _ => self.search(place, name),
        }
    }

    fn search(&mut self, place: usize, name: RawString<'_>) -> Option<usize> {
        if name.escaped {
            let mut unescaped = Vec::with_capacity(name.raw.len());
            name.unescape_into(&mut unescaped);
            return self.places.get(&unescaped[..]).copied();
        }
        let column = self.places.get(name.raw).copied();
        if place < REMEMBERED_FIELDS_MAX && name.raw.len() <= REMEMBERED_NAME_LEN_MAX {
            if self.remembered.len() <= place {
                self.remembered.resize_with(place + 1, Remembered::default);
            }
            let remembered = &mut self.remembered[place];
            remembered.name.clear();
            remembered.name.extend_from_slice(name.raw);
            remembered.column = column;
        }
        column
    }
}
