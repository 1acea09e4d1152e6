//! Plans without a node that runs them.

use std::sync::Arc;

use millpond_broker::Broker;
use millpond_types::Offset;

use super::prepare::{Change, Preparation, Prepared};
use super::view::View;
use crate::catalog::{Catalog, CatalogKind, Frozen};
use crate::plan::StreamPlan;
use crate::sql::error::StatementError;
use crate::sql::session::Session;

/// Plans CREATE statements one after the other, each over the streams of those before it, and carries none of them out: the
/// topics need not be there. Gives the streams that are queries, by name, in order; a [`Runner`](crate::run::Runner) runs them.
/// For who has the same queries run again and again on many nodes, as a simulation does; it plans on the caller's thread, so the statements must be the caller's own.
///
/// # Errors
/// What is wrong with the first statement that is not right.
pub fn plan_streams(broker: &Arc<Broker>, statements: &[&str]) -> Result<Vec<(String, StreamPlan)>, StatementError> {
    let session = Arc::new(Session::new());
    let mut catalog = Catalog::default();
    let mut plans = Vec::new();
    for (text, place) in statements.iter().zip(0..) {
        let view = View::new(catalog.clone(), broker.clone(), Frozen::new(), 0);
        let preparation = Preparation { session: session.clone(), view, follow: false, again: true };
        let prepared = preparation.prepare(text)?;
        let Prepared::Change(change) = prepared else {
            return Err(StatementError::invalid("this creates no stream"));
        };
        let Change::Create { mut stream, .. } = *change else {
            return Err(StatementError::invalid("this creates no stream"));
        };
        let id: Offset = place;
        stream.id = id;
        if let CatalogKind::Materialized { plan: Some(plan), .. } = &stream.kind {
            plans.push((stream.name.clone(), plan.as_ref().clone()));
        }
        catalog = catalog.with(*stream);
    }
    Ok(plans)
}
