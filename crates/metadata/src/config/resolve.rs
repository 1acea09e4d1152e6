//! What a topic's configurations come to.

use std::collections::BTreeMap;

use super::definition::{list_items, parse_boolean, parse_double, parse_integer};
use super::describe::{ConfigSource, ConfigSynonym};
use super::topic::{server_synonyms, topic_config};
use crate::image::BrokerConfigs;
use crate::settings::Settings;

/// A topic's configurations as the node uses them, each from the first place that has it: the topic's override, the
/// broker's configuration set while running (this node's, then all nodes'), the settings, the default.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// `segment.bytes`
    pub segment_bytes: u64,
    /// `segment.ms`
    pub segment_ms: i64,
    /// `segment.jitter.ms`
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`
    pub index_interval_bytes: u32,
    /// `flush.messages`
    pub flush_messages: i64,
    /// `flush.ms`
    pub flush_ms: i64,
    /// `retention.bytes`, −1 for no limit.
    pub retention_bytes: i64,
    /// `retention.ms`, −1 for ever.
    pub retention_ms: i64,
    /// `max.message.bytes`
    pub max_message_bytes: usize,
    /// `file.delete.delay.ms`
    pub file_delete_delay_ms: i64,
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`
    pub min_cleanable_dirty_ratio: f64,
    /// `min.insync.replicas`
    pub min_insync_replicas: i32,
    /// `preallocate`
    pub preallocate: bool,
    /// `compression.type`, with the level that goes with it.
    pub compression: StoredCompression,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`
    pub message_timestamp_before_ms_max: i64,
    /// `message.timestamp.after.max.ms`
    pub message_timestamp_after_ms_max: i64,
}

/// How a topic's batches are compressed on the disk (`compression.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredCompression {
    /// As the producer sent them.
    Producer,
    /// Not at all.
    None,
    /// gzip at this level; the library's choice if there is none.
    Gzip(Option<i32>),
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard at this level.
    Zstd(i32),
}

/// What happens to old segments; neither keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Those beyond the retention are deleted.
    pub delete: bool,
    /// Only the latest record of each key is kept.
    pub compact: bool,
}

impl TopicConfig {
    /// The configurations of a topic with these overrides.
    pub fn resolve(overrides: &BTreeMap<String, String>, broker: &BrokerConfigs, settings: &Settings) -> TopicConfig {
        let values = Values { overrides, broker, settings };
        TopicConfig {
            segment_bytes: values.integer("segment.bytes").max(0) as u64,
            segment_ms: values.integer("segment.ms"),
            segment_jitter_ms: values.integer("segment.jitter.ms"),
            segment_index_bytes: values.integer("segment.index.bytes").max(0) as u32,
            index_interval_bytes: values.integer("index.interval.bytes").max(0) as u32,
            flush_messages: values.integer("flush.messages"),
            flush_ms: values.integer("flush.ms"),
            retention_bytes: values.integer("retention.bytes"),
            retention_ms: values.integer("retention.ms"),
            max_message_bytes: values.integer("max.message.bytes").max(0) as usize,
            file_delete_delay_ms: values.integer("file.delete.delay.ms"),
            cleanup_policy: CleanupPolicy::parse(&values.text("cleanup.policy")),
            delete_retention_ms: values.integer("delete.retention.ms"),
            min_compaction_lag_ms: values.integer("min.compaction.lag.ms"),
            max_compaction_lag_ms: values.integer("max.compaction.lag.ms"),
            min_cleanable_dirty_ratio: values.double("min.cleanable.dirty.ratio"),
            min_insync_replicas: values.integer("min.insync.replicas") as i32,
            preallocate: values.boolean("preallocate"),
            compression: values.compression(),
            log_append_time: values.text("message.timestamp.type") == "LogAppendTime",
            message_timestamp_before_ms_max: values.integer("message.timestamp.before.max.ms"),
            message_timestamp_after_ms_max: values.integer("message.timestamp.after.max.ms"),
        }
    }
}

impl CleanupPolicy {
    fn parse(value: &str) -> CleanupPolicy {
        let items = list_items(value);
        CleanupPolicy { delete: items.contains(&"delete"), compact: items.contains(&"compact") }
    }
}

