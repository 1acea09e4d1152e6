//! Walks over the batches of a `.log` file from its first byte to its last, past all that is damaged.

use std::path::Path;

use millpond_disk::File;
use millpond_records::{BatchHeader, BatchView, Crc32c, HEADER_LEN};
use millpond_types::Offset;

use super::window::{WINDOW_BYTES, Window};
use crate::{LogError, names};

/// A batch of more bytes is not held in memory: its checksum is computed, and its records are not looked at.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// While the next whole batch is looked for, checksums of at most so many bytes are computed for what only looks like one.
const SEARCH_BYTES_MAX: u64 = 1 << 30;

/// Where the CRC's range starts: at the attributes.
const CRC_FROM: u64 = 21;

/// Walks over batches. Sees the file as long as it was when it was opened; what is appended meanwhile is not looked at.
#[derive(Debug)]
pub struct BatchWalk {
    file: File,
    /// The offset in the file's name, if it has such a name.
    base_offset: Option<Offset>,
    /// Where the file ends for us.
    end: u64,
    position: u64,
    window: Window,
    /// For looks at other places, which must not move the window.
    aside: Window,
}

/// What the walk comes to.
#[derive(Debug)]
pub enum Found<'a> {
    /// A batch. The next thing begins where it ends.
    Batch(FoundBatch<'a>),
    /// Bytes in which no batch begins that ends before the file does.
    Gap(Gap),
}

/// A batch, at least by its length.
#[derive(Debug, Clone, Copy)]
pub struct FoundBatch<'a> {
    /// Where it begins in the file.
    pub position: u64,
    /// Its header. With a wrong checksum nothing in it is sure.
    pub header: BatchHeader,
    /// The CRC-32C of the bytes that it covers.
    pub computed_crc: u32,
    /// All its bytes; `None` if they are more than [`BATCH_BYTES_MAX`].
    pub bytes: Option<&'a [u8]>,
}

impl<'a> FoundBatch<'a> {
    /// Whether its bytes are those that were written.
    pub fn is_valid(&self) -> bool {
        self.computed_crc == self.header.crc
    }

    /// For its records; `None` if it is too large to be in memory.
    pub fn view(&self) -> Option<BatchView<'a>> {
        self.bytes.map(|bytes| BatchView { header: self.header, bytes })
    }
}

/// Bytes that hold no whole batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Where they begin in the file.
    pub position: u64,
    /// How many they are.
    pub len: u64,
    /// Why no batch begins at the first of them.
    pub what: String,
    /// Nothing follows them.
    pub is_last: bool,
    /// They can be the beginning of a batch that is being written, or room for one: a whole header and then the end of
    /// the file, less than a header, or zeros.
    pub is_unwritten: bool,
}

/// Why no whole batch begins at a place.
struct Fault {
    what: String,
    /// The file ends before the batch does.
    is_cut_off: bool,
}

impl Fault {
    fn new(what: String) -> Fault {
        Fault { what, is_cut_off: false }
    }

    fn cut_off(what: String) -> Fault {
        Fault { what, is_cut_off: true }
    }
}

impl BatchWalk {
    /// Begins at the front of a file. One whose name begins with an offset is believed to hold none below.
    pub fn open(path: &Path) -> Result<BatchWalk, LogError> {
        let file = File::open_read_only(path)?;
        let end = file.len()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let base_offset = names::parse(&name).map(|(offset, _)| offset);
        Ok(BatchWalk { file, base_offset, end, position: 0, window: Window::default(), aside: Window::default() })
    }

    /// The offset in the file's name.
    pub fn base_offset(&self) -> Option<Offset> {
        self.base_offset
    }

    /// Where the next thing begins, or the walk ended.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How long the file was when it was opened.
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether it held nothing.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Goes on at `position`, as an index says, if a whole batch begins there whose last offset is `last_offset`.
    /// `false`: there is none, and nothing has changed.
    pub fn seek(&mut self, position: u64, last_offset: Offset) -> Result<bool, LogError> {
        let Ok(header) = self.header(position)? else { return Ok(false) };
        let fits = header.last_offset() == last_offset && position + header.size() as u64 <= self.end;
        if fits && self.computed_crc(position, &header)? == Some(header.crc) {
            self.position = position;
            return Ok(true);
        }
        Ok(false)
    }

