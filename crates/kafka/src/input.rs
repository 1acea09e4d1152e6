//! Frames from the socket.
//!
//! Small frames are read many at a time into one buffer, which is used again. A large frame gets a buffer of its own
//! size and is read straight into it, so that its records never move. With a large frame no more than the length of
//! the next one is read: bytes of another large frame in the small buffer would have to be copied. The node's memory is
//! asked for a large frame when its start has come ([`FRAME_START_BYTES`]): a claim alone holds nothing.

use std::io::{self, Read};

use bytes::buf::Limit;
use bytes::{Buf, BufMut, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use crate::call::Frame;
use crate::limits::{FRAME_ALLOCATED_AT_ONCE_BYTES, FRAME_START_BYTES, LARGE_FRAME_BYTES, READ_BUFFER_BYTES};
use crate::wire::Malformed;

/// The length in front of a frame.
const LENGTH_BYTES: usize = 4;

/// API key, version and correlation id: no request is shorter.
const FRAME_BYTES_MIN: usize = 8;

/// A frame as it came, with the share of the node's memory that a large one takes.
pub(crate) type Received = (Frame, Option<OwnedSemaphorePermit>);

/// What was read and not yet made into requests.
#[derive(Debug, Default)]
pub(crate) struct Input {
    buffer: BytesMut,
    large: Option<Large>,
    /// The last frame was large.
    length_first: bool,
}

/// A large frame that is being received.
#[derive(Debug)]
struct Large {
    bytes: BytesMut,
    len: usize,
    /// Its share of the node's memory. Without it no more than the start is read.
    memory: Option<OwnedSemaphorePermit>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A whole frame of this API key.
    Frame(i16),
    /// More bytes must be read.
    Bytes,
    /// The start of a large frame has come, and this much memory must be had for it ([`Input::grant`]).
    Memory(usize),
}

impl Input {
    /// What comes next. Fails on a length that no request has.
    pub(crate) fn next(&self, frame_bytes_max: usize) -> Result<Next, Malformed> {
        if let Some(large) = &self.large {
            return Ok(large.next());
        }
        let Some(len) = self.buffer.first_chunk::<LENGTH_BYTES>().map(|bytes| i32::from_be_bytes(*bytes)) else {
            return Ok(Next::Bytes);
        };
        let malformed = |what| Malformed { what, position: 0 };
        let len = usize::try_from(len).map_err(|_| malformed("a negative frame length"))?;
        if len < FRAME_BYTES_MIN {
            return Err(malformed("a frame shorter than a request's header"));
        }
        if len > frame_bytes_max {
            return Err(malformed("a frame longer than socket.request.max.bytes"));
        }
        Ok(match self.buffer.len() >= LENGTH_BYTES + len {
            true => Next::Frame(api_key(&self.buffer[LENGTH_BYTES..])),
            false => Next::Bytes,
        })
    }

    /// Takes the frame that [`Input::next`] has seen.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn take(&mut self) -> Received {
        if let Some(Large { mut bytes, len, memory }) = self.large.take() {
            self.length_first = true;
            self.buffer.extend_from_slice(&bytes[len..]);
            bytes.truncate(len);
            return (Frame { bytes, body: 0, shared: false }, memory);
        }
        let len = self.buffer.get_i32() as usize;
        let bytes = self.buffer.split_to(len);
        (Frame { bytes, body: 0, shared: true }, None)
    }

    /// Gives the large frame that waits for it its memory.
    pub(crate) fn grant(&mut self, memory: OwnedSemaphorePermit) {
        if let Some(large) = &mut self.large {
            large.bytes.reserve(large.len + LENGTH_BYTES - large.bytes.len());
            large.memory = Some(memory);
        }
    }

    /// Of the large frame that is being received and holds memory: how many bytes have come, and how many it has.
    pub(crate) fn progress(&self) -> Option<(usize, usize)> {
        let large = self.large.as_ref().filter(|large| large.memory.is_some() && large.bytes.len() < large.len)?;
        Some((large.bytes.len(), large.len))
    }

    /// Gives a large frame that begins in the small buffer one of its own.
    fn begin_large(&mut self) {
        let Some(len) = self.buffer.first_chunk::<LENGTH_BYTES>().map(|bytes| u32::from_be_bytes(*bytes) as usize)
        else {
            return;
        };
        if len < LARGE_FRAME_BYTES || self.large.is_some() {
            return;
        }
        let at_once = if len <= FRAME_ALLOCATED_AT_ONCE_BYTES { len } else { FRAME_START_BYTES };
        let mut bytes = BytesMut::with_capacity(at_once + LENGTH_BYTES);
        bytes.extend_from_slice(&self.buffer[LENGTH_BYTES..]);
        self.buffer.clear();
        self.large = Some(Large { bytes, len, memory: None });
    }

    /// Whether nothing is there but the front of a small frame, or of one whose length is not known yet.
    pub(crate) fn is_between_small_frames(&self) -> bool {
        let begun = self.buffer.first_chunk::<LENGTH_BYTES>().map(|bytes| u32::from_be_bytes(*bytes) as usize);
        self.large.is_none() && !self.length_first && begun.is_none_or(|len| len < LARGE_FRAME_BYTES)
    }

    /// Reads once from `source` where [`Input::space`] says: how many bytes, and whether they filled it.
    pub(crate) fn read_small(&mut self, source: &mut impl Read) -> io::Result<(usize, bool)> {
        let space = self.space();
        let end = space.get_ref().len() + Limit::limit(&space);
        let buffer = space.into_inner();
        let before = buffer.len();
        buffer.resize(end, 0);
        let read = source.read(&mut buffer[before..]);
        buffer.truncate(before + read.as_ref().map_or(0, |read| *read));
        read.map(|read| (read, before + read == end))
    }

    /// Where the next bytes go, and how many at most. For when [`Input::next`] asks for bytes.
    pub(crate) fn space(&mut self) -> Limit<&mut BytesMut> {
        self.begin_large();
        if let Some(large) = &mut self.large {
            let missing = large.missing();
            return (&mut large.bytes).limit(missing);
        }
        let length_missing = LENGTH_BYTES.saturating_sub(self.buffer.len());
        if self.length_first && length_missing > 0 {
            self.buffer.reserve(length_missing);
            return (&mut self.buffer).limit(length_missing);
        }
        self.length_first = false;
        // The frame that is begun must fit; a small one always does. A buffer whose frames are all answered is
        // reclaimed here, not allocated anew.
        let begun = self.buffer.len();
        if self.buffer.capacity() - begun < LARGE_FRAME_BYTES {
            self.buffer.reserve(READ_BUFFER_BYTES - begun.min(LARGE_FRAME_BYTES));
        }
        let free = self.buffer.capacity() - begun;
        (&mut self.buffer).limit(free)
    }
}

