//! Reading batches by offset.

use bytes::Bytes;
use millpond_disk::File;
use millpond_records::{BatchHeader, HEADER_LEN};
use millpond_types::Offset;

use crate::segment::Segment;
use crate::{LogError, PartitionLog, ReadError, names};

/// Pieces of disk and tail that one read puts together, at most.
const PIECES_MAX: usize = 16;

/// Whole batches, as they lie in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchedBytes {
    /// The batches' bytes, one chunk after the other; a batch never spans two.
    pub chunks: Vec<Bytes>,
    /// Bytes of all chunks.
    pub len: usize,
    /// The first batch's base offset, which may lie below what was asked for; what was asked for if there is no batch.
    pub base_offset: Offset,
    /// The offset after the last batch; what was asked for if there is no batch. Read on from here.
    pub next_offset: Offset,
}

impl FetchedBytes {
    /// Whether there is no batch.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl PartitionLog {
    /// Whole batches from the one that contains `from` on, of at most `bytes_max` bytes, none of which reaches beyond
    /// `end` (exclusive). A first batch that is larger than `bytes_max` is given if `whole_first_batch`.
    ///
    /// At most `bytes_max` bytes (and one batch) are held for it, so that is the caller's bound.
    ///
    /// The newest batches come from memory without a system call, older ones with one or two.
    pub fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        end: Offset,
        whole_first_batch: bool,
    ) -> Result<FetchedBytes, ReadError> {
        let log_end = self.log_end_offset();
        self.check_range(from, log_end)?;
        let end = end.min(log_end);
        let mut fetched = FetchedBytes { base_offset: from, next_offset: from, ..FetchedBytes::default() };
        for _ in 0..PIECES_MAX {
            let (before, next) = (fetched.len, fetched.next_offset);
            if next >= end || (before >= bytes_max && before > 0) {
                break;
            }
            if self.tail.read(next, end, bytes_max, whole_first_batch, &mut fetched) {
                break;
            }
            match self.read_disk(end, bytes_max, whole_first_batch, &mut fetched) {
                Ok(()) => {}
                // What was read before stays good; the next read tells what is wrong.
                Err(_) if before > 0 => break,
                Err(error) => {
                    // The segment may have been deleted before or after its look-up.
                    self.check_range(from, log_end)?;
                    return Err(error.into());
                }
            }
            if fetched.next_offset == next {
                break;
            }
        }
        Ok(fetched)
    }

    fn check_range(&self, offset: Offset, log_end: Offset) -> Result<(), ReadError> {
        let log_start = self.log_start_offset();
        if offset < log_start || offset > log_end {
            return Err(ReadError::OutOfRange { offset, log_start, log_end });
        }
        Ok(())
    }

    /// Reads from one segment's file, from `fetched.next_offset` on. Moves on to the next segment if the rest of this
    /// one holds nothing at or after that offset.
    fn read_disk(
        &self,
        end: Offset,
        bytes_max: usize,
        whole_first_batch: bool,
        fetched: &mut FetchedBytes,
    ) -> Result<(), LogError> {
        let from = fetched.next_offset;
        let (segment, is_active) = self.segment_of(from);
        if segment.base_offset() > from {
            let (log_start, log_end) = (self.log_start_offset(), self.log_end_offset());
            return Err(LogError::OutOfRange { offset: from, log_start, log_end });
        }
        let file = self.open_files.file_of(&segment, is_active)?;
        let first = fetched.len == 0;
        let room = bytes_max - fetched.len.min(bytes_max);
        let piece = Piece { from, end, room, whole_first_batch: first && whole_first_batch };

        // Who reads on from where somebody stopped needs no index.
        let remembered = match from == segment.base_offset() {
            true => Some(0),
            false => self.open_files.place(segment.base_offset(), from),
        };
        let mut read = None;
        if let Some(position) = remembered {
            read = piece.read(&segment, &file, position)?;
        }
        let read = match read {
            Some(read) => read,
            None => {
                let Some((position, _)) = segment.locate(&file, from)? else {
                    self.go_to_next_segment(&segment, fetched);
                    return Ok(());
                };
                piece.read(&segment, &file, position)?.ok_or_else(|| LogError::Damaged {
                    path: segment.path(names::LOG),
                    what: format!("no batch at position {position}, where offset {from} should be"),
                })?
            }
        };
        if read.bytes.is_empty() {
            return Ok(());
        }
        if first {
            fetched.base_offset = read.base_offset;
        }
        self.open_files.remember(segment.base_offset(), read.next_offset, read.position + read.bytes.len() as u64);
        fetched.len += read.bytes.len();
        fetched.next_offset = read.next_offset;
        fetched.chunks.push(Bytes::from(read.bytes));
        Ok(())
    }

    /// No batch of `segment` ends at or after the offset: a hole, as Kafka's compaction leaves them.
    fn go_to_next_segment(&self, segment: &Segment, fetched: &mut FetchedBytes) {
        let segments = self.segments.read();
        if let Some(next) = segments.iter().find(|other| other.base_offset() > segment.base_offset()) {
            fetched.next_offset = next.base_offset();
        }
    }
}

/// What one read of a segment's file is to give.
struct Piece {
    from: Offset,
    /// No batch reaches beyond it.
    end: Offset,
    /// Bytes, at most.
    room: usize,
    /// The first batch may be larger than the room.
    whole_first_batch: bool,
}

/// Whole batches from a segment's file; none if not one fits.
struct ReadPiece {
    position: u64,
    base_offset: Offset,
    next_offset: Offset,
    bytes: Vec<u8>,
}

impl Piece {
    /// Reads from the batch at `position`, which holds `from` or is the first after it. `None`: there is no such batch.
    fn read(&self, segment: &Segment, file: &File, position: u64) -> Result<Option<ReadPiece>, LogError> {
        let left = usize::try_from(segment.size().saturating_sub(position)).unwrap_or(usize::MAX);
        // At the least a header, to learn how long the first batch is.
        let mut bytes = file.read_at(self.room.max(HEADER_LEN).min(left), position)?;
        let header = match BatchHeader::parse(&bytes) {
            Ok(header) if header.last_offset() >= self.from && header.size() <= left => header,
            _ => return Ok(None),
        };
        if header.size() > bytes.len() && self.whole_first_batch {
            let done = bytes.len();
            file.append_at(&mut bytes, header.size() - done, position + done as u64)?;
        }
        let (len, next_offset) = self.whole_batches(&bytes);
        bytes.truncate(len);
        Ok(Some(ReadPiece { position, base_offset: header.base_offset, next_offset, bytes }))
    }

    /// How many bytes at the front of `bytes` are whole batches that end at or before the end and fit the room, and the
    /// offset after them.
    fn whole_batches(&self, bytes: &[u8]) -> (usize, Offset) {
        let (mut len, mut next) = (0, self.from);
        while let Ok(header) = BatchHeader::parse(bytes.get(len..).unwrap_or_default()) {
            let after = len + header.size();
            let fits = after <= self.room || (len == 0 && self.whole_first_batch);
            if !fits || after > bytes.len() || header.next_offset() > self.end || header.next_offset() <= next {
                break;
            }
            len = after;
            next = header.next_offset();
        }
        (len, next)
    }
}
