//! A file that is written in whole blocks at positions it already has, past the page cache where the file system allows.
//!
//! A sync of such a write has no new length and no new blocks to make durable, only the bytes: most file systems commit a
//! journal for the former.

use std::io;
use std::path::Path;

use crate::system::{Create, OpenMode};
use crate::{DiskError, File};

/// The unit of writing in bytes: a multiple of what disks and file systems ask for.
pub const BLOCK_BYTES: usize = 4096;

/// Zeros are written in pieces of this many bytes when a file is made.
const FILL_BYTES: usize = 256 << 10;

/// A file of a fixed length whose blocks are overwritten in place.
#[derive(Debug)]
pub struct BlockFile {
    file: File,
}

impl BlockFile {
    /// Makes a new file of `len` zero bytes (a multiple of [`BLOCK_BYTES`]) and returns when its bytes are durable. Its name
    /// is durable after [`crate::sync_dir`]. `between` is called between pieces of some 100 KB: who does not want to keep the
    /// disk from others sleeps there.
    pub fn create_new(path: &Path, len: u64, mut between: impl FnMut()) -> Result<BlockFile, DiskError> {
        let made = BlockFile { file: open(path, true)? };
        let mut zeros = BlockBuffer::new(FILL_BYTES);
        zeros.put_zeros(FILL_BYTES);
        // So that a disk without room for all of it is not filled up first.
        made.file.preallocate(len)?;
        let mut position = 0;
        while position < len {
            let piece = zeros.as_slice().len().min(usize::try_from(len - position).unwrap_or(usize::MAX));
            made.file.write_all_at(zeros.as_slice().get(..piece).unwrap_or_default(), position)?;
            position += piece as u64;
            between();
        }
        made.file.sync_all()?;
        Ok(made)
    }

    /// Opens a file that [`BlockFile::create_new`] made.
    pub fn open(path: &Path) -> Result<BlockFile, DiskError> {
        Ok(BlockFile { file: open(path, false)? })
    }

    /// Where the file was when it was opened.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Its length in bytes.
    pub fn len(&self) -> Result<u64, DiskError> {
        self.file.len()
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> Result<bool, DiskError> {
        self.file.is_empty()
    }

    /// Writes the buffer, which [`BlockBuffer::pad`] has made whole blocks, at `position`, a multiple of [`BLOCK_BYTES`].
    ///
    /// # Panics
    /// When it is no whole blocks or no block's position.
    pub fn write_at(&self, buffer: &BlockBuffer, position: u64) -> Result<(), DiskError> {
        let whole = buffer.len().is_multiple_of(BLOCK_BYTES) && position.is_multiple_of(BLOCK_BYTES as u64);
        assert!(whole, "{} bytes at {position} are no whole blocks", buffer.len());
        self.file.write_all_at(buffer.as_slice(), position)
    }

    /// Makes the blocks written so far durable (fdatasync: what went past the page cache may still be in the disk's own).
    pub fn sync_data(&self) -> Result<(), DiskError> {
        self.file.sync_data()
    }
}

/// Opens past the page cache, or, on a file system that has no such thing, through it.
fn open(path: &Path, create: bool) -> Result<File, DiskError> {
    let operation = if create { "create" } else { "open" };
    let new = if create { Create::New } else { Create::Never };
    match File::with_mode(path, operation, OpenMode { direct: true, ..OpenMode::write(new) }) {
        Err(error) if error.source.kind() == io::ErrorKind::InvalidInput => {
            // Some systems make the file before they refuse the flag.
            let again = if create { Create::Empty } else { Create::Never };
            File::with_mode(path, operation, OpenMode::write(again))
        }
        opened => opened,
    }
}

/// Bytes on their way to a [`BlockFile`], in memory that begins at a block's boundary.
#[derive(Debug)]
pub struct BlockBuffer {
    memory: Box<[u8]>,
    /// Where the first whole block of `memory` begins.
    start: usize,
    len: usize,
}

impl BlockBuffer {
    /// An empty buffer with room for `capacity` bytes, rounded up to whole blocks.
    pub fn new(capacity: usize) -> BlockBuffer {
        let memory = vec![0; capacity.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES].into_boxed_slice();
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        BlockBuffer { memory, start, len: 0 }
    }

    /// How many bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.memory.len() - BLOCK_BYTES
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it holds.
    pub fn as_slice(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.len).unwrap_or_default()
    }

    /// The same, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.len).unwrap_or_default()
    }

    /// Adds bytes.
    ///
    /// # Panics
    /// When there is no room for them.
    pub fn put(&mut self, bytes: &[u8]) {
        let from = self.start + self.len;
        assert!(self.len + bytes.len() <= self.capacity(), "{} more bytes do not fit", bytes.len());
        if let Some(room) = self.memory.get_mut(from..from + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    /// Adds `count` zeros.
    ///
    /// # Panics
    /// When there is no room for them.
    pub fn put_zeros(&mut self, count: usize) {
        let from = self.start + self.len;
        assert!(self.len + count <= self.capacity(), "{count} more bytes do not fit");
        if let Some(room) = self.memory.get_mut(from..from + count) {
            room.fill(0);
            self.len += count;
        }
    }

    /// Adds zeros up to the end of the block that is begun.
    pub fn pad(&mut self) {
        self.put_zeros(self.len.next_multiple_of(BLOCK_BYTES) - self.len);
    }

    /// Forgets what it holds.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_overwritten_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocks");
        let len = FILL_BYTES as u64 + 3 * BLOCK_BYTES as u64;
        let mut pieces = 0;
        let file = BlockFile::create_new(&path, len, || pieces += 1).unwrap();
        assert_eq!((file.len().unwrap(), pieces), (len, 2));
        let mut buffer = BlockBuffer::new(2 * BLOCK_BYTES);
        buffer.put(b"head");
        buffer.put(&[7; BLOCK_BYTES]);
        buffer.pad();
        assert_eq!(buffer.len(), 2 * BLOCK_BYTES);
        file.write_at(&buffer, BLOCK_BYTES as u64).unwrap();
        file.sync_data().unwrap();
        let mut expected = vec![0; len as usize];
        expected[BLOCK_BYTES..BLOCK_BYTES + 4].copy_from_slice(b"head");
        expected[BLOCK_BYTES + 4..2 * BLOCK_BYTES + 4].fill(7);
        assert!(std::fs::read(&path).unwrap() == expected);

        buffer.clear();
        buffer.put(b"again");
        buffer.pad();
        BlockFile::open(&path).unwrap().write_at(&buffer, 0).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"again\0"));
        assert!(BlockFile::create_new(&path, len, || {}).is_err(), "it exists");
    }

    #[test]
    #[should_panic(expected = "no whole blocks")]
    fn a_part_of_a_block_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = BlockFile::create_new(&dir.path().join("blocks"), BLOCK_BYTES as u64, || {}).unwrap();
        let mut buffer = BlockBuffer::new(BLOCK_BYTES);
        buffer.put(b"x");
        let _ = file.write_at(&buffer, 0);
    }
}
