//! What a consumer is subscribed to.
//!
//! The metadata of protocol type `consumer` is ConsumerProtocolSubscription: a version, then the topics. Later
//! versions only add fields behind, so the first ones can be read whatever the version is.

use crate::records::Reader;

/// The topics in a consumer's metadata; `None` if it is something else.
pub fn subscribed_topics(metadata: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader::new(metadata);
    let version = reader.i16().ok()?;
    if version < 0 {
        return None;
    }
    let count = reader.i32().ok()?;
    (0..count).map(|_| reader.string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_from_any_version() {
        let v0 = b"\0\0\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert_eq!(subscribed_topics(v0), Some(vec!["a".to_owned(), "bc".to_owned()]));
        // Version 3: user data, owned partitions, generation and rack follow.
        let v3 = b"\0\x03\0\0\0\x01\0\x01a\xff\xff\xff\xff\0\0\0\0\0\0\0\x07\xff\xff";
        assert_eq!(subscribed_topics(v3), Some(vec!["a".to_owned()]));
    }

    #[test]
    fn other_bytes_are_not_a_subscription() {
        for metadata in [&b""[..], b"\0", b"\0\0\0\0\0\x01", b"\0\0\x7f\xff\xff\xff\0\x01a", b"\xff\xff\0\0\0\0"] {
            assert_eq!(subscribed_topics(metadata), None, "{metadata:?}");
        }
    }
}
