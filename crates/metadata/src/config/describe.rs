//! What DescribeConfigs shows.

use std::collections::BTreeMap;

use super::broker::{BROKER_CONFIGS, broker_config};
use super::definition::{ConfigDefinition, ConfigKind, Origin};
use super::resolve::Values;
use super::topic::{TOPIC_CONFIGS, server_synonyms};
use crate::image::{Image, TopicImage};
use crate::settings::Settings;

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// Set on the topic.
    DynamicTopic = 1,
    /// Set on this broker while running.
    DynamicBroker = 2,
    /// Set on all brokers while running.
    DynamicDefaultBroker = 3,
    /// From the command line or the configuration file.
    StaticBroker = 4,
    /// Nobody set it.
    Default = 5,
}

/// One configuration with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: &'static str,
    /// Its value; `None` is null.
    pub value: Option<String>,
    /// Where the value is from.
    pub source: ConfigSource,
    /// Whether it cannot be changed while running.
    pub read_only: bool,
    /// Whether its value must not be shown; none of ours is.
    pub sensitive: bool,
    /// The type of its values.
    pub kind: ConfigKind,
    /// What it does.
    pub documentation: &'static str,
    /// Every place that has a value, the one that counts first.
    pub synonyms: Vec<ConfigSynonym>,
}

/// One place that has a value for a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The name there.
    pub name: &'static str,
    /// The value there.
    pub value: Option<String>,
    /// Which place.
    pub source: ConfigSource,
}

/// All configurations of a topic.
pub fn describe_topic(topic: &TopicImage, image: &Image, settings: &Settings) -> Vec<ConfigEntry> {
    let values = Values { overrides: &topic.configs, broker: image.broker_configs(), settings };
    let describe = |definition: &'static ConfigDefinition| {
        let (value, source) = values.effective(definition.name);
        let mut synonyms = Vec::new();
        if let Some(value) = topic.configs.get(definition.name) {
            let value = Some(value.clone());
            synonyms.push(ConfigSynonym { name: definition.name, value, source: ConfigSource::DynamicTopic });
        }
        let names: Vec<&'static str> = server_synonyms(definition.name).iter().map(|synonym| synonym.name).collect();
        synonyms.extend(values.broker_synonyms(&names));
        if names.is_empty() {
            let value = definition.default.map(str::to_owned);
            synonyms.push(ConfigSynonym { name: definition.name, value, source: ConfigSource::Default });
        }
        entry(definition, Some(value), source, false, synonyms)
    };
    TOPIC_CONFIGS.iter().map(describe).collect()
}

/// All configurations of the broker. `runtime` has the values that only the running node knows, by name: `node.id`,
/// `broker.id`, `log.dirs`, `listeners`, `advertised.listeners`; one that is missing is shown as null.
pub fn describe_broker(image: &Image, settings: &Settings, runtime: &BTreeMap<&str, String>) -> Vec<ConfigEntry> {
    let none = BTreeMap::new();
    let values = Values { overrides: &none, broker: image.broker_configs(), settings };
    let describe = |definition: &'static ConfigDefinition| {
        if let Origin::Runtime(_) = definition.origin {
            let value = runtime.get(definition.name).cloned();
            let synonym =
                ConfigSynonym { name: definition.name, value: value.clone(), source: ConfigSource::StaticBroker };
            return entry(definition, value, ConfigSource::StaticBroker, true, vec![synonym]);
        }
        let (value, source) = match values.broker_value(definition.name) {
            Some((value, source)) => (Some(value), source),
            None => (definition.default.map(str::to_owned), ConfigSource::Default),
        };
        let synonyms = values.broker_synonyms(&[definition.name]);
        entry(definition, value, source, !definition.dynamic, synonyms)
    };
    BROKER_CONFIGS.iter().map(describe).collect()
}

/// The configurations that are set for all brokers (the resource with the empty name), and no others.
pub fn describe_broker_defaults(image: &Image) -> Vec<ConfigEntry> {
    let source = ConfigSource::DynamicDefaultBroker;
    let describe = |(name, value): (&String, &String)| {
        let definition = broker_config(name)?;
        let synonyms = vec![ConfigSynonym { name: definition.name, value: Some(value.clone()), source }];
        Some(entry(definition, Some(value.clone()), source, !definition.dynamic, synonyms))
    };
    image.broker_configs().default.iter().filter_map(describe).collect()
}

fn entry(
    definition: &'static ConfigDefinition,
    value: Option<String>,
    source: ConfigSource,
    read_only: bool,
    synonyms: Vec<ConfigSynonym>,
) -> ConfigEntry {
    ConfigEntry {
        name: definition.name,
        value,
        source,
        read_only,
        sensitive: false,
        kind: definition.kind,
        documentation: definition.documentation,
        synonyms,
    }
}
