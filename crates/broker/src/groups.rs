//! The group coordinator's thread: it owns the state machine, keeps its log, and answers.
//!
//! One thread takes all requests that have come, lets the coordinator answer them, writes what must be remembered to
//! `__consumer_offsets`, waits until that is durable, and only then sends the answers. While it waits, requests
//! queue up, so that under load one sync serves many. It is a thread and not a task because all it does
//! besides is to wait for the disk. Without requests and without members it sleeps.
//!
//! Owns: the coordinator, who waits for which answer. Does not own: the topic, which is one like others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use millpond_coordinator::{
    Coordinator, GroupError, GroupRequest, GroupResponse, OffsetsRecord, Outcome, Token, partition_for,
};
use millpond_records::{BatchBuilder, BatchOptions, batches};
use millpond_types::{Offset, PartitionIndex, TopicName};
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{Semaphore, oneshot};

use crate::clock::Clock;
use crate::configs::group_options;
use crate::directory::Entry;
use crate::partition::Partition;
use crate::topics::{NewTopicRequest, Topics};

/// The topic that holds groups and offsets, under Kafka's name.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// How many requests may wait for the thread; more wait for room without holding any.
const REQUESTS_QUEUED_MAX: usize = 4096;
/// How long the thread waits for the disk before it answers that something is wrong.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A batch of the offsets' topic is closed when it has so many bytes.
const BATCH_BYTES: usize = 512 << 10;
/// How much of the offsets' topic is read at once at the start, in bytes.
const LOAD_BYTES: usize = 1 << 20;
/// The most bytes of one of its batches, decompressed.
const LOAD_BATCH_BYTES_MAX: usize = 256 << 20;
/// How long the thread sleeps at least, so that a deadline that does not move cannot keep it awake.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// Where requests go in.
#[derive(Debug)]
struct Inbox {
    state: Mutex<Waiting>,
    changed: Condvar,
    /// One permit a request that may still be put in.
    room: Semaphore,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    stopping: bool,
}

#[derive(Debug)]
enum Message {
    Request {
        token: Token,
        request: Box<GroupRequest>,
        reply: oneshot::Sender<GroupResponse>,
    },
    /// A topic is gone; what groups had read of it means nothing for a later one of its name.
    TopicDeleted {
        topic: TopicName,
        /// Told when that is durable, or cannot be.
        done: oneshot::Sender<()>,
    },
    /// Who asked does not want to know any more.
    Forget {
        token: Token,
    },
}

impl Inbox {
    /// After the end nothing is taken in: dropping a request tells who asked.
    fn put(&self, message: Message) {
        let mut state = self.state.lock();
        if !state.stopping {
            state.messages.push_back(message);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Ends it, and drops what is left.
    fn close(&self) {
        self.room.close();
        let left = {
            let mut state = self.state.lock();
            state.stopping = true;
            std::mem::take(&mut state.messages)
        };
        self.changed.notify_all();
        drop(left);
    }

    /// Everything that has come.
    fn take_now(&self) -> VecDeque<Message> {
        self.hand_over(self.state.lock())
    }

    /// Everything that has come, after waiting for something to come or for `timeout`; none when the thread shall end.
    fn take(&self, timeout: Option<Duration>) -> Option<VecDeque<Message>> {
        let mut state = self.state.lock();
        if state.messages.is_empty() && !state.stopping {
            match timeout {
                Some(timeout) => drop(self.changed.wait_for(&mut state, timeout)),
                None => self.changed.wait(&mut state),
            }
        }
        if state.stopping {
            return None;
        }
        Some(self.hand_over(state))
    }

    fn hand_over(&self, mut state: MutexGuard<'_, Waiting>) -> VecDeque<Message> {
        let messages = std::mem::take(&mut state.messages);
        drop(state);
        let requests = messages.iter().filter(|message| matches!(message, Message::Request { .. })).count();
        self.room.add_permits(requests);
        messages
    }
}

/// Tells the thread that nobody waits for an answer any more, unless it came.
struct Interest<'a> {
    inbox: &'a Inbox,
    token: Token,
    over: bool,
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.inbox.put(Message::Forget { token: self.token });
        }
    }
}