impl Large {
    /// How much is read before the memory is asked for.
    fn start(&self) -> usize {
        self.len.min(FRAME_START_BYTES)
    }

    fn next(&self) -> Next {
        match self.memory {
            None if self.bytes.len() >= self.start() => Next::Memory(self.len),
            Some(_) if self.bytes.len() >= self.len => Next::Frame(api_key(&self.bytes)),
            _ => Next::Bytes,
        }
    }

    /// How much may be read now.
    fn missing(&self) -> usize {
        let end = if self.memory.is_some() { self.len } else { self.start() };
        // The next frame's length comes with the frame's end, if it is there: one call less.
        let behind = if end == self.len { LENGTH_BYTES } else { 0 };
        (end + behind).saturating_sub(self.bytes.len())
    }
}

/// The API key of a frame.
fn api_key(frame: &[u8]) -> i16 {
    i16::from_be_bytes([frame[0], frame[1]])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tokio::sync::Semaphore;

    use super::*;

    /// Feeds `bytes` as a socket would that has `piece` bytes at a time, and returns the frames.
    fn frames(mut bytes: &[u8], piece: usize) -> Vec<Received> {
        let memory = Arc::new(Semaphore::new(1 << 30));
        let (mut input, mut frames) = (Input::default(), Vec::new());
        loop {
            match input.next(2 << 20).unwrap() {
                Next::Frame(_) => frames.push(input.take()),
                Next::Memory(len) => input.grant(memory.clone().try_acquire_many_owned(len as u32).unwrap()),
                Next::Bytes if bytes.is_empty() => return frames,
                Next::Bytes => {
                    let mut space = input.space();
                    let part = bytes.len().min(piece).min(space.remaining_mut());
                    assert!(part > 0, "no space for more");
                    space.put_slice(&bytes[..part]);
                    bytes = &bytes[part..];
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_frame_comes_out_whole_however_the_socket_cuts_it(
            lens in proptest::collection::vec(prop_oneof![8..200usize, 8000..8400usize, 20_000..90_000usize, 1_000_000..1_100_000usize], 0..12),
            piece in prop_oneof![1..40usize, 1000..200_000usize],
        ) {
            let mut bytes = Vec::new();
            for (place, len) in lens.iter().enumerate() {
                bytes.put_i32(*len as i32);
                bytes.resize(bytes.len() + len, place as u8);
            }
            let found = frames(&bytes, piece);
            prop_assert_eq!(found.len(), lens.len());
            for (place, ((frame, permit), len)) in found.iter().zip(&lens).enumerate() {
                prop_assert_eq!(frame.bytes.len(), *len);
                prop_assert!(frame.bytes.iter().all(|byte| *byte == place as u8));
                prop_assert_eq!(frame.shared, permit.is_none());
            }
        }
    }

    #[test]
    fn lengths_that_no_request_has_are_refused() {
        for len in [-1, 0, 7, 101, i32::MAX, i32::MIN] {
            let input = Input { buffer: BytesMut::from(&len.to_be_bytes()[..]), ..Input::default() };
            assert!(input.next(100).is_err(), "{len}");
        }
    }

    #[test]
    fn large_frames_in_a_row_are_not_copied() {
        let mut bytes = Vec::new();
        for _ in 0..3 {
            bytes.put_i32(50_000);
            bytes.resize(bytes.len() + 50_000, 7);
        }
        for (frame, _) in &frames(&bytes, usize::MAX)[1..] {
            assert!(!frame.shared, "read into a buffer of its own");
        }
    }
}
