//! What a client sends. Invariants: no frame panics the server or stops it: after every input a new connection gets its
//! ApiVersions answered.
#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use millpond_broker::{Broker, BrokerOptions};
use millpond_kafka::{Server, ServerOptions};

/// An answer takes this long at most, on a machine that is busy with other fuzzers too.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

fn server() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| {
        let (told, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let broker = Broker::open(BrokerOptions::new(folder.path().join("data"))).expect("a node");
                let options = ServerOptions { listen: "127.0.0.1:0".to_owned(), advertise: None };
                let server = Server::bind(broker, options).await.expect("a port");
                told.send(server.local_addr()).expect("the fuzzer waits");
                server.run(std::future::pending()).await;
            });
        });
        heard.recv().expect("the server starts")
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let mut client = TcpStream::connect(server()).expect("the server listens");
    client.set_read_timeout(Some(ANSWER_TIMEOUT)).expect("a timeout");
    // Half of the inputs are the content of one frame with a length that fits, so that the decoders are reached.
    let mut sent = Vec::with_capacity(bytes.len() + 4);
    if choice & 1 == 1 {
        sent.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    }
    sent.extend_from_slice(bytes);
    // The server may close while we write.
    let _ = client.write_all(&sent).and_then(|()| client.shutdown(Shutdown::Write));
    let mut answer = [0; 4096];
    while matches!(client.read(&mut answer), Ok(read) if read > 0) {}
    still_answers();
});

fn still_answers() {
    let mut client = TcpStream::connect(server()).expect("the server listens");
    client.set_read_timeout(Some(ANSWER_TIMEOUT)).expect("a timeout");
    // ApiVersions v0, correlation id 7, no client id.
    client.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff]).expect("a request is sent");
    let mut head = [0; 8];
    client.read_exact(&mut head).expect("the server still answers");
    assert_eq!(head[4..], [0, 0, 0, 7], "the answer to our request");
}
