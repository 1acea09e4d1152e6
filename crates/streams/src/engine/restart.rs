//! What a start does: the catalog comes back from its log, and queries go on where they were.
//!
//! Nothing in a topic keeps the node from starting: a record that cannot be read is passed over and told in the log,
//! a stream that cannot be planned any more is shown as failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond_metadata::Actor;

use super::prepare::{Change, Prepared};
use super::{Engine, EngineError, view};
use crate::admin::{Answer, Outcome};
use crate::catalog::{self, Catalog, CatalogKind, CatalogRecord, CatalogStream, Event, Frozen, thaw};
use crate::plan::Format;
use crate::run::{QueryId, QuerySpec};
use crate::sql::definition::{StreamDefinition, StreamOrigin};
use crate::sql::error::StatementError;
use crate::sql::parser::parse;

/// What is left of the catalog's log: the streams that exist, oldest first.
struct Remembered {
    created: CatalogRecord,
    paused: bool,
}

/// Brings the streams back.
pub(super) async fn bring_back(engine: &Arc<Engine>) -> Result<(), EngineError> {
    let (remembered, next_statement) = read_catalog(engine)?;
    for stream in remembered.into_values() {
        let restored = restore(engine, stream).await;
        let next = engine.catalog().with(restored);
        *engine.catalog.write() = next;
    }
    launch_all(engine).await;
    delete_orphans(engine).await;
    apply_missed(engine, next_statement).await;
    Ok(())
}

/// The streams by the offset of their statements, and the first statement that the catalog does not know of.
fn read_catalog(engine: &Engine) -> Result<(BTreeMap<i64, Remembered>, i64), EngineError> {
    let Some(partition) = engine.broker.partition(&engine.topics.catalog, 0) else {
        return Ok((BTreeMap::new(), 0));
    };
    let mut streams: BTreeMap<i64, Remembered> = BTreeMap::new();
    let mut next_statement = 0;
    let mut newer: Option<String> = None;
    let read = catalog::read_all(&partition, 0, |offset, _, value| {
        let record = match CatalogRecord::decode(value.unwrap_or_default()) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(offset, %error, "a record of the catalog cannot be read and is passed over");
                newer.get_or_insert_with(|| error.to_string());
                return;
            }
        };
        next_statement = next_statement.max(record.offset + 1);
        let id = streams.iter().find(|(_, stream)| stream.created.name == record.name).map(|(id, _)| *id);
        match (record.event, id) {
            (Event::Created, None) => {
                drop(streams.insert(record.offset, Remembered { created: record, paused: false }))
            }
            (Event::Created, Some(_)) => {
                tracing::error!(offset, stream = record.name, "created twice; the first stays")
            }
            (Event::Dropped, Some(id)) => drop(streams.remove(&id)),
            (Event::Paused | Event::Resumed, Some(id)) => {
                if let Some(stream) = streams.get_mut(&id) {
                    stream.paused = record.event == Event::Paused;
                }
            }
            (Event::Passed, _) => {}
            (_, None) => tracing::error!(offset, stream = record.name, "changed, but never created"),
        }
    });
    read.map_err(EngineError::Catalog)?;
    Ok((streams, next_statement))
}

/// The stream as it was registered; broken if its statement cannot be planned any more.
async fn restore(engine: &Arc<Engine>, remembered: Remembered) -> CatalogStream {
    let Remembered { created, paused: was_paused } = remembered;
    let (text, frozen) = (created.statement.clone(), created.frozen.clone());
    let prepared = engine.prepare_with(engine.catalog(), text, false, frozen, true).await;
    let error = match prepared {
        Ok(Prepared::Change(change)) => match *change {
            Change::Create { mut stream, .. } if stream.name == created.name => {
                stream.id = created.offset;
                if let CatalogKind::Materialized { paused, .. } = &mut stream.kind {
                    *paused = was_paused;
                }
                return *stream;
            }
            _ => StatementError::execution("its statement does not create it"),
        },
        Ok(Prepared::Read(_)) => StatementError::execution("its statement does not create it"),
        Err(error) => error,
    };
    tracing::error!(stream = created.name, %error, "a registered stream cannot be planned any more");
    broken(created, error)
}

