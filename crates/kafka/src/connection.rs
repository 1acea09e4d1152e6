//! One client's connection: reads requests, has them served, writes the answers in the order of the requests.
//!
//! ```text
//! socket → Input → start → pending (in order) → Outgoing → socket
//! ```
//!
//! One task does all of it, so that a request that is answered at once crosses no queue. Requests are served one after
//! the other, as Kafka does, with one exception: Produce requests that follow each other are all appended,
//! in order, and then wait for the disk together. While a request waits (a Fetch for records, a JoinGroup for
//! others) the socket is read on, within the bounds of [`crate::limits`], so that a client that goes is seen.
//!
//! While Produce requests wait for the disk, what comes behind them goes to the journal, or to the same log, with the round
//! after the one that runs. So small requests are left in the socket until then, or until there are [`LINGER_BYTES`] of them
//! ([`crate::low_water`]): one wake-up, one read and one answer for many instead of one for each. Where the two are for logs that are
//! synced by themselves, each in its own time, the later one waits longer than it had to.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use millpond_broker::ClientContext;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tokio::time::Sleep;

use crate::answer::Outgoing;
use crate::apis::{Api, api_versions, produce};
use crate::call::{Answer, Call, Serving, Unanswerable};
use crate::input::{Input, Next, Received};
use crate::limits::{
    CONNECTION_REQUEST_BYTES_MAX, CONNECTION_REQUESTS_MAX, FRAME_INTERVALS_MAX, FRAME_STALL_BYTES_MIN, LINGER_BYTES,
    OUTGOING_BYTES_MAX, WRITE_SLICES_MAX,
};
use crate::low_water::LowWater;
use crate::node::{Endpoint, Node};
use crate::wire::{Malformed, Reader};

/// The principal of every client, as there is no authentication.
const ANONYMOUS: &str = "User:ANONYMOUS";

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The client closed it.
    #[error("closed by the client")]
    ByClient,
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// Records that were promised could not be read from the disk. The client was told how many bytes come, so nothing else can
    /// be told to it.
    #[error("reading {path} failed: {error}")]
    Disk {
        /// The segment's file.
        path: String,
        /// What happened.
        error: io::Error,
    },
    /// What came was no request that is served.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// What came was no request that is served.
    #[error("{api} v{version}: {why}")]
    Unanswerable {
        /// The request's API.
        api: &'static str,
        /// Its version.
        version: i16,
        /// What is wrong with it.
        why: Unanswerable,
    },
    /// There is no API of this key, or not in this version.
    #[error("API key {key} in version {version} is not served")]
    NotServed {
        /// The key.
        key: i16,
        /// The version.
        version: i16,
    },
    /// Nothing moved for `connections.max.idle.ms`.
    #[error("idle")]
    Idle,
    /// Closing is the answer (an error of a Produce with acks=0).
    #[error("closed to tell of an error")]
    AsAnswer,
}

/// A request that waits for its answer, or for its turn to be written.
struct Pending {
    api: &'static Api,
    version: i16,
    correlation_id: i32,
    bytes: usize,
    started: Instant,
    serving: Serving,
    /// The frame's share of the node's memory.
    _memory: Option<OwnedSemaphorePermit>,
}

/// Waiting for the memory of a large frame.
type MemoryWait = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// One client's connection, as a future that ends with it.
pub(crate) struct Connection {
    stream: TcpStream,
    node: Arc<Node>,
    /// Where this client finds the node.
    endpoint: Arc<Endpoint>,
    /// Who sent the last request; the same for all of most connections.
    client: Arc<ClientContext>,
    input: Input,
    /// With how many bytes to read the socket tells that there are some.
    low_water: LowWater,
    memory_wait: Option<MemoryWait>,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    out: Outgoing,
    /// Fires at the earliest when the connection may be idle.
    idle: Pin<Box<Sleep>>,
    moved: Instant,
    /// How many bytes must have come at what time of the large frame that is being received.
    frame_due: (usize, Instant),
}

