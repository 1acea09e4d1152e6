//! One request on its way through a handler.

use std::collections::HashSet;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::TopicName as WireTopicName;
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use millpond_broker::{Broker, ClientContext};

use crate::apis::{Api, fetch, produce};
use crate::budget::Taken;
use crate::error_code::ErrorCode;
use crate::node::{Endpoint, Node};
use crate::shape;
use crate::wire::{Malformed, Reader};

/// A request's bytes without their length.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: BytesMut,
    /// Where the header ends.
    pub(crate) body: usize,
    /// Whether the memory belongs to other frames, too.
    pub(crate) shared: bool,
}

/// What a handler makes of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// None is expected (acks=0).
    Nothing,
    /// The body of a response.
    Body(BytesMut),
    /// Written straight to the connection's buffer.
    Produce(produce::Response),
    /// The same, with the share of memory that its records hold.
    Fetch(fetch::Response, Taken),
    /// The only way to tell a client of an error that expects no answer.
    Close,
}

/// A request that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswerable {
    /// It is not what its header says.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The generic codec could not decode what the shape let pass.
    #[error("cannot be decoded: {0}")]
    Undecodable(String),
    /// Our answer does not fit the version: a fault of ours.
    #[error("the answer cannot be encoded: {0}")]
    Unencodable(String),
}

/// A request being served.
pub(crate) enum Serving {
    /// It is answered already.
    Answered(Result<Answer, Unanswerable>),
    /// It is appended, and waits to be durable: nothing but looking is left to do.
    Appended(produce::Waiting),
    /// Its steps are taken as it is polled.
    Later(Pin<Box<dyn Future<Output = Result<Answer, Unanswerable>> + Send>>),
}

/// Who asks, in which version, and whom to ask.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) node: Arc<Node>,
    pub(crate) api: &'static Api,
    pub(crate) version: i16,
    pub(crate) client: Arc<ClientContext>,
    /// Where this connection's client finds the node.
    pub(crate) endpoint: Arc<Endpoint>,
}

impl Call {
    /// The node's broker.
    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.node.broker
    }

    /// The number of an error code, counted if it is one.
    pub(crate) fn code(&self, error: ErrorCode) -> i16 {
        if error != ErrorCode::None {
            self.node.metrics.of(self.api).errors.inc();
        }
        error.code()
    }

    /// Serves the request by [`Call::answer`].
    pub(crate) fn serve<R, H, F>(self, frame: Frame, handle: H) -> Serving
    where
        R: Request + Send + 'static,
        H: FnOnce(Call, R) -> F + Send + 'static,
        F: Future<Output = R::Response> + Send + 'static,
    {
        Serving::Later(Box::pin(self.answer(frame, handle)))
    }

    /// Decodes the request, lets `handle` answer it, and encodes the answer.
    pub(crate) async fn answer<R, H, F>(self, frame: Frame, handle: H) -> Result<Answer, Unanswerable>
    where
        R: Request,
        H: FnOnce(Call, R) -> F,
        F: Future<Output = R::Response> + Send,
    {
        let version = self.version;
        let request = decode::<R>(self.api, frame, version)?;
        encode(&handle(self, request).await, version)
    }
}

/// Decodes a request with the generic codec, after its shape was checked.
fn decode<R: Request>(api: &Api, frame: Frame, version: i16) -> Result<R, Unanswerable> {
    let reader = Reader::new(&frame.bytes, frame.body, version >= api.flexible_from);
    shape::check(api.fields, reader, version)?;
    let mut body = frame.bytes.freeze().slice(frame.body..);
    R::decode(&mut body, version).map_err(|error| Unanswerable::Undecodable(format!("{error:#}")))
}

fn encode<R: Encodable>(response: &R, version: i16) -> Result<Answer, Unanswerable> {
    let mut body = BytesMut::with_capacity(response.compute_size(version).unwrap_or(0));
    match response.encode(&mut body, version) {
        Ok(()) => Ok(Answer::Body(body)),
        Err(error) => Err(Unanswerable::Unencodable(format!("{error:#}"))),
    }
}

/// Leaves out what is asked for again: a short request must not get the longest of answers many times over.
pub(crate) fn once<T, K: Eq + Hash>(asked: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = HashSet::with_capacity(asked.len());
    asked.into_iter().filter(|one| seen.insert(key(one))).collect()
}

/// A string for the generic codec.
pub(crate) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// A topic's name for the generic codec.
pub(crate) fn topic_name(name: &str) -> WireTopicName {
    WireTopicName(text(name))
}
