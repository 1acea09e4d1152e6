//! CRC-32C of bytes that come piece by piece.

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC-32C of bytes that are not in memory all at once; the same as [`crc32c`](crate::crc32c) of all of them.
#[derive(Debug, Clone)]
pub struct Crc32c(Digest);

impl Crc32c {
    /// That of no bytes.
    pub fn new() -> Crc32c {
        Crc32c(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub fn value(&self) -> u32 {
        u32::try_from(self.0.finalize()).expect("a CRC-32 has 32 bits")
    }
}

impl Default for Crc32c {
    fn default() -> Crc32c {
        Crc32c::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_do_not_matter() {
        let bytes: Vec<u8> = (0..10_000u32).flat_map(u32::to_be_bytes).collect();
        for len in [1, 7, 4096, bytes.len()] {
            let mut crc = Crc32c::new();
            bytes.chunks(len).for_each(|piece| crc.update(piece));
            assert_eq!(crc.value(), crate::crc32c(&bytes), "pieces of {len}");
        }
        assert_eq!(Crc32c::new().value(), crate::crc32c(b""));
    }
}