impl Connection {
    /// A connection from `host`, whose client finds the node at `endpoint`.
    pub(crate) fn new(stream: TcpStream, node: Arc<Node>, host: String, endpoint: Arc<Endpoint>) -> Connection {
        let client = ClientContext { client_id: String::new(), principal: ANONYMOUS.to_owned(), host };
        let idle = Box::pin(tokio::time::sleep(node.idle_max));
        Connection {
            stream,
            node,
            endpoint,
            client: Arc::new(client),
            input: Input::default(),
            low_water: LowWater::default(),
            memory_wait: None,
            pending: VecDeque::new(),
            pending_bytes: 0,
            out: Outgoing::default(),
            idle,
            moved: Instant::now(),
            frame_due: (0, Instant::now()),
        }
    }

    /// Goes on as far as it can. Fails with the reason to close the connection.
    fn advance(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        // Once a wake-up is enough: what comes later is told, or found at the next one.
        let mut look = true;
        loop {
            let mut moved = self.collect_answers(context)?;
            moved |= self.write(context)?;
            moved |= self.start_requests(context)?;
            // What was answered at once goes out before more is read: the client waits for it.
            moved |= self.write(context)?;
            moved |= self.read(context, &mut look)?;
            if !moved {
                break;
            }
            self.moved = Instant::now();
        }
        let waits_for_disk = matches!(self.pending.front(), Some(Pending { serving: Serving::Appended(_), .. }));
        let linger = waits_for_disk && self.input.is_between_small_frames();
        self.low_water.set(&self.stream, if linger { LINGER_BYTES } else { 1 })?;
        match self.watch_idle(context) {
            Poll::Ready(ended) => Err(ended),
            Poll::Pending => Ok(()),
        }
    }

    /// Puts the answers that are there in line to be written, as far as the order allows.
    fn collect_answers(&mut self, context: &mut Context<'_>) -> Result<bool, Ended> {
        let mut moved = false;
        while self.out.len() < OUTGOING_BYTES_MAX {
            let Some(first) = self.pending.front_mut() else { break };
            let polled = match &mut first.serving {
                Serving::Answered(_) => Poll::Ready(None),
                Serving::Appended(waiting) => waiting.poll_answer(context).map(|answer| Some(Ok(answer))),
                Serving::Later(later) => later.as_mut().poll(context).map(Some),
            };
            match polled {
                Poll::Pending => break,
                Poll::Ready(None) => {}
                Poll::Ready(Some(answer)) => first.serving = Serving::Answered(answer),
            }
            let first = self.pending.pop_front().expect("the first was just looked at");
            self.pending_bytes -= first.bytes;
            first.write_to(&mut self.out, &self.node)?;
            moved = true;
        }
        Ok(moved)
    }

    /// Starts the requests that were read, as far as they may start.
    fn start_requests(&mut self, context: &mut Context<'_>) -> Result<bool, Ended> {
        let mut moved = false;
        loop {
            match self.input.next(self.node.request_bytes_max)? {
                Next::Frame(key) if self.may_start(key) => {
                    let received = self.input.take();
                    self.start(received, context)?;
                    moved = true;
                }
                Next::Memory(len) => match self.memory(len, context) {
                    Poll::Ready(permit) => {
                        self.input.grant(permit);
                        self.watch_frame();
                        moved = true;
                    }
                    Poll::Pending => return Ok(moved),
                },
                Next::Frame(_) | Next::Bytes => return Ok(moved),
            }
        }
    }

    /// Only Produce requests may wait together, and not too many.
    fn may_start(&self, key: i16) -> bool {
        let Some(last) = self.pending.back() else { return self.out.len() < OUTGOING_BYTES_MAX };
        key == produce::API.key
            && last.api.key == produce::API.key
            && self.pending.len() < CONNECTION_REQUESTS_MAX
            && self.pending_bytes < CONNECTION_REQUEST_BYTES_MAX
    }

    /// Asks for the memory of a large frame.
    fn memory(&mut self, len: usize, context: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        // A frame larger than all of the memory takes all of it.
        let share = len.min(self.node.request_memory_bytes) as u32;
        let memory = &self.node.request_memory;
        let wait = self.memory_wait.get_or_insert_with(|| Box::pin(memory.clone().acquire_many_owned(share)));
        let permit = ready!(wait.as_mut().poll(context)).expect("the semaphore is never closed");
        self.memory_wait = None;
        Poll::Ready(permit)
    }

