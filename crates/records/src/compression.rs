//! The four compressions, as Kafka's clients write and read them.

use std::fmt;
use std::io::{Read, Write};

use crate::BatchError;

/// How a batch's records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952; several members in a row are read as one.
    Gzip,
    /// Snappy blocks in xerial's framing, which is what Java writes; a raw block is read, too.
    Snappy,
    /// LZ4 frames with independent blocks.
    Lz4,
    /// Zstandard frames.
    Zstd,
}

/// What xerial's snappy streams begin with.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version and lowest compatible version (both 1).
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Uncompressed bytes in one xerial block, as Java's SnappyOutputStream takes them.
const XERIAL_BLOCK_LEN: usize = 32 * 1024;
/// The largest window of a zstd frame, as a power of two; larger ones are refused (zstd's own default).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Kafka's default level (`compression.zstd.level`).
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    /// All of them, in the order of their codes.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The compression of a code in bits 0 to 2 of a batch's attributes.
    pub fn from_code(code: i16) -> Option<Compression> {
        usize::try_from(code).ok().and_then(|code| Compression::ALL.get(code)).copied()
    }

    /// Its code in the attributes.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// Compresses a batch's records, in the framing that Kafka's clients read.
    pub fn compress(self, bytes: &[u8]) -> Vec<u8> {
        self.compress_at(bytes, None)
    }

    /// The same at some level: 1 to 9 of gzip, −131072 to 22 of zstd; the others have none.
    pub fn compress_at(self, bytes: &[u8], level: Option<i32>) -> Vec<u8> {
        // Writing to a Vec does not fail; the encoders' own errors are about options that are fixed here.
        const WRITES_TO_MEMORY: &str = "compressing into memory cannot fail";
        match self {
            Compression::None => bytes.to_vec(),
            Compression::Gzip => {
                let out = Vec::with_capacity(bytes.len() / 2);
                let level = level
                    .and_then(|level| u32::try_from(level).ok())
                    .map(|level| flate2::Compression::new(level.min(9)));
                let mut encoder = flate2::write::GzEncoder::new(out, level.unwrap_or_default());
                encoder.write_all(bytes).and_then(|()| encoder.finish()).expect(WRITES_TO_MEMORY)
            }
            Compression::Snappy => {
                let mut out = XERIAL_HEADER.to_vec();
                let mut encoder = snap::raw::Encoder::new();
                for block in bytes.chunks(XERIAL_BLOCK_LEN) {
                    let compressed = encoder.compress_vec(block).expect(WRITES_TO_MEMORY);
                    out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
                    out.extend_from_slice(&compressed);
                }
                out
            }
            Compression::Lz4 => {
                // Java's reader knows independent blocks only.
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_mode(lz4_flex::frame::BlockMode::Independent)
                    .block_size(lz4_flex::frame::BlockSize::Max64KB);
                let out = Vec::with_capacity(bytes.len() / 2 + 32);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
                encoder.write_all(bytes).expect(WRITES_TO_MEMORY);
                encoder.finish().expect(WRITES_TO_MEMORY)
            }
            Compression::Zstd => zstd::bulk::compress(bytes, level.unwrap_or(ZSTD_LEVEL)).expect(WRITES_TO_MEMORY),
        }
    }

    /// Decompresses a batch's records into at most `bytes_max` bytes.
    pub fn decompress(self, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
        let failed = |reason: String| BatchError::Decompress { codec: self, reason };
        match self {
            Compression::None if bytes.len() > bytes_max => Err(BatchError::TooLargeDecompressed { bytes_max }),
            Compression::None => Ok(bytes.to_vec()),
            Compression::Gzip => self.read_all(flate2::bufread::MultiGzDecoder::new(bytes), bytes.len(), bytes_max),
            Compression::Snappy => decompress_snappy(bytes, bytes_max),
            Compression::Lz4 => self.read_all(lz4_flex::frame::FrameDecoder::new(bytes), bytes.len(), bytes_max),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|e| failed(e.to_string()))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|e| failed(e.to_string()))?;
                self.read_all(decoder, bytes.len(), bytes_max)
            }
        }
    }

    /// Reads a decoder to its end; `compressed_len` is for a first guess at what it will give.
    fn read_all(self, decoder: impl Read, compressed_len: usize, bytes_max: usize) -> Result<Vec<u8>, BatchError> {
        let mut out = Vec::with_capacity((compressed_len * 3).min(bytes_max));
        // One byte more than allowed tells "exactly full" from "too much".
        match decoder.take(bytes_max as u64 + 1).read_to_end(&mut out) {
            Ok(_) if out.len() > bytes_max => Err(BatchError::TooLargeDecompressed { bytes_max }),
            Ok(_) => Ok(out),
            Err(error) => Err(BatchError::Decompress { codec: self, reason: error.to_string() }),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        })
    }
}

