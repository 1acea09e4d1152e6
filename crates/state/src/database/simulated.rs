//! A map in memory, and the log of its writes on a simulated disk.
//!
//! ```text
//! state.log   record, record, …
//! record      bytes of the body (4) | CRC-32 of the body (4) | body: the changes of one write
//! change      kind (1) | bytes of the key (4) | key | bytes of what follows (4) | value, or the end of the range
//! ```
//!
//! Numbers are little-endian. A log that has grown long is replaced by one record that makes the whole map.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millpond_disk::{
    DiskError, File, create_dir, create_dir_all, exists, read_file, replace_file, sync_dir, write_file,
};
use parking_lot::Mutex;

use super::{Change, Entry};

const LOG_NAME: &str = "state.log";
/// A log that is longer is replaced, bytes; small, so that simulations see it happen.
const LOG_BYTES_MAX: u64 = 16 << 10;
/// Bytes before a record's body.
const HEADER_LEN: usize = 8;

const PUT: u8 = 0;
const DELETE: u8 = 1;
const DELETE_RANGE: u8 = 2;

/// A database on a simulated disk.
#[derive(Debug)]
pub(crate) struct SimulatedDatabase {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    log: File,
    log_len: u64,
    /// Why nothing more is written.
    failed: Option<String>,
}

impl SimulatedDatabase {
    pub(crate) fn open(dir: &Path) -> Result<SimulatedDatabase, DiskError> {
        create_dir_all(dir)?;
        let path = dir.join(LOG_NAME);
        if exists(&path)? {
            // What the last run could not sync must not be found in the system's cache: it would be shown, and not be durable.
            // (RocksDB writes what it finds in its log to other files when it is opened.)
            let log = File::open(&path)?;
            log.sync_data()?;
            log.forget_cached()?;
        }
        let found = read_file(&path)?;
        let bytes = found.as_deref().unwrap_or_default();
        let mut entries = BTreeMap::new();
        let whole = replay(bytes, &mut entries);
        if found.is_none() || whole < bytes.len() || bytes.len() as u64 > LOG_BYTES_MAX {
            // Nothing may follow what is torn.
            replace_file(&path, &snapshot(&entries))?;
        }
        let log = File::open(&path)?;
        // Who wrote it may have died before it synced, and the folder's name likewise.
        log.sync_data()?;
        sync_dir(dir)?;
        let log_len = log.len()?;
        Ok(SimulatedDatabase { path, state: Mutex::new(State { entries, log, log_len, failed: None }) })
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state.lock().entries.get(key).cloned()
    }

    pub(crate) fn first_key_from(&self, from: &[u8]) -> Option<Vec<u8>> {
        self.state.lock().entries.range(from.to_vec()..).next().map(|(key, _)| key.clone())
    }

    pub(crate) fn range(&self, from: &[u8], to: Option<Vec<u8>>) -> Vec<Entry> {
        let state = self.state.lock();
        let entries = state.entries.range(from.to_vec()..);
        entries
            .take_while(|(key, _)| to.as_ref().is_none_or(|to| *key < to))
            .map(|(key, value)| (key.as_slice().into(), value.as_slice().into()))
            .collect()
    }

    pub(crate) fn freeze(&self, into: &Path) -> Result<(), String> {
        let state = self.state.lock();
        create_dir(into).map_err(|error| error.to_string())?;
        write_file(&into.join(LOG_NAME), &snapshot(&state.entries)).map_err(|error| error.to_string())
    }

    pub(crate) fn write(&self, changes: Vec<Change>) -> Result<(), String> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.failed {
            return Err(format!("an earlier write failed: {reason}"));
        }
        let written = state.append(&changes).and_then(|()| {
            changes.into_iter().for_each(|change| apply(change, &mut state.entries));
            if state.log_len > LOG_BYTES_MAX { state.replace_log(&self.path) } else { Ok(()) }
        });
        written.map_err(|error| {
            let reason = error.to_string();
            state.failed = Some(reason.clone());
            reason
        })
    }
}

impl State {
    fn append(&mut self, changes: &[Change]) -> Result<(), DiskError> {
        let record = record(changes.iter().cloned());
        self.log.write_all_at(&record, self.log_len)?;
        self.log.sync_data()?;
        self.log_len += record.len() as u64;
        Ok(())
    }

    fn replace_log(&mut self, path: &Path) -> Result<(), DiskError> {
        replace_file(path, &snapshot(&self.entries))?;
        self.log = File::open(path)?;
        self.log_len = self.log.len()?;
        Ok(())
    }
}

fn apply(change: Change, entries: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    match change {
        Change::Put { key, value } => drop(entries.insert(key, value)),
        Change::Delete { key } => drop(entries.remove(&key)),
        Change::DeleteRange { from, to } => entries.retain(|key, _| *key < from || *key >= to),
    }
}

/// One record that makes the whole map.
fn snapshot(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    record(entries.iter().map(|(key, value)| Change::Put { key: key.clone(), value: value.clone() }))
}

fn record(changes: impl Iterator<Item = Change>) -> Vec<u8> {
    let mut body = Vec::new();
    for change in changes {
        let (kind, first, second) = match change {
            Change::Put { key, value } => (PUT, key, value),
            Change::Delete { key } => (DELETE, key, Vec::new()),
            Change::DeleteRange { from, to } => (DELETE_RANGE, from, to),
        };
        body.push(kind);
        for bytes in [first, second] {
            body.extend_from_slice(&length(&bytes).to_le_bytes());
            body.extend_from_slice(&bytes);
        }
    }
    let mut record = length(&body).to_le_bytes().to_vec();
    record.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    record.extend_from_slice(&body);
    record
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("what a simulation writes at once is less than 4 GiB")
}

/// Makes the changes of all records up to the first that is not whole. Says how many bytes these have.
fn replay(bytes: &[u8], entries: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> usize {
    let mut whole = 0;
    while let Some((changes, len)) = bytes.get(whole..).and_then(parse) {
        changes.into_iter().for_each(|change| apply(change, entries));
        whole += len;
    }
    whole
}

/// The changes of the first record, and its bytes; none if it is not whole.
fn parse(bytes: &[u8]) -> Option<(Vec<Change>, usize)> {
    let (body_len, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let body = rest.get(..u32::from_le_bytes(*body_len) as usize)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let len = HEADER_LEN + body.len();
    let mut changes = Vec::new();
    let mut rest = body;
    while let Some((kind, after)) = rest.split_first() {
        let (first, after) = parse_bytes(after)?;
        let (second, after) = parse_bytes(after)?;
        changes.push(match *kind {
            PUT => Change::Put { key: first, value: second },
            DELETE => Change::Delete { key: first },
            DELETE_RANGE => Change::DeleteRange { from: first, to: second },
            _ => return None,
        });
        rest = after;
    }
    Some((changes, len))
}

fn parse_bytes(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (found, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((found.to_vec(), rest))
}