    /// Starts one request. Its first steps are done before this returns; for Produce that is the append.
    fn start(&mut self, (mut frame, memory): Received, context: &mut Context<'_>) -> Result<(), Ended> {
        let started = Instant::now();
        let bytes = frame.bytes.len();
        let mut reader = Reader::new(&frame.bytes, 0, false);
        let (key, version, correlation_id) = (reader.i16()?, reader.i16()?, reader.i32()?);
        let api = Api::find(key).ok_or(Ended::NotServed { key, version })?;
        let figures = self.node.metrics.of(api);
        figures.requests.inc();
        figures.request_bytes.inc_by(bytes as u64);
        let pending =
            |version, serving| Pending { api, version, correlation_id, bytes, started, serving, _memory: memory };
        if !api.serves(version) {
            if api.key != api_versions::API.key {
                return Err(Ended::NotServed { key, version });
            }
            return self.put(pending(0, Serving::Answered(Ok(api_versions::unsupported()))));
        }
        let client_id = reader.string()?.unwrap_or_default();
        if client_id != self.client.client_id {
            self.client = Arc::new(ClientContext { client_id: client_id.to_owned(), ..(*self.client).clone() });
        }
        let mut reader = Reader::new(&frame.bytes, reader.position(), version >= api.flexible_from);
        reader.skip_tags()?;
        frame.body = reader.position();
        let call = Call {
            node: self.node.clone(),
            api,
            version,
            client: self.client.clone(),
            endpoint: self.endpoint.clone(),
        };
        let mut serving = (api.serve)(call, frame);
        if let Serving::Later(later) = &mut serving
            && let Poll::Ready(answer) = later.as_mut().poll(context)
        {
            serving = Serving::Answered(answer);
        }
        if let Serving::Answered(Err(why)) = serving {
            return Err(Ended::Unanswerable { api: api.name, version, why });
        }
        self.put(pending(version, serving))
    }

    /// In line behind the others, or straight out if there are none and it is answered.
    fn put(&mut self, pending: Pending) -> Result<(), Ended> {
        if self.pending.is_empty() && matches!(pending.serving, Serving::Answered(_)) {
            return pending.write_to(&mut self.out, &self.node);
        }
        self.pending_bytes += pending.bytes;
        self.pending.push_back(pending);
        Ok(())
    }

