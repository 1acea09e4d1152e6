//! What configurations can belong to, as DescribeConfigs and both AlterConfigs name it.

use std::collections::BTreeMap;

use millpond_broker::{Broker, ConfigWish, TopicError};
use millpond_metadata::config::{ConfigEntry, ConfigSource};
use millpond_metadata::{Actor, BrokerScope, MetadataError};

use crate::error_code::ErrorCode;
use crate::node::NODE_ID;

/// A thing that has configurations. The numbers of the types are Kafka's `ConfigResource.Type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    /// 2: a topic, by name.
    Topic(String),
    /// 4: this node by its id, or all nodes by the empty name.
    Broker(BrokerScope),
    /// 8, 16, 32: loggers, client metrics and groups. None of them has a configuration here.
    Bare(&'static str),
}

/// A code and what to say with it.
pub(crate) type Refusal = (ErrorCode, String);

impl Resource {
    /// Reads type and name.
    pub(crate) fn read(resource_type: i8, name: &str) -> Result<Resource, Refusal> {
        match resource_type {
            2 => Ok(Resource::Topic(name.to_owned())),
            4 => match BrokerScope::from_resource_name(name, NODE_ID) {
                Ok(scope) => Ok(Resource::Broker(scope)),
                Err(error) => Err((ErrorCode::InvalidRequest, error.to_string())),
            },
            8 => Ok(Resource::Bare("broker loggers")),
            16 => Ok(Resource::Bare("client metrics")),
            32 => Ok(Resource::Bare("groups")),
            other => Err((ErrorCode::InvalidRequest, format!("{other} is not a type of resource"))),
        }
    }

    /// Its configurations.
    pub(crate) fn describe(&self, broker: &Broker, listener: &str) -> Result<Vec<ConfigEntry>, Refusal> {
        let listens = || BTreeMap::from(["listeners", "advertised.listeners"].map(|name| (name, listener.to_owned())));
        match self {
            Resource::Topic(name) => broker.describe_topic_configs(name).map_err(|error| refusal(&error)),
            Resource::Broker(BrokerScope::Node) => Ok(broker.describe_broker_configs(&listens())),
            Resource::Broker(BrokerScope::Default) => {
                let entries = broker.describe_broker_configs(&listens());
                Ok(entries.into_iter().filter_map(set_for_all_nodes).collect())
            }
            Resource::Bare(_) => Ok(Vec::new()),
        }
    }
}

/// The entry as it is set for all nodes, if it is.
fn set_for_all_nodes(entry: ConfigEntry) -> Option<ConfigEntry> {
    let source = ConfigSource::DynamicDefaultBroker;
    let synonym = entry.synonyms.iter().find(|synonym| synonym.source == source)?.clone();
    Some(ConfigEntry { value: synonym.value.clone(), source, synonyms: vec![synonym], ..entry })
}

/// The refusal that an error of the broker comes to.
pub(crate) fn refusal(error: &TopicError) -> Refusal {
    (ErrorCode::from(error), error.to_string())
}

/// The refusal that an error of a request comes to.
pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    refusal(&TopicError::Metadata(MetadataError::InvalidRequest(message.into())))
}

impl Resource {
    /// Changes its configurations; all of the wish or nothing of it.
    pub(crate) async fn alter(&self, broker: &Broker, wish: ConfigWish, validate_only: bool) -> Result<(), Refusal> {
        match self {
            Resource::Topic(name) => broker
                .alter_topic_configs(name, wish, Actor::Client, validate_only)
                .await
                .map_err(|error| refusal(&error)),
            Resource::Broker(scope) => {
                broker.alter_broker_configs(*scope, wish, validate_only).await.map_err(|error| refusal(&error))
            }
            Resource::Bare(what) => Err(invalid(format!("{what} have no configurations on this broker"))),
        }
    }
}
