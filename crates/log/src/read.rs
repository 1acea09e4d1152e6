//! Reading batches by offset.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use millpond_disk::{DiskError, File};
use millpond_records::{BatchHeader, HEADER_LEN};
use millpond_types::Offset;

use crate::segment::Segment;
use crate::{LogError, PartitionLog, ReadError, names};

/// Pieces of disk and tail that one read puts together, at most.
const PIECES_MAX: usize = 16;

/// Batches on the disk that have this size on average are left where they are by [`PartitionLog::find`]: to read their
/// headers alone, one by one, is less work than to copy them.
const IN_PLACE_BATCH_BYTES_MIN: usize = 8 * 1024;

/// Where small batches end such a piece before it has so many bytes, the log is read instead: a read's pieces are few, and
/// must not be small.
const IN_PLACE_PIECE_BYTES_MIN: usize = 64 * 1024;

/// Whole batches, some of them where they lie in the log's files.
#[derive(Debug, Clone, Default)]
pub struct FoundBatches {
    /// The batches, one piece after the other; a batch never spans two.
    pub pieces: Vec<BatchPiece>,
    /// Bytes of all pieces.
    pub len: usize,
    /// The offset after the last batch; what was asked for if there is no batch.
    pub next_offset: Offset,
}

/// Some whole batches.
#[derive(Debug, Clone)]
pub enum BatchPiece {
    /// In memory.
    Memory(Bytes),
    /// On the disk.
    File(FilePiece),
}

/// Whole batches in a segment's file. They are there as long as this is, whatever retention deletes.
#[derive(Debug, Clone)]
pub struct FilePiece {
    file: Arc<File>,
    position: u64,
    len: usize,
}

impl BatchPiece {
    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            BatchPiece::Memory(bytes) => bytes.len(),
            BatchPiece::File(piece) => piece.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, read from the disk if need be.
    pub fn read(self) -> Result<Bytes, DiskError> {
        match self {
            BatchPiece::Memory(bytes) => Ok(bytes),
            BatchPiece::File(FilePiece { file, position, len }) => file.read_at(len, position).map(Bytes::from),
        }
    }
}

impl FilePiece {
    /// Where the file was when it was opened.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Sends from the front as much as `socket` takes; [`FilePiece::advance`] takes note of it. It is an error if the
    /// file ends before.
    pub fn send_to(&self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        match self.file.send_at(socket, self.len, self.position)? {
            0 if self.len > 0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a segment ends before its batches")),
            sent => Ok(sent),
        }
    }

    /// Forgets the first `count` bytes.
    ///
    /// # Panics
    /// When there are not as many.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len, "{count} of {} bytes", self.len);
        self.position += count as u64;
        self.len -= count;
    }
}

