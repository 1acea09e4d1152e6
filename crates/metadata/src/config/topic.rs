//! The configurations of topics, in the order in which Kafka lists them.

use super::definition::{ConfigDefinition, ConfigKind, Honoured, Origin, Valid};

const ONE_LZ4_LEVEL: &str = "the LZ4 encoder here has one level";
const NO_OBJECT_STORAGE: &str = "object storage is not implemented yet";
const NO_REPLICATION: &str = "a single node does not replicate";

const fn define(
    name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    valid: Valid,
    honoured: Honoured,
    documentation: &'static str,
) -> ConfigDefinition {
    let default = Some(default);
    ConfigDefinition { name, kind, default, valid, documentation, honoured, dynamic: true, origin: Origin::Setting }
}

/// Every configuration of a topic (Kafka 4.4's `LogConfig`).
pub static TOPIC_CONFIGS: &[ConfigDefinition] = &[
    define(
        "segment.bytes",
        ConfigKind::Int,
        "1073741824",
        Valid::AtLeast(1024 * 1024),
        Honoured::Yes,
        "The size in bytes at which a partition's segment file is closed and a new one begun. Old records are \
         deleted by whole segments, so smaller segments free space sooner and mean more files.",
    ),
    define(
        "segment.ms",
        ConfigKind::Long,
        "604800000",
        Valid::AtLeast(1),
        Honoured::Yes,
        "How long in milliseconds a segment may grow before a new one is begun although it is not full, so that \
         retention can reach the records of a quiet partition.",
    ),
    define(
        "segment.jitter.ms",
        ConfigKind::Long,
        "0",
        Valid::AtLeast(0),
        Honoured::Yes,
        "Up to how many milliseconds are taken off segment.ms at random, so that not all partitions begin a segment \
         at the same moment.",
    ),
    define(
        "segment.index.bytes",
        ConfigKind::Int,
        "10485760",
        Valid::AtLeast(4),
        Honoured::Yes,
        "The size in bytes that a segment's index may reach; a full index closes the segment.",
    ),
    define(
        "flush.messages",
        ConfigKind::Long,
        "9223372036854775807",
        Valid::AtLeast(1),
        Honoured::Yes,
        "After how many records the log is synced to disk at the latest. By default every acknowledged write is \
         synced before its answer anyway, which satisfies any value.",
    ),
    define(
        "flush.ms",
        ConfigKind::Long,
        "9223372036854775807",
        Valid::AtLeast(0),
        Honoured::Yes,
        "After how many milliseconds a record is synced to disk at the latest. By default every acknowledged write \
         is synced before its answer anyway, which satisfies any value.",
    ),
    define(
        "retention.bytes",
        ConfigKind::Long,
        "-1",
        Valid::Any,
        Honoured::Yes,
        "How many bytes each partition keeps; its oldest segments beyond that are deleted. -1 sets no limit. Counts \
         per partition, so a topic may hold as many times this as it has partitions.",
    ),
    define(
        "retention.ms",
        ConfigKind::Long,
        "604800000",
        Valid::AtLeast(-1),
        Honoured::Yes,
        "How long in milliseconds a record is kept before its segment may be deleted. -1 keeps records for ever.",
    ),
    define(
        "max.message.bytes",
        ConfigKind::Int,
        "1048588",
        Valid::AtLeast(0),
        Honoured::Yes,
        "The largest record batch in bytes, after compression, that the topic takes. Consumers get a larger batch \
         whole, so raising it needs nothing on their side.",
    ),
    define(
        "index.interval.bytes",
        ConfigKind::Int,
        "4096",
        Valid::AtLeast(0),
        Honoured::Yes,
        "After how many bytes of records the index gets its next entry. Fewer bytes find an offset with less \
         reading, at the price of a larger index.",
    ),
    define(
        "delete.retention.ms",
        ConfigKind::Long,
        "86400000",
        Valid::AtLeast(0),
        Honoured::Yes,
        "How long in milliseconds a compacted topic keeps a tombstone, so that a consumer that reads from the start \
         within this time still learns of the deletion.",
    ),
    define(
        "min.compaction.lag.ms",
        ConfigKind::Long,
        "0",
        Valid::AtLeast(0),
        Honoured::Yes,
        "How long in milliseconds a record stays out of compaction's reach.",
    ),
    define(
        "max.compaction.lag.ms",
        ConfigKind::Long,
        "9223372036854775807",
        Valid::AtLeast(1),
        Honoured::Yes,
        "After how many milliseconds a record of a compacted topic must have been looked at by compaction.",
    ),
    define(
        "file.delete.delay.ms",
        ConfigKind::Long,
        "60000",
        Valid::AtLeast(0),
        Honoured::Yes,
        "How long in milliseconds the file of a deleted segment stays on disk, out of use, before it is removed.",
    ),
    define(
        "min.cleanable.dirty.ratio",
        ConfigKind::Double,
        "0.5",
        Valid::BetweenDouble(0.0, 1.0),
        Honoured::Yes,
        "Which share of a compacted log must be new since the last compaction before the next one is worth it.",
    ),
    define(
        "cleanup.policy",
        ConfigKind::List,
        "delete",
        Valid::OneOf(&["compact", "delete"]),
        Honoured::Yes,
        "What happens to old segments: 'delete' removes those beyond retention.ms or retention.bytes, 'compact' keeps \
         the latest record of each key and takes no records without a key, both do both, and an empty list keeps \
         everything.",
    ),
    define(
        "unclean.leader.election.enable",
        ConfigKind::Boolean,
        "false",
        Valid::Any,
        Honoured::Yes,
        "Whether a replica that lags behind may become the leader. A single node has no other replicas, so both \
         values mean the same here.",
    ),
    define(
        "min.insync.replicas",
        ConfigKind::Int,
        "1",
        Valid::AtLeast(1),
        Honoured::DefaultOnly("a single node has one replica, so writes with acks=all could never succeed"),
        "How many replicas must have a record before acks=all is answered. The one replica here answers after its \
         disk has the record.",
    ),
    define(
        "compression.type",
        ConfigKind::String,
        "producer",
        Valid::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        Honoured::Yes,
        "The compression that batches are stored with; 'producer' keeps the one that they came with.",
    ),
    define(
        "compression.gzip.level",
        ConfigKind::Int,
        "-1",
        Valid::Between(-1, 9),
        Honoured::Yes,
        "How hard to compress when compression.type is gzip: 1 to 9, or -1 for the library's choice.",
    ),
    define(
        "compression.lz4.level",
        ConfigKind::Int,
        "9",
        Valid::Between(1, 17),
        Honoured::DefaultOnly(ONE_LZ4_LEVEL),
        "How hard to compress when compression.type is lz4.",
    ),
    define(
        "compression.zstd.level",
        ConfigKind::Int,
        "3",
        Valid::Between(-131_072, 22),
        Honoured::Yes,
        "How hard to compress when compression.type is zstd.",
    ),
    define(
        "preallocate",
        ConfigKind::Boolean,
        "false",
        Valid::Any,
        Honoured::Yes,
        "Whether a new segment's file gets its full size at once.",
    ),
    define(
        "message.timestamp.type",
        ConfigKind::String,
        "CreateTime",
        Valid::OneOf(&["CreateTime", "LogAppendTime"]),
        Honoured::Yes,
        "Whether a record's timestamp is the producer's (CreateTime) or the moment when the broker wrote it \
         (LogAppendTime).",
    ),
    define(
        "message.timestamp.before.max.ms",
        ConfigKind::Long,
        "9223372036854775807",
        Valid::AtLeast(0),
        Honoured::Yes,
        "By how many milliseconds a record's timestamp may be older than the broker's clock.",
    ),
    define(
        "message.timestamp.after.max.ms",
        ConfigKind::Long,
        "3600000",
        Valid::AtLeast(0),
        Honoured::Yes,
        "By how many milliseconds a record's timestamp may be ahead of the broker's clock.",
    ),
    define(
        "leader.replication.throttled.replicas",
        ConfigKind::List,
        "",
        Valid::Any,
        Honoured::DefaultOnly(NO_REPLICATION),
        "The replicas whose replication is slowed down on the leader's side, as partition:broker, or * for all.",
    ),
    define(
        "follower.replication.throttled.replicas",
        ConfigKind::List,
        "",
        Valid::Any,
        Honoured::DefaultOnly(NO_REPLICATION),
        "The replicas whose replication is slowed down on the follower's side, as partition:broker, or * for all.",
    ),
    define(
        "remote.storage.enable",
        ConfigKind::Boolean,
        "false",
        Valid::Any,
        Honoured::DefaultOnly(NO_OBJECT_STORAGE),
        "Whether closed segments also go to object storage.",
    ),
    define(
        "local.retention.ms",
        ConfigKind::Long,
        "-2",
        Valid::AtLeast(-2),
        Honoured::DefaultOnly(NO_OBJECT_STORAGE),
        "How long in milliseconds a segment that is in object storage stays on the local disk too; -2 means as long \
         as retention.ms.",
    ),
    define(
        "local.retention.bytes",
        ConfigKind::Long,
        "-2",
        Valid::AtLeast(-2),
        Honoured::DefaultOnly(NO_OBJECT_STORAGE),
        "How many bytes of a partition that are in object storage stay on the local disk too; -2 means as many as \
         retention.bytes.",
    ),
    define(
        "remote.log.copy.disable",
        ConfigKind::Boolean,
        "false",
        Valid::Any,
        Honoured::DefaultOnly(NO_OBJECT_STORAGE),
        "Whether no more segments go to object storage, while those that are there can still be read.",
    ),
    define(
        "remote.copy.lag.ms",
        ConfigKind::Long,
        "0",
        Valid::AtLeast(-1),
        Honoured::DefaultOnly(NO_OBJECT_STORAGE),
        "How long in milliseconds a closed segment waits before it goes to object storage.",
    ),
    define(
        "remote.copy.lag.bytes",
        ConfigKind::Long,
        "-1",
        Valid::AtLeast(-1),
        Honoured::DefaultOnly(NO_OBJECT_STORAGE),
        "How many bytes behind the log's end a closed segment waits before it goes to object storage.",
    ),
    define(
        "remote.log.delete.on.disable",
        ConfigKind::Boolean,
        "false",
        Valid::Any,
        Honoured::DefaultOnly(NO_OBJECT_STORAGE),
        "Whether switching remote.storage.enable off deletes what the topic has in object storage.",
    ),
    define(
        "errors.deadletterqueue.group.enable",
        ConfigKind::Boolean,
        "false",
        Valid::Any,
        Honoured::DefaultOnly("share groups are not implemented yet"),
        "Whether the topic may hold the records that a share group could not process.",
    ),
];

