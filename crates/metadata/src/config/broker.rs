//! The configurations of the broker.
//!
//! First those that are the node's own, then those that only set the defaults of topics; the latter follow from the
//! table of topics, so that the two cannot disagree.

use std::sync::LazyLock;

use super::definition::{ConfigDefinition, ConfigKind, Honoured, Origin, Valid};
use super::topic::{TOPIC_CONFIGS, server_synonyms};

const SINGLE_NODE: &str = "this is a single node";

const fn define(
    name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    valid: Valid,
    documentation: &'static str,
) -> ConfigDefinition {
    ConfigDefinition {
        name,
        kind,
        default: Some(default),
        valid,
        documentation,
        honoured: Honoured::Yes,
        dynamic: false,
        origin: Origin::Setting,
    }
}

const fn runtime(
    name: &'static str,
    kind: ConfigKind,
    set_by: &'static str,
    documentation: &'static str,
) -> ConfigDefinition {
    ConfigDefinition {
        name,
        kind,
        default: None,
        valid: Valid::Any,
        documentation,
        honoured: Honoured::Yes,
        dynamic: false,
        origin: Origin::Runtime(set_by),
    }
}

static OWN: &[ConfigDefinition] = &[
    runtime("node.id", ConfigKind::Int, "it is always 1", "The node's id, as clients see it in Metadata."),
    runtime("broker.id", ConfigKind::Int, "it is always 1", "The same as node.id, under its older name."),
    runtime("log.dirs", ConfigKind::List, "use --data", "The folder that holds the data."),
    runtime("listeners", ConfigKind::List, "use --listen", "The address that Kafka clients connect to."),
    runtime(
        "advertised.listeners",
        ConfigKind::List,
        "use --advertise",
        "The address that clients are told to connect to, where it differs from listeners.",
    ),
    define(
        "num.partitions",
        ConfigKind::Int,
        "1",
        Valid::AtLeast(1),
        "How many partitions a topic gets when whoever creates it does not say.",
    ),
    ConfigDefinition {
        honoured: Honoured::DefaultOnly(SINGLE_NODE),
        ..define(
            "default.replication.factor",
            ConfigKind::Int,
            "1",
            Valid::AtLeast(1),
            "How many replicas a topic gets when whoever creates it does not say.",
        )
    },
    define(
        "auto.create.topics.enable",
        ConfigKind::Boolean,
        "true",
        Valid::Any,
        "Whether a topic that a client asks for comes into being by that.",
    ),
    define("delete.topic.enable", ConfigKind::Boolean, "true", Valid::Any, "Whether topics can be deleted."),
    define(
        "socket.request.max.bytes",
        ConfigKind::Int,
        "104857600",
        Valid::AtLeast(1),
        "The largest request in bytes. A longer one closes its connection.",
    ),
    define(
        "queued.max.request.bytes",
        ConfigKind::Long,
        "134217728",
        Valid::AtLeast(1),
        "How many bytes of requests of all connections may be in memory at once; until there is room, sockets are \
         not read. Kafka's default is no bound.",
    ),
    define(
        "max.connections",
        ConfigKind::Int,
        "10000",
        Valid::AtLeast(1),
        "How many connections may be open at once; a further one is closed at once. Kafka's default is no bound.",
    ),
    define(
        "connections.max.idle.ms",
        ConfigKind::Long,
        "600000",
        Valid::AtLeast(-1),
        "After how many milliseconds without a request a connection is closed; -1 for never.",
    ),
    define(
        "fetch.max.bytes",
        ConfigKind::Int,
        "57671680",
        Valid::AtLeast(1024),
        "The most bytes that one Fetch is answered with, unless its first batch alone is larger.",
    ),
    define(
        "max.incremental.fetch.session.cache.slots",
        ConfigKind::Int,
        "1000",
        Valid::AtLeast(0),
        "How many fetch sessions are remembered, so that consumers need not name all their partitions each time.",
    ),
    define(
        "log.retention.check.interval.ms",
        ConfigKind::Long,
        "300000",
        Valid::AtLeast(1),
        "Every how many milliseconds the node looks for segments that may be deleted.",
    ),
    define(
        "log.cleaner.backoff.ms",
        ConfigKind::Long,
        "15000",
        Valid::AtLeast(1),
        "Every how many milliseconds the node looks for logs to compact.",
    ),
    define(
        "log.cleaner.dedupe.buffer.size",
        ConfigKind::Long,
        "58720256",
        Valid::AtLeast(1024 * 1024),
        "How many bytes of memory the keys of a log that is being compacted may take, about 36 a key; more keys are \
         sorted out on the disk. With the default, compaction takes less than 64 MB in all. Kafka's default is 134217728.",
    ),
    define(
        "log.cleaner.io.max.bytes.per.second",
        ConfigKind::Double,
        "104857600",
        Valid::BetweenDouble(1.0, f64::MAX),
        "How many bytes a second compaction reads and writes at most. Kafka's default is no bound.",
    ),
    define(
        "log.flush.offset.checkpoint.interval.ms",
        ConfigKind::Int,
        "60000",
        Valid::AtLeast(1),
        "Every how many milliseconds the node notes how far each log is on disk; the start after an unclean stop \
         reads what came later.",
    ),
    define(
        "num.recovery.threads.per.data.dir",
        ConfigKind::Int,
        "2",
        Valid::AtLeast(1),
        "How many threads open the logs at the start.",
    ),
    define(
        "producer.id.expiration.ms",
        ConfigKind::Int,
        "86400000",
        Valid::AtLeast(1),
        "For how many milliseconds a silent idempotent producer's sequence numbers are remembered.",
    ),
    define(
        "group.min.session.timeout.ms",
        ConfigKind::Int,
        "6000",
        Valid::AtLeast(1),
        "The shortest session timeout that a group's member may ask for.",
    ),
    define(
        "group.max.session.timeout.ms",
        ConfigKind::Int,
        "1800000",
        Valid::AtLeast(1),
        "The longest session timeout that a group's member may ask for.",
    ),
    define(
        "group.initial.rebalance.delay.ms",
        ConfigKind::Int,
        "0",
        Valid::AtLeast(0),
        "For how many milliseconds an empty group waits for further members after the first has joined. Kafka's \
         default of 3000 saves large groups a few rebalances and costs every small one three seconds.",
    ),
    define(
        "group.max.size",
        ConfigKind::Int,
        "10000",
        Valid::AtLeast(1),
        "The most members of one group. Kafka's default is no bound.",
    ),
    define(
        "offsets.topic.num.partitions",
        ConfigKind::Int,
        "50",
        Valid::AtLeast(1),
        "How many partitions __consumer_offsets is created with; no effect once it is there.",
    ),
    define(
        "offsets.topic.segment.bytes",
        ConfigKind::Int,
        "104857600",
        Valid::AtLeast(1024 * 1024),
        "The segment.bytes that __consumer_offsets is created with.",
    ),
    ConfigDefinition {
        honoured: Honoured::DefaultOnly(SINGLE_NODE),
        ..define(
            "offsets.topic.replication.factor",
            ConfigKind::Short,
            "1",
            Valid::AtLeast(1),
            "How many replicas __consumer_offsets has. Kafka's default is 3.",
        )
    },
    define(
        "offsets.retention.minutes",
        ConfigKind::Int,
        "10080",
        Valid::AtLeast(1),
        "For how many minutes a committed offset is kept after its group has become empty (or, outside of group \
         management, after the commit).",
    ),
    define(
        "offsets.retention.check.interval.ms",
        ConfigKind::Long,
        "600000",
        Valid::AtLeast(1),
        "Every how many milliseconds the node looks for committed offsets that are past their retention.",
    ),
    define(
        "offset.metadata.max.bytes",
        ConfigKind::Int,
        "4096",
        Valid::Between(0, 32767),
        "The most bytes of metadata that a client may commit with an offset.",
    ),
    define(
        "millpond.sync.before.ack",
        ConfigKind::Boolean,
        "true",
        Valid::Any,
        "Whether a write with acks=all is answered only after the disk has it. With false the operating system \
         writes when it likes, as Kafka does by default, and a power cut can take back what was acknowledged; streams \
         that had read or written it stop then, and have to be registered anew.",
    ),
    define(
        "millpond.sync.threads",
        ConfigKind::Int,
        "4",
        Valid::Between(1, 256),
        "How many threads sync logs to disk, so that partitions are synced in parallel.",
    ),
    define(
        "millpond.journal.bytes",
        ConfigKind::Long,
        "134217728",
        Valid::AtLeast(0),
        "How many bytes of the disk the journal may take, through which small writes to many partitions become durable \
         together. With 0 there is none, and every partition is synced by itself.",
    ),
    define(
        "millpond.partition.journal.bytes.max",
        ConfigKind::Int,
        "65536",
        Valid::Between(0, 524288),
        "How many bytes that wait for the disk one partition may have in the journal at a time. With more its own log is \
         synced, which spares writing them twice.",
    ),
    define(
        "millpond.disk.reserve.bytes",
        ConfigKind::Long,
        "67108864",
        Valid::AtLeast(0),
        "With fewer bytes free on the disk no records are taken, so that commits, deletions and the state of streams have \
         room. Of a small disk no more than a twentieth is kept.",
    ),
    define(
        "millpond.tail.bytes.max",
        ConfigKind::Long,
        "67108864",
        Valid::AtLeast(0),
        "How many bytes of the newest batches of all partitions are kept in memory, where consumers that keep up \
         read them without touching a file.",
    ),
    define(
        "millpond.partition.tail.bytes.max",
        ConfigKind::Int,
        "4194304",
        Valid::AtLeast(0),
        "How many of those bytes one partition may have.",
    ),
    define(
        "millpond.open.files.max",
        ConfigKind::Int,
        "2000",
        Valid::AtLeast(1),
        "How many segments' files stay open after use. Those with something to sync are open besides.",
    ),
    define(
        "millpond.partitions.max",
        ConfigKind::Int,
        "20000",
        Valid::AtLeast(1),
        "The most partitions of all topics together.",
    ),
    define(
        "millpond.groups.max",
        ConfigKind::Int,
        "100000",
        Valid::AtLeast(1),
        "The most consumer groups that the node remembers.",
    ),
    define(
        "millpond.group.offsets.max",
        ConfigKind::Int,
        "1000000",
        Valid::AtLeast(1),
        "The most committed offsets, of all groups together, that the node remembers.",
    ),
    define(
        "millpond.group.bytes.max",
        ConfigKind::Long,
        "268435456",
        Valid::AtLeast(1),
        "About how many bytes of memory the members of all groups may take together.",
    ),
    define(
        "millpond.group.waiting.max",
        ConfigKind::Int,
        "100000",
        Valid::AtLeast(1),
        "The most JoinGroup and SyncGroup requests, of all groups together, that may wait for their answer.",
    ),
    define(
        "millpond.group.member.metadata.bytes.max",
        ConfigKind::Int,
        "1048576",
        Valid::AtLeast(1),
        "The most bytes of metadata, of all protocols together, that a group's member may bring.",
    ),
    define(
        "millpond.group.assignment.bytes.max",
        ConfigKind::Int,
        "16777216",
        Valid::AtLeast(1),
        "The most bytes of assignments, of all members together, that a group's leader may bring.",
    ),
];

