//! A store in memory whose requests may fail, or be overtaken by what others do.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// What is done before a request reaches the store: it may fail it, or do what others do meanwhile.
type Hook = Box<dyn Fn(&InMemory, &str, &str) -> Option<Fault> + Send + Sync>;

pub(super) enum Fault {
    /// Nothing is done.
    Refused,
    /// It is done, and the answer is lost.
    Lost,
}

/// A store in memory, with faults, that counts what is under way at a time.
pub(super) struct Faulty {
    pub(super) inner: Arc<InMemory>,
    pub(super) hook: Mutex<Option<Hook>>,
    pub(super) takes_second: bool,
    pub(super) under_way: AtomicUsize,
    pub(super) most: AtomicUsize,
}

impl Faulty {
    pub(super) fn new() -> Faulty {
        let (under_way, most) = Default::default();
        Faulty { inner: Arc::default(), hook: Mutex::default(), takes_second: false, under_way, most }
    }

    pub(super) fn on(&self, hook: impl Fn(&InMemory, &str, &str) -> Option<Fault> + Send + Sync + 'static) {
        *self.hook.lock() = Some(Box::new(hook));
    }

    fn fault(&self, what: &str, at: &ObjectPath) -> Option<Fault> {
        self.hook.lock().as_ref().and_then(|hook| hook(&self.inner, what, at.as_ref()))
    }

    /// A pause in which other requests are made, and how many there were.
    async fn answer_later(&self) {
        self.most.fetch_max(self.under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

fn failure() -> Error {
    Error::Generic { store: "S3", source: "status code: 503 Service Unavailable: <Code>SlowDown</Code>".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Faulty")
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &ObjectPath, bytes: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        self.answer_later().await;
        if self.takes_second {
            options.mode = PutMode::Overwrite;
        }
        let fault = self.fault("put", at);
        if let Some(Fault::Refused) = fault {
            return Err(failure());
        }
        let put = self.inner.put_opts(at, bytes, options).await;
        if fault.is_some() { Err(failure()) } else { put }
    }

    async fn put_multipart_opts(&self, _: &ObjectPath, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("no object is that long")
    }

    async fn get_opts(&self, at: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        self.answer_later().await;
        if self.fault("get", at).is_some() { Err(failure()) } else { self.inner.get_opts(at, options).await }
    }

    fn delete_stream(&self, all: BoxStream<'static, Result<ObjectPath>>) -> BoxStream<'static, Result<ObjectPath>> {
        self.inner.delete_stream(all)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
