//! Frames from the socket.
//!
//! Small frames are read many at a time into one buffer, which is used again. A large frame gets a buffer of its own
//! size and is read straight into it, so that its records never move. With a large frame no more than the length of
//! the next one is read: bytes of another large frame in the small buffer would have to be copied.

use bytes::buf::Limit;
use bytes::{Buf, BufMut, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use crate::call::Frame;
use crate::limits::{LARGE_FRAME_BYTES, READ_BUFFER_BYTES};
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
    /// A large frame that is being received, and its length.
    large: Option<(BytesMut, usize, OwnedSemaphorePermit)>,
    /// The last frame was large.
    length_first: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A whole frame of this API key.
    Frame(i16),
    /// More bytes must be read.
    Bytes,
    /// A large frame begins, for which this much memory must be had ([`Input::begin_large`]).
    Memory(usize),
}

impl Input {
    /// What comes next. Fails on a length that no request has.
    pub(crate) fn next(&self, frame_bytes_max: usize) -> Result<Next, Malformed> {
        if let Some((frame, len, _)) = &self.large {
            return Ok(if frame.len() >= *len { Next::Frame(api_key(frame)) } else { Next::Bytes });
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
            false if len >= LARGE_FRAME_BYTES => Next::Memory(len),
            false => Next::Bytes,
        })
    }

    /// Takes the frame that [`Input::next`] has seen.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn take(&mut self) -> Received {
        if let Some((mut bytes, len, permit)) = self.large.take() {
            self.length_first = true;
            self.buffer.extend_from_slice(&bytes[len..]);
            bytes.truncate(len);
            return (Frame { bytes, body: 0, shared: false }, Some(permit));
        }
        let len = self.buffer.get_i32() as usize;
        let bytes = self.buffer.split_to(len);
        (Frame { bytes, body: 0, shared: true }, None)
    }

    /// Gives the large frame that begins its memory.
    pub(crate) fn begin_large(&mut self, permit: OwnedSemaphorePermit) {
        let len = self.buffer.get_i32() as usize;
        let mut frame = BytesMut::with_capacity(len + LENGTH_BYTES);
        frame.extend_from_slice(&self.buffer);
        self.buffer.clear();
        self.large = Some((frame, len, permit));
    }

    /// How many bytes have come of the large frame that is being received.
    pub(crate) fn large_received(&self) -> Option<usize> {
        self.large
            .as_ref()
            .map(|(frame, len, _)| (frame.len(), *len))
            .filter(|(came, len)| came < len)
            .map(|(came, _)| came)
    }

    /// Where the next bytes go, and how many at most.
    pub(crate) fn space(&mut self) -> Limit<&mut BytesMut> {
        if let Some((frame, len, _)) = &mut self.large {
            // The next frame's length comes with it, if it is there: one call less.
            let missing = *len + LENGTH_BYTES - frame.len();
            return frame.limit(missing);
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
            match input.next(1 << 20).unwrap() {
                Next::Frame(_) => frames.push(input.take()),
                Next::Memory(len) => {
                    input.begin_large(memory.clone().try_acquire_many_owned(len as u32).unwrap());
                }
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
            lens in proptest::collection::vec(prop_oneof![8..200usize, 8000..8400usize, 20_000..90_000usize], 0..12),
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