    /// Writes what the socket takes.
    fn write(&mut self, context: &mut Context<'_>) -> Result<bool, Ended> {
        let mut moved = false;
        while !self.out.is_empty() {
            let written = match self.out.file() {
                Some(piece) => self.stream.try_io(Interest::WRITABLE, || piece.send_to(self.stream.as_fd())),
                None => {
                    let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
                    match self.out.slices(&mut slices) {
                        1 => self.stream.try_write(&slices[0]),
                        count => self.stream.try_write_vectored(&slices[..count]),
                    }
                }
            };
            match written {
                Ok(written) => {
                    self.out.advance(written);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.stream.poll_write_ready(context) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending => break,
                    }
                }
                Err(error) => {
                    return Err(match self.out.file() {
                        Some(piece) if is_of_the_disk(&error) => {
                            Ended::Disk { path: piece.path().display().to_string(), error }
                        }
                        _ => error.into(),
                    });
                }
            }
        }
        Ok(moved)
    }

    /// Reads what the socket has, unless a whole request waits to be started. `look` says whether to ask a socket that
    /// tells of nothing because there is less than its low water mark.
    fn read(&mut self, context: &mut Context<'_>, look: &mut bool) -> Result<bool, Ended> {
        if self.input.next(self.node.request_bytes_max)? != Next::Bytes {
            return Ok(false);
        }
        // Asked first, so that a connection where nothing comes needs no buffer.
        match self.stream.poll_read_ready(context) {
            Poll::Ready(ready) => ready?,
            Poll::Pending if *look && self.low_water.is_raised() => {
                // What is read past tokio is not noted there; and need not be, as it waits for the next news already.
                *look = false;
                let mut socket = &*SockRef::from(&self.stream);
                return match self.input.read_small(&mut socket) {
                    Ok((0, _)) => Err(Ended::ByClient),
                    Ok((_, filled)) => {
                        *look = filled;
                        Ok(true)
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                    Err(error) => Err(error.into()),
                };
            }
            Poll::Pending => return Ok(false),
        }
        // If there is more than fits, tokio knows.
        *look = false;
        // Unlike `try_read_buf`, this takes a read that was not filled for the end of what there is, and does not try
        // again in vain.
        let mut space = self.input.space();
        match pin!(self.stream.read_buf(&mut space)).poll(context) {
            Poll::Ready(Ok(0)) => Err(Ended::ByClient),
            Poll::Ready(read) => Ok(read? > 0),
            Poll::Pending => Ok(false),
        }
    }

    /// A large frame holds memory from now on, or has gone on well enough: says how much more must come until when.
    fn watch_frame(&mut self) {
        let Some((came, len)) = self.input.progress() else { return };
        let part = FRAME_STALL_BYTES_MIN.max(len / FRAME_INTERVALS_MAX);
        let due = Instant::now() + self.node.frame_stall_max;
        self.frame_due = (len.min(came + part), due);
        if due < self.idle.deadline().into_std() {
            self.idle.as_mut().reset(due.into());
        }
    }

    /// Ready when nothing has moved for `connections.max.idle.ms`, or when a large frame came more slowly than
    /// [`FRAME_STALL_MAX`](crate::limits::FRAME_STALL_MAX) allows. A request that is being served is no idleness, an
    /// answer that the client does not read is.
    fn watch_idle(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        while self.idle.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if let Some((came, _)) = self.input.progress()
                && self.frame_due.1 <= now
            {
                if came < self.frame_due.0 {
                    return Poll::Ready(Malformed { what: "a frame that does not go on", position: came }.into());
                }
                self.watch_frame();
            }
            let waits_for_us = !self.pending.is_empty() && self.out.is_empty();
            let mut due = if waits_for_us { now } else { self.moved } + self.node.idle_max;
            if due <= now {
                return Poll::Ready(Ended::Idle);
            }
            if self.input.progress().is_some() {
                due = due.min(self.frame_due.1);
            }
            self.idle.as_mut().reset(due.into());
        }
        Poll::Pending
    }
}

impl Future for Connection {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        match self.advance(context) {
            Ok(()) => Poll::Pending,
            Err(ended) => Poll::Ready(ended),
        }
    }
}

