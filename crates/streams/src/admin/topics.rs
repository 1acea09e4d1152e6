//! The topics that belong to the streams as such.

use millpond_broker::{Broker, NewTopicRequest};
use millpond_types::TopicName;

use crate::engine::EngineError;

/// Statements, one a record. Anybody may write here; a gate looks at what comes.
pub const STATEMENTS_TOPIC: &str = "_millpond_sql";
/// The outcome of every statement.
pub const ANSWERS_TOPIC: &str = "_millpond_answers";
/// What each stream is and how it does; the key is its name.
pub const STREAMS_TOPIC: &str = "_millpond_streams";
/// Every change of the catalog; what the streams come back from at a start.
pub const CATALOG_TOPIC: &str = "__millpond_catalog";

/// The names as the broker takes them.
#[derive(Debug, Clone)]
pub(crate) struct AdminTopics {
    pub(crate) statements: TopicName,
    pub(crate) answers: TopicName,
    pub(crate) streams: TopicName,
    pub(crate) catalog: TopicName,
}

impl AdminTopics {
    fn new() -> AdminTopics {
        let name = |name| TopicName::new(name).expect("the admin topics have good names");
        AdminTopics {
            statements: name(STATEMENTS_TOPIC),
            answers: name(ANSWERS_TOPIC),
            streams: name(STREAMS_TOPIC),
            catalog: name(CATALOG_TOPIC),
        }
    }
}

/// Makes those that are not there yet, each with one partition.
pub(crate) async fn create_admin_topics(broker: &Broker) -> Result<AdminTopics, EngineError> {
    let for_ever = ("retention.ms".to_owned(), Some("-1".to_owned()));
    let compacted = ("cleanup.policy".to_owned(), Some("compact".to_owned()));
    let wanted = [
        (STATEMENTS_TOPIC, false, vec![for_ever.clone()]),
        (ANSWERS_TOPIC, true, Vec::new()),
        (STREAMS_TOPIC, true, vec![compacted]),
        (CATALOG_TOPIC, true, vec![for_ever]),
    ];
    for (name, internal, configs) in wanted {
        if broker.topic(name).is_some() {
            continue;
        }
        let request = NewTopicRequest { partitions: 1, configs, internal, ..NewTopicRequest::new(name) };
        broker
            .create_topic(request, false)
            .await
            .map_err(|error| EngineError::Topic { topic: name.to_owned(), reason: error.to_string() })?;
    }
    Ok(AdminTopics::new())
}
