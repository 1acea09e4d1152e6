//! Text and binary columns as they grow: Arrow's two layouts, offsets and views.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BinaryViewArray, ByteView, StringArray, StringViewArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::trouble::Trouble;

/// Bytes of all values of a column in one batch: Arrow's offsets are 32 bits wide.
const BATCH_BYTES_MAX: usize = i32::MAX as usize;

/// Values up to this length stand within their view.
const INLINE_LEN_MAX: usize = 12;

/// The values of a text or binary column.
#[derive(Debug)]
pub(crate) struct BytesBuilder {
    places: Places,
    data: Vec<u8>,
}

#[derive(Debug)]
enum Places {
    /// Where each value ends; begins with 0.
    Offsets(Vec<i32>),
    /// Each value's view, and how much data there was before it, so that values can be taken back.
    Views(Vec<u128>, Vec<u32>),
}

impl BytesBuilder {
    pub(crate) fn with_offsets() -> BytesBuilder {
        BytesBuilder { places: Places::Offsets(vec![0]), data: Vec::new() }
    }

    pub(crate) fn with_views() -> BytesBuilder {
        BytesBuilder { places: Places::Views(Vec::new(), Vec::new()), data: Vec::new() }
    }

    /// Appends one value.
    #[inline]
    pub(crate) fn push(&mut self, value: &[u8]) -> Result<(), Trouble> {
        let start = self.data.len();
        if value.len() > BATCH_BYTES_MAX - start {
            return Err(too_much());
        }
        match &mut self.places {
            Places::Offsets(offsets) => {
                self.data.extend_from_slice(value);
                offsets.push(self.data.len() as i32);
            }
            Places::Views(views, starts) => {
                starts.push(start as u32);
                views.push(view(value, start));
                if value.len() > INLINE_LEN_MAX {
                    self.data.extend_from_slice(value);
                }
            }
        }
        Ok(())
    }

    /// Appends what stands below a NULL.
    pub(crate) fn push_empty(&mut self) {
        match &mut self.places {
            Places::Offsets(offsets) => offsets.push(self.data.len() as i32),
            Places::Views(views, starts) => {
                starts.push(self.data.len() as u32);
                views.push(0);
            }
        }
    }

    /// Keeps the first `len` values.
    pub(crate) fn truncate(&mut self, len: usize) {
        match &mut self.places {
            Places::Offsets(offsets) => {
                offsets.truncate(len + 1);
                self.data.truncate(offsets[offsets.len() - 1] as usize);
            }
            Places::Views(views, starts) => {
                if let Some(start) = starts.get(len) {
                    self.data.truncate(*start as usize);
                }
                views.truncate(len);
                starts.truncate(len);
            }
        }
    }

    /// The values as text. All that was pushed must be UTF-8.
    pub(crate) fn finish_text(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let data = self.take_data();
        match &mut self.places {
            Places::Offsets(offsets) => {
                let offsets = take_offsets(offsets);
                // SAFETY: the cursor checks that a record is UTF-8, and values are whole strings of it: the pieces
                // between quotes and escapes, and characters for the escapes.
                Arc::new(unsafe { StringArray::new_unchecked(offsets, data, nulls) })
            }
            Places::Views(views, starts) => {
                starts.clear();
                // SAFETY: as above; and each view was made from the bytes at its place in this buffer.
                Arc::new(unsafe { StringViewArray::new_unchecked(take_vec(views).into(), buffers(data), nulls) })
            }
        }
    }

    /// The values as bytes.
    pub(crate) fn finish_binary(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let data = self.take_data();
        match &mut self.places {
            Places::Offsets(offsets) => Arc::new(BinaryArray::new(take_offsets(offsets), data, nulls)),
            Places::Views(views, starts) => {
                starts.clear();
                let views = ScalarBuffer::from(take_vec(views));
                Arc::new(BinaryViewArray::new(views, buffers(data), nulls))
            }
        }
    }

    fn take_data(&mut self) -> Buffer {
        Buffer::from_vec(take_vec(&mut self.data))
    }
}

/// Takes a vector, leaving an empty one that has room for as much again.
pub(crate) fn take_vec<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = values.len();
    std::mem::replace(values, Vec::with_capacity(room))
}

/// Takes offsets, leaving those of no values.
pub(crate) fn take_offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let taken = take_vec(offsets);
    offsets.push(0);
    OffsetBuffer::new(taken.into())
}

fn buffers(data: Buffer) -> Vec<Buffer> {
    if data.is_empty() { Vec::new() } else { vec![data] }
}

#[inline]
fn view(value: &[u8], start: usize) -> u128 {
    if value.len() <= INLINE_LEN_MAX {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&(value.len() as u32).to_le_bytes());
        bytes[4..4 + value.len()].copy_from_slice(value);
        return u128::from_le_bytes(bytes);
    }
    let prefix = u32::from_le_bytes([value[0], value[1], value[2], value[3]]);
    ByteView { length: value.len() as u32, prefix, buffer_index: 0, offset: start as u32 }.as_u128()
}

#[cold]
fn too_much() -> Trouble {
    Trouble::value("more than 2 GiB of text came together in one batch".to_owned())
}
