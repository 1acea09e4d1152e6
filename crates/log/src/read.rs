//! Reading batches by offset.

use bytes::Bytes;
use millpond_records::BatchHeader;
use millpond_types::Offset;

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
                // The segment was deleted between its look-up and the read.
                Err(LogError::Disk(error)) if error.is_not_found() && self.log_start_offset() > next => {
                    if before > 0 {
                        break;
                    }
                    self.check_range(from, log_end)?;
                }
                Err(error) => return Err(error.into()),
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
        let file = self.open_files.file_of(&segment, is_active)?;
        let size = segment.size();
        let remembered = if from == segment.base_offset() {
            Some(0)
        } else {
            self.open_files.place(segment.base_offset(), from).filter(|position| *position < size)
        };

        // A first try at the remembered place; should it not hold the offset, the index tells.
        let mut place = remembered.map(|position| (position, None));
        loop {
            let (position, first_len) = match place {
                Some(place) => place,
                None => match segment.locate(&file, from)? {
                    Some((position, header)) => (position, Some(header.size())),
                    None => return self.go_to_next_segment(&segment, fetched),
                },
            };
            let room = bytes_max.saturating_sub(fetched.len);
            let first = fetched.len == 0;
            let wanted = match first_len {
                Some(len) if first && whole_first_batch => room.max(len),
                // At the least a header, to learn how long the batch is.
                _ => room.max(millpond_records::HEADER_LEN),
            };
            let left = usize::try_from(size.saturating_sub(position)).unwrap_or(usize::MAX);
            let mut bytes = file.read_at(wanted.min(left), position)?;
            let Ok(header) = BatchHeader::parse(&bytes) else {
                if place.take().is_some() {
                    continue;
                }
                if left == 0 {
                    return self.go_to_next_segment(&segment, fetched);
                }
                let what = format!("no batch at position {position}, where offset {from} should be");
                return Err(LogError::Damaged { path: segment.path(names::LOG), what });
            };
            let holds = header.last_offset() >= from && (header.base_offset <= from || place.is_none());
            if !holds && place.take().is_some() {
                continue;
            }
            if header.size() > bytes.len() && first && whole_first_batch && header.size() <= left {
                let done = bytes.len();
                file.append_at(&mut bytes, header.size() - done, position + done as u64)?;
            }
            let (len, next) =
                whole_batches(&bytes, from, end, if first && whole_first_batch { usize::MAX } else { room }, room);
            if len == 0 {
                return Ok(());
            }
            if first {
                fetched.base_offset = header.base_offset;
            }
            bytes.truncate(len);
            fetched.len += len;
            fetched.next_offset = next;
            fetched.chunks.push(Bytes::from(bytes));
            self.open_files.remember(segment.base_offset(), next, position + len as u64);
            return Ok(());
        }
    }

    /// No batch of `segment` ends at or after the offset: a hole, as Kafka's compaction leaves them.
    fn go_to_next_segment(
        &self,
        segment: &crate::segment::Segment,
        fetched: &mut FetchedBytes,
    ) -> Result<(), LogError> {
        let segments = self.segments.read();
        let next = segments.iter().find(|other| other.base_offset() > segment.base_offset());
        if let Some(next) = next {
            fetched.next_offset = next.base_offset();
        }
        Ok(())
    }
}

/// How many bytes at the front of `bytes` are whole batches that end at or before `end` and within `room` bytes (the
/// first one: within `first_room`), and the offset after them.
fn whole_batches(bytes: &[u8], from: Offset, end: Offset, first_room: usize, room: usize) -> (usize, Offset) {
    let (mut len, mut next) = (0, from);
    while let Ok(header) = BatchHeader::parse(bytes.get(len..).unwrap_or_default()) {
        let size = header.size();
        let fits = len + size <= if len == 0 { first_room } else { room };
        if !fits || len + size > bytes.len() || header.next_offset() > end || header.next_offset() <= next {
            break;
        }
        len += size;
        next = header.next_offset();
    }
    (len, next)
}
