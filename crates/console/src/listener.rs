//! A listener that serves a bounded number of connections; the others wait in the system's queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long to wait after the system refused a connection, as it does when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

/// Keeps a connection's place; it is free when this is dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl BoundedListener {
    pub(crate) fn new(listener: TcpListener, connections_max: usize) -> BoundedListener {
        BoundedListener { listener, places: Arc::new(Semaphore::new(connections_max)) }
    }

    /// The next connection, once there is a place for it.
    pub(crate) async fn accept(&mut self) -> (TcpStream, Place) {
        let permit = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, _client)) => {
                    // Answers are written whole; waiting for more would only delay the last piece.
                    let _ = stream.set_nodelay(true);
                    return (stream, Place { _permit: permit });
                }
                Err(error) => {
                    tracing::warn!(%error, "an HTTP connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
