//! Which partition does a key go to?

use millpond_types::PartitionIndex;

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const ROTATE: u32 = 24;

/// The partition of `count` that Kafka's producers choose for a record with this key, so that a stream's topic and one
/// that a client writes with the same keys can be joined partition by partition.
pub(crate) fn partition_for(key: &[u8], count: i32) -> PartitionIndex {
    let positive = murmur2(key) & 0x7fff_ffff;
    (positive % count.unsigned_abs().max(1)) as PartitionIndex
}

/// The 32-bit hash that Kafka's Java client uses (`org.apache.kafka.common.utils.Utils.murmur2`), after Austin Appleby's
/// MurmurHash2.
fn murmur2(bytes: &[u8]) -> u32 {
    let mix = |word: u32| {
        let word = word.wrapping_mul(MULTIPLIER);
        (word ^ (word >> ROTATE)).wrapping_mul(MULTIPLIER)
    };
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        hash = hash.wrapping_mul(MULTIPLIER) ^ mix(u32::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0u32, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own test (`UtilsTest.testMurmur2`).
    #[test]
    fn the_hash_is_kafkas() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn every_partition_is_one_of_those_there_are() {
        for number in 0..1000 {
            let partition = partition_for(format!("{number}").as_bytes(), 7);
            assert!((0..7).contains(&partition));
        }
        assert_eq!(partition_for(b"any", 1), 0);
    }
}
