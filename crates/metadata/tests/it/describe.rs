//! What DescribeConfigs shows.

use millpond_metadata::config::{ConfigEntry, ConfigSource, describe_broker, describe_broker_defaults, describe_topic};
use millpond_metadata::*;

use crate::harness::*;

fn topic_entry(node: &Node, name: &str) -> ConfigEntry {
    let topic = node.image.topic("a").unwrap();
    let entries = describe_topic(topic, &node.image, &node.settings);
    entries.into_iter().find(|entry| entry.name == name).unwrap()
}

fn broker_entry(node: &Node, name: &str) -> ConfigEntry {
    let entries = describe_broker(&node.image, &node.settings, &runtime());
    entries.into_iter().find(|entry| entry.name == name).unwrap()
}

fn synonyms(entry: &ConfigEntry) -> Vec<(&str, &str, ConfigSource)> {
    let plain = |synonym: &config::ConfigSynonym| (synonym.name, synonym.value.clone().unwrap(), synonym.source);
    entry.synonyms.iter().map(plain).map(|(name, value, source)| (name, &*value.leak(), source)).collect()
}

#[test]
fn an_untouched_topic_shows_defaults() {
    let mut node = Node::new();
    node.create("a", |_| ()).unwrap();
    let entry = topic_entry(&node, "retention.ms");
    assert_eq!((entry.value.as_deref(), entry.source), (Some("604800000"), ConfigSource::Default));
    assert_eq!(synonyms(&entry), [("log.retention.hours", "168", ConfigSource::Default)]);
    let entry = topic_entry(&node, "remote.storage.enable");
    assert_eq!(synonyms(&entry), [("remote.storage.enable", "false", ConfigSource::Default)]);
    assert!(!entry.read_only && !entry.sensitive && !entry.documentation.is_empty());
}

#[test]
fn every_place_that_has_a_value_is_shown_the_one_that_counts_first() {
    let mut node = Node::with(&[("log.retention.hours", "4")]);
    node.create("a", |topic| topic.configs = configs(&[("retention.ms", "1")])).unwrap();
    node.alter_broker(BrokerScope::Node, &[set("log.retention.ms", "2")]).unwrap();
    node.alter_broker(BrokerScope::Default, &[set("log.retention.ms", "3")]).unwrap();
    let entry = topic_entry(&node, "retention.ms");
    assert_eq!((entry.value.as_deref(), entry.source), (Some("1"), ConfigSource::DynamicTopic));
    assert_eq!(
        synonyms(&entry),
        [
            ("retention.ms", "1", ConfigSource::DynamicTopic),
            ("log.retention.ms", "2", ConfigSource::DynamicBroker),
            ("log.retention.ms", "3", ConfigSource::DynamicDefaultBroker),
            ("log.retention.hours", "4", ConfigSource::StaticBroker),
            ("log.retention.hours", "168", ConfigSource::Default),
        ]
    );
    let entry = broker_entry(&node, "log.retention.ms");
    assert_eq!((entry.value.as_deref(), entry.source), (Some("2"), ConfigSource::DynamicBroker));
    assert!(!entry.read_only);
}

#[test]
fn a_topics_value_is_in_the_topics_unit() {
    let mut node = Node::with(&[("log.roll.hours", "2")]);
    node.create("a", |_| ()).unwrap();
    let entry = topic_entry(&node, "segment.ms");
    assert_eq!((entry.value.as_deref(), entry.source), (Some("7200000"), ConfigSource::StaticBroker));
}

#[test]
fn the_broker_shows_what_tools_ask_for() {
    let node = Node::with(&[("num.partitions", "4")]);
    for (name, value) in [
        ("num.partitions", Some("4")),
        ("node.id", Some("1")),
        ("log.dirs", Some("/data")),
        ("advertised.listeners", None),
        ("delete.topic.enable", Some("true")),
        ("default.replication.factor", Some("1")),
        ("offsets.topic.num.partitions", Some("50")),
        ("log.retention.ms", None),
        ("log.retention.hours", Some("168")),
        ("message.max.bytes", Some("1048588")),
        ("auto.create.topics.enable", Some("true")),
    ] {
        assert_eq!(broker_entry(&node, name).value.as_deref(), value, "{name}");
    }
    let entries = describe_broker(&node.image, &node.settings, &runtime());
    assert!(entries.iter().all(|entry| entry.name != "inter.broker.protocol.version"));
    let read_only = |name| broker_entry(&node, name).read_only;
    assert_eq!(
        (read_only("node.id"), read_only("num.partitions"), read_only("log.segment.bytes")),
        (true, true, false)
    );
}

#[test]
fn the_resource_of_all_brokers_shows_only_what_is_set_there() {
    let mut node = Node::with(&[("log.retention.hours", "4")]);
    assert_eq!(describe_broker_defaults(&node.image), []);
    node.alter_broker(BrokerScope::Node, &[set("log.retention.ms", "2")]).unwrap();
    node.alter_broker(BrokerScope::Default, &[set("log.retention.ms", "3")]).unwrap();
    let entries = describe_broker_defaults(&node.image);
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].name, entries[0].value.as_deref()), ("log.retention.ms", Some("3")));
    assert_eq!((entries[0].source, entries[0].read_only), (ConfigSource::DynamicDefaultBroker, false));
}