impl Pending {
    /// Writes the answer to `out`.
    fn write_to(self, out: &mut Outgoing, node: &Node) -> Result<(), Ended> {
        let Serving::Answered(answer) = self.serving else { unreachable!("only what is answered is written") };
        let answer = answer.map_err(|why| Ended::Unanswerable { api: self.api.name, version: self.version, why })?;
        let before = out.len();
        // ApiVersions answers with the oldest header, as the client may not know the version yet (KIP-511).
        let header_tags = self.version >= self.api.flexible_from && self.api.key != api_versions::API.key;
        match answer {
            Answer::Nothing => {}
            Answer::Close => return Err(Ended::AsAnswer),
            Answer::Body(body) => {
                out.frame(self.correlation_id, header_tags, |out| out.buffer().extend_from_slice(&body));
            }
            Answer::Produce(response) => {
                out.frame(self.correlation_id, header_tags, |out| response.encode(out.buffer(), self.version));
            }
            Answer::Fetch(response, memory) => {
                out.hold(memory);
                out.frame(self.correlation_id, header_tags, |out| response.encode(out, self.version));
            }
        }
        let figures = node.metrics.of(self.api);
        figures.response_bytes.inc_by((out.len() - before) as u64);
        figures.seconds.observe(self.started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Whether an error of sending from a file to a socket is the file's.
fn is_of_the_disk(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(libc::EIO)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::{BufMut, Bytes, BytesMut};
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{FetchRequest, FetchResponse, ProduceRequest, TopicName};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use millpond_broker::{BatchPiece, Broker, BrokerOptions, NewTopicRequest};
    use millpond_records::{BatchBuilder, BatchOptions};
    use tempfile::TempDir;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::apis::fetch;
    use crate::limits::FRAME_START_BYTES;

    /// A connection in a node that lets large frames stall for `stall_max`, and its client.
    async fn connection(stall_max: Duration) -> (Connection, TcpStream, Arc<Node>, TempDir) {
        connection_to(tempfile::tempdir().unwrap(), stall_max).await
    }

    /// The same to a node over `folder`.
    async fn connection_to(folder: TempDir, stall_max: Duration) -> (Connection, TcpStream, Arc<Node>, TempDir) {
        let mut node = Node::new(Broker::open(BrokerOptions::new(folder.path())).unwrap());
        Arc::get_mut(&mut node).expect("nobody else has it yet").frame_stall_max = stall_max;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let endpoint = Arc::new(Endpoint { host: "127.0.0.1".to_owned(), port: 9092 });
        (Connection::new(stream, node.clone(), "127.0.0.1".to_owned(), endpoint), client, node, folder)
    }

    /// A request of a version without flexible fields, with its length in front.
    fn request_frame(key: i16, version: i16, correlation_id: i32, request: &impl Encodable) -> Vec<u8> {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(correlation_id);
        frame.put_i16(-1);
        request.encode(&mut frame, version).unwrap();
        let len = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        frame.to_vec()
    }

    fn is_stalled(ended: &Ended) -> bool {
        matches!(ended, Ended::Malformed(Malformed { what: "a frame that does not go on", .. }))
    }

    #[tokio::test]
    async fn a_large_frame_that_does_not_go_on_is_closed_and_gives_its_memory_back() {
        let (connection, mut client, node, _folder) = connection(Duration::from_millis(50)).await;
        client.write_all(&50_000_000i32.to_be_bytes()).await.unwrap();
        client.write_all(&[0; FRAME_START_BYTES]).await.unwrap();
        let ended = connection.await;
        assert!(is_stalled(&ended), "{ended}");
        assert_eq!(node.request_memory.available_permits(), node.request_memory_bytes);
    }

    #[tokio::test]
    async fn a_large_frame_that_trickles_is_closed() {
        let (connection, mut client, node, _folder) = connection(Duration::from_millis(200)).await;
        client.write_all(&50_000_000i32.to_be_bytes()).await.unwrap();
        client.write_all(&[0; FRAME_START_BYTES]).await.unwrap();
        let trickle = tokio::spawn(async move {
            while client.write_all(&[0; 100]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let ended = tokio::time::timeout(Duration::from_secs(20), connection).await.expect("it trickles for ever");
        assert!(is_stalled(&ended), "{ended}");
        assert_eq!(node.request_memory.available_permits(), node.request_memory_bytes);
        trickle.await.unwrap();
    }

    /// A Produce request for one record that waits for the disk, with its length in front.
    fn produce_request(correlation_id: i32) -> Vec<u8> {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.push(0, None, Some(b"value"), &[]);
        let topic = TopicProduceData::default().with_name(TopicName(StrBytes::from_static_str("t")));
        let partition = PartitionProduceData::default().with_records(Some(batch.build().into()));
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic.with_partition_data(vec![partition])]);
        request_frame(produce::API.key, 7, correlation_id, &request)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_that_came_while_others_waited_for_the_disk_are_answered_in_order() {
        let (connection, mut client, node, _folder) = connection(Duration::from_secs(600)).await;
        node.broker.create_topic(NewTopicRequest::new("t"), false).await.unwrap();
        let connection = tokio::spawn(connection);
        let (mut answers, mut requests) = client.split();
        let send = async {
            for id in 0..300 {
                requests.write_all(&produce_request(id)).await.unwrap();
                if id % 7 == 0 {
                    // Sometimes the disk is done in between, and the next one finds nobody waiting.
                    tokio::time::sleep(Duration::from_millis(u64::from(id as u32 % 3) * 4)).await;
                }
            }
        };
        let receive = async {
            for id in 0..300 {
                let mut answer = vec![0; answers.read_i32().await.unwrap() as usize];
                answers.read_exact(&mut answer).await.unwrap();
                assert_eq!(answer[..4], i32::to_be_bytes(id));
                // One topic, its name, one partition and its index stand between the id and the error code.
                assert_eq!(answer[4 + 4 + 3 + 4 + 4..][..2], [0, 0], "the error code");
            }
        };
        let both = async { tokio::join!(send, receive) };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("some request was not seen");
        drop(client);
        assert!(matches!(connection.await.unwrap(), Ended::ByClient));
    }

    #[tokio::test]
    async fn large_batches_go_from_the_file_to_the_socket_as_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::open(BrokerOptions::new(folder.path())).unwrap();
        broker.create_topic(NewTopicRequest::new("t"), false).await.unwrap();
        for n in 0..40 {
            let mut batch = BatchBuilder::new(BatchOptions::default());
            batch.push(0, None, Some(&vec![n; 50_000]), &[]);
            broker.partition("t", 0).unwrap().append_owned(batch.build()).unwrap();
        }
        broker.shutdown().await.unwrap();
        drop(broker);
        // Nothing is in memory after a start.
        let (connection, mut client, node, _folder) = connection_to(folder, Duration::from_secs(600)).await;
        let connection = tokio::spawn(connection);
        let partition = node.broker.partition("t", 0).unwrap();
        let is_file = |piece: &BatchPiece| matches!(piece, BatchPiece::File(_));
        assert!(partition.find(0, 1 << 20, true).unwrap().pieces.iter().all(is_file));
        let wanted = FetchPartition::default().with_partition_max_bytes(10 << 20);
        let topic = FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str("t")));
        let request =
            FetchRequest::default().with_max_bytes(10 << 20).with_topics(vec![topic.with_partitions(vec![wanted])]);
        // Twice, so that the second answer follows the file's bytes of the first.
        for id in 1..=2 {
            client.write_all(&request_frame(fetch::API.key, 4, id, &request)).await.unwrap();
        }
        for id in 1..=2 {
            let mut answer = vec![0; client.read_i32().await.unwrap() as usize];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer[..4], i32::to_be_bytes(id));
            let answer = FetchResponse::decode(&mut Bytes::from(answer).slice(4..), 4).unwrap();
            let stored = partition.read(0, 10 << 20, true).unwrap().chunks.concat();
            assert!(stored.len() > 2_000_000);
            assert_eq!(answer.responses[0].partitions[0].records.clone().unwrap(), stored);
        }
        drop(client);
        assert!(matches!(connection.await.unwrap(), Ended::ByClient));
    }

    #[tokio::test]
    async fn the_memory_of_a_large_frame_is_reserved_when_its_start_has_come() {
        let (connection, mut client, node, _folder) = connection(Duration::from_secs(600)).await;
        let connection = tokio::spawn(connection);
        client.write_all(&50_000_000i32.to_be_bytes()).await.unwrap();
        client.write_all(&[0; FRAME_START_BYTES - 1]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(node.request_memory.available_permits(), node.request_memory_bytes);
        client.write_all(&[0]).await.unwrap();
        while node.request_memory.available_permits() == node.request_memory_bytes {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(node.request_memory.available_permits(), node.request_memory_bytes - 50_000_000);
        drop(client);
        let ended = connection.await.unwrap();
        assert!(matches!(ended, Ended::ByClient), "{ended}");
        assert_eq!(node.request_memory.available_permits(), node.request_memory_bytes);
    }

    #[tokio::test]
    async fn a_large_frame_that_comes_fast_enough_is_waited_for() {
        let (connection, mut client, _node, _folder) = connection(Duration::from_millis(300)).await;
        let connection = tokio::spawn(connection);
        // No API has this key: it is refused, but only once it is whole.
        let len = FRAME_START_BYTES + 4 * FRAME_STALL_BYTES_MIN;
        client.write_all(&(len as i32).to_be_bytes()).await.unwrap();
        client.write_all(&[0x7f; FRAME_START_BYTES]).await.unwrap();
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            client.write_all(&[0x7f; FRAME_STALL_BYTES_MIN]).await.unwrap();
        }
        let ended = connection.await.unwrap();
        assert!(matches!(ended, Ended::NotServed { key: 0x7f7f, .. }), "{ended}");
    }
}
