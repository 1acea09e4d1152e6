//! The catalog's log: the internal topic that holds every change.

use bytes::Bytes;
use millpond_broker::{Broker, NewRecord, Partition};
use millpond_records::batches;
use millpond_types::{Offset, TopicName};

use super::CatalogRecord;

/// How many bytes are read at a time.
const READ_BYTES: usize = 1 << 20;
/// How many bytes a compressed batch may have unpacked.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Appends a change; it is durable when this returns.
pub(crate) async fn append(broker: &Broker, topic: &TopicName, record: &CatalogRecord) -> Result<(), String> {
    let record = NewRecord {
        key: Some(Bytes::from(record.name.clone())),
        value: Some(Bytes::from(record.encode())),
        headers: Vec::new(),
    };
    broker.append_records(topic, 0, vec![record]).await.map(drop).map_err(|error| error.to_string())
}

/// Gives every visible record of a partition from `from` on to `each`: offset, key, value.
pub(crate) fn read_all(
    partition: &Partition,
    from: Offset,
    mut each: impl FnMut(Offset, Option<&[u8]>, Option<&[u8]>),
) -> Result<(), String> {
    let mut next = from.max(partition.log_start());
    let end = partition.visible_end();
    while next < end {
        let fetched = partition.read(next, READ_BYTES, true).map_err(|error| error.to_string())?;
        if fetched.is_empty() {
            return Ok(());
        }
        for chunk in &fetched.chunks {
            for batch in batches(chunk) {
                let batch = batch.map_err(|error| error.to_string())?;
                if batch.header.is_control() || batch.header.next_offset() <= next {
                    continue;
                }
                let mut records = batch.records(DECOMPRESSED_BYTES_MAX).map_err(|error| error.to_string())?;
                records
                    .for_each(|record| {
                        if record.offset >= next {
                            each(record.offset, record.key, record.value);
                        }
                    })
                    .map_err(|error| error.to_string())?;
            }
        }
        if fetched.next_offset <= next {
            return Ok(());
        }
        next = fetched.next_offset;
    }
    Ok(())
}
