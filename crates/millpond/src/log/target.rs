//! Which partitions are meant.

use std::path::PathBuf;
use std::str::FromStr;

use millpond_broker::DataFolder;
use millpond_types::{PartitionIndex, TopicName, TopicPartition};

use super::LogToolError;

/// Topics that an error names, at most.
const TOPICS_NAMED_MAX: usize = 10;

/// A topic, or one of its partitions, as in `flights` and `flights:0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) topic: TopicName,
    pub(super) partition: Option<PartitionIndex>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let (topic, partition) = match text.split_once(':') {
            None => (text, None),
            Some((topic, number)) => {
                let number = number.parse().ok().filter(|number: &PartitionIndex| *number >= 0);
                (topic, Some(number.ok_or("TOPIC or TOPIC:PARTITION is expected, with the partition's number")?))
            }
        };
        let topic = TopicName::new(topic).map_err(|error| error.to_string())?;
        Ok(Target { topic, partition })
    }
}

/// The partitions' folders that are meant; all of them, if nothing is named.
pub(super) fn chosen(folder: &DataFolder, targets: &[Target]) -> Result<Vec<(TopicPartition, PathBuf)>, LogToolError> {
    if targets.is_empty() {
        return Ok(folder.partitions().to_vec());
    }
    let means = |target: &Target, partition: &TopicPartition| {
        target.topic == partition.topic && target.partition.is_none_or(|number| number == partition.partition)
    };
    for target in targets {
        if !folder.partitions().iter().any(|(partition, _)| means(target, partition)) {
            return Err(LogToolError::Source(missing(folder, target)));
        }
    }
    let is_meant = |partition: &TopicPartition| targets.iter().any(|target| means(target, partition));
    Ok(folder.partitions().iter().filter(|(partition, _)| is_meant(partition)).cloned().collect())
}

fn missing(folder: &DataFolder, target: &Target) -> String {
    let (topic, place) = (&target.topic, folder.path().display());
    let of_topic: Vec<String> = folder
        .partitions()
        .iter()
        .filter(|(partition, _)| partition.topic == *topic)
        .map(|(partition, _)| partition.partition.to_string())
        .collect();
    if let Some(number) = target.partition.filter(|_| !of_topic.is_empty()) {
        return format!("the topic '{topic}' has no partition {number} in {place}, only {}", of_topic.join(", "));
    }
    let mut topics: Vec<&str> = folder.partitions().iter().map(|(partition, _)| partition.topic.as_str()).collect();
    topics.dedup();
    let more = topics.len().saturating_sub(TOPICS_NAMED_MAX);
    topics.truncate(TOPICS_NAMED_MAX);
    let known = match (topics.is_empty(), more) {
        (true, _) => "no topic at all".to_owned(),
        (false, 0) => topics.join(", "),
        (false, more) => format!("{} and {more} more", topics.join(", ")),
    };
    format!("there is no topic '{topic}' in {place}; there is {known}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_topics_and_partitions() {
        let target = |topic: &str, partition| Target { topic: TopicName::new(topic).expect("a name"), partition };
        assert_eq!("flights".parse(), Ok(target("flights", None)));
        assert_eq!("a-b.c:12".parse(), Ok(target("a-b.c", Some(12))));
        for wrong in ["flights:", "flights:x", "flights:-1", "", ":0", "a/b", "a:1:2"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
