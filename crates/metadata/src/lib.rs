//! Which topics and configurations exist?
//!
//! Owns the [`Image`]: every topic, every configuration that was changed while running, and the producer ids given
//! out so far; the [`MetadataRecord`]s it is replayed from; the tables of configurations under Kafka's names
//! ([`config`]); and the node's [`Settings`].
//!
//! Does no I/O, has no clock and no randomness: a `plan` function looks at an image and a wish and answers either
//! the records that fulfil it or a [`MetadataError`]. Whoever calls it makes the records durable, then applies them:
//!
//! ```text
//! wish + Image --plan--> records --(caller writes them)--> Image::apply
//! ```
//!
//! Start with [`Image`], then [`create_topic`], then [`config::TopicConfig`].

pub mod config;
mod error;
mod image;
mod plan;
mod record;
mod settings;

pub use error::MetadataError;
pub use image::{BrokerConfigs, Image, TopicImage};
pub use plan::{
    Actor, BrokerScope, ConfigChange, ConfigOperation, NewTopic, TopicDefaults, allocate_producer_ids,
    alter_broker_configs, alter_topic_configs, create_partitions, create_topic, delete_topic, replace_broker_configs,
    replace_topic_configs, set_topic_owner,
};
pub use record::{MetadataRecord, RECORD_VERSION, RecordError, RecordedTopic};
pub use settings::{Settings, SettingsError, parse_properties};
