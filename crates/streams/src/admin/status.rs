//! `_millpond_streams`: what each stream is and how it does, by its name; a tombstone when it is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use millpond_broker::NewRecord;

use crate::engine::{Engine, StreamInfo};

/// Writes what changed, every `interval` and whenever the catalog changes, until the engine is gone. When nothing
/// changes, nothing is written.
pub(crate) async fn publish_status(engine: Weak<Engine>, interval: Duration, changed: Arc<tokio::sync::Notify>) {
    let mut written: HashMap<String, Bytes> = HashMap::new();
    let mut first = true;
    loop {
        // A node without streams sleeps until there is one.
        let idle = written.is_empty() && !first;
        if idle {
            changed.notified().await;
        } else if !first {
            drop(tokio::time::timeout(interval, changed.notified()).await);
        }
        let Some(engine) = engine.upgrade() else {
            return;
        };
        if engine.is_stopping() {
            return;
        }
        if first {
            written = engine.published_status();
        }
        first = false;
        publish(&engine, &mut written).await;
    }
}

async fn publish(engine: &Arc<Engine>, written: &mut HashMap<String, Bytes>) {
    let mut records = Vec::new();
    let streams = engine.streams();
    for gone in written.keys().filter(|name| !streams.iter().any(|stream| stream.name == **name)) {
        records.push(NewRecord { key: Some(Bytes::from(gone.clone())), value: None, headers: Vec::new() });
    }
    for stream in &streams {
        let value = Bytes::from(encode(stream));
        if written.get(&stream.name) != Some(&value) {
            records.push(NewRecord {
                key: Some(Bytes::from(stream.name.clone())),
                value: Some(value),
                headers: Vec::new(),
            });
        }
    }
    if records.is_empty() {
        return;
    }
    match engine.write_status(records.clone()).await {
        Ok(()) => {
            for record in records {
                let name =
                    record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default();
                match record.value {
                    Some(value) => drop(written.insert(name, value)),
                    None => drop(written.remove(&name)),
                }
            }
        }
        Err(error) => tracing::warn!(error, "the state of the streams could not be written"),
    }
}

fn encode(stream: &StreamInfo) -> Vec<u8> {
    serde_json::to_vec(stream).expect("a stream's state is made of text and numbers")
}
