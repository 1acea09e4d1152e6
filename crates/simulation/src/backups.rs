//! Backups of the node that runs: frozen at one moment, read while everything goes on, restored to another disk, and started there.
//!
//! The restored node is asked for all that was acknowledged or shown before the moment, and must know nothing that came after it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use millpond_broker::{Broker, Clock, Driver, FreezeError, Frozen, FrozenEntry, Ids};
use millpond_disk::{Crash, File, Random, SimulatedDisk};
use millpond_metadata::Settings;
use millpond_types::Offset;

use crate::checks::End;
use crate::inspection;
use crate::model::Model;
use crate::node::Node;
use crate::streams::Streams;
use crate::streams::node::NodeStreams;
use crate::world::{Shared, World};

/// Rounds of the journal, syncs and produces in the middle of freezing, at most.
const MEANWHILE_MAX: u64 = 6;

/// A backup that is being read.
#[derive(Debug)]
pub(crate) struct Backup {
    frozen: Frozen,
    /// What clients knew at the moment.
    model: Model,
    streams: Option<Streams>,
    /// Where the visible end of each partition was, before and after.
    ends: BTreeMap<(String, i32), (Offset, Offset)>,
    /// What was read so far.
    files: BTreeMap<String, Vec<u8>>,
    random: Random,
}

/// How a restored node is made.
pub(crate) struct Making<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) clock: &'a Clock,
    pub(crate) ids: &'a Ids,
}

impl Backup {
    /// Freezes the node's folder; in the middle of it clients go on, and the threads that sync.
    pub(crate) fn begin(
        broker: &Arc<Broker>,
        driver: &Driver,
        node_streams: Option<&NodeStreams>,
        shared: &Shared,
    ) -> Result<Backup, FreezeError> {
        let (before, ends_before) = {
            let world = shared.world.lock();
            (world.model.clone(), visible_ends(&world))
        };
        let frozen = broker.freeze(|folder| {
            if let Some(streams) = node_streams {
                let state = streams.runner.freeze_state(&folder.join("state"));
                state.map_err(|error| error.to_string())?;
            }
            let turns = shared.world.lock().random.below(MEANWHILE_MAX);
            for _ in 0..turns {
                let turn = shared.world.lock().random.below(3);
                match turn {
                    0 => drop(driver.journal_round()),
                    1 => drop(driver.sync_next()),
                    _ => {}
                }
                shared.world.lock().produce();
            }
            Ok(())
        })?;
        let mut world = shared.world.lock();
        let ends_after = visible_ends(&world);
        let ends = ends_before.into_iter().filter_map(|(place, before)| {
            let after = *ends_after.get(&place)?;
            Some((place, (before, after)))
        });
        let ends = ends.collect();
        // What was sent meanwhile may be there. What was acknowledged meanwhile need not be.
        let mut model = world.model.clone();
        for (name, topic) in &mut model.topics {
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                let known = before.topics.get(name).and_then(|topic| topic.partitions.get(index));
                partition.durable_end = known.map_or(0, |known| known.durable_end);
            }
        }
        let (streams, random) = (world.streams.clone(), Random::new(world.random.next_u64()));
        Ok(Backup { frozen, model, streams, ends, files: BTreeMap::new(), random })
    }

    /// Reads some more files. `true`: all are read.
    pub(crate) fn read_some(&mut self, random: &mut Random) -> Result<bool, String> {
        let left: Vec<FrozenEntry> =
            self.frozen.files().iter().filter(|file| !self.files.contains_key(&file.path)).cloned().collect();
        let count = 1 + random.index(left.len() + left.len() / 2 + 1);
        for FrozenEntry { path, bytes, bytes_settled } in left.iter().take(count) {
            let file = File::open_read_only(&self.frozen.dir().join(path)).map_err(|error| error.to_string())?;
            let len = usize::try_from(*bytes).unwrap_or(usize::MAX);
            let read = file.read_at(len, 0).map_err(|error| error.to_string())?;
            if (read.len() as u64) < *bytes_settled {
                return Err(format!("{path} has {} bytes, and {bytes_settled} were settled", read.len()));
            }
            self.files.insert(path.clone(), read);
        }
        Ok(count >= left.len())
    }

    /// Starts a node on what was read, and compares.
    pub(crate) fn check(self, making: &Making<'_>) -> Result<(), String> {
        if !self.frozen.is_sound() {
            return Ok(());
        }
        let Backup { frozen, model, streams, ends, files, mut random } = self;
        drop(frozen);
        let disk = SimulatedDisk::new(random.next_u64());
        disk.set_now_ms(making.clock.now_ms());
        write_all(&disk, &files).map_err(|error| error.to_string())?;
        if let Some(finding) = inspection::inspect(&disk) {
            return Err(format!("its files look damaged: {finding}"));
        }
        let node = Node::start(&disk, making.settings, making.clock, making.ids)?;
        let world = World::of_backup(node.broker.clone(), model, disk.clone(), streams, random);
        let registered = world.streams.as_ref().map(|streams| (streams.setup.clone(), streams.registered.clone()));
        let shared = Shared::new(world);
        {
            let mut world = shared.world.lock();
            world.streams_started();
            world.check_all(End::Crash(Crash::PowerCut));
            for ((topic, index), (before, after)) in &ends {
                let end = node.broker.partition(topic, *index).map(|partition| partition.end());
                if end.is_none_or(|end| end < *before || end > *after) {
                    world.violated(format!("{topic}-{index} ends at {end:?}; {before} to {after} were shown"));
                }
            }
        }
        shared.check_offsets(&node.driver, true);
        if let Some((setup, registered)) = registered {
            let streams = NodeStreams::start(&node.broker, &node.driver, &setup, &disk, &shared);
            streams.launch_all(&registered)?;
            shared.finish_streams(&streams, &node.driver);
        }
        let violation = shared.world.lock().violation.take();
        violation.map_or(Ok(()), Err)
    }
}

/// The visible ends of all partitions that clients write.
fn visible_ends(world: &World) -> BTreeMap<(String, i32), Offset> {
    let Some(broker) = &world.broker else { return BTreeMap::new() };
    let mut ends = BTreeMap::new();
    for (name, topic) in &world.model.topics {
        for index in 0..topic.partitions.len() as i32 {
            if let Some(partition) = broker.partition(name, index) {
                ends.insert((name.clone(), index), partition.visible_end());
            }
        }
    }
    ends
}

fn write_all(disk: &SimulatedDisk, files: &BTreeMap<String, Vec<u8>>) -> Result<(), millpond_disk::DiskError> {
    let data = disk.root().join("data");
    for (path, bytes) in files {
        let path = data.join(path);
        millpond_disk::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        millpond_disk::replace_file(&path, bytes)?;
    }
    Ok(())
}
