//! Walks over the batches of a segment's `.log` file.

use millpond_disk::File;
use millpond_records::{BatchHeader, HEADER_LEN};

use crate::LogError;

/// What the walker reads ahead when it wants whole batches.
const BATCHES_CHUNK_LEN: usize = 1 << 20;
/// What it reads ahead when it wants headers alone.
const HEADERS_CHUNK_LEN: usize = 8 << 10;

/// Walks over batches from a position on.
pub(crate) struct Scanner<'a> {
    file: &'a File,
    /// Where the file ends for us.
    end: u64,
    /// Where the next batch starts.
    position: u64,
    whole_batches: bool,
    buffer: Vec<u8>,
    /// The position of the buffer's first byte.
    buffer_at: u64,
}

/// One step of the walk.
pub(crate) enum Step<'b> {
    /// A batch: where it starts, its header, and all its bytes (none if only headers were wanted).
    Batch(u64, BatchHeader, &'b [u8]),
    /// There are no more.
    End,
    /// At the scanner's position there is no whole batch, and why.
    Broken(String),
}

impl<'a> Scanner<'a> {
    /// Gives the headers from `position` to `end`.
    pub(crate) fn headers(file: &'a File, position: u64, end: u64) -> Scanner<'a> {
        Scanner { file, end, position, whole_batches: false, buffer: Vec::new(), buffer_at: position }
    }

    /// Gives the whole batches from `position` to `end`.
    pub(crate) fn batches(file: &'a File, position: u64, end: u64) -> Scanner<'a> {
        Scanner { whole_batches: true, ..Scanner::headers(file, position, end) }
    }

    /// Where the next batch starts, or where the walk ended.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch. After [`Step::End`] and [`Step::Broken`] it does not move on.
    pub(crate) fn step(&mut self) -> Result<Step<'_>, LogError> {
        let left = self.end.saturating_sub(self.position);
        if left == 0 {
            return Ok(Step::End);
        }
        if left < HEADER_LEN as u64 {
            return Ok(Step::Broken(format!("{left} bytes are too few for a batch")));
        }
        self.fill(HEADER_LEN)?;
        let header = match BatchHeader::parse(self.buffered(HEADER_LEN)) {
            Ok(header) => header,
            Err(error) => return Ok(Step::Broken(error.to_string())),
        };
        let size = header.size();
        if size as u64 > left {
            return Ok(Step::Broken(format!("the batch of {size} bytes is cut off after {left}")));
        }
        let start = self.position;
        if self.whole_batches {
            self.fill(size)?;
        }
        self.position += size as u64;
        let from = usize::try_from(start - self.buffer_at).unwrap_or(usize::MAX);
        let bytes = if self.whole_batches { self.buffer.get(from..from + size).unwrap_or_default() } else { &[] };
        if self.whole_batches && bytes.len() < size {
            // The file is shorter than its length said a moment ago.
            self.position = start;
            return Ok(Step::Broken("the file ends within the batch".to_owned()));
        }
        Ok(Step::Batch(start, header, bytes))
    }

    fn buffered(&self, len: usize) -> &[u8] {
        let from = usize::try_from(self.position - self.buffer_at).unwrap_or(usize::MAX);
        self.buffer.get(from..from.saturating_add(len)).unwrap_or_default()
    }

    /// Sees to it that the `len` bytes from the position on are in the buffer, unless the file ends.
    fn fill(&mut self, len: usize) -> Result<(), LogError> {
        if self.buffered(len).len() == len {
            return Ok(());
        }
        let chunk = if self.whole_batches { BATCHES_CHUNK_LEN } else { HEADERS_CHUNK_LEN };
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        self.buffer.clear();
        self.buffer_at = self.position;
        self.file.append_at(&mut self.buffer, chunk.max(len).min(left), self.position)?;
        Ok(())
    }
}
