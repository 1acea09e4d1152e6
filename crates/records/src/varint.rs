//! Zigzag varints as protocol buffers write them, and a cursor over bytes that never reads past their end.

/// Appends `value` as a zigzag varint of at most 10 bytes.
pub(crate) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put`] appends.
pub(crate) fn len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads from the front of bytes; `None` means that they end too early or are no varint.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// A zigzag varint of 64 bits.
    #[inline]
    pub(crate) fn varlong(&mut self) -> Option<i64> {
        let mut zigzag = 0u64;
        let mut bytes = self.rest;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = bytes.split_first()?;
            bytes = rest;
            // The tenth byte holds the one bit that is left.
            if shift == 63 && *byte > 1 {
                return None;
            }
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                self.rest = bytes;
                return Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        None
    }

    /// A zigzag varint that must fit 32 bits.
    #[inline]
    pub(crate) fn varint(&mut self) -> Option<i32> {
        i32::try_from(self.varlong()?).ok()
    }

    /// Bytes with their length before them; the inner `None` is null (length -1).
    #[inline]
    pub(crate) fn nullable_bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            len => self.bytes(usize::try_from(len).ok()?).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_numbers_take_one_byte_as_kafka_writes_them() {
        for (value, bytes) in [(0, &[0u8][..]), (-1, &[1]), (1, &[2]), (63, &[126]), (64, &[128, 1]), (-65, &[129, 1])]
        {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn a_varint_without_end_or_too_wide_is_refused() {
        for bytes in
            [&[0x80u8; 10][..], &[0x80; 3], &[0xff; 11], &[], &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2]]
        {
            assert_eq!(Cursor { rest: bytes }.varlong(), None, "{bytes:?}");
        }
        let mut wide = Vec::new();
        put(&mut wide, i64::from(i32::MAX) + 1);
        assert_eq!(Cursor { rest: &wide }.varint(), None);
    }

    proptest! {
        #[test]
        fn every_number_comes_back(value: i64) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            let mut cursor = Cursor { rest: &out };
            prop_assert_eq!(cursor.varlong(), Some(value));
            prop_assert!(cursor.rest.is_empty());
        }
    }
}
