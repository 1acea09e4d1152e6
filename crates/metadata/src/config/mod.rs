//! The configurations, under Kafka's names.
//!
//! Owns the tables ([`TOPIC_CONFIGS`], [`BROKER_CONFIGS`]) with each configuration's type, default, valid values,
//! documentation and whether this node does what it says; what a topic's configurations come to
//! ([`TopicConfig::resolve`]); and the entries that DescribeConfigs shows ([`describe_topic`], [`describe_broker`]).
//!
//! Names, types, defaults and precedence are Kafka 4.4's (`LogConfig`, `ServerTopicConfigSynonyms`,
//! `DynamicBrokerConfig`). Where a default differs on purpose, the documentation says so.

mod broker;
mod definition;
mod describe;
mod resolve;
mod topic;

pub use broker::{BROKER_CONFIGS, broker_config};
pub use definition::{ConfigDefinition, ConfigKind, Honoured, Origin, Valid};
pub(crate) use definition::{list_items, nearest, parse_double};
pub use describe::{
    ConfigEntry, ConfigSource, ConfigSynonym, describe_broker, describe_broker_defaults, describe_topic,
};
pub use resolve::{CleanupPolicy, StoredCompression, TopicConfig};
pub use topic::{ServerSynonym, TOPIC_CONFIGS, server_synonyms, topic_config};
