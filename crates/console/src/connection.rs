//! One connection: requests in, answers out, and no waiting for ever in between.
//!
//! There are few places for connections, and one that says nothing keeps its place from a liveness probe. So whatever
//! the client has to send is bounded in time: a head here, the body of a `POST /sql` where it is read
//! (`sql/mod.rs`). A body that nobody reads needs no bound: hyper takes what has arrived of it when the answer is ready,
//! and closes the connection when that was not all.
//!
//! `axum::serve` has no such bound. It gives hyper no clock, without which hyper's own is off; and it first waits for as
//! many bytes as tell HTTP/1 from HTTP/2, outside of any bound, which a client that sends nothing never ends.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;

/// Answers requests until the client is gone, or lets `head_time_max` pass without sending a whole head.
///
/// What hyper (1.12) counts: the time begins when it first tries to read a head, which is at once for a new connection,
/// and again as soon as an answer is flushed to the last byte. It ends with the head's last byte, and single bytes do not
/// extend it. Hence it bounds idle connections as well; and never an answer, which may go on for ever
/// (`POST /sql?follow=true`) or be read slowly.
pub(crate) async fn serve(stream: TcpStream, router: Router, head_time_max: Duration) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time_max)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        // The client's doing, and it may do so often.
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const HEAD_TIME_MAX: Duration = Duration::from_millis(200);

    /// How long a chunk of the slow answer takes.
    const CHUNK_TIME: Duration = Duration::from_millis(300);

    async fn slow() -> Body {
        Body::from_stream(futures::stream::unfold(0, |sent| async move {
            tokio::time::sleep(CHUNK_TIME).await;
            (sent < 3).then(|| (Ok::<_, Infallible>(format!("chunk {sent};")), sent + 1))
        }))
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_a_head() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (stream, _) = listener.accept().await.expect("a connection");
        let router = Router::new().route("/slow", get(slow));
        let serving = tokio::spawn(serve(stream, router, HEAD_TIME_MAX));
        // Kept alive: that the whole answer is there, and then the end, is the server's doing.
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("read");
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("chunk 2;") && answer.ends_with("0\r\n\r\n"), "{answer}");
        serving.await.expect("served");
    }
}
