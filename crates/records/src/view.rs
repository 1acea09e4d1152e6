//! Batches as they lie in memory, one after the other.

use std::borrow::Cow;

use crate::{BatchError, BatchHeader, Compression, HEADER_LEN, Records};

/// One whole batch in borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    /// Its header.
    pub header: BatchHeader,
    /// All its bytes, header included.
    pub bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The first batch of `bytes`, which may go on after it. The CRC is not looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<BatchView<'a>, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.size();
        let bytes = bytes.get(..needed).ok_or(BatchError::TooShort { found: bytes.len(), needed })?;
        Ok(BatchView { header, bytes })
    }

    /// The batch's records, decompressed into at most `decompressed_bytes_max` bytes where they are compressed.
    pub fn records(&self, decompressed_bytes_max: usize) -> Result<Records<'a>, BatchError> {
        let payload = self.bytes.get(HEADER_LEN..).unwrap_or_default();
        let payload = match self.header.compression()? {
            Compression::None => Cow::Borrowed(payload),
            codec => Cow::Owned(codec.decompress(payload, decompressed_bytes_max)?),
        };
        Ok(Records::new(self.header, payload))
    }
}

/// The batches in `bytes`, one after the other.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes, failed: false }
}

/// Iterates over the batches of some bytes. A last batch that is cut off (a Fetch answer may do that) ends the
/// iteration silently, [`Batches::rest`] tells; other errors are given once and end it.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl Batches<'_> {
    /// How many bytes are left that no batch was read from.
    pub fn rest(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match BatchView::parse(self.rest) {
            Ok(view) => {
                self.rest = self.rest.get(view.bytes.len()..).unwrap_or_default();
                Some(Ok(view))
            }
            Err(BatchError::TooShort { .. }) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}
