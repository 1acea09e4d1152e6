//! Golden bytes, put together by hand from Kafka's schemas.

use super::*;

const TIME: i64 = 0x0102_0304_0506_0708;
const TIME_BYTES: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn an_offsets_key_is_kafkas() {
    let key = OffsetsKey::Offset { group: "grp".to_owned(), topic: "tp".to_owned(), partition: 258 };
    let golden = bytes(&[&[0, 1], &[0, 3], b"grp", &[0, 2], b"tp", &[0, 0, 1, 2]]);
    assert_eq!(key.encode(), golden);
    assert_eq!(OffsetsKey::decode(&golden), Ok(key.clone()));
    let oldest = bytes(&[&[0, 0], &golden[2..]]);
    assert_eq!(OffsetsKey::decode(&oldest), Ok(key));
}

#[test]
fn a_groups_key_is_kafkas() {
    let key = OffsetsKey::Group { group: "grp".to_owned() };
    let golden = bytes(&[&[0, 2], &[0, 3], b"grp"]);
    assert_eq!(key.encode(), golden);
    assert_eq!(OffsetsKey::decode(&golden), Ok(key));
    assert!(OffsetsKey::decode(&golden[..4]).is_err());
    assert!(OffsetsKey::decode(&bytes(&[&golden, &[0]])).is_err(), "a byte too many");
}

fn offset(leader_epoch: i32, expire_timestamp_ms: Option<i64>) -> OffsetValue {
    OffsetValue { offset: 42, leader_epoch, metadata: "md".to_owned(), commit_timestamp_ms: TIME, expire_timestamp_ms }
}

const OFFSET: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 42];
const METADATA: &[u8] = &[0, 2, b'm', b'd'];

#[test]
fn an_offsets_value_is_written_as_version_3() {
    let golden = bytes(&[&[0, 3], OFFSET, &[0, 0, 0, 5], METADATA, TIME_BYTES]);
    assert_eq!(offset(5, None).encode(), golden);
    assert_eq!(OffsetsValue::decode_offset(&golden), Ok(offset(5, None)));
}

#[test]
fn an_offset_with_its_own_expiry_is_written_as_version_1() {
    let golden = bytes(&[&[0, 1], OFFSET, METADATA, TIME_BYTES, &[0, 0, 0, 0, 0, 0, 0, 9]]);
    assert_eq!(offset(-1, Some(9)).encode(), golden);
    assert_eq!(OffsetsValue::decode_offset(&golden), Ok(offset(-1, Some(9))));
}

#[test]
fn offsets_of_every_version_are_read() {
    for version in [0, 2] {
        let value = bytes(&[&[0, version], OFFSET, METADATA, TIME_BYTES]);
        assert_eq!(OffsetsValue::decode_offset(&value), Ok(offset(-1, None)), "version {version}");
    }
    let no_expiry = bytes(&[&[0, 1], OFFSET, METADATA, TIME_BYTES, &[0xff; 8]]);
    assert_eq!(OffsetsValue::decode_offset(&no_expiry), Ok(offset(-1, None)));
    // Version 4: compact string, then tagged fields: none, or the topic's id as tag 0.
    let fixed = bytes(&[&[0, 4], OFFSET, &[0, 0, 0, 5], &[3, b'm', b'd'], TIME_BYTES]);
    let plain = bytes(&[&fixed, &[0]]);
    assert_eq!(OffsetsValue::decode_offset(&plain), Ok(offset(5, None)));
    let with_topic_id = bytes(&[&fixed, &[1, 0, 16], &[7; 16]]);
    assert_eq!(OffsetsValue::decode_offset(&with_topic_id), Ok(offset(5, None)));
    assert_eq!(
        OffsetsValue::decode_offset(&[0, 5]),
        Err(RecordError::UnknownVersion { what: "an offset's value", version: 5 })
    );
}

fn group(group_instance_id: Option<&str>, rebalance_timeout_ms: i32, state_since_ms: Option<i64>) -> GroupValue {
    GroupValue {
        protocol_type: "consumer".to_owned(),
        generation_id: 3,
        protocol_name: Some("range".to_owned()),
        leader: Some("m1".to_owned()),
        state_since_ms,
        members: vec![MemberValue {
            member_id: "m1".to_owned(),
            group_instance_id: group_instance_id.map(str::to_owned),
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
            rebalance_timeout_ms,
            session_timeout_ms: 10_000,
            subscription: Bytes::from_static(&[9, 8]),
            assignment: Bytes::from_static(&[7]),
        }],
    }
}