/// The coordinator, from outside. The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Groups {
    inbox: Arc<Inbox>,
    next_token: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Groups {
    /// Starts the thread, which first reads what there is of groups and offsets.
    pub(crate) fn start(topics: Arc<Topics>) -> std::io::Result<Groups> {
        let (mut groups, worker) = Groups::without_thread(topics);
        let thread = std::thread::Builder::new().name("groups".to_owned()).spawn(move || worker.run())?;
        *groups.thread.get_mut() = Some(thread);
        Ok(groups)
    }

    /// The same without the thread: what that does, the caller has the worker do.
    pub(crate) fn without_thread(topics: Arc<Topics>) -> (Groups, Worker) {
        let inbox = Arc::new(Inbox {
            state: Mutex::default(),
            changed: Condvar::new(),
            room: Semaphore::new(REQUESTS_QUEUED_MAX),
        });
        let worker = Worker {
            coordinator: Coordinator::new(group_options(&topics.settings)),
            clock: topics.around.clock.clone(),
            replies: HashMap::new(),
            inbox: inbox.clone(),
            topics,
        };
        (Groups { inbox, next_token: AtomicU64::new(1), thread: Mutex::new(None) }, worker)
    }

    /// Asks the coordinator. Dropping the future takes a waiting request back.
    pub(crate) async fn request(&self, request: GroupRequest) -> GroupResponse {
        let refusal = request.refuse(GroupError::CoordinatorNotAvailable);
        match self.inbox.room.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_closed) => return refusal,
        }
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let mut interest = Interest { inbox: &self.inbox, token, over: false };
        self.inbox.put(Message::Request { token, request: Box::new(request), reply });
        let answer = answer.await;
        interest.over = true;
        answer.unwrap_or(refusal)
    }

    /// Forgets the offsets of a topic that is gone, before any request that comes later is answered. What this gives is ready
    /// when they would not come back after a crash either.
    pub(crate) fn topic_deleted(&self, topic: TopicName) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        self.inbox.put(Message::TopicDeleted { topic, done });
        is_done
    }

    /// Ends the thread after what it is doing; whoever waits is refused.
    pub(crate) fn stop(&self) {
        self.inbox.close();
        if let Some(thread) = self.thread.lock().take() {
            // A coordinator that panicked has printed its message.
            let _ = thread.join();
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread's own.
pub(crate) struct Worker {
    coordinator: Coordinator,
    topics: Arc<Topics>,
    clock: Clock,
    inbox: Arc<Inbox>,
    /// Bounded by the queue and the coordinator's own bound on waiting requests.
    replies: HashMap<Token, oneshot::Sender<GroupResponse>>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("waiting", &self.replies.len()).finish_non_exhaustive()
    }
}

/// An outcome whose records are on their way to the disk.
#[derive(Debug)]
pub(crate) struct Pending {
    replies: Vec<(Token, GroupResponse)>,
    /// Who wants to know when it is over.
    done: Option<oneshot::Sender<()>>,
    /// What must be durable, if the records could be appended at all.
    written: Result<Vec<(Arc<Partition>, Offset)>, String>,
}

/// However the thread ends, also by a panic: nobody is left waiting for it.
impl Drop for Worker {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl Worker {
    fn run(mut self) {
        let pending = self.load_all();
        self.answer(pending);
        while let Some(messages) = self.inbox.take(self.time_to_deadline()) {
            let pending = self.decide(messages);
            self.answer(pending);
        }
    }

    /// Reads what there is of groups and offsets; before anything else. What this gives is to be answered when it is durable.
    pub(crate) fn load_all(&mut self) -> Vec<Pending> {
        if let Some(entry) = self.topics.directory().topic(OFFSETS_TOPIC) {
            for partition in &entry.partitions {
                self.load(partition);
            }
        }
        self.coordinator.loaded(self.clock.now_ms());
        // The node ended between the end of a topic and that of its offsets. They mean nothing for a later one of its name.
        let image = self.topics.image();
        let mut gone = self.coordinator.topics_with_offsets();
        gone.retain(|topic| image.topic(topic).is_none());
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        let outcome = self.coordinator.topics_deleted(&gone);
        vec![self.remember(outcome, None)]
    }

    /// Decides about everything that has come. What this gives is to be answered when it is durable.
    pub(crate) fn decide_now(&mut self) -> Vec<Pending> {
        let messages = self.inbox.take_now();
        self.decide(messages)
    }

    fn time_to_deadline(&self) -> Option<Duration> {
        let deadline_ms = self.coordinator.next_deadline_ms()?;
        let left_ms = deadline_ms.saturating_sub(self.clock.now_ms());
        Some(Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).max(SLEEP_MIN))
    }

    /// What the coordinator says to all that has come, and to the time; its records are appended.
    fn decide(&mut self, messages: VecDeque<Message>) -> Vec<Pending> {
        let now_ms = self.clock.now_ms();
        let mut pending = Vec::with_capacity(messages.len() + 1);
        for message in messages {
            let mut wants_to_know = None;
            let outcome = match message {
                Message::Request { token, request, reply } => {
                    self.topics.around.metrics.group_requests.inc();
                    self.replies.insert(token, reply);
                    self.coordinator.request(token, *request, now_ms)
                }
                Message::TopicDeleted { topic, done } => {
                    wants_to_know = Some(done);
                    self.coordinator.topics_deleted(&[&topic])
                }
                Message::Forget { token } => {
                    self.replies.remove(&token);
                    self.coordinator.forget(token, now_ms)
                }
            };
            pending.push(self.remember(outcome, wants_to_know));
        }
        if self.coordinator.next_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            let outcome = self.coordinator.tick(now_ms);
            pending.push(self.remember(outcome, None));
        }
        pending
    }

    /// Appends the records of an outcome.
    fn remember(&self, outcome: Outcome, done: Option<oneshot::Sender<()>>) -> Pending {
        Pending { written: self.append(outcome.records), replies: outcome.replies, done }
    }

    /// Waits until the records of all outcomes are durable, and sends their replies, in order.
    pub(crate) fn answer(&mut self, pending: Vec<Pending>) {
        for outcome in pending {
            let durable = outcome.written.and_then(|written| {
                written.into_iter().try_for_each(|(partition, end)| {
                    partition.durable_blocking(end, DURABLE_TIMEOUT).map_err(|error| error.to_string())
                })
            });
            if let Err(reason) = &durable {
                tracing::error!(reason, "groups or offsets could not be stored; the clients are told");
            }
            for (token, mut response) in outcome.replies {
                if durable.is_err() {
                    response.fail(GroupError::UnknownServerError);
                }
                if let Some(reply) = self.replies.remove(&token) {
                    // Who asked may be gone.
                    let _ = reply.send(response);
                }
            }
            if let Some(done) = outcome.done {
                let _ = done.send(());
            }
        }
    }

    /// Appends one outcome's records, one batch for each partition that they belong to.
    fn append(&self, records: Vec<OffsetsRecord>) -> Result<Vec<(Arc<Partition>, Offset)>, String> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let entry = self.offsets_topic()?;
        let count = entry.partitions.len() as PartitionIndex;
        let now_ms = self.clock.now_ms();
        let mut open: BTreeMap<PartitionIndex, BatchBuilder> = BTreeMap::new();
        let mut written = Vec::new();
        for record in records {
            let index = partition_for(&record.group, count);
            let batch = open.entry(index).or_insert_with(|| BatchBuilder::new(BatchOptions::default()));
            batch.push(now_ms, Some(&record.key), record.value.as_deref(), &[]);
            if batch.size_estimate() >= BATCH_BYTES {
                written.extend(open.remove(&index).map(|batch| append(&entry, index, batch)).transpose()?);
            }
        }
        for (index, batch) in open {
            written.push(append(&entry, index, batch)?);
        }
        Ok(written)
    }

    /// The topic of the offsets; made when the first thing is to be remembered.
    fn offsets_topic(&self) -> Result<Arc<Entry>, String> {
        if let Some(entry) = self.topics.directory().topic(OFFSETS_TOPIC) {
            return Ok(entry);
        }
        let settings = &self.topics.settings;
        let request = NewTopicRequest {
            partitions: settings.offsets_topic_partitions,
            internal: true,
            configs: vec![
                ("cleanup.policy".to_owned(), Some("compact".to_owned())),
                ("segment.bytes".to_owned(), Some(settings.offsets_topic_segment_bytes.to_string())),
            ],
            ..NewTopicRequest::new(OFFSETS_TOPIC)
        };
        self.topics.create(request, false).map_err(|error| error.to_string())?;
        Ok(self.topics.directory().topic(OFFSETS_TOPIC).expect("the topic that was just made"))
    }

    /// Takes over what a partition of the topic tells. What cannot be read is reported and passed over: it must not
    /// keep all other groups from their offsets.
    fn load(&mut self, partition: &Partition) {
        let mut next = partition.log_start();
        while next < partition.end() {
            let before = next;
            let (fetched, aborted) = match partition.read_committed(next, LOAD_BYTES, true) {
                Ok(committed) => committed,
                Err(error) => {
                    tracing::error!(partition = %partition.name(), offset = next, %error, "offsets cannot be read");
                    return;
                }
            };
            for batch in fetched.chunks.iter().flat_map(|chunk| batches(chunk)) {
                let replayed = batch.and_then(|batch| {
                    next = batch.header.next_offset();
                    // Offsets that were committed within a transaction count with it, as Kafka's of an imported folder do.
                    if batch.header.is_control() || aborted.covers(&batch.header) {
                        return Ok(());
                    }
                    batch.records(LOAD_BATCH_BYTES_MAX)?.for_each(|record| {
                        if let Err(error) = self.coordinator.replay(record.key.unwrap_or_default(), record.value) {
                            let partition = partition.name();
                            tracing::warn!(%partition, offset = record.offset, %error, "this record of a group is passed over");
                        }
                    })
                });
                if let Err(error) = replayed {
                    tracing::error!(partition = %partition.name(), offset = next, %error, "a batch of offsets is damaged");
                }
            }
            if next == before {
                return;
            }
        }
    }
}

fn append(entry: &Entry, index: PartitionIndex, batch: BatchBuilder) -> Result<(Arc<Partition>, Offset), String> {
    let partition = entry.partitions.get(index as usize).ok_or("the offsets' topic has no such partition")?;
    let appended = partition.append_owned(batch.build()).map_err(|error| error.to_string())?;
    Ok((partition.clone(), appended.last_offset + 1))
}
