//! A part of a file in memory, which moves along with whoever reads.

use millpond_disk::{DiskError, File};

/// What is read ahead, in bytes.
pub(super) const WINDOW_BYTES: usize = 1 << 20;

/// The bytes of a file around the place that is looked at.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    /// The position of the first of them.
    at: u64,
}

impl Window {
    /// The `len` bytes from `position` on. Fewer, if the file ends before; nothing is read from `end` on.
    pub(super) fn bytes(&mut self, file: &File, position: u64, len: usize, end: u64) -> Result<&[u8], DiskError> {
        let left = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
        let len = len.min(left);
        let offset_of = |window: &Window| position.checked_sub(window.at).and_then(|from| usize::try_from(from).ok());
        let is_here = offset_of(self).is_some_and(|from| from.saturating_add(len) <= self.bytes.len());
        if !is_here {
            self.bytes.clear();
            self.at = position;
            file.append_at(&mut self.bytes, WINDOW_BYTES.max(len).min(left), position)?;
        }
        let from = offset_of(self).unwrap_or(usize::MAX);
        let here = self.bytes.get(from..).unwrap_or_default();
        Ok(here.get(..len).unwrap_or(here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_what_the_file_has_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let all: Vec<u8> = (0..3 * WINDOW_BYTES).map(|n| (n % 251) as u8).collect();
        millpond_disk::write_file(&path, &all).unwrap();
        let file = File::open_read_only(&path).unwrap();
        let mut window = Window::default();
        let end = all.len() as u64 - 7;
        for (position, len) in [(0, 61), (WINDOW_BYTES - 3, 61), (5, 10), (100, 2 * WINDOW_BYTES), (all.len() - 20, 61)]
        {
            let expected = &all[position..(position + len).min(end as usize)];
            assert_eq!(window.bytes(&file, position as u64, len, end).unwrap(), expected, "{position}");
        }
        assert_eq!(window.bytes(&file, end, 5, end).unwrap(), b"");
        assert_eq!(window.bytes(&file, end + 100, 5, end).unwrap(), b"");
        // The file may have become shorter than it was.
        assert_eq!(window.bytes(&file, end, 50, end + 1000).unwrap(), &all[end as usize..]);
    }
}