/// Whole batches, as they lie in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchedBytes {
    /// The batches' bytes, one chunk after the other; a batch never spans two.
    pub chunks: Vec<Bytes>,
    /// Bytes of all chunks.
    pub len: usize,
    /// The first batch's base offset, which may lie below what was asked for, or above, where compaction left a hole; what was
    /// asked for if there is no batch.
    pub base_offset: Offset,
    /// The offset after the last batch; what was asked for if there is no batch, or the end, if there is none below it. Read on
    /// from here.
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
        self.read_into(from, bytes_max, end, whole_first_batch, None)
    }

    /// The same, but what lies on the disk in large batches is not read: the result tells where it is.
    pub fn find(
        &self,
        from: Offset,
        bytes_max: usize,
        end: Offset,
        whole_first_batch: bool,
    ) -> Result<FoundBatches, ReadError> {
        let mut pieces = Vec::new();
        let fetched = self.read_into(from, bytes_max, end, whole_first_batch, Some(&mut pieces))?;
        Ok(FoundBatches { pieces, len: fetched.len, next_offset: fetched.next_offset })
    }

    /// With `pieces` given all goes there, and nothing to the result's chunks.
    fn read_into(
        &self,
        from: Offset,
        bytes_max: usize,
        end: Offset,
        whole_first_batch: bool,
        mut pieces: Option<&mut Vec<BatchPiece>>,
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
            let in_memory = self.tail.read(next, end, bytes_max, whole_first_batch, &mut fetched);
            if let Some(pieces) = &mut pieces {
                pieces.extend(fetched.chunks.drain(..).map(BatchPiece::Memory));
            }
            if in_memory {
                break;
            }
            match self.read_disk(end, bytes_max, whole_first_batch, &mut fetched, pieces.as_deref_mut()) {
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
        pieces: Option<&mut Vec<BatchPiece>>,
    ) -> Result<(), LogError> {
        let from = fetched.next_offset;
        let segment = self.segment_of(from);
        if segment.base_offset() > from {
            let (log_start, log_end) = (self.log_start_offset(), self.log_end_offset());
            return Err(LogError::OutOfRange { offset: from, log_start, log_end });
        }
        let file = self.open_files.file_of(&segment)?;
        let first = fetched.len == 0;
        let room = bytes_max - fetched.len.min(bytes_max);
        let whole_first_batch = first && whole_first_batch;
        let piece = Piece { from, end, room, whole_first_batch, in_place: pieces.is_some() };

        // Who reads on from where somebody stopped needs no index.
        let remembered = match from == segment.base_offset() {
            true => Some(0),
            false => self.open_files.place(&segment, from),
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
        if read.len == 0 {
            if read.base_offset >= end {
                // All there was below the end made room for what came behind it.
                fetched.next_offset = end;
            }
            return Ok(());
        }
        if first {
            fetched.base_offset = read.base_offset;
        }
        self.open_files.remember(&segment, read.next_offset, read.position + read.len as u64);
        fetched.len += read.len;
        fetched.next_offset = read.next_offset;
        match (pieces, read.bytes) {
            (None, Some(bytes)) => fetched.chunks.push(bytes.into()),
            (Some(pieces), Some(bytes)) => pieces.push(BatchPiece::Memory(bytes.into())),
            (Some(pieces), None) => {
                pieces.push(BatchPiece::File(FilePiece { file, position: read.position, len: read.len }));
            }
            (None, None) => unreachable!("only with pieces batches are left in place"),
        }
        Ok(())
    }

    /// No batch of `segment` ends at or after the offset: a hole, as compaction leaves them.
    fn go_to_next_segment(&self, segment: &Segment, fetched: &mut FetchedBytes) {
        let segments = self.segments.read();
        // Over those of which nothing is left.
        let mut later = segments.iter().filter(|other| other.base_offset() > segment.base_offset());
        if let Some(next) = later.find(|other| other.size() > 0).or(segments.last()) {
            fetched.next_offset = fetched.next_offset.max(next.base_offset());
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
    /// Large batches are not to be read.
    in_place: bool,
}

/// Whole batches from a segment's file; of no length if not one fits.
struct ReadPiece {
    position: u64,
    base_offset: Offset,
    next_offset: Offset,
    len: usize,
    /// None if they were left in place.
    bytes: Option<Vec<u8>>,
}

impl Piece {
    /// Reads from the batch at `position`, which holds `from` or is the first after it. `None`: there is no such batch.
    fn read(&self, segment: &Segment, file: &File, position: u64) -> Result<Option<ReadPiece>, LogError> {
        let left = usize::try_from(segment.size().saturating_sub(position)).unwrap_or(usize::MAX);
        if self.in_place
            && let Some(found) = self.find(file, position, left)?
        {
            return Ok(Some(found));
        }
        // At the least a header, to learn how long the first batch is.
        let mut bytes = file.read_at(self.room.max(HEADER_LEN).min(left), position)?;
        let header = match BatchHeader::parse(&bytes) {
            Ok(header) if self.begins_with(&header, left) => header,
            _ => return Ok(None),
        };
        if header.size() > bytes.len() && self.whole_first_batch {
            let done = bytes.len();
            file.append_at(&mut bytes, header.size() - done, position + done as u64)?;
        }
        let (len, next_offset) = self.whole_batches(&bytes);
        bytes.truncate(len);
        Ok(Some(ReadPiece { position, base_offset: header.base_offset, next_offset, len, bytes: Some(bytes) }))
    }

    /// Finds what [`Piece::read`] reads by the headers alone, as long as the batches are large on average. `None`: not
    /// even the first are, or there is no batch.
    fn find(&self, file: &File, position: u64, left: usize) -> Result<Option<ReadPiece>, LogError> {
        let header_at = |len: usize| -> Result<Option<BatchHeader>, LogError> {
            if left - len < HEADER_LEN {
                return Ok(None);
            }
            let mut bytes = [0; HEADER_LEN];
            file.read_exact_at(&mut bytes, position + len as u64)?;
            Ok(BatchHeader::parse(&bytes).ok())
        };
        let first = match header_at(0)? {
            Some(header) if self.begins_with(&header, left) && header.size() >= IN_PLACE_BATCH_BYTES_MIN => header,
            _ => return Ok(None),
        };
        let base_offset = first.base_offset;
        let (mut len, mut next_offset, mut count, mut header) = (0, self.from, 0, Some(first));
        while let Some(batch) = header
            && self.takes(&batch, len, next_offset, left)
        {
            len += batch.size();
            next_offset = batch.next_offset();
            count += 1;
            if len / count < IN_PLACE_BATCH_BYTES_MIN {
                if len < self.room.min(IN_PLACE_PIECE_BYTES_MIN) {
                    return Ok(None);
                }
                break;
            }
            header = header_at(len)?;
        }
        Ok(Some(ReadPiece { position, base_offset, next_offset, len, bytes: None }))
    }

    /// Whether the batch at the front, of `left` bytes that are there, is the one that was looked for.
    fn begins_with(&self, header: &BatchHeader, left: usize) -> bool {
        header.last_offset() >= self.from && header.size() <= left
    }

    /// How many bytes at the front of `bytes` are whole batches that end at or before the end and fit the room, and the
    /// offset after them.
    fn whole_batches(&self, bytes: &[u8]) -> (usize, Offset) {
        let (mut len, mut next) = (0, self.from);
        while let Ok(header) = BatchHeader::parse(bytes.get(len..).unwrap_or_default())
            && self.takes(&header, len, next, bytes.len())
        {
            len += header.size();
            next = header.next_offset();
        }
        (len, next)
    }

    /// Whether the batch with `header` follows `len` bytes of batches that end before `next`; of `available` bytes.
    fn takes(&self, header: &BatchHeader, len: usize, next: Offset, available: usize) -> bool {
        let after = len + header.size();
        let fits = after <= self.room || (len == 0 && self.whole_first_batch);
        fits && after <= available && header.next_offset() <= self.end && header.next_offset() > next
    }
}
