//! Topics by name and by id.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::PartitionIndex;

/// The longest topic name in bytes: with `-<partition>` it must fit a file name (Kafka's limit).
pub const TOPIC_NAME_LEN_MAX: usize = 249;

/// The name of a topic: 1 to 249 of `a-z A-Z 0-9 . _ -`, but neither `.` nor `..`.
///
/// Cheap to clone. The rule is Kafka's (`Topic.validate`), so that a name is also a safe folder name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

/// Why a string is not a topic name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicName {
    /// The name has no characters.
    #[error("a topic name must not be empty")]
    Empty,
    /// The name would be a folder's own or its parent's.
    #[error("a topic name must not be '.' or '..'")]
    Dots,
    /// The name is longer than [`TOPIC_NAME_LEN_MAX`].
    #[error("the topic name is {len} bytes long, more than {TOPIC_NAME_LEN_MAX}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A character that Kafka does not allow.
    #[error("the topic name '{name}' holds {found:?}; allowed are ASCII letters, digits, '.', '_' and '-'")]
    Character {
        /// The whole name.
        name: String,
        /// The first character that is not allowed.
        found: char,
    },
}

impl TopicName {
    /// Checks `name` and keeps it.
    pub fn new(name: &str) -> Result<TopicName, InvalidTopicName> {
        if name.is_empty() {
            return Err(InvalidTopicName::Empty);
        }
        if name == "." || name == ".." {
            return Err(InvalidTopicName::Dots);
        }
        if name.len() > TOPIC_NAME_LEN_MAX {
            return Err(InvalidTopicName::TooLong { len: name.len() });
        }
        match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            Some(found) => Err(InvalidTopicName::Character { name: name.to_owned(), found }),
            None => Ok(TopicName(Arc::from(name))),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for TopicName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for TopicName {
    type Err = InvalidTopicName;

    fn from_str(name: &str) -> Result<TopicName, InvalidTopicName> {
        TopicName::new(name)
    }
}

impl TryFrom<String> for TopicName {
    type Error = InvalidTopicName;

    fn try_from(name: String) -> Result<TopicName, InvalidTopicName> {
        TopicName::new(&name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> String {
        name.as_str().to_owned()
    }
}

/// The id of a topic, new for each topic that is created, also under an old name (KIP-516).
///
/// Shown as Kafka shows it: base64 of the 16 bytes, URL alphabet, without padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicId(Uuid);

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl TopicId {
    /// The id that stands for "no id" in the protocol.
    pub const ZERO: TopicId = TopicId(Uuid::nil());

    /// The id with these bits; who makes topics brings the randomness.
    pub fn from_uuid(uuid: Uuid) -> TopicId {
        TopicId(uuid)
    }

    /// The id's bits.
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }

    /// Whether this stands for "no id".
    pub fn is_zero(&self) -> bool {
        self.0.is_nil()
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.as_u128();
        // 128 bits are 21 characters of 6 bits and one of 2, which base64 fills with zeros.
        for place in 0..22 {
            let six = if place < 21 { (bits >> (122 - 6 * place)) & 63 } else { (bits & 3) << 4 };
            write!(f, "{}", BASE64_URL[six as usize] as char)?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A string that is not 16 bytes in base64's URL alphabet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a topic id: 22 characters of base64 (URL alphabet, no padding) are expected")]
pub struct InvalidTopicId(String);

impl FromStr for TopicId {
    type Err = InvalidTopicId;

    fn from_str(text: &str) -> Result<TopicId, InvalidTopicId> {
        let wrong = || InvalidTopicId(text.to_owned());
        if text.len() != 22 {
            return Err(wrong());
        }
        let mut bits: u128 = 0;
        for (place, character) in text.bytes().enumerate() {
            let six = BASE64_URL.iter().position(|c| *c == character).ok_or_else(wrong)? as u128;
            if place < 21 {
                bits |= six << (122 - 6 * place);
            } else if six & 15 == 0 {
                bits |= six >> 4;
            } else {
                return Err(wrong());
            }
        }
        Ok(TopicId(Uuid::from_u128(bits)))
    }
}

impl TryFrom<String> for TopicId {
    type Error = InvalidTopicId;

    fn try_from(text: String) -> Result<TopicId, InvalidTopicId> {
        text.parse()
    }
}

impl From<TopicId> for String {
    fn from(id: TopicId) -> String {
        id.to_string()
    }
}

/// One partition of one topic; shown as `topic-partition`, which is also its folder's name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// Which of its partitions.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: TopicName, partition: PartitionIndex) -> TopicPartition {
        TopicPartition { topic, partition }
    }

    /// Reads a folder's name, `topic-partition`; the topic itself may hold `-`.
    pub fn from_folder_name(name: &str) -> Option<TopicPartition> {
        let (topic, partition) = name.rsplit_once('-')?;
        let digits = !partition.is_empty() && partition.bytes().all(|b| b.is_ascii_digit());
        let partition = digits.then(|| partition.parse().ok()).flatten()?;
        Some(TopicPartition::new(TopicName::new(topic).ok()?, partition))
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_follow_kafkas_rule() {
        for good in ["a", "A.b_c-9", "__consumer_offsets", &"x".repeat(249)] {
            assert!(TopicName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_written_as_kafka_writes_them() {
        // Kafka's Uuid.ONE_UUID and METADATA_TOPIC_ID are both the bits 0…01.
        assert_eq!(TopicId::from_uuid(Uuid::from_u128(1)).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
    }

    #[test]
    fn folder_names_split_at_the_last_dash() {
        let found = TopicPartition::from_folder_name("a-b-12").unwrap();
        assert_eq!((found.topic.as_str(), found.partition), ("a-b", 12));
        for other in ["a-", "a", "-1", "a-1x", "a-+1", "a-99999999999"] {
            assert_eq!(TopicPartition::from_folder_name(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn ids_come_back_from_their_text(bits: u128) {
            let id = TopicId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<TopicId>().unwrap(), id);
        }
    }
}