fn decompress_snappy(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    if !bytes.starts_with(&XERIAL_MAGIC) {
        append_snappy_block(bytes, bytes_max, &mut out)?;
        return Ok(out);
    }
    let failed = |reason: &str| BatchError::Decompress { codec: Compression::Snappy, reason: reason.to_owned() };
    let mut rest = bytes.get(XERIAL_HEADER.len()..).ok_or_else(|| failed("the stream's header is cut off"))?;
    while !rest.is_empty() {
        // Java's streams are sometimes concatenated; a new header starts with the same magic.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER.len()..).ok_or_else(|| failed("an inner header is cut off"))?;
            continue;
        }
        let (len, after) = rest.split_first_chunk::<4>().ok_or_else(|| failed("a block's length is cut off"))?;
        let len = u32::from_be_bytes(*len) as usize;
        let (block, after) = after.split_at_checked(len).ok_or_else(|| failed("a block is cut off"))?;
        append_snappy_block(block, bytes_max, &mut out)?;
        rest = after;
    }
    Ok(out)
}

/// Decompresses one raw block onto the end of `out`, which may hold `bytes_max` bytes in all.
fn append_snappy_block(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let failed = |error: snap::Error| BatchError::Decompress { codec: Compression::Snappy, reason: error.to_string() };
    let len = snap::raw::decompress_len(block).map_err(failed)?;
    let from = out.len();
    if len > bytes_max - from {
        return Err(BatchError::TooLargeDecompressed { bytes_max });
    }
    // A block's first bytes claim its length. A copy of 64 bytes takes three, so more than that many times
    // the block's own length is a lie, and no memory is spent on it.
    if len > block.len().saturating_mul(64) {
        let reason = format!("{} bytes claim to be {len} decompressed", block.len());
        return Err(BatchError::Decompress { codec: Compression::Snappy, reason });
    }
    out.resize(from + len, 0);
    let target = out.get_mut(from..).unwrap_or_default();
    let written = snap::raw::Decoder::new().decompress(block, target).map_err(failed)?;
    out.truncate(from + written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_gives_back_what_it_got_also_nothing_and_more_than_a_block() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|n| (n / 7).to_be_bytes()).collect();
        for codec in Compression::ALL {
            for bytes in [&b""[..], b"x", &text] {
                let compressed = codec.compress(bytes);
                assert_eq!(codec.decompress(&compressed, bytes.len()).as_deref(), Ok(bytes), "{codec} {}", bytes.len());
            }
        }
    }

    #[test]
    fn more_than_the_bound_is_refused_before_it_is_held() {
        let zeros = vec![0; 10_000_000];
        for codec in Compression::ALL {
            let compressed = codec.compress(&zeros);
            let found = codec.decompress(&compressed, 9_999_999);
            assert_eq!(found, Err(BatchError::TooLargeDecompressed { bytes_max: 9_999_999 }), "{codec}");
        }
    }

    #[test]
    fn raw_snappy_is_read_as_librdkafka_and_sarama_write_it() {
        let raw = snap::raw::Encoder::new().compress_vec(b"hello hello hello").unwrap();
        assert_eq!(Compression::Snappy.decompress(&raw, 100).unwrap(), b"hello hello hello");
    }

    #[test]
    fn a_snappy_block_that_lies_about_its_length_gets_no_memory() {
        // The varint 0xffffff7f claims 256 MiB in a block of eight bytes.
        let block = [0xff, 0xff, 0xff, 0x7f, 0, 1, 2, 3];
        let found = Compression::Snappy.decompress(&block, usize::MAX / 2);
        assert!(matches!(found, Err(BatchError::Decompress { .. })), "{found:?}");
    }

    #[test]
    fn concatenated_gzip_and_zstd_streams_are_read_to_the_end() {
        for codec in [Compression::Gzip, Compression::Zstd] {
            let twice = [codec.compress(b"one "), codec.compress(b"two")].concat();
            assert_eq!(codec.decompress(&twice, 100).unwrap(), b"one two", "{codec}");
        }
    }
}
