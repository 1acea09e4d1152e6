//! The fields of Kafka's messages in their flexible versions, read from the front of bytes.

/// Why bytes are not a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldError {
    #[error("it ends within the field '{0}'")]
    Short(&'static str),
    #[error("its field '{0}' has a length or a number that cannot be")]
    Number(&'static str),
    #[error("its field '{0}' is no text")]
    Text(&'static str),
    #[error("its field '{0}' is null, which it cannot be")]
    Null(&'static str),
}

/// Reads one field after the other. `name` is the field's, for errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes }
    }

    /// Bytes that were not read.
    pub(crate) fn rest(&self) -> usize {
        self.rest.len()
    }

    fn array<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], FieldError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(FieldError::Short(name))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn bytes(&mut self, len: usize, name: &'static str) -> Result<&'a [u8], FieldError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(FieldError::Short(name))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn int8(&mut self, name: &'static str) -> Result<i8, FieldError> {
        self.array(name).map(i8::from_be_bytes)
    }

    pub(crate) fn int16(&mut self, name: &'static str) -> Result<i16, FieldError> {
        self.array(name).map(i16::from_be_bytes)
    }

    pub(crate) fn int32(&mut self, name: &'static str) -> Result<i32, FieldError> {
        self.array(name).map(i32::from_be_bytes)
    }

    pub(crate) fn int64(&mut self, name: &'static str) -> Result<i64, FieldError> {
        self.array(name).map(i64::from_be_bytes)
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Result<bool, FieldError> {
        Ok(self.int8(name)? != 0)
    }

    pub(crate) fn uuid(&mut self, name: &'static str) -> Result<u128, FieldError> {
        self.array(name).map(u128::from_be_bytes)
    }

    /// An unsigned varint of at most 32 bits: seven bits a byte, the lowest first.
    pub(crate) fn unsigned_varint(&mut self, name: &'static str) -> Result<u32, FieldError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array(name)?;
            // The fifth byte holds the four bits that are left.
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FieldError::Number(name))
    }

    /// A length, which is stored one larger than it is; 0 is null.
    fn length(&mut self, name: &'static str) -> Result<Option<usize>, FieldError> {
        let stored = self.unsigned_varint(name)?;
        stored.checked_sub(1).map(|len| usize::try_from(len).map_err(|_| FieldError::Number(name))).transpose()
    }

    pub(crate) fn nullable_string(&mut self, name: &'static str) -> Result<Option<&'a str>, FieldError> {
        let Some(len) = self.length(name)? else { return Ok(None) };
        let bytes = self.bytes(len, name)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| FieldError::Text(name))
    }

    pub(crate) fn string(&mut self, name: &'static str) -> Result<&'a str, FieldError> {
        self.nullable_string(name)?.ok_or(FieldError::Null(name))
    }

    /// An array of elements that `element` reads.
    pub(crate) fn elements<T>(
        &mut self,
        name: &'static str,
        mut element: impl FnMut(&mut Fields<'a>) -> Result<T, FieldError>,
    ) -> Result<Vec<T>, FieldError> {
        let count = self.length(name)?.ok_or(FieldError::Null(name))?;
        // An element has a byte at least, so a wrong count cannot ask for much memory.
        if count > self.rest.len() {
            return Err(FieldError::Number(name));
        }
        (0..count).map(|_| element(self)).collect()
    }

    pub(crate) fn int32s(&mut self, name: &'static str) -> Result<Vec<i32>, FieldError> {
        self.elements(name, |fields| fields.int32(name))
    }

    pub(crate) fn uuids(&mut self, name: &'static str) -> Result<Vec<u128>, FieldError> {
        self.elements(name, |fields| fields.uuid(name))
    }

    /// The tagged fields, which end each structure: `field` is given the tag and the bytes of each.
    pub(crate) fn tagged(
        &mut self,
        mut field: impl FnMut(u32, Fields<'a>) -> Result<(), FieldError>,
    ) -> Result<(), FieldError> {
        const NAME: &str = "tagged fields";
        for _ in 0..self.unsigned_varint(NAME)? {
            let tag = self.unsigned_varint(NAME)?;
            let len = usize::try_from(self.unsigned_varint(NAME)?).map_err(|_| FieldError::Number(NAME))?;
            field(tag, Fields::new(self.bytes(len, NAME)?))?;
        }
        Ok(())
    }

    /// The tagged fields of a structure in which none matters.
    pub(crate) fn skip_tagged(&mut self) -> Result<(), FieldError> {
        self.tagged(|_, _| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_one_after_the_other() {
        let bytes =
            b"\x05\x01\x02\x00\x00\x00\x07\x06hello\x00\x03\x00\x00\x00\x01\x00\x00\x00\x02\x01\x05\x01\xff\x00";
        let mut fields = Fields::new(bytes);
        assert_eq!(fields.int8("a"), Ok(5));
        assert_eq!(fields.int16("b"), Ok(0x102));
        assert_eq!(fields.int32("c"), Ok(7));
        assert_eq!(fields.string("d"), Ok("hello"));
        assert_eq!(fields.nullable_string("e"), Ok(None));
        assert_eq!(fields.int32s("f"), Ok(vec![1, 2]));
        let mut seen = Vec::new();
        let told = fields.tagged(|tag, mut field| {
            seen.push((tag, field.int8("g")?, field.rest()));
            Ok(())
        });
        assert_eq!((told, seen, fields.rest()), (Ok(()), vec![(5, -1, 0)], 1));
        assert_eq!(fields.boolean("h"), Ok(false));
        assert_eq!(fields.int64("i"), Err(FieldError::Short("i")));
    }

    #[test]
    fn varints_have_at_most_32_bits() {
        let read = |bytes: &[u8]| Fields::new(bytes).unsigned_varint("n");
        assert_eq!(read(b"\x00"), Ok(0));
        assert_eq!(read(b"\x7f"), Ok(127));
        assert_eq!(read(b"\x80\x01"), Ok(128));
        assert_eq!(read(b"\xff\xff\xff\xff\x0f"), Ok(u32::MAX));
        assert_eq!(read(b"\xff\xff\xff\xff\x10"), Err(FieldError::Number("n")));
        assert_eq!(read(b"\x80\x80\x80\x80\x80\x00"), Err(FieldError::Number("n")));
        assert_eq!(read(b"\x80"), Err(FieldError::Short("n")));
    }

    #[test]
    fn what_cannot_be_is_an_error_and_takes_no_memory() {
        assert_eq!(Fields::new(b"\xff\xff\xff\xff\x0fx").int32s("l"), Err(FieldError::Number("l")));
        assert_eq!(Fields::new(b"\xff\xff\xff\xff\x0fx").string("s"), Err(FieldError::Short("s")));
        assert_eq!(Fields::new(b"\x00").string("s"), Err(FieldError::Null("s")));
        assert_eq!(Fields::new(b"\x00").uuids("u"), Err(FieldError::Null("u")));
        assert_eq!(Fields::new(b"\x02\xff").string("s"), Err(FieldError::Text("s")));
        assert_eq!(Fields::new(b"\x01\x00\x05").skip_tagged(), Err(FieldError::Short("tagged fields")));
    }
}