/// The configuration of a topic with this name.
pub fn topic_config(name: &str) -> Option<&'static ConfigDefinition> {
    TOPIC_CONFIGS.iter().find(|definition| definition.name == name)
}

/// A broker's configuration that is the default of a topic's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerSynonym {
    /// The broker's configuration.
    pub name: &'static str,
    /// The topic's value is the broker's times this (hours and minutes to milliseconds).
    pub factor: i64,
}

const HOUR_MS: i64 = 60 * 60 * 1000;
const MINUTE_MS: i64 = 60 * 1000;

const fn same(name: &'static str) -> ServerSynonym {
    ServerSynonym { name, factor: 1 }
}

/// By topic configuration: the broker's that set its default, first come first served (Kafka's
/// `ServerTopicConfigSynonyms`).
static SERVER_SYNONYMS: &[(&str, &[ServerSynonym])] = &[
    ("segment.bytes", &[same("log.segment.bytes")]),
    ("segment.ms", &[same("log.roll.ms"), ServerSynonym { name: "log.roll.hours", factor: HOUR_MS }]),
    (
        "segment.jitter.ms",
        &[same("log.roll.jitter.ms"), ServerSynonym { name: "log.roll.jitter.hours", factor: HOUR_MS }],
    ),
    ("segment.index.bytes", &[same("log.index.size.max.bytes")]),
    ("flush.messages", &[same("log.flush.interval.messages")]),
    ("flush.ms", &[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")]),
    ("retention.bytes", &[same("log.retention.bytes")]),
    (
        "retention.ms",
        &[
            same("log.retention.ms"),
            ServerSynonym { name: "log.retention.minutes", factor: MINUTE_MS },
            ServerSynonym { name: "log.retention.hours", factor: HOUR_MS },
        ],
    ),
    ("max.message.bytes", &[same("message.max.bytes")]),
    ("index.interval.bytes", &[same("log.index.interval.bytes")]),
    ("delete.retention.ms", &[same("log.cleaner.delete.retention.ms")]),
    ("min.compaction.lag.ms", &[same("log.cleaner.min.compaction.lag.ms")]),
    ("max.compaction.lag.ms", &[same("log.cleaner.max.compaction.lag.ms")]),
    ("file.delete.delay.ms", &[same("log.segment.delete.delay.ms")]),
    ("min.cleanable.dirty.ratio", &[same("log.cleaner.min.cleanable.ratio")]),
    ("cleanup.policy", &[same("log.cleanup.policy")]),
    ("unclean.leader.election.enable", &[same("unclean.leader.election.enable")]),
    ("min.insync.replicas", &[same("min.insync.replicas")]),
    ("compression.type", &[same("compression.type")]),
    ("compression.gzip.level", &[same("compression.gzip.level")]),
    ("compression.lz4.level", &[same("compression.lz4.level")]),
    ("compression.zstd.level", &[same("compression.zstd.level")]),
    ("preallocate", &[same("log.preallocate")]),
    ("message.timestamp.type", &[same("log.message.timestamp.type")]),
    ("message.timestamp.before.max.ms", &[same("log.message.timestamp.before.max.ms")]),
    ("message.timestamp.after.max.ms", &[same("log.message.timestamp.after.max.ms")]),
    ("local.retention.ms", &[same("log.local.retention.ms")]),
    ("local.retention.bytes", &[same("log.local.retention.bytes")]),
    ("remote.copy.lag.ms", &[same("log.remote.copy.lag.ms")]),
    ("remote.copy.lag.bytes", &[same("log.remote.copy.lag.bytes")]),
];

/// The broker's configurations that set the default of the topic's `name`, the one that counts most first.
pub fn server_synonyms(name: &str) -> &'static [ServerSynonym] {
    SERVER_SYNONYMS.iter().find(|(topic, _)| *topic == name).map_or(&[], |(_, synonyms)| *synonyms)
}
