//! The node that runs, between a start and a crash.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use millpond_broker::{Broker, BrokerOptions, Clock, Driver, Ids};
use millpond_disk::{Random, SimulatedDisk};
use millpond_metadata::Settings;

use crate::streams::node::NodeStreams;

/// The time at which every simulation begins, ms since 1970.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// What each of the journal's four files keeps free for cuts, in bytes. What is chosen is how much beside that.
const CUT_ROOM_BYTES: u64 = 64 * 4096;

/// How the seed wants the node to be set up.
pub(crate) fn settings(random: &mut Random) -> Settings {
    let mut pairs: Vec<(&str, String)> = vec![
        ("offsets.topic.num.partitions", "2".to_owned()),
        ("num.partitions", "1".to_owned()),
        // An index entry for each batch and few entries an index: segments of a handful of batches.
        ("log.index.interval.bytes", "0".to_owned()),
        ("log.index.size.max.bytes", (24 + 12 * random.below(20)).to_string()),
        ("log.retention.ms", "3600000".to_owned()),
        ("millpond.disk.reserve.bytes", (random.below(2) * 10_000).to_string()),
        ("log.cleaner.min.cleanable.ratio", ["0", "0.3", "0.7"][random.index(3)].to_owned()),
        ("log.segment.delete.delay.ms", "1000".to_owned()),
        ("millpond.partition.tail.bytes.max", (random.below(3) * 20_000).to_string()),
    ];
    let journal_bytes = match random.below(4) {
        0 => 0,
        1 => 4 * (CUT_ROOM_BYTES + 8_192),
        2 => 4 * (CUT_ROOM_BYTES + 32_768),
        _ => 4 * (CUT_ROOM_BYTES + 131_072),
    };
    pairs.push(("millpond.journal.bytes", journal_bytes.to_string()));
    pairs.push(("millpond.partition.journal.bytes.max", (2_000 + random.below(30_000)).to_string()));
    let pairs: Vec<(String, String)> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut settings =
        Settings::from_pairs(&pairs).unwrap_or_else(|error| panic!("the simulation's settings: {error}"));
    if random.below(2) == 0 {
        // Less than anybody may configure: the few keys there are go to the disk.
        settings.compaction_keys_bytes_max = 0;
    }
    settings
}

/// A node that runs.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) broker: Arc<Broker>,
    pub(crate) driver: Arc<Driver>,
    /// In seeds with streams.
    pub(crate) streams: Option<Arc<NodeStreams>>,
}

impl Node {
    pub(crate) fn start(disk: &SimulatedDisk, settings: &Settings, clock: &Clock, ids: &Ids) -> Result<Node, String> {
        let options = BrokerOptions {
            settings: settings.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            ..BrokerOptions::new(disk.root().join("data"))
        };
        let (broker, driver) = Broker::open_driven(options).map_err(|error| error.to_string())?;
        Ok(Node { broker, driver: Arc::new(driver), streams: None })
    }
}

/// What a future says when it is asked once.
pub(crate) fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// What a future says that waits for nothing: without a runtime the node does what waits for the disk at once.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    poll_once(std::pin::pin!(future)).expect("an answer at once")
}
