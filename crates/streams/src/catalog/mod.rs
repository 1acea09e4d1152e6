//! What was registered: the streams by name, and the log that they come back from after a restart.

mod log;
mod record;

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond_types::{Offset, TopicName};

pub(crate) use log::{append, read_all};
pub(crate) use record::{CatalogRecord, Event, Frozen, freeze, thaw};

use crate::plan::StreamPlan;
use crate::sql::definition::StreamDefinition;

/// All streams. Cheap to copy; a change makes a new one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    streams: BTreeMap<String, Arc<CatalogStream>>,
}

/// One registered stream.
#[derive(Debug, Clone)]
pub(crate) struct CatalogStream {
    pub(crate) name: String,
    /// The offset of its statement, unique for ever.
    pub(crate) id: Offset,
    /// The statement that made it.
    pub(crate) statement: String,
    /// Its columns and topic.
    pub(crate) definition: Arc<StreamDefinition>,
    pub(crate) kind: CatalogKind,
    /// Why it cannot be used: it could not be planned any more at the start.
    pub(crate) broken: Option<String>,
}

/// What a stream is.
#[derive(Debug, Clone)]
pub(crate) enum CatalogKind {
    /// Declared over a topic.
    Declared,
    /// The results of a query.
    Materialized {
        /// What runs; none if it could not be planned at the start.
        plan: Option<Arc<StreamPlan>>,
        /// The names and topics that the query reads.
        reads: Vec<Read>,
        /// Whether it was told to wait.
        paused: bool,
    },
}

/// What a query reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) stream: String,
    pub(crate) topic: TopicName,
}

impl Catalog {
    /// The stream of exactly this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<CatalogStream>> {
        self.streams.get(name)
    }

    /// The stream of this name, or the only one whose name differs in case alone.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<CatalogStream>> {
        self.streams.get(name).or_else(|| {
            let lower = name.to_lowercase();
            let mut alike = self.streams.values().filter(|stream| stream.name.to_lowercase() == lower);
            match (alike.next(), alike.next()) {
                (Some(stream), None) => Some(stream),
                _ => None,
            }
        })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.streams.keys().map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<CatalogStream>> {
        self.streams.values()
    }

    /// With this stream, in the place of one of the same name.
    pub(crate) fn with(&self, stream: CatalogStream) -> Catalog {
        let mut streams = self.streams.clone();
        streams.insert(stream.name.clone(), Arc::new(stream));
        Catalog { streams }
    }

    /// Without the stream.
    pub(crate) fn without(&self, name: &str) -> Catalog {
        let mut streams = self.streams.clone();
        streams.remove(name);
        Catalog { streams }
    }

    /// With the stream waiting, or going on.
    pub(crate) fn with_paused(&self, name: &str, now_paused: bool) -> Catalog {
        match self.streams.get(name) {
            Some(stream) => {
                let mut stream = stream.as_ref().clone();
                if let CatalogKind::Materialized { paused, .. } = &mut stream.kind {
                    *paused = now_paused;
                }
                self.with(stream)
            }
            None => self.clone(),
        }
    }

    /// Who keeps `stream` from being dropped, by name.
    pub(crate) fn users_of(&self, stream: &CatalogStream) -> Vec<&str> {
        let materialized = matches!(stream.kind, CatalogKind::Materialized { .. });
        let uses = |other: &&Arc<CatalogStream>| match &other.kind {
            _ if other.name == stream.name => false,
            CatalogKind::Declared => materialized && other.definition.topic == stream.definition.topic,
            CatalogKind::Materialized { reads, .. } => reads
                .iter()
                .any(|read| read.stream == stream.name || (materialized && read.topic == stream.definition.topic)),
        };
        self.streams.values().filter(uses).map(|other| other.name.as_str()).collect()
    }

    /// The materialized stream that writes this topic.
    pub(crate) fn writer_of(&self, topic: &str) -> Option<&Arc<CatalogStream>> {
        self.streams.values().find(|stream| {
            matches!(stream.kind, CatalogKind::Materialized { .. }) && stream.definition.topic.as_str() == topic
        })
    }
}
