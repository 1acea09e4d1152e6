//! Configurations change.

use std::collections::BTreeMap;

use millpond_types::NodeId;
use serde::{Deserialize, Serialize};

use super::topics::{check_together, check_topic_config, existing};
use crate::config::{BROKER_CONFIGS, ConfigDefinition, ConfigKind, broker_config, nearest, topic_config};
use crate::error::MetadataError;
use crate::image::{Image, TopicImage};
use crate::record::MetadataRecord;

/// One change of IncrementalAlterConfigs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The configuration.
    pub name: String,
    /// What to do with it.
    pub operation: ConfigOperation,
    /// The value; not needed to delete.
    pub value: Option<String>,
}

/// What to do with a configuration; the numbers are those of IncrementalAlterConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigOperation {
    /// Give it the value.
    Set = 0,
    /// Take the value away, so that the default holds.
    Delete = 1,
    /// Add items to a list.
    Append = 2,
    /// Take items out of a list.
    Subtract = 3,
}

/// Whose configurations of the broker change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokerScope {
    /// This node's.
    Node,
    /// Those of all nodes, where a node has none of its own.
    Default,
}

impl BrokerScope {
    /// The scope that a resource's name stands for: empty for all nodes, otherwise this node's id.
    pub fn from_resource_name(name: &str, node_id: NodeId) -> Result<BrokerScope, MetadataError> {
        match name {
            "" => Ok(BrokerScope::Default),
            name if name.parse() == Ok(node_id) => Ok(BrokerScope::Node),
            name => {
                Err(MetadataError::InvalidRequest(format!("there is no broker '{name}'; the only one is {node_id}")))
            }
        }
    }
}

/// Plans changes of a topic's overrides; all of them or none.
pub fn alter_topic_configs(
    image: &Image,
    topic: &str,
    changes: &[ConfigChange],
) -> Result<Vec<MetadataRecord>, MetadataError> {
    let topic = existing(image, topic)?;
    let changes = altered(&topic.configs, changes, topic_config, check_topic_config)?;
    topic_record(topic, changes)
}

/// Plans that a topic has these overrides and no others (AlterConfigs).
pub fn replace_topic_configs(
    image: &Image,
    topic: &str,
    configs: &[(String, Option<String>)],
) -> Result<Vec<MetadataRecord>, MetadataError> {
    let topic = existing(image, topic)?;
    let changes = replaced(&topic.configs, configs, check_topic_config)?;
    topic_record(topic, changes)
}

/// Plans changes of the broker's configurations; all of them or none.
pub fn alter_broker_configs(
    image: &Image,
    scope: BrokerScope,
    changes: &[ConfigChange],
) -> Result<Vec<MetadataRecord>, MetadataError> {
    let changes = altered(broker_values(image, scope), changes, broker_config, check_broker_config)?;
    Ok(broker_record(scope, changes))
}

/// Plans that the broker has these configurations set while running and no others (AlterConfigs).
pub fn replace_broker_configs(
    image: &Image,
    scope: BrokerScope,
    configs: &[(String, Option<String>)],
) -> Result<Vec<MetadataRecord>, MetadataError> {
    let changes = replaced(broker_values(image, scope), configs, check_broker_config)?;
    Ok(broker_record(scope, changes))
}

type Changes = BTreeMap<String, Option<String>>;

fn broker_values(image: &Image, scope: BrokerScope) -> &BTreeMap<String, String> {
    match scope {
        BrokerScope::Node => &image.broker_configs().node,
        BrokerScope::Default => &image.broker_configs().default,
    }
}

fn topic_record(topic: &TopicImage, changes: Changes) -> Result<Vec<MetadataRecord>, MetadataError> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let mut configs = topic.configs.clone();
    for (name, value) in &changes {
        match value {
            Some(value) => drop(configs.insert(name.clone(), value.clone())),
            None => drop(configs.remove(name)),
        }
    }
    if let Some(stream) = &topic.owner {
        check_owned(stream, &changes)?;
    }
    check_together(&configs)?;
    Ok(vec![MetadataRecord::TopicConfigsChanged { id: topic.id, changes }])
}

