//! Whatever is wished for: the log alone gives the same image, and its counts are right.

use millpond_metadata::*;
use proptest::prelude::*;

use crate::harness::{Node, change, configs};

#[derive(Debug, Clone)]
enum Wish {
    Create(usize, i32, usize),
    Delete(usize),
    Grow(usize, i32),
    Alter(usize, usize, i8, usize),
    Replace(usize, usize, usize),
    AlterBroker(bool, usize, i8, usize),
    Own(usize, bool),
    ProducerIds,
}

const NAMES: [&str; 5] = ["a", "b.c", "b_c", "", "d"];
const CONFIGS: [&str; 6] =
    ["retention.ms", "cleanup.policy", "segment.bytes", "log.retention.ms", "nope", "max.message.bytes"];
const VALUES: [&str; 6] = ["5", "delete", "", "2000000", "-1", "compact"];

fn wish() -> impl Strategy<Value = Wish> {
    let (name, config, value) = (|| 0..NAMES.len(), || 0..CONFIGS.len(), || 0..VALUES.len());
    prop_oneof![
        4 => (name(), -1..4i32, value()).prop_map(|(name, partitions, value)| Wish::Create(name, partitions, value)),
        2 => name().prop_map(Wish::Delete),
        2 => (name(), 0..6i32).prop_map(|(name, count)| Wish::Grow(name, count)),
        4 => (name(), config(), 0..4i8, value()).prop_map(|(name, config, operation, value)| Wish::Alter(name, config, operation, value)),
        2 => (name(), config(), value()).prop_map(|(name, config, value)| Wish::Replace(name, config, value)),
        2 => (any::<bool>(), config(), 0..4i8, value()).prop_map(|(node, config, operation, value)| Wish::AlterBroker(node, config, operation, value)),
        1 => (name(), any::<bool>()).prop_map(|(name, owned)| Wish::Own(name, owned)),
        1 => Just(Wish::ProducerIds),
    ]
}

fn operation(number: i8) -> ConfigOperation {
    [ConfigOperation::Set, ConfigOperation::Delete, ConfigOperation::Append, ConfigOperation::Subtract][number as usize]
}

proptest! {
    #[test]
    fn the_log_tells_the_whole_image(wishes in prop::collection::vec(wish(), 1..40)) {
        let mut node = Node::new();
        for wish in wishes {
            let _ = match wish {
                Wish::Create(name, partitions, value) => node.create(NAMES[name], |topic| {
                    topic.partitions = partitions;
                    topic.configs = configs(&[("retention.ms", VALUES[value])]);
                }),
                Wish::Delete(name) => {
                    let planned = delete_topic(&node.image, NAMES[name], Actor::Client, true);
                    node.apply(planned)
                }
                Wish::Grow(name, count) => {
                    let planned =
                        create_partitions(&node.image, NAMES[name], count, None, Actor::Client, &node.defaults());
                    node.apply(planned)
                }
                Wish::Alter(name, config, number, value) => {
                    node.alter(NAMES[name], &[change(CONFIGS[config], operation(number), Some(VALUES[value]))])
                }
                Wish::Replace(name, config, value) => {
                    let wanted = configs(&[(CONFIGS[config], VALUES[value])]);
                    let planned = replace_topic_configs(&node.image, NAMES[name], &wanted);
                    node.apply(planned)
                }
                Wish::AlterBroker(own, config, number, value) => {
                    let scope = if own { BrokerScope::Node } else { BrokerScope::Default };
                    node.alter_broker(scope, &[change(CONFIGS[config], operation(number), Some(VALUES[value]))])
                }
                Wish::Own(name, owned) => {
                    let planned = set_topic_owner(&node.image, NAMES[name], owned.then_some("s"));
                    node.apply(planned)
                }
                Wish::ProducerIds => {
                    let (_, records) = allocate_producer_ids(&node.image, 10);
                    node.apply(Ok(records))
                }
            };
            for topic in node.image.topics() {
                prop_assert_eq!(node.image.topic_by_id(topic.id), Some(topic));
                // Whatever was stored can be used.
                node.config(&topic.name);
            }
            let counted: u64 = node.image.topics().map(|topic| topic.partition_count as u64).sum();
            prop_assert_eq!(node.image.partition_count(), counted);
        }
        prop_assert_eq!(&node.replayed(), &node.image);
    }

    #[test]
    fn any_bytes_can_be_decoded(bytes: Vec<u8>, text: String) {
        let _ = MetadataRecord::decode(&bytes);
        let _ = MetadataRecord::decode(text.as_bytes());
    }

    #[test]
    fn any_text_can_be_a_value(value: String) {
        for definition in config::TOPIC_CONFIGS.iter().chain(config::BROKER_CONFIGS.iter()) {
            let _ = definition.check(&value);
        }
        let _ = parse_properties(&value);
    }
}
