//! The state of one query.

use std::sync::Arc;

use crate::database::{Change, Entry};
use crate::key::{PREFIX_LEN, checked_value, end_of_prefix, stored_key, stored_value};
use crate::{QUERY_OPERATOR, StateError, StateStore};

/// Where the step of the last checkpoint stands.
const STEP_KEY: &[u8] = b"step";

/// Reads and writes the keys of one query.
#[derive(Debug, Clone)]
pub struct QueryState {
    store: Arc<StateStore>,
    id: u64,
}

/// Changes that become durable together.
#[derive(Default)]
pub struct StateBatch {
    changes: Vec<(u16, Vec<u8>, Option<Vec<u8>>)>,
}

impl StateBatch {
    /// Sets the value of a key.
    pub fn put(&mut self, operator: u16, key: &[u8], value: &[u8]) {
        self.changes.push((operator, key.to_vec(), Some(stored_value(value))));
    }

    /// Removes a key; one that is not there may be removed.
    pub fn delete(&mut self, operator: u16, key: &[u8]) {
        self.changes.push((operator, key.to_vec(), None));
    }

    /// How many changes it holds.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it holds no change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl QueryState {
    pub(crate) fn new(store: Arc<StateStore>, id: u64) -> QueryState {
        QueryState { store, id }
    }

    /// The step whose state this is; none if there was no checkpoint yet.
    pub fn step(&self) -> Result<Option<u64>, StateError> {
        let Some(value) = self.get(QUERY_OPERATOR, STEP_KEY)? else { return Ok(None) };
        match <[u8; 8]>::try_from(value.as_slice()) {
            Ok(bytes) => Ok(Some(u64::from_le_bytes(bytes))),
            Err(_) => Err(self.damaged(QUERY_OPERATOR, "its step is no number".to_owned())),
        }
    }

    /// The value of a key.
    pub fn get(&self, operator: u16, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let stored = self.store.database.get(&stored_key(self.id, operator, key));
        match stored.map_err(|error| self.store.failed("read", error))? {
            None => Ok(None),
            Some(stored) => match checked_value(&stored) {
                Ok(value) => Ok(Some(value.to_vec())),
                Err(reason) => Err(self.damaged(operator, reason)),
            },
        }
    }

    /// The keys of `operator` that start with `prefix`, and their values, in the order of the keys.
    pub fn scan(&self, operator: u16, prefix: &[u8]) -> Scan<'_> {
        let first = stored_key(self.id, operator, prefix);
        Scan { state: self, operator, entries: self.store.database.range(&first, end_of_prefix(&first)) }
    }

    /// A checkpoint: makes all of `batch` durable, and `step` as the step it stands at; all or nothing.
    pub fn commit(&self, batch: StateBatch, step: u64) -> Result<(), StateError> {
        let mut changes = Vec::with_capacity(batch.len() + 1);
        changes.extend(batch.changes.into_iter().map(|(operator, key, value)| {
            let key = stored_key(self.id, operator, &key);
            match value {
                Some(value) => Change::Put { key, value },
                None => Change::Delete { key },
            }
        }));
        let key = stored_key(self.id, QUERY_OPERATOR, STEP_KEY);
        changes.push(Change::Put { key, value: stored_value(&step.to_le_bytes()) });
        self.store.write(changes)
    }

    /// Forgets everything of this query.
    pub fn remove(&self) -> Result<(), StateError> {
        let (from, to) = (self.id.to_be_bytes().to_vec(), (self.id + 1).to_be_bytes().to_vec());
        self.store.write(vec![Change::DeleteRange { from, to }])
    }

    /// The error for a value that can be read but makes no sense to the operator that wrote it.
    pub fn damaged(&self, operator: u16, reason: String) -> StateError {
        StateError::Damaged { path: self.store.path().to_owned(), query: self.id, operator, reason }
    }
}

/// Walks over keys and values; see [`QueryState::scan`].
pub struct Scan<'a> {
    state: &'a QueryState,
    operator: u16,
    entries: Box<dyn Iterator<Item = Result<Entry, String>> + 'a>,
}

impl Iterator for Scan<'_> {
    /// The operator's key, and its value.
    type Item = Result<(Vec<u8>, Vec<u8>), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next()?;
        Some(entry.map_err(|error| self.state.store.failed("read", error)).and_then(
            |(key, value)| match checked_value(&value) {
                Ok(value) => Ok((key.get(PREFIX_LEN..).unwrap_or_default().to_vec(), value.to_vec())),
                Err(reason) => Err(self.state.damaged(self.operator, reason)),
            },
        ))
    }
}
