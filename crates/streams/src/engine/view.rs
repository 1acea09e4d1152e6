//! What streams and topics there are for one planning, with the columns of topics that nobody declared.

use std::collections::HashMap;
use std::sync::Arc;

use millpond_broker::{AbortedTransactions, Broker, FetchedBytes};
use millpond_formats::Inference;
use millpond_types::TopicName;
use parking_lot::Mutex;

use crate::catalog::{Catalog, Frozen, freeze, read_all, thaw};
use crate::plan::{ColumnOrigin, Format, SourceColumn};
use crate::sql::definition::{StreamDefinition, StreamOrigin};
use crate::sql::error::{SqlResult, StatementError};
use crate::sql::names::Streams;

/// The catalog and the broker's topics as a planning sees them.
pub(crate) struct View {
    catalog: Catalog,
    broker: Arc<Broker>,
    /// Columns that were found before; none are looked for then.
    frozen: Frozen,
    records_max: usize,
    /// What was found in topics during this planning.
    found: Mutex<HashMap<String, Arc<StreamDefinition>>>,
}

impl View {
    pub(crate) fn new(catalog: Catalog, broker: Arc<Broker>, frozen: Frozen, records_max: usize) -> View {
        View { catalog, broker, frozen, records_max, found: Mutex::new(HashMap::new()) }
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// The columns that were found in topics, to be frozen with the statement.
    pub(crate) fn frozen(&self) -> Frozen {
        let found = self.found.lock();
        found.iter().map(|(topic, definition)| (topic.clone(), freeze(&definition.columns))).collect()
    }

    /// The columns of a topic's records.
    pub(crate) fn infer(&self, topic: &TopicName) -> SqlResult<Arc<StreamDefinition>> {
        if let Some(found) = self.found.lock().get(topic.as_str()) {
            return Ok(found.clone());
        }
        let columns = match self.frozen.get(topic.as_str()) {
            Some(frozen) => thaw(frozen).map_err(StatementError::invalid)?,
            None => self.look(topic)?,
        };
        let definition = Arc::new(StreamDefinition {
            name: topic.to_string(),
            topic: topic.clone(),
            format: Format::Json,
            columns,
            watermark: None,
            origin: StreamOrigin::Inferred,
        });
        self.found.lock().insert(topic.to_string(), definition.clone());
        Ok(definition)
    }

    /// Looks at the first records of every partition.
    fn look(&self, topic: &TopicName) -> SqlResult<Vec<SourceColumn>> {
        let count = self.broker.topic(topic).map_or(0, |image| image.partition_count).max(1);
        let each_max = (self.records_max / count as usize).max(1);
        let mut inference = Inference::new();
        let mut records = 0;
        for partition in (0..count).filter_map(|index| self.broker.partition(topic, index)) {
            let mut seen = 0;
            let mut from = partition.log_start();
            // Read on batch by batch, so that a large topic is not read whole.
            while seen < each_max {
                let (fetched, aborted) = partition.read_committed(from, LOOK_BYTES, true).map_err(|error| {
                    StatementError::execution(format!("the topic `{topic}` cannot be read: {error}"))
                })?;
                if fetched.is_empty() || fetched.next_offset <= from {
                    break;
                }
                observe(&fetched, &aborted, from, &mut |value| {
                    if seen < each_max {
                        seen += 1;
                        records += 1;
                        if let Some(value) = value {
                            inference.observe(value);
                        }
                    }
                });
                from = fetched.next_offset;
            }
        }
        let columns: Vec<SourceColumn> = inference
            .columns()
            .into_iter()
            .map(|column| SourceColumn {
                origin: ColumnOrigin::Value { field: column.name.clone() },
                name: column.name,
                data_type: column.data_type,
            })
            .collect();
        if !columns.is_empty() {
            return Ok(columns);
        }
        Err(match records {
            0 => StatementError::unknown(format!("the topic `{topic}` has no records yet, so its columns are not known"))
                .with_hint("produce to it first, or declare it with CREATE STREAM"),
            _ => StatementError::unknown(format!(
                "none of the first {records} records of the topic `{topic}` is a JSON object, so its columns are not known"
            ))
            .with_hint("only JSON can be read so far"),
        })
    }
}

/// How many bytes of a topic are looked at at a time.
const LOOK_BYTES: usize = 256 << 10;
/// How many bytes a compressed batch may have unpacked.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Gives the values of the records from `from` on; what cannot be read tells nothing.
fn observe(fetched: &FetchedBytes, aborted: &AbortedTransactions, from: i64, each: &mut dyn FnMut(Option<&[u8]>)) {
    for chunk in &fetched.chunks {
        for batch in millpond_records::batches(chunk).flatten() {
            if batch.header.is_control() || aborted.covers(&batch.header) {
                continue;
            }
            if let Ok(mut records) = batch.records(DECOMPRESSED_BYTES_MAX) {
                let read = records.for_each(|record| {
                    if record.offset >= from {
                        each(record.value);
                    }
                });
                if let Err(error) = read {
                    tracing::debug!(%error, "a batch could not be looked at");
                }
            }
        }
    }
}

impl Streams for View {
    fn names(&self) -> Vec<String> {
        let image = self.broker.image();
        let topics = image.topics().filter(|topic| !topic.internal).map(|topic| topic.name.to_string());
        topics.chain(self.catalog.names().map(str::to_owned)).collect()
    }

    fn find(&self, name: &str) -> SqlResult<Option<Arc<StreamDefinition>>> {
        if let Some(stream) = self.catalog.get(name) {
            if let Some(reason) = &stream.broken {
                return Err(StatementError::conflict(format!("the stream `{name}` cannot be used: {reason}")));
            }
            return Ok(Some(stream.definition.clone()));
        }
        match self.broker.topic(name) {
            Some(topic) => self.infer(&topic.name).map(Some),
            // Frozen columns outlive their topic.
            None if self.frozen.contains_key(name) => match TopicName::new(name) {
                Ok(topic) => self.infer(&topic).map(Some),
                Err(_) => Ok(None),
            },
            None => Ok(None),
        }
    }
}

/// Reads all statements from an offset on.
pub(crate) fn statements_from(broker: &Broker, topic: &TopicName, from: i64) -> Result<Vec<(i64, String)>, String> {
    let Some(partition) = broker.partition(topic, 0) else {
        return Ok(Vec::new());
    };
    let mut statements = Vec::new();
    read_all(&partition, from, |offset, _, value| {
        if let Some(text) = value.and_then(|value| std::str::from_utf8(value).ok()) {
            statements.push((offset, text.to_owned()));
        }
    })?;
    Ok(statements)
}
