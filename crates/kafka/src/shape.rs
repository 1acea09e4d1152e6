//! What a request looks like on the wire, walked before the generic codec decodes it.
//!
//! kafka-protocol reserves memory for as many elements as a length field claims, so four bytes could ask for 200 GB
//! and end the process. Each API therefore states its request's fields here, as Kafka's message definitions list
//! them; [`check`] walks the bytes and lets only those through whose lengths are true and whose number of elements
//! is bounded.

use crate::limits::REQUEST_ELEMENTS_MAX;
use crate::wire::{Malformed, Reader};

/// One field of a request.
#[derive(Debug)]
pub(crate) enum Field {
    /// A value of this many bytes.
    Fixed(usize),
    /// A string, nullable or not.
    Text,
    /// Bytes, nullable or not.
    Blob,
    /// An array of structs, nullable or not; in flexible versions each ends with tagged fields.
    Structs(&'static [Field]),
    /// An array of values that are no structs, nullable or not.
    Values(&'static Field),
    /// A struct that may be null (one byte says so).
    OptionalStruct(&'static [Field]),
    /// A field that versions below this do not have.
    Since(i16, &'static Field),
    /// A field that versions above this do not have.
    Until(i16, &'static Field),
}

/// A boolean or an 8-bit integer.
pub(crate) const BYTE: Field = Field::Fixed(1);
/// A 16-bit integer.
pub(crate) const SHORT: Field = Field::Fixed(2);
/// A 32-bit integer.
pub(crate) const INT: Field = Field::Fixed(4);
/// A 64-bit integer.
pub(crate) const LONG: Field = Field::Fixed(8);
/// 128 bits.
pub(crate) const UUID: Field = Field::Fixed(16);

/// Walks the request whose fields begin where `reader` stands. Bytes after its end are ignored, as Kafka does.
pub(crate) fn check(fields: &[Field], mut reader: Reader<'_>, version: i16) -> Result<(), Malformed> {
    let mut walk = Walk { version, elements_left: REQUEST_ELEMENTS_MAX };
    walk.structure(fields, &mut reader)
}

struct Walk {
    version: i16,
    elements_left: usize,
}

impl Walk {
    fn structure(&mut self, fields: &[Field], reader: &mut Reader<'_>) -> Result<(), Malformed> {
        for field in fields {
            self.field(field, reader)?;
        }
        let tags = reader.skip_tags()?;
        self.count(tags, reader)
    }

    fn field(&mut self, field: &Field, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        match field {
            Field::Fixed(len) => reader.skip(*len).map(drop),
            Field::Text => reader.skip_string(),
            Field::Blob => reader.blob().map(drop),
            Field::Structs(fields) => {
                let len = self.array(reader)?;
                (0..len).try_for_each(|_| self.structure(fields, reader))
            }
            Field::Values(value) => {
                let len = self.array(reader)?;
                (0..len).try_for_each(|_| self.field(value, reader))
            }
            Field::OptionalStruct(fields) => match reader.i8()? {
                -1 => Ok(()),
                _ => self.structure(fields, reader),
            },
            Field::Since(version, field) if self.version >= *version => self.field(field, reader),
            Field::Until(version, field) if self.version <= *version => self.field(field, reader),
            Field::Since(..) | Field::Until(..) => Ok(()),
        }
    }

    fn array(&mut self, reader: &mut Reader<'_>) -> Result<usize, Malformed> {
        let len = reader.array_len(1)?;
        self.count(len, reader)?;
        Ok(len)
    }

    fn count(&mut self, elements: usize, reader: &Reader<'_>) -> Result<(), Malformed> {
        self.elements_left =
            self.elements_left.checked_sub(elements).ok_or_else(|| reader.malformed("too many array elements"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_that_claims_more_than_there_is_is_refused() {
        let fields = [Field::Structs(&[Field::Text])];
        let claims_four_billion = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(check(&fields, Reader::new(&claims_four_billion, 0, true), 0).is_err());
    }

    #[test]
    fn a_request_of_a_hundred_million_empty_elements_is_refused() {
        let mut bytes = (REQUEST_ELEMENTS_MAX as i32 + 1).to_be_bytes().to_vec();
        bytes.resize(bytes.len() + 2 * (REQUEST_ELEMENTS_MAX + 1), 0);
        let fields = [Field::Structs(&[Field::Text])];
        assert!(check(&fields, Reader::new(&bytes, 0, false), 0).is_err());
    }

    #[test]
    fn fields_follow_their_versions() {
        let fields = [Field::Since(3, &INT), Field::Until(2, &LONG)];
        assert!(check(&fields, Reader::new(&[0; 4], 0, false), 3).is_ok());
        assert!(check(&fields, Reader::new(&[0; 4], 0, false), 2).is_err());
        assert!(check(&fields, Reader::new(&[0; 8], 0, false), 2).is_ok());
    }
}