/// What a stream writes is a function of what it reads; nothing else may change it.
fn check_owned(stream: &str, changes: &Changes) -> Result<(), MetadataError> {
    for name in ["message.timestamp.type", "compression.type"] {
        let default = topic_config(name).and_then(|definition| definition.default);
        if let Some(Some(value)) = changes.get(name)
            && Some(value.as_str()) != default
        {
            let reason =
                format!("the topic is written by the stream '{stream}' alone, and its batches stay as it writes them");
            return Err(MetadataError::config(name, reason));
        }
    }
    Ok(())
}

fn broker_record(scope: BrokerScope, changes: Changes) -> Vec<MetadataRecord> {
    if changes.is_empty() { Vec::new() } else { vec![MetadataRecord::BrokerConfigsChanged { scope, changes }] }
}

/// What really changes when `wishes` are applied to `current`.
fn altered(
    current: &BTreeMap<String, String>,
    wishes: &[ConfigChange],
    definition: impl Fn(&str) -> Option<&'static ConfigDefinition>,
    check: impl Fn(&str, &str) -> Result<String, MetadataError>,
) -> Result<Changes, MetadataError> {
    let mut changes = Changes::new();
    for wish in wishes {
        let name = wish.name.as_str();
        if changes.contains_key(name) {
            return Err(MetadataError::InvalidRequest(format!("config '{name}' is changed twice in one request")));
        }
        if wish.operation == ConfigOperation::Delete {
            // Also takes away a value whose name this program does not know any more; an absent one is no error.
            changes.insert(name.to_owned(), None);
            continue;
        }
        let Some(value) = &wish.value else {
            return Err(MetadataError::config(name, "a value is needed; to take the override away, delete it"));
        };
        let value = match wish.operation {
            ConfigOperation::Append | ConfigOperation::Subtract => {
                let found = definition(name);
                if found.is_some_and(|found| found.kind != ConfigKind::List) {
                    return Err(MetadataError::config(name, "items can be added or taken out only of a list"));
                }
                let default = found.and_then(|found| found.default).unwrap_or_default();
                let items = current.get(name).map_or(default, String::as_str);
                combined(items, value, wish.operation == ConfigOperation::Append)
            }
            _ => value.clone(),
        };
        changes.insert(name.to_owned(), Some(check(name, &value)?));
    }
    Ok(only_differences(current, changes))
}

/// What changes when `current` becomes `wanted`.
fn replaced(
    current: &BTreeMap<String, String>,
    wanted: &[(String, Option<String>)],
    check: impl Fn(&str, &str) -> Result<String, MetadataError>,
) -> Result<Changes, MetadataError> {
    let mut changes: Changes = current.keys().map(|name| (name.clone(), None)).collect();
    for (name, value) in wanted {
        let value = value.as_deref().map(|value| check(name, value)).transpose()?;
        changes.insert(name.clone(), value);
    }
    Ok(only_differences(current, changes))
}

fn only_differences(current: &BTreeMap<String, String>, mut changes: Changes) -> Changes {
    changes.retain(|name, value| current.get(name) != value.as_ref());
    changes
}

/// A list with items added (those that are not there yet) or taken out.
fn combined(items: &str, change: &str, append: bool) -> String {
    let change = crate::config::list_items(change);
    let mut items = crate::config::list_items(items);
    if append {
        for item in change {
            if !items.contains(&item) {
                items.push(item);
            }
        }
    } else {
        items.retain(|item| !change.contains(item));
    }
    items.join(",")
}

fn check_broker_config(name: &str, value: &str) -> Result<String, MetadataError> {
    let Some(definition) = broker_config(name) else {
        let nearest = nearest(name, BROKER_CONFIGS.iter().map(|definition| definition.name));
        let hint = nearest.map(|nearest| format!("; did you mean '{nearest}'?")).unwrap_or_default();
        return Err(MetadataError::config(name, format!("there is no such broker config{hint}")));
    };
    if !definition.dynamic {
        let reason =
            "it cannot be changed while the node runs; set it on the command line or in the configuration file";
        return Err(MetadataError::config(name, reason));
    }
    definition.check(value).map_err(|reason| MetadataError::config(name, reason))
}
