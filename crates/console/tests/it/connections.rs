//! Clients that hold connections and say nothing.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use millpond_console::{Console, ConsoleOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Everything that is waited for comes within this time, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

const CONNECTIONS_MAX: usize = 4;

/// Short, as the tests wait for it several times; long enough for a machine that is busy.
const HEAD_MS_MAX: u64 = 500;

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A console with few places and little patience.
async fn impatient_console() -> SocketAddr {
    let options = ConsoleOptions::new("127.0.0.1:0");
    console(ConsoleOptions { connections_max: CONNECTIONS_MAX, head_ms_max: HEAD_MS_MAX, ..options }).await
}

/// A console that runs until the test's runtime ends.
async fn console(options: ConsoleOptions) -> SocketAddr {
    let console = Console::bind(options).await.expect("a free port");
    let address = console.local_addr();
    tokio::spawn(console.run(pending()));
    address
}

/// A connection that sends that, and then nothing.
async fn half_open(address: SocketAddr, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the system takes the connection");
    stream.write_all(sent).await.expect("sent");
    stream
}

/// Asks for `/health` on a new connection and leaves it open; the answer, once the server has closed the connection.
async fn health(address: SocketAddr) -> String {
    let mut stream = half_open(address, HEALTH).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    answer
}

/// More connections than there are places send that and stay open: others are served all the same.
async fn check_others_are_served(sent: &[u8]) {
    let address = impatient_console().await;
    let mut held = Vec::new();
    for _ in 0..3 * CONNECTIONS_MAX {
        held.push(half_open(address, sent).await);
    }
    let said = String::from_utf8_lossy(sent);
    let answer = timeout(PATIENCE, health(address)).await.unwrap_or_else(|_| panic!("nobody is served after {said:?}"));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"status\":\"alive\"}"), "{said:?}: {answer}");
    drop(held);
}

#[tokio::test]
async fn half_a_head_does_not_hold_a_place() {
    check_others_are_served(b"GET /health HTTP/1.1\r\nHo").await;
}

#[tokio::test]
async fn silence_does_not_hold_a_place() {
    check_others_are_served(b"").await;
}

#[tokio::test]
async fn the_beginning_of_http_2_does_not_hold_a_place() {
    check_others_are_served(b"PRI * HTTP/2.0\r\n").await;
}

#[tokio::test]
async fn half_a_body_does_not_hold_a_place() {
    check_others_are_served(b"POST /sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nSELECT").await;
    check_others_are_served(b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nSELECT").await;
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_a_place() {
    check_others_are_served(HEALTH).await;
}

/// The bound is on the whole head: a byte now and then does not extend it.
#[tokio::test]
async fn a_head_in_single_bytes_does_not_hold_a_place() {
    let address = impatient_console().await;
    let mut stream = half_open(address, b"GET /health HTTP/1.1\r\nHost: ").await;
    let dripping = async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(HEAD_MS_MAX / 4)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("the server closes the connection");
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let address = console(ConsoleOptions::new("127.0.0.1:0")).await;
    let mut stream = half_open(address, HEALTH).await;
    for _ in 0..3 {
        let mut answer = Vec::new();
        while !answer.ends_with(b"{\"status\":\"alive\"}") {
            let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("an answer").expect("read");
            assert_ne!(read, 0, "closed after {}", String::from_utf8_lossy(&answer));
        }
        stream.write_all(HEALTH).await.expect("kept alive");
    }
}
