//! What the stories have in common.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millpond_broker::{
    Acks, Appended, Broker, BrokerOptions, ClientContext, Clock, NewTopicRequest, Partition, ProduceError,
    ProducePartition,
};
use millpond_metadata::Settings;
use millpond_records::{BatchBuilder, BatchOptions, batches};
use millpond_types::Offset;

/// Long enough for a machine that is busy; nothing waits so long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The time at which standing clocks stand.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

pub(crate) fn settings(pairs: &[(&str, &str)]) -> Settings {
    let pairs: Vec<(String, String)> =
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Settings::from_pairs(&pairs).unwrap()
}

pub(crate) fn open(dir: &Path) -> Arc<Broker> {
    Broker::open(BrokerOptions::new(dir)).unwrap()
}

pub(crate) fn open_with(dir: &Path, pairs: &[(&str, &str)], clock: Clock) -> Arc<Broker> {
    Broker::open(BrokerOptions { settings: settings(pairs), clock, ..BrokerOptions::new(dir) }).unwrap()
}

pub(crate) async fn create(broker: &Broker, topic: &str, partitions: i32) {
    broker.create_topic(NewTopicRequest { partitions, ..NewTopicRequest::new(topic) }, false).await.unwrap();
}

/// A batch with these values, as a producer without idempotence sends it.
pub(crate) fn batch(timestamp_ms: i64, values: &[&str]) -> Vec<u8> {
    produced(BatchOptions::default(), timestamp_ms, values)
}

pub(crate) fn produced(options: BatchOptions, timestamp_ms: i64, values: &[&str]) -> Vec<u8> {
    let mut batch = BatchBuilder::new(options);
    for value in values {
        batch.push(timestamp_ms, None, Some(value.as_bytes()), &[]);
    }
    batch.build()
}

pub(crate) async fn produce_bytes(
    broker: &Broker,
    partition: &Arc<Partition>,
    acks: Acks,
    batch: Vec<u8>,
) -> Result<Appended, ProduceError> {
    let request = ProducePartition {
        partition: partition.clone(),
        batch: BytesMut::from(Bytes::from(batch)),
        acks,
        client: ClientContext { client_id: "test".to_owned(), ..ClientContext::default() },
        timeout_ms: PATIENCE.as_millis() as i64,
    };
    broker.produce(request).await
}

pub(crate) async fn produce(broker: &Broker, topic: &str, values: &[&str]) -> Result<Offset, ProduceError> {
    let partition = broker.partition(topic, 0).expect("the topic");
    let batch = batch(broker.now_ms(), values);
    produce_bytes(broker, &partition, Acks::All, batch).await.map(|appended| appended.base_offset)
}

/// Everything that is shown of a partition.
pub(crate) fn values(partition: &Partition) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = partition.log_start();
    loop {
        let fetched = partition.read(next, 1 << 20, true).unwrap();
        if fetched.is_empty() {
            return found;
        }
        for chunk in &fetched.chunks {
            for batch in batches(chunk) {
                batch
                    .unwrap()
                    .records(1 << 24)
                    .unwrap()
                    .for_each(|record| {
                        assert_eq!(record.offset, partition.log_start() + found.len() as i64);
                        found.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                    })
                    .unwrap();
            }
        }
        next = fetched.next_offset;
    }
}

/// A copy of a data folder, as another machine would find it after this one was killed. What the node removes in the
/// meantime may be in it or not, in whole or in part.
pub(crate) fn copy(from: &Path) -> tempfile::TempDir {
    fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            let copied = if entry.file_type()?.is_dir() {
                std::fs::create_dir(&target)?;
                copy_all(&entry.path(), &target)
            } else {
                std::fs::copy(entry.path(), target).map(drop)
            };
            match copied {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
    let to = tempfile::tempdir().unwrap();
    copy_all(from, to.path()).unwrap();
    to
}
