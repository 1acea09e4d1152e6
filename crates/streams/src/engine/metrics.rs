//! Counts of statements.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::sql::{ErrorKind, StatementError};

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Ending {
    Done,
    Refused,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Ending,
}

/// How many statements there were, by outcome.
#[derive(Debug, Default)]
pub(crate) struct EngineMetrics {
    statements: Family<Labels, Counter>,
}

impl EngineMetrics {
    pub(crate) fn done(&self) {
        self.statements.get_or_create(&Labels { outcome: Ending::Done }).inc();
    }

    pub(crate) fn refused(&self, error: &StatementError) {
        let outcome = if error.kind == ErrorKind::Execution { Ending::Failed } else { Ending::Refused };
        self.statements.get_or_create(&Labels { outcome }).inc();
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("millpond_statements", "SQL statements by outcome", self.statements.clone());
    }
}
