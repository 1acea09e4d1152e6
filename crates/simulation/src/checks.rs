//! What must be true after a start.

use std::sync::Arc;

use millpond_broker::{Broker, Partition};
use millpond_disk::Crash;
use millpond_types::Offset;

use crate::actions::{read_all, read_committed};
use crate::model::{Existence, PartitionModel};
use crate::streams::queries::is_of_streams;
use crate::world::World;

/// How the node ended before it started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It stopped cleanly, and then this happened.
    Clean(Crash),
    Crash(Crash),
}

impl World {
    /// Compares the node that has just started with what the clients know, and takes note of what is not in doubt any more.
    pub(crate) fn check_all(&mut self, end: End) {
        let Some(broker) = self.broker.clone() else { return };
        let names: Vec<String> = self.model.topics.keys().cloned().collect();
        for name in names {
            if let Err(violation) = self.check_topic(&broker, &name, end) {
                self.violated(violation);
                return;
            }
        }
        let unknown = broker
            .image()
            .topics()
            .find(|topic| {
                !topic.internal && !is_of_streams(&topic.name) && !self.model.topics.contains_key(topic.name.as_str())
            })
            .map(|topic| topic.name.clone());
        if let Some(name) = unknown {
            self.violated(format!("topic {name} is there, and was deleted or never made"));
        }
    }

    fn check_topic(&mut self, broker: &Arc<Broker>, name: &str, end: End) -> Result<(), String> {
        let found = broker.topic(name);
        let Some(model) = self.model.topics.get_mut(name) else { return Ok(()) };
        let Some(found) = found else {
            if model.existence == Existence::Yes || (model.id.is_some() && model.existence == Existence::PerhapsMade) {
                return Err(format!("topic {name} is gone"));
            }
            self.model.topics.remove(name);
            self.forget_offsets_of(name);
            return Ok(());
        };
        if model.id.is_some_and(|id| id != found.id) {
            return Err(format!("topic {name} has another id"));
        }
        model.id = Some(found.id);
        model.existence = Existence::Yes;
        let count = found.partition_count as usize;
        if count < model.partitions.len() || count > model.partitions_max {
            let (least, most) = (model.partitions.len(), model.partitions_max);
            return Err(format!("topic {name} has {count} partitions instead of {least} to {most}"));
        }
        model.partitions.resize_with(count, Default::default);
        model.partitions_max = count;
        let is_compacted = model.is_compacted;
        for (index, model) in model.partitions.iter_mut().enumerate() {
            let partition =
                broker.partition(name, index as i32).ok_or_else(|| format!("{name}-{index} is not there"))?;
            check_partition(&partition, model, end, is_compacted)
                .map_err(|violation| format!("{name}-{index}: {violation}"))?;
        }
        Ok(())
    }
}

fn check_partition(
    partition: &Partition,
    model: &mut PartitionModel,
    end: End,
    is_compacted: bool,
) -> Result<(), String> {
    let (log_start, log_end, visible_end) = (partition.log_start(), partition.end(), partition.visible_end());
    if visible_end != log_end {
        return Err(format!("the log ends at {log_end}, and {visible_end} is shown"));
    }
    let least: Offset = match end {
        End::Clean(_) => model.end(),
        End::Crash(Crash::Kill) if !model.disk_failed => model.durable_end.max(model.appended_end),
        End::Crash(_) => model.durable_end,
    };
    if log_end < least {
        let (durable, appended) = (model.durable_end, model.appended_end);
        return Err(format!(
            "the log ends at {log_end}, and {least} were acknowledged or shown (durable {durable}, appended {appended}; {end:?})"
        ));
    }
    if log_end > model.end() {
        return Err(format!("the log ends at {log_end}, and {} were sent", model.end()));
    }
    if log_start < model.start_min || log_start > model.start_max.max(0) {
        return Err(format!("the log starts at {log_start} instead of {} to {}", model.start_min, model.start_max));
    }
    let found = read_all(partition, log_start, log_end)?;
    // Records that made room for others did so for others that are there.
    model.records.truncate(log_end as usize);
    let (committed, stable_end) = read_committed(partition, log_start)?;
    model.check_committed(&committed, stable_end, &found, (log_start, log_start, log_end))?;
    model.check_read(&found, log_start, log_end, is_compacted)?;
    // What a start serves stays.
    model.durable_end = log_end;
    model.appended_end = log_end;
    model.disk_failed = false;
    // Sequences go on after what is there: a producer that lost its last batches sends them again.
    for producer in model.producers.values_mut() {
        producer.appended.retain(|(end, _)| *end <= log_end);
        producer.next_sequence = producer.appended.last().map_or(0, |(_, sequence)| *sequence);
    }
    Ok(())
}
