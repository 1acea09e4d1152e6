//! Gates: who may look at what a client sends before it becomes part of a topic.
//!
//! The streams put one before `_millpond_sql`: a batch with a wrong statement is refused there, so that it
//! never is in the log. Batches for a gated topic go through one after the other, from the question to
//! the end of what admitting them set off: a gate decides on a state that does not change under it, and
//! batches take effect in the order of the log.
//!
//! What has a gate is the node's own: clients produce to it, and change nothing else about it
//! ([`Broker::refuse_clients_changes`](crate::Broker::refuse_clients_changes)).

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use millpond_types::{Offset, TopicName, TopicPartition};
use parking_lot::RwLock;

/// A future that is sent around.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who sends a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientContext {
    /// The client's name for itself (`client.id`).
    pub client_id: String,
    /// Who it is; `User:ANONYMOUS` without authentication.
    pub principal: String,
    /// Where it connects from.
    pub host: String,
}

/// A batch at a gate. It is valid, but not yet in the log.
#[derive(Debug, Clone)]
pub struct GatedBatch {
    /// Where it is to go.
    pub partition: TopicPartition,
    /// The record batch as it was sent.
    pub records: Bytes,
    /// Who sends it.
    pub client: ClientContext,
}

/// What a gate does once a batch that it let in is durable: with the offset of its first record, or with the
/// reason why it was not appended. The answer to the client waits for the end of it.
pub type OnAppended = Box<dyn FnOnce(Result<Offset, String>) -> BoxFuture<'static, ()> + Send>;

/// A gate's yes.
pub struct Admitted {
    /// Called exactly once, even when the client is gone by then.
    pub on_appended: OnAppended,
}

/// A gate's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for the batch as a whole.
    pub message: String,
    /// Which records are to blame, by their place in the batch, and for what.
    pub record_errors: Vec<(usize, String)>,
}

/// Decides about batches. It must end by itself: others wait behind it.
pub type Gate = Arc<dyn Fn(GatedBatch) -> BoxFuture<'static, Result<Admitted, Refusal>> + Send + Sync>;

impl std::fmt::Debug for Admitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admitted")
    }
}

/// One topic's gate and the turn of who goes through it.
pub(crate) struct Gateway {
    pub(crate) gate: Gate,
    /// Held by the batch that is at the gate; the others queue in the order they came.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

/// The gates by topic. They hold for topics that do not exist yet, too.
#[derive(Default)]
pub(crate) struct Gates {
    by_topic: RwLock<HashMap<TopicName, Arc<Gateway>>>,
}

impl std::fmt::Debug for Gates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_topic.read().keys()).finish()
    }
}

impl Gates {
    /// Puts `gate` before `topic`, in place of the one that was there.
    pub(crate) fn set(&self, topic: TopicName, gate: Gate) {
        let mut by_topic = self.by_topic.write();
        // Whoever waits for the old gate stays before those who will come to the new one.
        let turn = by_topic.get(&topic).map(|before| before.turn.clone()).unwrap_or_default();
        by_topic.insert(topic, Arc::new(Gateway { gate, turn }));
    }

    /// The gate before `topic`.
    pub(crate) fn find(&self, topic: &str) -> Option<Arc<Gateway>> {
        self.by_topic.read().get(topic).cloned()
    }
}
