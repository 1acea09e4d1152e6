//! Records that the node itself writes, such as answers to statements.

use std::sync::Arc;

use bytes::Bytes;
use millpond_records::{BatchBuilder, BatchOptions};
use millpond_types::{Offset, PartitionIndex};

use crate::broker::Broker;
use crate::errors::ProduceError;
use crate::partition::Partition;

/// A batch is closed when the next record would make it larger than this, in bytes.
const BATCH_BYTES: usize = 512 << 10;

/// A record to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl Broker {
    /// Appends records in the node's own name, past owner and gate, and waits until they are durable. Gives the offset
    /// of the first. No records are none.
    pub async fn append_records(
        &self,
        topic: &str,
        partition: PartitionIndex,
        records: Vec<NewRecord>,
    ) -> Result<Option<Offset>, ProduceError> {
        let found = self.partition(topic, partition);
        let found = found.ok_or_else(|| ProduceError::UnknownPartition { topic: topic.to_owned(), partition })?;
        let Some((first, end)) = append(&found, records, self.now_ms())? else { return Ok(None) };
        found.durable(end).await?;
        Ok(Some(first))
    }
}

/// Appends the records in as few batches as their size allows. Gives the first one's offset and the end.
fn append(
    partition: &Arc<Partition>,
    records: Vec<NewRecord>,
    now_ms: i64,
) -> Result<Option<(Offset, Offset)>, ProduceError> {
    let mut first = None;
    let mut end = 0;
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        while let Some(record) = records.next_if(|record| batch.is_empty() || fits(&batch, record)) {
            batch.push(now_ms, record.key.as_deref(), record.value.as_deref(), &headers(&record));
        }
        let appended = partition.append_owned(batch.build())?;
        first.get_or_insert(appended.base_offset);
        end = appended.last_offset + 1;
    }
    Ok(first.map(|first| (first, end)))
}

fn fits(batch: &BatchBuilder, record: &NewRecord) -> bool {
    let size = BatchBuilder::record_size_max(record.key.as_deref(), record.value.as_deref(), &headers(record));
    batch.size_estimate() + size <= BATCH_BYTES
}

fn headers(record: &NewRecord) -> Vec<(&str, Option<&[u8]>)> {
    record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect()
}
