//! What a topic's partitions need to know of their topic, kept where they reach it without a look-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use millpond_metadata::TopicImage;
use millpond_metadata::config::TopicConfig;
use millpond_types::{TopicId, TopicName};
use parking_lot::RwLock;

use crate::batch_rules::BatchRules;

/// The largest batch that the node writes to its own topics, in bytes: a group's state with all its members'
/// metadata and assignments is one record, and must not be refused for what the clients' limit is.
pub(crate) const INTERNAL_BATCH_BYTES_MAX: usize = 64 << 20;

/// One topic. Made with its first partition; gone with the last who holds one of them.
#[derive(Debug)]
pub(crate) struct Topic {
    name: TopicName,
    id: TopicId,
    internal: bool,
    /// Follows the topic's configuration.
    batch_bytes_max: AtomicUsize,
    is_compacted: AtomicBool,
    rules: RwLock<BatchRules>,
    flush_messages: AtomicI64,
    flush_ms: AtomicI64,
    /// The stream that alone writes here.
    owner: RwLock<Option<Arc<str>>>,
}

impl Topic {
    /// As the metadata have it, with its configurations as they were resolved.
    pub(crate) fn new(image: &TopicImage, config: &TopicConfig) -> Topic {
        let topic = Topic {
            name: image.name.clone(),
            id: image.id,
            internal: image.internal,
            batch_bytes_max: AtomicUsize::new(0),
            is_compacted: AtomicBool::new(false),
            rules: RwLock::new(BatchRules::of(config)),
            flush_messages: AtomicI64::new(i64::MAX),
            flush_ms: AtomicI64::new(i64::MAX),
            owner: RwLock::new(image.owner.as_deref().map(Arc::from)),
        };
        topic.follow(config);
        topic
    }

    pub(crate) fn name(&self) -> &TopicName {
        &self.name
    }

    pub(crate) fn id(&self) -> TopicId {
        self.id
    }

    /// Whether only the node writes here.
    pub(crate) fn is_internal(&self) -> bool {
        self.internal
    }

    /// The stream that alone writes here.
    pub(crate) fn owner(&self) -> Option<Arc<str>> {
        self.owner.read().clone()
    }

    pub(crate) fn set_owner(&self, owner: Option<&str>) {
        *self.owner.write() = owner.map(Arc::from);
    }

    /// The largest batch in bytes that may be written here.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        self.batch_bytes_max.load(Ordering::Relaxed)
    }

    /// Whether of the records with one key only the newest stays, so that each needs a key.
    pub(crate) fn is_compacted(&self) -> bool {
        self.is_compacted.load(Ordering::Relaxed)
    }

    /// After how many records, and how many milliseconds, the log is synced at the latest.
    pub(crate) fn flush(&self) -> (i64, i64) {
        (self.flush_messages.load(Ordering::Relaxed), self.flush_ms.load(Ordering::Relaxed))
    }

    /// What becomes of batches that clients send.
    pub(crate) fn rules(&self) -> BatchRules {
        *self.rules.read()
    }

    /// Takes note of the configurations as they are now.
    pub(crate) fn follow(&self, config: &TopicConfig) {
        let bytes = config.max_message_bytes;
        let bytes = if self.internal { bytes.max(INTERNAL_BATCH_BYTES_MAX) } else { bytes };
        self.batch_bytes_max.store(bytes, Ordering::Relaxed);
        self.is_compacted.store(config.cleanup_policy.compact, Ordering::Relaxed);
        *self.rules.write() = BatchRules::of(config);
        self.flush_messages.store(config.flush_messages, Ordering::Relaxed);
        self.flush_ms.store(config.flush_ms, Ordering::Relaxed);
    }
}
