//! What a client may do, as the bits of "authorized operations" (KIP-430).
//!
//! There is no authorization yet, so everybody may do everything that a resource knows.

/// The bit of an operation; the numbers are those of Kafka's `AclOperation`.
const fn bit(operation: u32) -> i32 {
    1 << operation
}

const READ: i32 = bit(3);
const WRITE: i32 = bit(4);
const CREATE: i32 = bit(5);
const DELETE: i32 = bit(6);
const ALTER: i32 = bit(7);
const DESCRIBE: i32 = bit(8);
const CLUSTER_ACTION: i32 = bit(9);
const DESCRIBE_CONFIGS: i32 = bit(10);
const ALTER_CONFIGS: i32 = bit(11);
const IDEMPOTENT_WRITE: i32 = bit(12);

/// The client did not ask.
const NOT_ASKED: i32 = i32::MIN;

/// On a topic.
pub(crate) fn on_topic(asked: bool) -> i32 {
    let all = READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
    if asked { all } else { NOT_ASKED }
}

/// On the cluster.
pub(crate) fn on_cluster(asked: bool) -> i32 {
    let all = CREATE | ALTER | DESCRIBE | CLUSTER_ACTION | DESCRIBE_CONFIGS | ALTER_CONFIGS | IDEMPOTENT_WRITE;
    if asked { all } else { NOT_ASKED }
}

/// On a group.
pub(crate) fn on_group(asked: bool) -> i32 {
    let all = READ | DELETE | DESCRIBE;
    if asked { all } else { NOT_ASKED }
}
