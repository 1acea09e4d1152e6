//! How keys and values are laid out; the picture is in the crate's front page.

/// Bytes of the query's id.
pub(crate) const QUERY_LEN: usize = 8;
/// Bytes of the query's id and the operator.
pub(crate) const PREFIX_LEN: usize = QUERY_LEN + 2;
/// Bytes of a value's checksum.
const CHECKSUM_LEN: usize = 4;

/// The key that `key` of an operator of a query has in the store.
pub(crate) fn stored_key(query: u64, operator: u16, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(PREFIX_LEN + key.len());
    stored.extend_from_slice(&query.to_be_bytes());
    stored.extend_from_slice(&operator.to_be_bytes());
    stored.extend_from_slice(key);
    stored
}

/// The query that a stored key belongs to.
pub(crate) fn query_of(stored: &[u8]) -> Option<u64> {
    stored.first_chunk::<QUERY_LEN>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The least key that is greater than every key that starts with `prefix`; none if there is no such key.
pub(crate) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(end);
        }
        end.pop();
    }
    None
}

/// The value with its checksum in front.
pub(crate) fn stored_value(value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(CHECKSUM_LEN + value.len());
    stored.extend_from_slice(&crc32fast::hash(value).to_le_bytes());
    stored.extend_from_slice(value);
    stored
}

/// The value that was stored, or what is wrong with it.
pub(crate) fn checked_value(stored: &[u8]) -> Result<&[u8], String> {
    let Some((checksum, value)) = stored.split_first_chunk::<CHECKSUM_LEN>() else {
        return Err(format!("a value of {} bytes is too short for its checksum", stored.len()));
    };
    let (written, computed) = (u32::from_le_bytes(*checksum), crc32fast::hash(value));
    if written != computed {
        return Err(format!("a value's checksum is {computed:08x}, not {written:08x} as written"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_lies_behind_all_its_keys_and_before_the_next() {
        assert_eq!(end_of_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(end_of_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(end_of_prefix(&[255, 255]), None);
        assert_eq!(end_of_prefix(&[]), None);
    }

    #[test]
    fn a_flipped_bit_in_a_value_is_found() {
        let mut stored = stored_value(b"state");
        assert_eq!(checked_value(&stored), Ok(&b"state"[..]));
        stored[6] ^= 1;
        assert!(checked_value(&stored).unwrap_err().contains("checksum"));
        assert!(checked_value(&stored[..3]).unwrap_err().contains("too short"));
        assert_eq!(checked_value(&stored_value(b"")), Ok(&b""[..]));
    }

    #[test]
    fn keys_sort_by_query_then_operator_then_key() {
        let keys = [stored_key(1, 1, b"z"), stored_key(1, 2, b"a"), stored_key(1, 256, b""), stored_key(256, 0, b"")];
        assert!(keys.is_sorted());
        assert_eq!(query_of(&keys[3]), Some(256));
        assert_eq!(query_of(b"short"), None);
    }
}
