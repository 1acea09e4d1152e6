//! Kafka's primitive types, as far as these records need them.

use bytes::Bytes;

use super::RecordError;

/// The longest string that the i16 before it can announce.
pub(crate) const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Appends big-endian values. Strings were bounded when they came in; a longer one is a bug of ours.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new() -> Writer {
        Writer(Vec::with_capacity(64))
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn string(&mut self, value: &str) {
        self.i16(i16::try_from(value.len()).expect("strings were checked to be no longer than 32767 bytes"));
        self.0.extend_from_slice(value.as_bytes());
    }

    pub(super) fn nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.i16(-1),
        }
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.i32(i32::try_from(value.len()).expect("metadata and assignments are bounded far below 2 GiB"));
        self.0.extend_from_slice(value);
    }
}

/// Reads what a [`Writer`], or Kafka, wrote.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Lengths are varints, and tagged fields follow each structure.
    flexible: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, position: 0, flexible: false }
    }

    /// The version in front of a value, not above `newest`, which is also the first flexible one.
    pub(super) fn version(&mut self, what: &'static str, newest: i16) -> Result<i16, RecordError> {
        let version = self.i16()?;
        if !(0..=newest).contains(&version) {
            return Err(RecordError::UnknownVersion { what, version });
        }
        self.flexible = version == newest;
        Ok(version)
    }

    /// Says that everything was read.
    pub(super) fn finish(&self) -> Result<(), RecordError> {
        if self.bytes.len() == self.position { Ok(()) } else { Err(self.malformed("there are bytes left over")) }
    }

    pub(crate) fn i16(&mut self) -> Result<i16, RecordError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, RecordError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, RecordError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn string(&mut self) -> Result<String, RecordError> {
        self.nullable_string()?.ok_or_else(|| self.malformed("a null stands where a string must"))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<String>, RecordError> {
        let len = if self.flexible { self.compact_len()? } else { signed_len(i64::from(self.i16()?)) };
        let Some(len) = len else { return Ok(None) };
        let bytes = self.take(len)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.malformed("a string ends that is not UTF-8"))?;
        Ok(Some(text.to_owned()))
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, RecordError> {
        let len = self.len()?.ok_or_else(|| self.malformed("a null stands where bytes must"))?;
        self.take(len).map(Bytes::copy_from_slice)
    }

    /// The number of a list's items.
    pub(super) fn list_len(&mut self) -> Result<usize, RecordError> {
        let len = self.len()?.ok_or_else(|| self.malformed("a null stands where a list must"))?;
        // An item has at least one byte; this keeps a wrong length from reserving memory.
        if len > self.left() { Err(self.malformed("a list is longer than its record")) } else { Ok(len) }
    }

    /// Skips the tagged fields that end each structure of a flexible version.
    pub(super) fn tagged_fields(&mut self) -> Result<(), RecordError> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint()?;
        for _ in 0..count {
            self.varint()?;
            let len = self.varint()?;
            self.take(len as usize)?;
        }
        Ok(())
    }

    fn len(&mut self) -> Result<Option<usize>, RecordError> {
        if self.flexible { self.compact_len() } else { self.i32().map(|len| signed_len(i64::from(len))) }
    }

    fn compact_len(&mut self) -> Result<Option<usize>, RecordError> {
        self.varint().map(|len| (len as usize).checked_sub(1))
    }

    fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed("a varint is longer than 32 bits"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (array, _) = self.take(N)?.split_first_chunk().expect("as many bytes were taken");
        Ok(*array)
    }

    fn take(&mut self, wanted: usize) -> Result<&'a [u8], RecordError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let taken =
            rest.get(..wanted).ok_or(RecordError::Truncated { position: self.position, wanted, left: rest.len() })?;
        self.position += wanted;
        Ok(taken)
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn malformed(&self, what: &'static str) -> RecordError {
        RecordError::Malformed { position: self.position, what }
    }
}

/// Lengths below 0 are null.
fn signed_len(len: i64) -> Option<usize> {
    usize::try_from(len).ok()
}
