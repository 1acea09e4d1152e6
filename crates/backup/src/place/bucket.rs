//! A backup in a bucket of an S3-compatible server.
//!
//! An object is there as a whole or not at all, and durable when the server says so. Everything is named by its bytes or made where
//! nothing was (`If-None-Match`), so a request may be repeated.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as ObjectPath;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

use super::{Entry, Found, failure};
use crate::location::BucketLocation;
use crate::pieces::{PIECES, PieceId};
use crate::{BackupError, PIECE_BYTES};

/// How many pieces are on their way at a time, and so in memory: 32 MiB.
pub const PIECES_IN_FLIGHT: usize = 8;
const _: () = assert!(PIECES_IN_FLIGHT * PIECE_BYTES == 32 << 20);
/// How long a server may take to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take with all of its bytes: at [`PIECES_IN_FLIGHT`] pieces at a time, 280 KB a second must come through.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a request is repeated that found nobody, or somebody who cannot serve it now. With the pauses that is about ten seconds.
pub const RETRIES_MAX: usize = 7;
/// When a request has taken this long in all, it is not repeated again.
pub const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A pause is at most this many times the one before.
const PAUSE_FACTOR: f64 = 3.0;
/// How often an object is tried to be made that comes and goes meanwhile.
const CREATE_TRIES_MAX: u32 = 3;
/// No object but a manifest or a piece is longer.
pub(super) const SMALL_BYTES_MAX: u64 = 64 << 10;

/// A part of a bucket.
pub(crate) struct Bucket {
    url: String,
    endpoint: String,
    prefix: String,
    pub(super) store: Arc<dyn ObjectStore>,
    // Before the runtime, on which its requests run.
    pub(super) writing: Mutex<Writing>,
    runtime: Runtime,
}

/// What is known while the lock is held.
#[derive(Default)]
pub(super) struct Writing {
    /// What the lock's object says.
    pub(super) held: Option<Vec<u8>>,
    /// The pieces that are there, or on their way, and their lengths; none before they were listed.
    pub(super) there: Option<HashMap<PieceId, u64>>,
    pub(super) uploads: JoinSet<Result<(), BackupError>>,
}

/// What came of making an object.
pub(super) enum Created {
    Yes,
    /// There is one with these bytes, last changed at this time (the server's).
    Taken(Vec<u8>, String),
}

impl fmt::Debug for Bucket {
    // The store would show its key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Bucket({} at {})", self.url, self.endpoint)
    }
}

