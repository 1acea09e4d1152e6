//! The protocol's primitive types, read from and written to bytes by hand.
//!
//! Used where the generic codec would copy or allocate too much (Produce, Fetch, headers) and by [`crate::shape`].
//! Numbers are big-endian; "flexible" versions write lengths as unsigned varints of length + 1 (KIP-482).

use bytes::{Buf, BufMut, BytesMut};

/// A request that is not what its header says. The connection that sent it is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {position} of the request")]
pub(crate) struct Malformed {
    /// What is wrong.
    pub(crate) what: &'static str,
    /// Where, counted from the frame's first byte after its length.
    pub(crate) position: usize,
}

/// Reads primitives from a frame, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    flexible: bool,
}

/// Bytes `start..end` of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    pub(crate) fn len(self) -> usize {
        self.end - self.start
    }
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from `position`; `flexible` says how lengths are written.
    pub(crate) fn new(bytes: &'a [u8], position: usize, flexible: bool) -> Reader<'a> {
        Reader { bytes, position, flexible }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(crate) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, position: self.position }
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let span = self.skip(len)?;
        Ok(&self.bytes[span.start..span.end])
    }

    /// Passes over `len` bytes.
    pub(crate) fn skip(&mut self, len: usize) -> Result<Span, Malformed> {
        if len > self.remaining() {
            return Err(self.malformed("a field reaches past the end"));
        }
        let start = self.position;
        self.position += len;
        Ok(Span { start, end: self.position })
    }

    pub(crate) fn i8(&mut self) -> Result<i8, Malformed> {
        Ok(self.take(1)?.get_i8())
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(self.take(2)?.get_i16())
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(self.take(4)?.get_i32())
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(self.take(8)?.get_i64())
    }

    pub(crate) fn uuid(&mut self) -> Result<uuid::Uuid, Malformed> {
        Ok(uuid::Uuid::from_u128(self.take(16)?.get_u128()))
    }

    /// An unsigned varint of at most five bytes.
    pub(crate) fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value: u32 = 0;
        for place in 0..5 {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed("a varint of more than five bytes"))
    }

    /// The length in front of a string (`None`: null).
    fn string_len(&mut self) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            return Ok((self.varint()? as usize).checked_sub(1));
        }
        match self.i16()? {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| self.malformed("a negative string length")),
        }
    }

    /// The length in front of bytes, or the number of elements in front of an array (`None`: null).
    pub(crate) fn len(&mut self) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            return Ok((self.varint()? as usize).checked_sub(1));
        }
        match self.i32()? {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| self.malformed("a negative length")),
        }
    }

    /// The number of elements of an array, each of at least `element_bytes_min` bytes; null counts as none.
    pub(crate) fn array_len(&mut self, element_bytes_min: usize) -> Result<usize, Malformed> {
        let count = self.len()?.unwrap_or(0);
        if count > self.remaining() / element_bytes_min.max(1) {
            return Err(self.malformed("an array with more elements than the request has bytes for"));
        }
        Ok(count)
    }

    /// A string that may be null.
    pub(crate) fn string(&mut self) -> Result<Option<&'a str>, Malformed> {
        match self.string_len()? {
            None => Ok(None),
            Some(len) => {
                let text = self.take(len)?;
                std::str::from_utf8(text).map(Some).map_err(|_| self.malformed("a string that is not UTF-8"))
            }
        }
    }

    /// Passes over a string that may be null; its text is not looked at.
    pub(crate) fn skip_string(&mut self) -> Result<(), Malformed> {
        let len = self.string_len()?.unwrap_or(0);
        self.skip(len).map(drop)
    }

    /// Where bytes that may be null lie.
    pub(crate) fn blob(&mut self) -> Result<Option<Span>, Malformed> {
        match self.len()? {
            None => Ok(None),
            Some(len) => self.skip(len).map(Some),
        }
    }

    /// Passes over a section of tagged fields; nothing in versions that are not flexible.
    pub(crate) fn skip_tags(&mut self) -> Result<usize, Malformed> {
        self.tags(|_, _| Ok(()))
    }

    /// Reads a section of tagged fields: `each` gets a tag and a reader over its bytes. Returns how many there were.
    pub(crate) fn tags(
        &mut self,
        mut each: impl FnMut(u32, &mut Reader<'a>) -> Result<(), Malformed>,
    ) -> Result<usize, Malformed> {
        if !self.flexible {
            return Ok(0);
        }
        let count = self.varint()? as usize;
        for _ in 0..count {
            let tag = self.varint()?;
            let len = self.varint()? as usize;
            let span = self.skip(len)?;
            let mut inner = Reader { bytes: &self.bytes[..span.end], position: span.start, flexible: true };
            each(tag, &mut inner)?;
        }
        Ok(count)
    }
}

/// How many bytes `value` takes as an unsigned varint.
pub(crate) fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        0x20_0000..=0xfff_ffff => 4,
        _ => 5,
    }
}

/// Writes an unsigned varint.
pub(crate) fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes the length of an array or of bytes.
pub(crate) fn put_len(out: &mut BytesMut, flexible: bool, len: usize) {
    if flexible {
        put_varint(out, len as u32 + 1);
    } else {
        out.put_i32(len as i32);
    }
}

/// Writes a string.
pub(crate) fn put_string(out: &mut BytesMut, flexible: bool, text: &str) {
    if flexible {
        put_varint(out, text.len() as u32 + 1);
    } else {
        out.put_i16(text.len() as i16);
    }
    out.put_slice(text.as_bytes());
}

/// Writes a string that may be null.
pub(crate) fn put_nullable_string(out: &mut BytesMut, flexible: bool, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, flexible, text),
        None if flexible => put_varint(out, 0),
        None => out.put_i16(-1),
    }
}

/// Ends a struct: no tagged fields, in flexible versions only.
pub(crate) fn put_no_tags(out: &mut BytesMut, flexible: bool) {
    if flexible {
        out.put_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_their_length_is_known() {
        for value in [0, 1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455, 268435456, u32::MAX] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(Reader::new(&out, 0, true).varint(), Ok(value));
        }
    }

    #[test]
    fn lengths_that_lie_are_refused_before_anything_is_reserved() {
        let huge = [0x7f, 0xff, 0xff, 0xff];
        assert!(Reader::new(&huge, 0, false).array_len(1).is_err());
        assert!(Reader::new(&huge, 0, false).blob().is_err());
        assert!(Reader::new(&[0x80, 0x00], 0, false).string().is_err());
        assert!(Reader::new(&[0xff; 6], 0, true).varint().is_err());
    }
}
