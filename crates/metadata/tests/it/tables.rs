//! The tables are Kafka's (4.4, `LogConfig`), and whole.

use std::collections::BTreeSet;

use millpond_metadata::config::*;

/// Name, type, default, in Kafka's order.
const KAFKAS: &[(&str, ConfigKind, &str)] = &[
    ("segment.bytes", ConfigKind::Int, "1073741824"),
    ("segment.ms", ConfigKind::Long, "604800000"),
    ("segment.jitter.ms", ConfigKind::Long, "0"),
    ("segment.index.bytes", ConfigKind::Int, "10485760"),
    ("flush.messages", ConfigKind::Long, "9223372036854775807"),
    ("flush.ms", ConfigKind::Long, "9223372036854775807"),
    ("retention.bytes", ConfigKind::Long, "-1"),
    ("retention.ms", ConfigKind::Long, "604800000"),
    ("max.message.bytes", ConfigKind::Int, "1048588"),
    ("index.interval.bytes", ConfigKind::Int, "4096"),
    ("delete.retention.ms", ConfigKind::Long, "86400000"),
    ("min.compaction.lag.ms", ConfigKind::Long, "0"),
    ("max.compaction.lag.ms", ConfigKind::Long, "9223372036854775807"),
    ("file.delete.delay.ms", ConfigKind::Long, "60000"),
    ("min.cleanable.dirty.ratio", ConfigKind::Double, "0.5"),
    ("cleanup.policy", ConfigKind::List, "delete"),
    ("unclean.leader.election.enable", ConfigKind::Boolean, "false"),
    ("min.insync.replicas", ConfigKind::Int, "1"),
    ("compression.type", ConfigKind::String, "producer"),
    ("compression.gzip.level", ConfigKind::Int, "-1"),
    ("compression.lz4.level", ConfigKind::Int, "9"),
    ("compression.zstd.level", ConfigKind::Int, "3"),
    ("preallocate", ConfigKind::Boolean, "false"),
    ("message.timestamp.type", ConfigKind::String, "CreateTime"),
    ("message.timestamp.before.max.ms", ConfigKind::Long, "9223372036854775807"),
    ("message.timestamp.after.max.ms", ConfigKind::Long, "3600000"),
    ("leader.replication.throttled.replicas", ConfigKind::List, ""),
    ("follower.replication.throttled.replicas", ConfigKind::List, ""),
    ("remote.storage.enable", ConfigKind::Boolean, "false"),
    ("local.retention.ms", ConfigKind::Long, "-2"),
    ("local.retention.bytes", ConfigKind::Long, "-2"),
    ("remote.log.copy.disable", ConfigKind::Boolean, "false"),
    ("remote.copy.lag.ms", ConfigKind::Long, "0"),
    ("remote.copy.lag.bytes", ConfigKind::Long, "-1"),
    ("remote.log.delete.on.disable", ConfigKind::Boolean, "false"),
    ("errors.deadletterqueue.group.enable", ConfigKind::Boolean, "false"),
];

#[test]
fn topics_have_kafkas_configs_types_and_defaults() {
    let ours: Vec<_> =
        TOPIC_CONFIGS.iter().map(|config| (config.name, config.kind, config.default.unwrap_or("null"))).collect();
    assert_eq!(ours, KAFKAS);
}

#[test]
fn every_default_can_be_set_and_every_config_is_documented() {
    for config in TOPIC_CONFIGS.iter().chain(BROKER_CONFIGS.iter()) {
        if let Some(default) = config.default {
            assert_eq!(config.check(default).as_deref(), Ok(default), "{}", config.name);
        }
        assert!(config.documentation.len() > 20 && config.documentation.ends_with('.'), "{}", config.name);
    }
}

#[test]
fn names_are_unique_and_synonyms_exist() {
    let names: BTreeSet<&str> = BROKER_CONFIGS.iter().map(|config| config.name).collect();
    assert_eq!(names.len(), BROKER_CONFIGS.len());
    for config in TOPIC_CONFIGS {
        for synonym in server_synonyms(config.name) {
            assert!(names.contains(synonym.name), "{}", synonym.name);
        }
    }
    assert_eq!(server_synonyms("remote.storage.enable"), []);
}

#[test]
fn of_several_names_for_one_default_only_the_last_has_a_value() {
    let default = |name: &str| broker_config(name).unwrap().default;
    assert_eq!([default("log.retention.ms"), default("log.retention.minutes")], [None, None]);
    assert_eq!(default("log.retention.hours"), Some("168"));
    assert_eq!((default("log.roll.ms"), default("log.roll.hours")), (None, Some("168")));
    assert_eq!((default("log.roll.jitter.ms"), default("log.roll.jitter.hours")), (None, Some("0")));
    assert_eq!(default("log.flush.interval.ms"), None);
    assert_eq!(default("log.flush.scheduler.interval.ms"), Some("9223372036854775807"));
}

#[test]
fn what_is_not_honoured_says_why() {
    for config in TOPIC_CONFIGS {
        if let Honoured::DefaultOnly(reason) = config.honoured {
            assert!(reason.len() > 10, "{}", config.name);
        }
    }
    let honoured: Vec<&str> =
        TOPIC_CONFIGS.iter().filter(|config| config.honoured == Honoured::Yes).map(|config| config.name).collect();
    assert_eq!(
        honoured,
        [
            "segment.bytes",
            "segment.ms",
            "segment.jitter.ms",
            "segment.index.bytes",
            "flush.messages",
            "flush.ms",
            "retention.bytes",
            "retention.ms",
            "max.message.bytes",
            "index.interval.bytes",
            "delete.retention.ms",
            "min.compaction.lag.ms",
            "max.compaction.lag.ms",
            "file.delete.delay.ms",
            "min.cleanable.dirty.ratio",
            "cleanup.policy",
            "unclean.leader.election.enable",
            "compression.type",
            "compression.gzip.level",
            "compression.zstd.level",
            "preallocate",
            "message.timestamp.type",
            "message.timestamp.before.max.ms",
            "message.timestamp.after.max.ms",
        ]
    );
}
