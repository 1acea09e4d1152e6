//! Answers on their way to the socket.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, BytesMut};
use millpond_broker::{BatchPiece, FilePiece};

use crate::budget::Taken;
use crate::limits::{SMALL_CHUNK_BYTES, WRITE_BUFFER_KEPT_BYTES, WRITE_SLICES_MAX};

/// What a connection still has to write: answer after answer, in as few slices as possible.
///
/// Small things are written to one buffer. A piece of records is only noted, with its place in the buffer, until the
/// frame around it is closed and its length known. A piece that lies in a file goes from there to the socket.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Goes first.
    chunks: VecDeque<BatchPiece>,
    chunks_len: usize,
    /// Follows the chunks.
    buffer: BytesMut,
    /// Chunks of the open frame, each with its place in `buffer`.
    noted: Vec<(usize, BatchPiece)>,
    noted_len: usize,
    /// The shares of the node's budget that the chunks took; given back when all is written.
    taken: Vec<Taken>,
}

impl Outgoing {
    /// Writes one frame: its length, `correlation_id`, the tagged fields of the header if it has them, and what
    /// `body` writes.
    pub(crate) fn frame(&mut self, correlation_id: i32, header_tags: bool, body: impl FnOnce(&mut Outgoing)) {
        let start = self.buffer.len();
        self.buffer.put_i32(0);
        self.buffer.put_i32(correlation_id);
        if header_tags {
            self.buffer.put_u8(0);
        }
        body(self);
        let len = self.buffer.len() - start - 4 + self.noted_len;
        let len = i32::try_from(len).expect("an answer is bounded far below 2 GiB");
        self.buffer[start..start + 4].copy_from_slice(&len.to_be_bytes());
        self.place_noted();
    }

    /// Cuts the buffer where chunks were noted, and puts all in line.
    fn place_noted(&mut self) {
        let mut removed = 0;
        for (place, chunk) in self.noted.drain(..) {
            let before = self.buffer.split_to(place - removed).freeze();
            removed = place;
            for piece in [BatchPiece::Memory(before), chunk].into_iter().filter(|piece| !piece.is_empty()) {
                self.chunks_len += piece.len();
                self.chunks.push_back(piece);
            }
        }
        self.noted_len = 0;
    }

    /// Where small things are written.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Adds a chunk to the open frame, without copying it unless it is small.
    pub(crate) fn push(&mut self, chunk: BatchPiece) {
        match chunk {
            BatchPiece::Memory(bytes) if bytes.len() < SMALL_CHUNK_BYTES => self.buffer.put_slice(&bytes),
            chunk => {
                self.noted_len += chunk.len();
                self.noted.push((self.buffer.len(), chunk));
            }
        }
    }

    /// Keeps `taken` until all is written.
    pub(crate) fn hold(&mut self, taken: Taken) {
        self.taken.push(taken);
    }

    /// How many bytes wait to be written.
    pub(crate) fn len(&self) -> usize {
        self.chunks_len + self.buffer.len()
    }

    /// Whether all was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The piece of a file that is to be sent next, if it is one. What is sent of it is then told to
    /// [`Outgoing::advance`].
    pub(crate) fn file(&self) -> Option<&FilePiece> {
        match self.chunks.front() {
            Some(BatchPiece::File(piece)) => Some(piece),
            _ => None,
        }
    }

    /// Fills in the next slices to write, up to the next piece of a file, and says how many there are.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; WRITE_SLICES_MAX]) -> usize {
        let is_file = |chunk: &BatchPiece| matches!(chunk, BatchPiece::File(_));
        let rest = if self.chunks.iter().any(is_file) { &[] } else { &self.buffer[..] };
        let memory = self.chunks.iter().map_while(|chunk| match chunk {
            BatchPiece::Memory(bytes) => Some(&bytes[..]),
            BatchPiece::File(_) => None,
        });
        let all = memory.chain([rest]);
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(all.filter(|piece| !piece.is_empty())) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Takes note that `written` bytes went to the socket.
    pub(crate) fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.chunks.front_mut() {
            let part = first.len().min(written);
            match first {
                BatchPiece::Memory(bytes) => bytes.advance(part),
                BatchPiece::File(piece) => piece.advance(part),
            }
            written -= part;
            self.chunks_len -= part;
            if !first.is_empty() {
                return;
            }
            self.chunks.pop_front();
        }
        self.buffer.advance(written);
        if self.buffer.is_empty() {
            self.taken.clear();
            if self.buffer.capacity() > WRITE_BUFFER_KEPT_BYTES {
                self.buffer = BytesMut::new();
            }
        }
    }

    /// Everything in one piece.
    #[cfg(test)]
    pub(crate) fn into_bytes(mut self) -> bytes::Bytes {
        self.place_noted();
        let mut all = BytesMut::new();
        self.chunks.into_iter().for_each(|chunk| all.extend_from_slice(&chunk.read().unwrap()));
        all.extend_from_slice(&self.buffer);
        all.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(out: &mut Outgoing, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let count = out.slices(&mut slices);
            let joined: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            let part = joined.len().min(step);
            all.extend_from_slice(&joined[..part]);
            out.advance(part);
        }
        all
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_was_put_in_whatever_the_socket_takes(
            frames in proptest::collection::vec(proptest::collection::vec(prop_oneof![0..50usize, 4000..9000usize], 0..5), 1..4),
            step in 1..20_000usize,
        ) {
            let mut out = Outgoing::default();
            let mut expected = Vec::new();
            for (id, chunks) in frames.iter().enumerate() {
                let body: Vec<u8> = chunks.iter().enumerate().flat_map(|(n, len)| vec![n as u8; *len]).collect();
                expected.put_i32(body.len() as i32 + 5);
                expected.put_i32(id as i32);
                expected.put_u8(0);
                expected.extend_from_slice(&body);
                out.frame(id as i32, true, |out| {
                    for (n, len) in chunks.iter().enumerate() {
                        match len % 2 {
                            0 => out.buffer().extend_from_slice(&vec![n as u8; *len]),
                            _ => out.push(BatchPiece::Memory(vec![n as u8; *len].into())),
                        }
                    }
                });
            }
            prop_assert_eq!(out.len(), expected.len());
            prop_assert_eq!(written(&mut out, step), expected);
        }
    }
}
