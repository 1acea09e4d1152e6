//! Producing: from what a client sent to records that are safe.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millpond_log::Appended;
use millpond_records::{BatchHeader, ProducedError, validate_produced};
use millpond_types::TimestampMs;

use crate::broker::Broker;
use crate::errors::ProduceError;
use crate::gate::{ClientContext, GatedBatch, Gateway};
use crate::keys::check_keys;
use crate::partition::Partition;

/// When a batch is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Not at all; the answer here says what came of it anyway.
    None,
    /// When it is appended.
    Leader,
    /// When it is durable.
    All,
}

/// A batch for one partition.
#[derive(Debug)]
pub struct ProducePartition {
    /// Where it goes.
    pub partition: Arc<Partition>,
    /// The record batch as it was sent.
    pub batch: BytesMut,
    /// When it is answered.
    pub acks: Acks,
    /// Who sends it.
    pub client: ClientContext,
    /// How long to wait at most for the sync, in milliseconds.
    pub timeout_ms: i64,
}

/// How far a batch got at once.
#[derive(Debug)]
pub enum Begun {
    /// It is in the log. Who wants it durable waits for [`Partition::durable`].
    Appended(Appended),
    /// A gate has to let it in.
    Gated(Gated),
}

/// A checked batch before the gate of its topic.
pub struct Gated {
    gateway: Arc<Gateway>,
    partition: Arc<Partition>,
    header: BatchHeader,
    batch: BytesMut,
    /// The broker's time, where that counts; -1 otherwise.
    append_time_ms: TimestampMs,
}

impl std::fmt::Debug for Gated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gated({})", self.partition.name())
    }
}

impl Broker {
    /// Checks a batch, lets the topic's gate decide, appends it, and with [`Acks::All`] waits until it is durable.
    ///
    /// When the future is dropped, the batch is either not appended or will be durable; what a gate admitted takes
    /// its effect.
    pub async fn produce(&self, request: ProducePartition) -> Result<Appended, ProduceError> {
        let ProducePartition { partition, batch, acks, client, timeout_ms } = request;
        match self.begin_produce(&partition, batch)? {
            Begun::Appended(appended) => {
                if acks == Acks::All {
                    durable_in_time(&partition, appended, timeout_of(timeout_ms)).await?;
                }
                Ok(appended)
            }
            Begun::Gated(gated) => gated.pass(acks, client, timeout_ms).await,
        }
    }

    /// Checks a batch, and appends it if there is no gate before its topic. Waits for nothing.
    pub fn begin_produce(&self, partition: &Arc<Partition>, batch: BytesMut) -> Result<Begun, ProduceError> {
        let topic = partition.topic_state();
        let header = validate_produced(&batch, topic.batch_bytes_max()).map_err(|error| match error {
            ProducedError::TooLarge { len, bytes_max } => ProduceError::TooLarge { bytes: len, bytes_max },
            other => ProduceError::Records(other),
        })?;
        if let Some(stream) = topic.owner() {
            return Err(ProduceError::OwnedByStream { topic: topic.name().clone(), stream: stream.to_string() });
        }
        if topic.is_compacted() {
            check_keys(topic.name(), &batch)?;
        }
        let (batch, append_time_ms) = topic.rules().apply(&header, batch, self.now_ms())?;
        if batch.len() > topic.batch_bytes_max() {
            return Err(ProduceError::TooLarge { bytes: batch.len(), bytes_max: topic.batch_bytes_max() });
        }
        match self.gates.find(topic.name()) {
            Some(gateway) => {
                Ok(Begun::Gated(Gated { gateway, partition: partition.clone(), header, batch, append_time_ms }))
            }
            None if topic.is_internal() => Err(ProduceError::InternalTopic { topic: topic.name().clone() }),
            None => {
                self.take_room(batch.len())?;
                let appended = partition.append(batch)?;
                Ok(Begun::Appended(stamped(appended, append_time_ms)))
            }
        }
    }

    /// Takes room on the disk for records that are about to be written.
    pub fn take_room(&self, bytes: usize) -> Result<(), ProduceError> {
        self.topics.around.room.take(bytes, self.now_ms()).map_err(ProduceError::DiskFull)
    }
}

fn stamped(appended: Appended, append_time_ms: TimestampMs) -> Appended {
    // When a batch came that was there already is not known any more.
    let log_append_time_ms = if appended.duplicate { -1 } else { append_time_ms };
    Appended { log_append_time_ms, ..appended }
}

async fn durable_in_time(partition: &Partition, appended: Appended, timeout: Duration) -> Result<(), ProduceError> {
    match tokio::time::timeout(timeout, partition.durable(appended.last_offset + 1)).await {
        Ok(durable) => durable,
        Err(_elapsed) => Err(ProduceError::TimedOut { timeout_ms: timeout.as_millis() as i64 }),
    }
}

fn timeout_of(timeout_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

impl Gated {
    /// Lets the gate decide, appends the batch, and with [`Acks::All`] waits until it is durable.
    pub async fn pass(self, acks: Acks, client: ClientContext, timeout_ms: i64) -> Result<Appended, ProduceError> {
        let Gated { gateway, partition, header, batch, append_time_ms } = self;
        let timeout = timeout_of(timeout_ms);
        // Fair: batches go through in the order they came.
        let turn = gateway.turn.clone().lock_owned().await;
        // An idempotent producer that sends a batch again wants to hear that it is in, not what the gate thinks of it now.
        if let Some(appended) = partition.find_duplicate(&header) {
            if acks == Acks::All {
                durable_in_time(&partition, appended, timeout).await?;
            }
            return Ok(appended);
        }
        let records: Bytes = batch.freeze();
        let gated = GatedBatch { partition: partition.name(), records: records.clone(), client };
        let admitted = (gateway.gate)(gated).await.map_err(|refusal| ProduceError::Refused {
            message: refusal.message,
            record_errors: refusal.record_errors,
        })?;
        // From here on it is a task of its own: what is in the log takes its effect, whether or not the client waits.
        let effect = tokio::spawn(async move {
            let _turn = turn;
            let appended = match partition.append(BytesMut::from(records)) {
                Ok(appended) => {
                    let durable = partition.durable(appended.last_offset + 1).await;
                    durable.map(|()| stamped(appended, append_time_ms))
                }
                Err(error) => Err(error),
            };
            let outcome = match &appended {
                Ok(appended) => Ok(appended.base_offset),
                Err(error) => Err(error.to_string()),
            };
            (admitted.on_appended)(outcome).await;
            appended
        });
        match effect.await {
            Ok(appended) => appended,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => Err(ProduceError::Stopping),
        }
    }
}
