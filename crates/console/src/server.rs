//! The HTTP server: listens early, answers for the node once there is one.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millpond_streams::Engine;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::connection;
use crate::listener::BoundedListener;
use crate::origin::Site;
use crate::routes::router;

/// How long a request's head may take to arrive, in milliseconds; also how long a connection may be idle between two
/// requests. A head is a few hundred bytes, so that even a bad line needs no second: who takes longer holds a place
/// that a liveness probe may be waiting for.
const HEAD_MS_MAX: u64 = 10_000;

/// How long the body of a `POST /sql` may take to arrive, in milliseconds. A mebibyte over a slow line takes seconds; a
/// body that stops halfway must give its place back.
const SQL_BODY_MS_MAX: u64 = 30_000;

/// Where to listen, and how much to take on at a time.
#[derive(Debug, Clone)]
pub struct ConsoleOptions {
    /// `HOST:PORT`; port 0 takes a free one.
    pub listen: String,
    /// How many connections are served at a time; more wait to be accepted.
    pub connections_max: usize,
    /// How long a request's head may take to arrive, in milliseconds, counted from when the connection was accepted or
    /// the answer before was sent. Then the connection is closed.
    pub head_ms_max: u64,
    /// How many `POST /sql` requests are served at a time; more are refused with 429.
    pub sql_requests_max: usize,
    /// How long the body of a `POST /sql` may be.
    pub sql_bytes_max: usize,
    /// How long the body of a `POST /sql` may take to arrive, in milliseconds.
    pub sql_body_ms_max: u64,
}

impl ConsoleOptions {
    /// The defaults, listening there.
    pub fn new(listen: impl Into<String>) -> ConsoleOptions {
        ConsoleOptions {
            listen: listen.into(),
            connections_max: 256,
            head_ms_max: HEAD_MS_MAX,
            sql_requests_max: 64,
            sql_bytes_max: 1 << 20,
            sql_body_ms_max: SQL_BODY_MS_MAX,
        }
    }
}

/// Why the console does not listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP on {address}: {source}")]
pub struct ConsoleError {
    /// Where it was to listen.
    pub address: String,
    /// Why it does not.
    pub source: io::Error,
}

/// What the console speaks for, once the node serves.
pub struct Parts {
    /// Executes statements.
    pub engine: Arc<Engine>,
    /// Everything that is counted.
    pub registry: Registry,
}

/// The HTTP server. It can listen while the node still starts: then it says so.
pub struct Console {
    listener: TcpListener,
    local_addr: SocketAddr,
    state: Arc<State>,
}

/// Tells a running console that the node serves, or stops.
#[derive(Clone)]
pub struct ConsoleHandle {
    state: Arc<State>,
}

/// What all requests share.
pub(crate) struct State {
    parts: OnceLock<Parts>,
    stopping: AtomicBool,
    pub(crate) sql_requests: Arc<Semaphore>,
    pub(crate) options: ConsoleOptions,
    pub(crate) site: Site,
}

impl Console {
    /// Listens; nobody is answered before [`Console::run`].
    ///
    /// # Errors
    /// When the address is none, or taken.
    pub async fn bind(options: ConsoleOptions) -> Result<Console, ConsoleError> {
        let failed = |source| ConsoleError { address: options.listen.clone(), source };
        let listener = TcpListener::bind(&options.listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let state = State {
            parts: OnceLock::new(),
            stopping: AtomicBool::new(false),
            sql_requests: Arc::new(Semaphore::new(options.sql_requests_max)),
            site: Site::of(local_addr),
            options,
        };
        Ok(Console { listener, local_addr, state: Arc::new(state) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// To tell it what becomes of the node.
    pub fn handle(&self) -> ConsoleHandle {
        ConsoleHandle { state: self.state.clone() }
    }

    /// Serves until `shutdown` is ready; requests that are still answered then are cut off with the runtime.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut listener = BoundedListener::new(self.listener, self.state.options.connections_max);
        let head_time_max = Duration::from_millis(self.state.options.head_ms_max);
        let router = router(self.state);
        let accepting = async {
            loop {
                let (stream, place) = listener.accept().await;
                let router = router.clone();
                tokio::spawn(async move {
                    connection::serve(stream, router, head_time_max).await;
                    // Only now: the socket is closed.
                    drop(place);
                });
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = accepting => {}
        }
    }
}

impl ConsoleHandle {
    /// The node serves: `/ready` is 200 from here on.
    ///
    /// # Panics
    /// When called twice.
    pub fn ready(&self, parts: Parts) {
        assert!(self.state.parts.set(parts).is_ok(), "a node becomes ready once");
    }

    /// The node stops: `/ready` is 503 from here on, and statements are refused.
    pub fn stopping(&self) {
        self.state.stopping.store(true, Ordering::SeqCst);
    }
}

impl State {
    /// The node, if it serves; else what it does instead.
    pub(crate) fn parts(&self) -> Result<&Parts, &'static str> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err("the node is stopping");
        }
        self.parts.get().ok_or("the node is starting: it verifies its logs")
    }
}