const GROUP_HEAD: &[&[u8]] = &[&[0, 8], b"consumer", &[0, 0, 0, 3], &[0, 5], b"range", &[0, 2], b"m1"];
const MEMBER_ID: &[u8] = &[0, 2, b'm', b'1'];
const CLIENT: &[u8] = &[0, 1, b'c', 0, 2, b'/', b'h'];
const REBALANCE_TIMEOUT: &[u8] = &[0, 0, 0xea, 0x60];
const SESSION_TIMEOUT: &[u8] = &[0, 0, 0x27, 0x10];
const METADATA_AND_ASSIGNMENT: &[u8] = &[0, 0, 0, 2, 9, 8, 0, 0, 0, 1, 7];

#[test]
fn a_groups_value_is_written_as_version_3() {
    let golden = bytes(&[
        &[0, 3],
        &GROUP_HEAD.concat(),
        TIME_BYTES,
        &[0, 0, 0, 1],
        MEMBER_ID,
        &[0, 2, b'i', b'1'],
        CLIENT,
        REBALANCE_TIMEOUT,
        SESSION_TIMEOUT,
        METADATA_AND_ASSIGNMENT,
    ]);
    let value = group(Some("i1"), 60_000, Some(TIME));
    assert_eq!(value.encode(), golden);
    assert_eq!(OffsetsValue::decode_group(&golden), Ok(value));
}

#[test]
fn an_empty_groups_value_has_nulls() {
    let value = GroupValue {
        protocol_type: "consumer".to_owned(),
        generation_id: 4,
        protocol_name: None,
        leader: None,
        state_since_ms: None,
        members: Vec::new(),
    };
    let golden = bytes(&[&[0, 3, 0, 8], b"consumer", &[0, 0, 0, 4], &[0xff; 4], &[0xff; 8], &[0; 4]]);
    assert_eq!(value.encode(), golden);
    assert_eq!(OffsetsValue::decode_group(&golden), Ok(value));
}

#[test]
fn groups_of_every_version_are_read() {
    let check = |parts: &[&[u8]], expected: GroupValue| {
        assert_eq!(OffsetsValue::decode_group(&bytes(parts)), Ok(expected));
    };
    let head = GROUP_HEAD.concat();
    let one: &[u8] = &[0, 0, 0, 1];
    let tail = bytes(&[SESSION_TIMEOUT, METADATA_AND_ASSIGNMENT]);
    check(&[&[0, 0], &head, one, MEMBER_ID, CLIENT, &tail], group(None, -1, None));
    check(&[&[0, 1], &head, one, MEMBER_ID, CLIENT, REBALANCE_TIMEOUT, &tail], group(None, 60_000, None));
    check(
        &[&[0, 2], &head, TIME_BYTES, one, MEMBER_ID, CLIENT, REBALANCE_TIMEOUT, &tail],
        group(None, 60_000, Some(TIME)),
    );
    // Version 4 is flexible: lengths are varints of the length + 1, and tagged fields end each structure.
    check(
        &[
            &[0, 4, 9],
            b"consumer",
            &[0, 0, 0, 3, 6],
            b"range",
            &[3, b'm', b'1'],
            TIME_BYTES,
            &[2, 3, b'm', b'1', 0, 2, b'c', 3, b'/', b'h'],
            REBALANCE_TIMEOUT,
            SESSION_TIMEOUT,
            &[3, 9, 8, 2, 7, 0],
            &[1, 5, 2, 0xaa, 0xbb],
        ],
        group(None, 60_000, Some(TIME)),
    );
}

#[test]
fn a_list_that_claims_to_be_longer_than_its_record_is_refused() {
    let value = bytes(&[&[0, 0], &GROUP_HEAD.concat(), &[0x7f, 0xff, 0xff, 0xff], MEMBER_ID]);
    assert!(matches!(OffsetsValue::decode_group(&value), Err(RecordError::Malformed { .. })));
}

#[test]
fn a_group_is_in_the_partition_that_java_computes() {
    // "polygenelubricants".hashCode() is Integer.MIN_VALUE; "abc" is 96354; "ä" is U+00E4, 228; "🦀" is two units.
    assert_eq!(partition_for("polygenelubricants", 50), 0);
    assert_eq!(partition_for("abc", 50), 96_354 % 50);
    assert_eq!(partition_for("ä", 50), 228 % 50);
    assert_eq!(partition_for("🦀", 50), (0xd83e * 31 + 0xdd80) % 50);
    assert_eq!(partition_for("", 50), 0);
}