    /// What comes next; `None` at the end. After a [`Gap`] comes a whole batch, or the end.
    // Not an Iterator: a batch borrows the bytes in here.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Found<'_>>, LogError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let (header, computed_crc) = match self.batch_at(position)? {
            Ok(found) => found,
            Err(fault) => return self.gap(position, fault).map(|gap| Some(Found::Gap(gap))),
        };
        let size = header.size();
        self.position += size as u64;
        let bytes = match size <= BATCH_BYTES_MAX {
            true => Some(self.window.bytes(&self.file, position, size, self.end)?),
            false => None,
        };
        if bytes.is_some_and(|bytes| bytes.len() < size) {
            // The file has become shorter a moment ago.
            self.end = position;
            self.position = position;
            let what = "the file ends within the batch".to_owned();
            let len = size as u64;
            return Ok(Some(Found::Gap(Gap { position, len, what, is_last: true, is_unwritten: true })));
        }
        Ok(Some(Found::Batch(FoundBatch { position, header, computed_crc, bytes })))
    }

    /// The batch at a place: its header, and the checksum that it should have. One with a wrong checksum counts if another
    /// batch, or the end, is where it ends.
    fn batch_at(&mut self, position: u64) -> Result<Result<(BatchHeader, u32), Fault>, LogError> {
        let header = match self.header(position)? {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        let (size, left) = (header.size() as u64, self.end - position);
        if size > left {
            return Ok(Err(Fault::cut_off(format!("the batch of {size} bytes is cut off after {left}"))));
        }
        let Some(computed) = self.computed_crc(position, &header)? else {
            return Ok(Err(Fault::cut_off("the file ends within the batch".to_owned())));
        };
        if computed == header.crc || self.may_follow(position + size, &header)? {
            return Ok(Ok((header, computed)));
        }
        let stored = header.crc;
        let what = format!("the CRC is {stored:#010x}, that of the bytes {computed:#010x}, and no batch follows them");
        Ok(Err(Fault::new(what)))
    }

    fn header(&mut self, position: u64) -> Result<Result<BatchHeader, Fault>, LogError> {
        let bytes = self.window.bytes(&self.file, position, HEADER_LEN, self.end)?;
        if bytes.len() < HEADER_LEN {
            return Ok(Err(Fault::cut_off(format!("{} bytes are too few for a batch", bytes.len()))));
        }
        Ok(BatchHeader::parse(bytes).map_err(|error| Fault::new(error.to_string())))
    }

    /// Whether something that looks like the next batch begins at `position`, or the file ends there.
    fn may_follow(&mut self, position: u64, before: &BatchHeader) -> Result<bool, LogError> {
        if position == self.end {
            return Ok(true);
        }
        let base_offset = self.base_offset;
        let bytes = self.aside.bytes(&self.file, position, HEADER_LEN, self.end)?;
        let next = BatchHeader::parse(bytes).ok().filter(|next| is_plausible(next, base_offset));
        Ok(next.is_some_and(|next| next.base_offset > before.base_offset))
    }

    /// The checksum of the batch at `position`; `None` if the file ends before the batch.
    fn computed_crc(&mut self, position: u64, header: &BatchHeader) -> Result<Option<u32>, LogError> {
        let size = header.size();
        if size <= BATCH_BYTES_MAX {
            let bytes = self.window.bytes(&self.file, position, size, self.end)?;
            let covered = if bytes.len() == size { bytes.get(CRC_FROM as usize..) } else { None };
            return Ok(covered.map(millpond_records::crc32c));
        }
        let range = (position + CRC_FROM, position + size as u64);
        streamed_crc(&self.file, &mut self.aside, range, self.end)
    }

    /// Moves on to the next whole batch behind what is no batch.
    fn gap(&mut self, position: u64, fault: Fault) -> Result<Gap, LogError> {
        let (next, only_zeros) = self.search(position)?;
        self.position = next.unwrap_or(self.end);
        let is_last = next.is_none();
        let len = self.position - position;
        let what = if only_zeros && is_last { format!("{len} zeros are no batch") } else { fault.what };
        let is_unwritten = is_last && (only_zeros || fault.is_cut_off);
        Ok(Gap { position, len, what, is_last, is_unwritten })
    }

    /// The first place behind `position` where a whole batch begins that belongs into this file. Also whether all bytes up to
    /// it, or to the end, are zeros.
    fn search(&mut self, position: u64) -> Result<(Option<u64>, bool), LogError> {
        let mut bytes_left = SEARCH_BYTES_MAX;
        let mut only_zeros = true;
        let mut at = position;
        while at < self.end {
            let bytes = self.window.bytes(&self.file, at, WINDOW_BYTES, self.end)?;
            if bytes.is_empty() {
                self.end = at;
                break;
            }
            // The last places of a window come again at the front of the next one, where a header fits behind them.
            let is_end = at + bytes.len() as u64 >= self.end || bytes.len() < HEADER_LEN;
            let places = if is_end { bytes.len() } else { bytes.len() - (HEADER_LEN - 1) };
            let here = bytes.get(..places).unwrap_or_default();
            if here.iter().any(|byte| *byte != 0) {
                for place in 0..places {
                    only_zeros &= here.get(place) == Some(&0);
                    if bytes.get(place + 16) != Some(&(millpond_records::MAGIC as u8)) || at + place as u64 == position
                    {
                        continue;
                    }
                    let Ok(header) = BatchHeader::parse(bytes.get(place..).unwrap_or_default()) else { continue };
                    let (from, size) = (at + place as u64, header.size() as u64);
                    let fits = size <= self.end - from && size <= bytes_left;
                    if !fits || !is_plausible(&header, self.base_offset) {
                        continue;
                    }
                    bytes_left -= size;
                    let range = (from + CRC_FROM, from + size);
                    if streamed_crc(&self.file, &mut self.aside, range, self.end)? == Some(header.crc) {
                        return Ok((Some(from), only_zeros));
                    }
                }
            }
            at += places as u64;
        }
        Ok((None, only_zeros))
    }
}

/// Whether a header says what a batch of a file with this base offset can say.
fn is_plausible(header: &BatchHeader, base_offset: Option<Offset>) -> bool {
    let lowest = base_offset.unwrap_or(0);
    header.base_offset >= lowest
        && header.last_offset() - lowest <= i64::from(u32::MAX)
        && header.last_offset_delta >= 0
        && header.record_count >= 0
}

/// The checksum of a range of the file; `None` if the file ends before it does.
fn streamed_crc(file: &File, window: &mut Window, range: (u64, u64), end: u64) -> Result<Option<u32>, LogError> {
    let mut crc = Crc32c::new();
    let (mut at, to) = range;
    while at < to {
        let len = usize::try_from(to - at).unwrap_or(usize::MAX).min(WINDOW_BYTES);
        let bytes = window.bytes(file, at, len, end)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        crc.update(bytes);
        at += bytes.len() as u64;
    }
    Ok(Some(crc.value()))
}