/// A stream whose name stays taken, so that it can be seen and dropped.
fn broken(created: CatalogRecord, error: StatementError) -> CatalogStream {
    let materialized = !matches!(parse(&created.statement), Ok(crate::sql::statement::Statement::CreateStream(_)));
    let columns = created.frozen.get(&created.name).and_then(|columns| thaw(columns).ok()).unwrap_or_default();
    // Names of streams were checked when they were registered.
    let topic = millpond_types::TopicName::new(&created.name).unwrap_or_else(|_| fallback_topic());
    let definition = StreamDefinition {
        name: created.name.clone(),
        topic,
        format: Format::Json,
        columns,
        watermark: None,
        origin: if materialized { StreamOrigin::Materialized } else { StreamOrigin::Declared },
    };
    let kind = match materialized {
        true => CatalogKind::Materialized { plan: None, reads: Vec::new(), paused: false },
        false => CatalogKind::Declared,
    };
    CatalogStream {
        name: created.name,
        id: created.offset,
        statement: created.statement,
        definition: Arc::new(definition),
        kind,
        broken: Some(error.to_string()),
    }
}

fn fallback_topic() -> millpond_types::TopicName {
    millpond_types::TopicName::new("unnamed").expect("a plain word is a topic's name")
}

/// Has the queries run, in the order they were registered.
async fn launch_all(engine: &Arc<Engine>) {
    let catalog: Catalog = engine.catalog();
    let mut streams: Vec<&Arc<CatalogStream>> = catalog.iter().collect();
    streams.sort_by_key(|stream| stream.id);
    let mut live = Vec::new();
    for stream in streams {
        let CatalogKind::Materialized { plan, paused, .. } = &stream.kind else {
            continue;
        };
        let id = QueryId(stream.id as u64);
        live.push(id);
        match plan {
            Some(plan) => {
                let spec = QuerySpec { name: stream.name.clone(), id, plan: plan.as_ref().clone(), paused: *paused };
                if let Err(error) = engine.runner.launch(spec).await {
                    tracing::error!(stream = stream.name, %error, "a registered stream does not run");
                    engine.runner.failed_to_plan(&stream.name, id, error.to_string());
                }
            }
            None => {
                let reason = stream.broken.clone().unwrap_or_else(|| "it was not planned".to_owned());
                engine.runner.failed_to_plan(&stream.name, id, reason);
            }
        }
    }
    if let Err(error) = engine.runner.forget_others(&live).await {
        tracing::error!(%error, "what is left of dropped queries could not be removed");
    }
}

/// A crash in the middle of a DROP leaves topics without a stream.
async fn delete_orphans(engine: &Arc<Engine>) {
    // Only a catalog that is whole can tell that a stream was dropped.
    let trimmed = engine.broker.partition(&engine.topics.catalog, 0).is_none_or(|catalog| catalog.log_start() > 0);
    if trimmed {
        tracing::error!("records of the catalog were deleted; topics whose stream is not in it are kept as they are");
        return;
    }
    let catalog = engine.catalog();
    let image = engine.broker.image();
    let orphans: Vec<String> = image
        .topics()
        .filter(|topic| topic.owner.as_ref().is_some_and(|owner| catalog.get(owner).is_none()))
        .map(|topic| topic.name.to_string())
        .collect();
    for topic in orphans {
        tracing::info!(topic, "deleting the topic of a stream that was dropped");
        if let Err(error) = engine.broker.delete_topic(&topic, Actor::Node).await {
            tracing::error!(topic, %error, "the topic of a dropped stream could not be deleted");
        }
    }
}

/// A crash after a statement was stored and before the catalog was written: it is applied now.
async fn apply_missed(engine: &Arc<Engine>, next_statement: i64) {
    let missed = match view::statements_from(&engine.broker, &engine.topics.statements, next_statement) {
        Ok(missed) => missed,
        Err(error) => {
            tracing::error!(error, "the statements cannot be read; none is applied anew");
            return;
        }
    };
    for (offset, text) in missed {
        // Most are SELECTs and the like, which leave no trace in the catalog. They are not done again.
        if !parse(&text).is_ok_and(|statement| statement.changes_catalog()) {
            continue;
        }
        let prepared = engine.prepare_with(engine.catalog(), text.clone(), false, Frozen::new(), false).await;
        let outcome = match prepared {
            Ok(Prepared::Change(change)) => match engine.apply(offset, &text, *change).await {
                Ok(message) => Outcome::Done { message },
                Err(error) => Outcome::Failed(error),
            },
            Ok(Prepared::Read(_)) => continue,
            Err(error) => {
                tracing::warn!(offset, %error, "a statement that was stored before the last stop cannot be applied");
                engine.pass(offset, &text).await;
                Outcome::Failed(error)
            }
        };
        let answer = Answer { statement: text, outcome, client: Default::default(), key: None, headers: Vec::new() };
        engine.answers().write(vec![answer]).await;
    }
}
