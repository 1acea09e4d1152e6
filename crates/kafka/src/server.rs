//! The listener: who may connect, and what becomes of a connection that ends.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_broker::Broker;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::connection::{Connection, Ended};
use crate::limits::{ACCEPT_PAUSE, MALFORMED_LOG_INTERVAL};
use crate::node::{Endpoint, Node};

/// After this silence the system asks whether the client is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// Where to listen, and what to tell clients.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// `HOST:PORT`; port 0 takes a free one.
    pub listen: String,
    /// `HOST:PORT` that clients are told to use, if it is not the address that they connect to. Port 0 is the
    /// port that is listened on.
    pub advertise: Option<String>,
}

/// Why the server does not listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address that is none.
    #[error("'{address}' is not an address to {purpose}: HOST:PORT is expected, as in 127.0.0.1:9092")]
    Address {
        /// What was given.
        address: String,
        /// For what.
        purpose: &'static str,
    },
    /// The system refused.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
}

/// Listens for Kafka clients.
///
/// Made by [`Server::bind`], serves in [`Server::run`] until its `shutdown` is ready.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    advertise: Option<Arc<Endpoint>>,
    node: Arc<Node>,
    complaints: Complaints,
}

impl Server {
    /// Listens; nobody is answered before [`Server::run`]. Must be called within a tokio runtime.
    pub async fn bind(broker: Arc<Broker>, options: ServerOptions) -> Result<Server, BindError> {
        let listen = |source| BindError::Listen { address: options.listen.clone(), source };
        endpoint(&options.listen, "listen on")?;
        let listener = TcpListener::bind(&options.listen).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let advertise = match &options.advertise {
            None => None,
            Some(address) => {
                let mut advertised = endpoint(address, "advertise")?;
                if advertised.port == 0 {
                    advertised.port = local_addr.port();
                }
                Some(Arc::new(advertised))
            }
        };
        Ok(Server { listener, local_addr, advertise, node: Node::new(broker), complaints: Complaints::default() })
    }

    /// Where the server listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Adds the figures of this crate to `registry`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.node.metrics.register(registry);
    }

    /// Serves until `shutdown` is ready, then closes all connections. What was answered stays true; requests that
    /// were not answered are not.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Server { listener, advertise, node, complaints, .. } = self;
        let connections_max = node.broker.settings().connections_max;
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    node.metrics.connections.dec();
                    complaints.take_note(ended, &node);
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, client)) if connections.len() < connections_max => {
                        node.metrics.connections_accepted.inc();
                        node.metrics.connections.inc();
                        connections.spawn(connection(stream, client, &node, &advertise));
                    }
                    Ok(_) => drop(node.metrics.connections_refused.inc()),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        connections.shutdown().await;
        node.metrics.connections.set(0);
    }
}

/// Reads `HOST:PORT`.
fn endpoint(address: &str, purpose: &'static str) -> Result<Endpoint, BindError> {
    let wrong = || BindError::Address { address: address.to_owned(), purpose };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    // An IPv6 address stands in brackets before a port, but is told to clients without.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.is_empty() {
        true => Err(wrong()),
        false => Ok(Endpoint { host: host.to_owned(), port }),
    }
}

/// Serves one connection to its end.
fn connection(
    stream: TcpStream,
    client: SocketAddr,
    node: &Arc<Node>,
    advertise: &Option<Arc<Endpoint>>,
) -> impl Future<Output = Ended> + Send + use<> {
    let (node, advertise) = (node.clone(), advertise.clone());
    async move {
        let endpoint = match prepare(&stream, advertise) {
            Ok(endpoint) => endpoint,
            Err(error) => return Ended::Socket(error),
        };
        // As Kafka shows hosts: a slash and the address.
        let host = format!("/{}", client.ip().to_canonical());
        Connection::new(stream, node, host, endpoint).await
    }
}

/// Sets the socket's options, and finds out what its client is to be told as the node's address.
fn prepare(stream: &TcpStream, advertise: Option<Arc<Endpoint>>) -> io::Result<Arc<Endpoint>> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    match advertise {
        Some(endpoint) => Ok(endpoint),
        // Also when the server listens on all addresses: this one is known to reach it.
        None => {
            let local = stream.local_addr()?;
            Ok(Arc::new(Endpoint { host: local.ip().to_canonical().to_string(), port: local.port() }))
        }
    }
}

/// Counts the connections that ended for what the client sent, and logs some of them.
#[derive(Debug, Default)]
struct Complaints {
    /// When the last one was logged, and how many were not since then.
    last: Mutex<Option<(Instant, u64)>>,
}

impl Complaints {
    fn take_note(&self, ended: Result<Ended, tokio::task::JoinError>, node: &Node) {
        match ended {
            Ok(Ended::ByClient | Ended::AsAnswer) => {}
            Ok(Ended::Socket(error)) => tracing::debug!(%error, "a connection failed"),
            Ok(ended @ Ended::Disk { .. }) => {
                node.metrics.disk_reads_failed.inc();
                tracing::error!(reason = %ended, "a connection was closed in the middle of an answer");
            }
            Ok(Ended::Idle) => drop(node.metrics.connections_idle_closed.inc()),
            Ok(ended @ (Ended::Malformed(_) | Ended::Unanswerable { .. } | Ended::NotServed { .. })) => {
                node.metrics.malformed_frames.inc();
                self.log(&ended);
            }
            Err(error) if error.is_panic() => tracing::error!(%error, "serving a connection ended in a panic"),
            Err(_) => {}
        }
    }

    /// Logs at most one line in [`MALFORMED_LOG_INTERVAL`].
    fn log(&self, ended: &Ended) {
        let mut last = self.last.lock();
        match &mut *last {
            Some((when, unsaid)) if when.elapsed() < MALFORMED_LOG_INTERVAL => *unsaid += 1,
            _ => {
                let unsaid = last.replace((Instant::now(), 0)).map_or(0, |(_, unsaid)| unsaid);
                tracing::warn!(reason = %ended, unsaid, "a connection was closed for what it sent");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        let found = |address| endpoint(address, "advertise").map(|e| (e.host, e.port)).ok();
        assert_eq!(found("example.org:9092"), Some(("example.org".to_owned(), 9092)));
        assert_eq!(found("[::1]:0"), Some(("::1".to_owned(), 0)));
        for wrong in ["example.org", ":9092", "a:b", "a:70000", ""] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
    }
}