/// Where a topic's values are looked for.
pub(super) struct Values<'a> {
    pub(super) overrides: &'a BTreeMap<String, String>,
    pub(super) broker: &'a BrokerConfigs,
    pub(super) settings: &'a Settings,
}

impl Values<'_> {
    /// The value of a topic's configuration and where it is from.
    pub(super) fn effective(&self, name: &str) -> (String, ConfigSource) {
        if let Some(value) = self.overrides.get(name) {
            return (value.clone(), ConfigSource::DynamicTopic);
        }
        // As in Kafka, the synonym that counts most decides, wherever it is set: log.retention.ms in the settings goes
        // before log.retention.hours set while running.
        for synonym in server_synonyms(name) {
            if let Some((value, source)) = self.broker_value(synonym.name) {
                return (scaled(&value, synonym.factor), source);
            }
        }
        let default = topic_config(name).and_then(|definition| definition.default).unwrap_or_default();
        (default.to_owned(), ConfigSource::Default)
    }

    /// The value that somebody gave to a configuration of the broker.
    pub(super) fn broker_value(&self, name: &str) -> Option<(String, ConfigSource)> {
        let node = self.broker.node.get(name).map(|value| (value, ConfigSource::DynamicBroker));
        let default = || self.broker.default.get(name).map(|value| (value, ConfigSource::DynamicDefaultBroker));
        let settings = || self.settings.given().get(name).map(|value| (value, ConfigSource::StaticBroker));
        node.or_else(default).or_else(settings).map(|(value, source)| (value.clone(), source))
    }

    /// Every place that has a value for a broker's configurations, in the order in which DescribeConfigs shows them.
    pub(super) fn broker_synonyms(&self, names: &[&'static str]) -> Vec<ConfigSynonym> {
        let mut found = Vec::new();
        let levels = [
            (&self.broker.node, ConfigSource::DynamicBroker),
            (&self.broker.default, ConfigSource::DynamicDefaultBroker),
            (self.settings.given(), ConfigSource::StaticBroker),
        ];
        for (values, source) in levels {
            for name in names {
                if let Some(value) = values.get(*name) {
                    found.push(ConfigSynonym { name, value: Some(value.clone()), source });
                }
            }
        }
        for name in names {
            let default = super::broker_config(name).and_then(|definition| definition.default);
            if let Some(default) = default {
                found.push(ConfigSynonym { name, value: Some(default.to_owned()), source: ConfigSource::Default });
            }
        }
        found
    }

    fn compression(&self) -> StoredCompression {
        let level = |name| i32::try_from(self.integer(name)).unwrap_or(i32::MAX);
        match self.text("compression.type").as_str() {
            "uncompressed" => StoredCompression::None,
            "gzip" => StoredCompression::Gzip(Some(level("compression.gzip.level")).filter(|level| *level >= 0)),
            "snappy" => StoredCompression::Snappy,
            "lz4" => StoredCompression::Lz4,
            "zstd" => StoredCompression::Zstd(level("compression.zstd.level")),
            _ => StoredCompression::Producer,
        }
    }

    fn text(&self, name: &str) -> String {
        self.effective(name).0
    }

    /// Values are checked before they are stored; one that an older program let through counts as the default.
    fn integer(&self, name: &str) -> i64 {
        let default = || topic_config(name).and_then(|definition| parse_integer(definition.default?));
        parse_integer(&self.text(name)).or_else(default).expect("the tables' defaults are of their kind")
    }

    fn double(&self, name: &str) -> f64 {
        let default = || topic_config(name).and_then(|definition| parse_double(definition.default?));
        parse_double(&self.text(name)).or_else(default).expect("the tables' defaults are of their kind")
    }

    fn boolean(&self, name: &str) -> bool {
        let default = || topic_config(name).and_then(|definition| parse_boolean(definition.default?));
        parse_boolean(&self.text(name)).or_else(default).expect("the tables' defaults are of their kind")
    }
}

/// A broker's value in the topic's unit. −1 hours are for ever, not an hour less than none.
fn scaled(value: &str, factor: i64) -> String {
    match parse_integer(value) {
        Some(number) if factor != 1 && number >= 0 => number.saturating_mul(factor).to_string(),
        Some(number) if factor != 1 => number.max(-1).to_string(),
        _ => value.to_owned(),
    }
}