/// Every configuration of the broker.
pub static BROKER_CONFIGS: LazyLock<Vec<ConfigDefinition>> = LazyLock::new(|| {
    let defaults_of_topics = TOPIC_CONFIGS.iter().flat_map(synonyms_of);
    OWN.iter().copied().chain(defaults_of_topics).collect()
});

/// The broker's configurations that set the default of a topic's. Where there are several, all but the last are
/// unset by default, so that a user's `log.retention.hours` is not hidden by a default `log.retention.ms`.
fn synonyms_of(topic: &'static ConfigDefinition) -> Vec<ConfigDefinition> {
    let synonyms = server_synonyms(topic.name);
    let last = synonyms.len().saturating_sub(1);
    let define = |(place, synonym): (usize, &super::ServerSynonym)| {
        let unit = match synonym.factor {
            1 => "",
            60_000 => " In minutes.",
            _ => " In hours.",
        };
        let in_milliseconds = synonym.factor == 1;
        let default = topic.default.filter(|_| place == last).map(|default| match default.parse::<i64>() {
            Ok(number) if !in_milliseconds => leak((number / synonym.factor).to_string()),
            _ => default,
        });
        ConfigDefinition {
            name: synonym.name,
            kind: if in_milliseconds { topic.kind } else { ConfigKind::Int },
            default,
            valid: topic.valid,
            documentation: leak(format!("The default of topics for {}.{unit} {}", topic.name, topic.documentation)),
            honoured: topic.honoured,
            dynamic: true,
            origin: Origin::Setting,
        }
    };
    synonyms.iter().enumerate().map(define).collect()
}

/// The tables are built once and live as long as the program.
fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// The configuration of the broker with this name.
pub fn broker_config(name: &str) -> Option<&'static ConfigDefinition> {
    BROKER_CONFIGS.iter().find(|definition| definition.name == name)
}