impl Bucket {
    /// Sends nothing yet.
    pub(super) fn connect(location: &BucketLocation) -> Result<Bucket, BackupError> {
        let client = ClientOptions::new()
            .with_allow_http(location.endpoint.starts_with("http://"))
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT);
        let backoff = BackoffConfig { init_backoff: PAUSE_FIRST, max_backoff: PAUSE_MAX, base: PAUSE_FACTOR };
        let mut builder = AmazonS3Builder::new()
            .with_client_options(client)
            .with_retry(RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT })
            .with_endpoint(&location.endpoint)
            .with_region(&location.region)
            .with_bucket_name(&location.bucket)
            .with_access_key_id(&location.access_key_id)
            .with_secret_access_key(&location.secret_access_key);
        if let Some(token) = &location.session_token {
            builder = builder.with_token(token);
        }
        let store = builder.build();
        let store =
            store.map_err(|error| failure::of("prepare requests to", &location.url(), &location.endpoint, &error))?;
        Bucket::with_store(&location.url(), &location.endpoint, &location.prefix, Arc::new(store))
    }

    pub(crate) fn with_store(
        url: &str,
        endpoint: &str,
        prefix: &str,
        store: Arc<dyn ObjectStore>,
    ) -> Result<Bucket, BackupError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BackupError::Runtime)?;
        let (url, endpoint, prefix) = (url.to_owned(), endpoint.to_owned(), prefix.to_owned());
        Ok(Bucket { url, endpoint, prefix, store, writing: Mutex::default(), runtime })
    }

    pub(super) fn at(&self, name: &str) -> String {
        if name.is_empty() { self.url.clone() } else { format!("{}/{name}", self.url) }
    }

    pub(super) fn key(&self, name: &str) -> ObjectPath {
        let strokes = if self.prefix.is_empty() || name.is_empty() { "" } else { "/" };
        // As it is, without escapes; the prefix was parsed before, and the names are ours.
        ObjectPath::parse(format!("{}{strokes}{name}", self.prefix)).unwrap_or_default()
    }

    pub(super) fn failed(&self, action: &'static str, name: &str, error: &object_store::Error) -> BackupError {
        failure::of(action, &self.at(name), &self.endpoint, error)
    }

    pub(super) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    pub(super) fn read(&self, name: &str, bytes_max: u64) -> Result<Found, BackupError> {
        Ok(self.wait(self.begin_read(name, bytes_max))?.0)
    }

    /// The same, to be waited for, with the time of the object's last change.
    pub(super) fn begin_read(
        &self,
        name: &str,
        bytes_max: u64,
    ) -> impl Future<Output = Result<(Found, String), BackupError>> + Send + use<> {
        let (store, key) = (Arc::clone(&self.store), self.key(name));
        let (at, endpoint) = (self.at(name), self.endpoint.clone());
        async move {
            let failed = |error| failure::of("read", &at, &endpoint, &error);
            let found = match store.get_opts(&key, GetOptions::default()).await {
                Err(error) if failure::is_missing_object(&error) => return Ok((Found::Missing, String::new())),
                found => found.map_err(failed)?,
            };
            let changed = found.meta.last_modified.to_string();
            if found.meta.size > bytes_max {
                return Ok((Found::TooLong(found.meta.size), changed));
            }
            Ok((Found::Bytes(found.bytes().await.map_err(failed)?.into()), changed))
        }
    }

    /// Has a request run while others are waited for.
    pub(super) fn spawn<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.spawn(what)
    }

    pub(super) fn list(&self, below: &str) -> Result<Vec<Entry>, BackupError> {
        let key = self.key(below);
        let start = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let entry = |object: object_store::ObjectMeta| {
            let name = object.location.as_ref().strip_prefix(&start)?;
            Some(Entry { name: name.to_owned(), bytes: object.size })
        };
        let listed = self.store.list((!key.as_ref().is_empty()).then_some(&key));
        let listed = listed.try_filter_map(|object| std::future::ready(Ok(entry(object))));
        self.wait(listed.try_collect()).map_err(|error| self.failed("list", below, &error))
    }

    pub(super) fn prepare(&self, is_ours: &dyn Fn(&str) -> bool) -> Result<bool, BackupError> {
        Ok(self.list("")?.iter().all(|entry| is_ours(&entry.name)))
    }

    pub(super) fn keep(&self, id: &PieceId, bytes: &[u8]) -> Result<bool, BackupError> {
        let mut writing = self.writing.lock();
        if writing.there.is_none() {
            writing.there = Some(self.pieces()?);
        }
        let there = writing.there.get_or_insert_default();
        if there.insert(id.clone(), bytes.len() as u64) == Some(bytes.len() as u64) {
            return Ok(false);
        }
        while writing.uploads.len() >= PIECES_IN_FLIGHT {
            self.wait_for_one(&mut writing)?;
        }
        let name = id.place_name();
        let (store, key, payload) = (Arc::clone(&self.store), self.key(&name), Bytes::copy_from_slice(bytes));
        let (at, endpoint) = (self.at(&name), self.endpoint.clone());
        let upload = async move {
            let put = store.put(&key, payload.into()).await;
            put.map(|_| ()).map_err(|error| failure::of("write", &at, &endpoint, &error))
        };
        writing.uploads.spawn_on(upload, self.runtime.handle());
        // So that it is on its way while the next piece is read and hashed.
        self.wait(tokio::task::yield_now());
        Ok(true)
    }

    /// The pieces that are there.
    fn pieces(&self) -> Result<HashMap<PieceId, u64>, BackupError> {
        let listed = self.list(PIECES)?;
        Ok(listed.into_iter().filter_map(|entry| Some((PieceId::in_place(&entry.name)?, entry.bytes))).collect())
    }

    /// Waits for a piece that is on its way. When one fails, the others are of no use.
    fn wait_for_one(&self, writing: &mut Writing) -> Result<(), BackupError> {
        let outcome = match self.wait(writing.uploads.join_next()) {
            Some(joined) => joined.unwrap_or_else(|error| Err(BackupError::Runtime(error.into()))),
            None => Ok(()),
        };
        outcome.inspect_err(|_| writing.uploads.abort_all())
    }

    pub(super) fn settle(&self) -> Result<(), BackupError> {
        let mut writing = self.writing.lock();
        while !writing.uploads.is_empty() {
            self.wait_for_one(&mut writing)?;
        }
        Ok(())
    }

    pub(super) fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, BackupError> {
        Ok(matches!(self.wait(self.begin_create(name, bytes))?, Created::Yes))
    }

    /// Makes an object where there is none. An answer that was lost says nothing of what was done; so what is there is looked at.
    pub(super) async fn begin_create(&self, name: &str, bytes: &[u8]) -> Result<Created, BackupError> {
        let payload = Bytes::copy_from_slice(bytes);
        let mut tries = 0;
        loop {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let Err(error) = self.store.put_opts(&self.key(name), payload.clone().into(), options).await else {
                return Ok(Created::Yes);
            };
            tries += 1;
            match self.begin_read(name, SMALL_BYTES_MAX.max(bytes.len() as u64)).await {
                Ok((Found::Bytes(found), _)) if found == bytes => return Ok(Created::Yes),
                Ok((Found::Bytes(found), changed)) => return Ok(Created::Taken(found, changed)),
                Ok((Found::TooLong(_), changed)) => return Ok(Created::Taken(Vec::new(), changed)),
                // Removed since.
                Ok((Found::Missing, _)) if failure::is_taken(&error) && tries < CREATE_TRIES_MAX => {}
                Ok((Found::Missing, _)) | Err(_) => return Err(self.failed("write", name, &error)),
            }
        }
    }

    /// The server's answer is the end of it.
    pub(super) fn remove(&self, names: &[String]) -> Result<(), BackupError> {
        let keys: Vec<_> = names.iter().map(|name| Ok(self.key(name))).collect();
        let mut removed = self.store.delete_stream(futures::stream::iter(keys).boxed());
        self.wait(async {
            while let Some(outcome) = removed.next().await {
                match outcome {
                    // What somebody else has removed is gone as well.
                    Err(error) if !failure::is_missing_object(&error) => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        })
        .map_err(|error| self.failed("remove objects of", "", &error))
    }
}
