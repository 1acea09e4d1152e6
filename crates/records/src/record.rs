//! The records of one batch.

use std::borrow::Cow;

use millpond_types::{Offset, TimestampMs};

use crate::varint::Cursor;
use crate::{BatchError, BatchHeader, TimestampType};

/// The records of a batch, decompressed. Lends one record after the other: [`Records::next`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    header: BatchHeader,
    pub(crate) payload: Cow<'a, [u8]>,
    /// Where the next record starts in `payload`.
    pub(crate) position: usize,
    /// How many records were given.
    taken: usize,
    /// Nothing is read after an error or the last record.
    ended: bool,
}

/// One record, in borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Its offset in the partition.
    pub offset: Offset,
    /// In ms; the batch's one where the broker's clock gave it. -1 is none.
    pub timestamp: TimestampMs,
    /// Offset − the batch's base offset; with the batch's base sequence it gives the record's sequence.
    pub offset_delta: i32,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RecordView<'a> {
    /// Key and value of each header, in order; the key is UTF-8 by convention.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }
}

/// Iterates over a record's headers.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut cursor = Cursor { rest: self.rest };
        // `parse_record` walked over them once, so both are there.
        let (key, value) = (cursor.nullable_bytes()??, cursor.nullable_bytes()?);
        self.rest = cursor.rest;
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

impl<'a> Records<'a> {
    pub(crate) fn new(header: BatchHeader, payload: Cow<'a, [u8]>) -> Records<'a> {
        Records { header, payload, position: 0, taken: 0, ended: false }
    }

    /// The header of the batch they are in.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The next record. After an error there are no more; bytes behind the last record are an error, too.
    // Not an Iterator: a record borrows the decompressed bytes in here.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Result<RecordView<'_>, BatchError>> {
        if self.ended {
            return None;
        }
        let rest = self.payload.get(self.position..).unwrap_or_default();
        if self.taken >= usize::try_from(self.header.record_count).unwrap_or(0) {
            self.ended = true;
            return (!rest.is_empty()).then_some(Err(BatchError::TrailingBytes(rest.len())));
        }
        match parse_record(&self.header, rest) {
            Ok((record, len)) => {
                self.position += len;
                self.taken += 1;
                Some(Ok(record))
            }
            Err((what, within)) => {
                self.ended = true;
                Some(Err(BatchError::Record { record: self.taken, position: self.position + within, what }))
            }
        }
    }

    /// Calls `each` with every record, until one is malformed.
    pub fn for_each(&mut self, mut each: impl FnMut(RecordView<'_>)) -> Result<(), BatchError> {
        while let Some(record) = self.next() {
            each(record?);
        }
        Ok(())
    }
}

/// Reads the record at the front of `bytes`, and says how many bytes it takes; or what is wrong, and where.
fn parse_record<'a>(header: &BatchHeader, bytes: &'a [u8]) -> Result<(RecordView<'a>, usize), (&'static str, usize)> {
    let mut outer = Cursor { rest: bytes };
    let len = outer.varint().and_then(|len| usize::try_from(len).ok()).ok_or(("its length is no length", 0))?;
    let prefix = bytes.len() - outer.rest.len();
    let body = outer.bytes(len).ok_or(("it is cut off", 0))?;
    let mut cursor = Cursor { rest: body };
    let at = |cursor: &Cursor<'_>| prefix + len - cursor.rest.len();
    macro_rules! field {
        ($read:expr, $what:literal) => {{
            let position = at(&cursor);
            $read.ok_or(($what, position))?
        }};
    }
    field!(cursor.array::<1>(), "it has no attributes");
    let timestamp_delta = field!(cursor.varlong(), "its timestamp is no varint");
    let offset_delta = field!(cursor.varint(), "its offset is no varint");
    if offset_delta < 0 || offset_delta > header.last_offset_delta {
        return Err(("its offset lies outside the batch", at(&cursor)));
    }
    let key = field!(cursor.nullable_bytes(), "its key is cut off");
    let value = field!(cursor.nullable_bytes(), "its value is cut off");
    let count = field!(cursor.varint().and_then(|n| usize::try_from(n).ok()), "its header count is no count");
    let headers = Headers { rest: cursor.rest, left: count };
    for _ in 0..count {
        field!(cursor.nullable_bytes().flatten(), "a header's key is cut off or null");
        field!(cursor.nullable_bytes(), "a header's value is cut off");
    }
    if !cursor.rest.is_empty() {
        return Err(("bytes follow its last header", at(&cursor)));
    }
    let timestamp = match header.timestamp_type() {
        TimestampType::CreateTime => header.base_timestamp.wrapping_add(timestamp_delta),
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    let offset = header.base_offset.saturating_add(i64::from(offset_delta));
    Ok((RecordView { offset, timestamp, offset_delta, key, value, headers }, prefix + len))
}
