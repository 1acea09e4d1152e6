//! From wishes to records.

mod configs;
mod topics;

pub use configs::{
    BrokerScope, ConfigChange, ConfigOperation, alter_broker_configs, alter_topic_configs, replace_broker_configs,
    replace_topic_configs,
};
pub use topics::{
    Actor, NewTopic, TopicDefaults, allocate_producer_ids, create_partitions, create_topic, delete_topic,
    set_topic_owner,
};
