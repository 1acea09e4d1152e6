//! A node to talk to, and a client that says exactly what a test wants.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use millpond_broker::{Broker, BrokerOptions};
use millpond_kafka::{Server, ServerOptions, supported_apis};
use millpond_metadata::Settings;
use millpond_records::{BatchBuilder, BatchOptions, batches};
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Nothing in these tests takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node with a folder of its own; it ends when this is dropped.
pub(crate) struct Node {
    pub(crate) addr: SocketAddr,
    pub(crate) broker: Arc<Broker>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    registry: Registry,
    _folder: TempDir,
}

impl Node {
    pub(crate) fn start() -> Node {
        Node::with(&[])
    }

    pub(crate) fn with(settings: &[(&str, &str)]) -> Node {
        Node::advertising(settings, None)
    }

    pub(crate) fn advertising(settings: &[(&str, &str)], advertise: Option<&str>) -> Node {
        let folder = TempDir::new().unwrap();
        let pairs: Vec<_> = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let settings = Settings::from_pairs(&pairs).unwrap();
        let broker = Broker::open(BrokerOptions { settings, ..BrokerOptions::new(folder.path()) }).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let (served, advertise) = (broker.clone(), advertise.map(str::to_owned));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async move {
                let options = ServerOptions { listen: "127.0.0.1:0".to_owned(), advertise };
                let server = Server::bind(served.clone(), options).await.unwrap();
                let mut registry = Registry::default();
                server.register_metrics(&mut registry);
                tell.send((server.local_addr(), registry)).unwrap();
                server.run(async { drop(stopped.await) }).await;
                served.shutdown().await.unwrap();
            });
        });
        let (addr, registry) = told.recv().unwrap();
        Node { addr, broker, stop: Some(stop), thread: Some(thread), registry, _folder: folder }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// The figures as the operator sees them.
    pub(crate) fn metrics(&self) -> String {
        let mut shown = String::new();
        prometheus_client::encoding::text::encode(&mut shown, &self.registry).unwrap();
        shown
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if let Some(Err(panic)) = ended
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    next_id: i32,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, next_id: 1 }
    }

    /// Sends a request and returns the answer; `assert`s that it is the answer to it, and that it is read to its end.
    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request);
        self.receive::<R>(version, id)
    }

    /// Sends a request and does not wait.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let id = self.next_id;
        self.next_id += 1;
        self.stream.write_all(&frame(id, version, request)).unwrap();
        id
    }

    /// Receives the answer to request `id`.
    pub(crate) fn receive<R: Request>(&mut self, version: i16, id: i32) -> R::Response {
        let mut bytes = self.receive_bytes().expect("the connection was closed");
        let header = ResponseHeader::decode(&mut bytes, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, id);
        let response = R::Response::decode(&mut bytes, version).unwrap();
        assert!(bytes.is_empty(), "{} bytes follow the answer of key {} v{version}", bytes.len(), R::KEY);
        response
    }

    /// The next frame, or `None` if the connection was closed.
    pub(crate) fn receive_bytes(&mut self) -> Option<Bytes> {
        let mut len = [0; 4];
        match self.stream.read_exact(&mut len) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer came"),
            Err(_closed) => return None,
        }
        let mut bytes = vec![0; i32::from_be_bytes(len) as usize];
        self.stream.read_exact(&mut bytes).unwrap();
        Some(bytes.into())
    }

    /// Makes a topic.
    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32) {
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(-1);
        let response = self.call(7, &CreateTopicsRequest::default().with_topics(vec![topic]));
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    }
}

/// A whole request, its length in front.
pub(crate) fn frame<R: Request>(id: i32, version: i16, request: &R) -> Bytes {
    let mut bytes = BytesMut::zeroed(4);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(text("tests")));
    header.encode(&mut bytes, R::header_version(version)).unwrap();
    request.encode(&mut bytes, version).unwrap();
    let len = (bytes.len() - 4) as i32;
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    bytes.freeze()
}

/// The versions of an API that are advertised.
pub(crate) fn versions_of(key: i16) -> std::ops::RangeInclusive<i16> {
    let (_, _, first, last) = supported_apis().into_iter().find(|(_, found, _, _)| *found == key).unwrap();
    first..=last
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A batch with these values.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    batch_of(BatchOptions::default(), values)
}

pub(crate) fn batch_of(options: BatchOptions, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for (place, value) in values.iter().enumerate() {
        builder.push(1_000 + place as i64, None, Some(value.as_bytes()), &[]);
    }
    builder.build().into()
}

/// The values of the records in `bytes`, each with its offset.
pub(crate) fn values(bytes: &[u8]) -> Vec<(i64, String)> {
    let mut values = Vec::new();
    for batch in batches(bytes) {
        let mut records = batch.unwrap().records(1 << 20).unwrap();
        while let Some(record) = records.next() {
            let record = record.unwrap();
            values.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
    values
}
