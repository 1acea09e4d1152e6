//! One partition: its log, what of it is shown, what of it is durable, and who waits for either.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millpond_log::{AppendError, Appended, FetchedBytes, FoundBatches, LogError, PartitionLog, ReadError};
use millpond_records::BatchHeader;
use millpond_types::{LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicId, TopicName, TopicPartition};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::checkpoints::Checkpoints;
use crate::clock::Clock;
use crate::durability::{Durability, Ended};
use crate::errors::{FetchError, ProduceError, TrimError};
use crate::frozen::{Ends, Standstill};
use crate::keys::check_keys;
use crate::metrics::BrokerMetrics;
use crate::pins::Pins;
use crate::space::DiskRoom;
use crate::sync::{DirtyMark, SharedJournal, SyncQueue};
use crate::topic::Topic;
use crate::visibility::Visibility;
use crate::waiter::Waiter;

mod compaction;
mod durable;
mod flush;
mod transactions;
mod upkeep;

/// Whether a partition may be used. Whoever changes it waits for the append that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// The node stops, or has stopped.
    Stopped,
    /// The topic was deleted.
    Deleted,
}

/// What all partitions of a node share.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) queue: Arc<SyncQueue>,
    pub(crate) journal: Option<Arc<SharedJournal>>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) standstill: Arc<Standstill>,
    pub(crate) room: Arc<DiskRoom>,
    pub(crate) metrics: Arc<BrokerMetrics>,
    pub(crate) leader_epoch: LeaderEpoch,
    /// Whether `acks=all` and what is shown wait for the sync (`millpond.sync.before.ack`).
    pub(crate) sync_before_ack: bool,
}

/// One partition of one topic.
///
/// Lives as long as somebody holds it; after its topic is deleted, everything answers so. Whatever touches the
/// folder holds `life` while it does: when a deletion has the lock, nobody is left who could mistake the folder of a
/// later topic of the same name for this one's. Locks, in the order in which they may be taken: `rounds`, `life`, `uncut`,
/// the journal's, then those inside the log, visibility and durability, of which no two are held at once.
#[derive(Debug)]
pub struct Partition {
    topic: Arc<Topic>,
    index: PartitionIndex,
    log: PartitionLog,
    life: RwLock<Life>,
    visibility: Visibility,
    durability: Durability,
    pins: Pins,
    dirty: DirtyMark,
    /// Where the log ended when it was last checkpointed.
    checkpointed_end: AtomicI64,
    /// Held during a sync, and during what must not meet one: cutting and closing the log.
    rounds: Mutex<()>,
    /// Held during a round of the journal that has batches of this log, and (to write) while the log is cut.
    uncut: RwLock<()>,
    /// The last lap of the journal with an entry of this log; 0 if there was none since the start or the last cut.
    journaled_lap: AtomicU64,
    /// Bytes that went to the journal since the log was last synced behind it.
    behind_bytes: AtomicUsize,
    unflushed: flush::Unflushed,
    around: Surroundings,
}

impl Partition {
    /// Around a log that was opened and is durable to its end. Partitions of a topic with an owner start held.
    pub(crate) fn new(topic: Arc<Topic>, index: PartitionIndex, log: PartitionLog, around: Surroundings) -> Partition {
        let end = log.log_end_offset();
        let held_at = topic.owner().is_some().then(|| log.log_start_offset());
        Partition {
            topic,
            index,
            life: RwLock::new(Life::Open),
            visibility: Visibility::new(end, held_at),
            durability: Durability::new(end),
            pins: Pins::default(),
            dirty: DirtyMark::default(),
            checkpointed_end: AtomicI64::new(end),
            rounds: Mutex::new(()),
            uncut: RwLock::new(()),
            journaled_lap: AtomicU64::new(0),
            behind_bytes: AtomicUsize::new(0),
            unflushed: flush::Unflushed::default(),
            log,
            around,
        }
    }

    /// The topic's name.
    pub fn topic(&self) -> &TopicName {
        self.topic.name()
    }

    /// The topic's id.
    pub fn topic_id(&self) -> TopicId {
        self.topic.id()
    }

    /// Which of the topic's partitions this is.
    pub fn index(&self) -> PartitionIndex {
        self.index
    }

    /// Topic and index.
    pub fn name(&self) -> TopicPartition {
        TopicPartition::new(self.topic().clone(), self.index)
    }

    /// The epoch that new batches are stamped with.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.around.leader_epoch
    }

    /// The offset of the first record there is.
    pub fn log_start(&self) -> Offset {
        self.log.log_start_offset()
    }

    /// The offset that the next record will have. Readers see no further than [`Partition::visible_end`].
    pub fn end(&self) -> Offset {
        self.log.log_end_offset()
    }

    /// The offset after the last record that is shown: the high watermark. [`Partition::last_stable_offset`] is where readers of
    /// committed records end.
    pub fn visible_end(&self) -> Offset {
        self.visibility.end().max(self.log_start())
    }

    /// Everything below it is in the log's own files, and durable.
    pub fn recovery_point(&self) -> Offset {
        self.log.recovery_point()
    }

    /// What the partition takes on the disk, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }

    /// Whether the topic is gone; it does not come back.
    pub fn is_deleted(&self) -> bool {
        *self.life.read() == Life::Deleted
    }

    /// Wakes `waiter` once, at the next move of the visible end, or when the topic is deleted: at once if it is
    /// already, so who waits in a loop asks [`Partition::is_deleted`], or reads, before it waits again.
    pub fn watch(&self, waiter: &Arc<Waiter>) {
        self.visibility.watch(waiter);
        // Deleting wakes who watches then; who comes later must not sleep for ever.
        if self.is_deleted() {
            waiter.wake();
        }
    }

    /// Reads whole batches that are shown, from the one that holds `from` on, up to `bytes_max`. The first comes
    /// whole even if it is larger, when `whole_first` is set.
    ///
    /// From between the visible end and the log's end there is nothing to read yet, which is not an error: a
    /// client may know of records that a held partition does not show again yet.
    pub fn read(&self, from: Offset, bytes_max: usize, whole_first: bool) -> Result<FetchedBytes, FetchError> {
        self.read_to(from, bytes_max, self.visible_end(), whole_first)
    }

    /// The same, but what lies on the disk in large batches is not read: the result tells where it is.
    ///
    /// What is shown is never cut and never written again, so it may be read from there later.
    pub fn find(&self, from: Offset, bytes_max: usize, whole_first: bool) -> Result<FoundBatches, FetchError> {
        let found = self.within(from, self.visible_end(), |end| self.log.find(from, bytes_max, end, whole_first))?;
        let found = found.unwrap_or_default();
        self.around.metrics.bytes_read.inc_by(found.len as u64);
        Ok(found)
    }

    /// The same as [`Partition::read`] up to the log's end: for the owner of a held partition.
    pub fn read_held(&self, from: Offset, bytes_max: usize, whole_first: bool) -> Result<FetchedBytes, FetchError> {
        self.read_to(from, bytes_max, self.end(), whole_first)
    }

    fn read_to(
        &self,
        from: Offset,
        bytes_max: usize,
        end: Offset,
        whole_first: bool,
    ) -> Result<FetchedBytes, FetchError> {
        let fetched = self.within(from, end, |end| self.log.read(from, bytes_max, end, whole_first))?;
        let fetched = fetched.unwrap_or_else(|| nothing_at(from));
        self.around.metrics.bytes_read.inc_by(fetched.len as u64);
        Ok(fetched)
    }

    /// What `read` finds below `end`; none if `from` is not below it.
    fn within<T>(
        &self,
        from: Offset,
        end: Offset,
        read: impl FnOnce(Offset) -> Result<T, ReadError>,
    ) -> Result<Option<T>, FetchError> {
        let _life = self.existing()?;
        let (log_start, log_end) = (self.log_start(), self.end());
        if from < log_start || from > log_end {
            return Err(FetchError::OutOfRange { offset: from, log_start, log_end });
        }
        if from >= end {
            return Ok(None);
        }
        read(end).map(Some).map_err(|error| match error {
            ReadError::OutOfRange { log_start, log_end, .. } => {
                FetchError::OutOfRange { offset: from, log_start, log_end }
            }
            other => FetchError::Log(other),
        })
    }

    /// Keeps the topic from being deleted while the result is held.
    fn existing(&self) -> Result<RwLockReadGuard<'_, Life>, FetchError> {
        let life = self.life.read();
        match *life {
            Life::Deleted => {
                Err(FetchError::UnknownPartition { topic: self.topic().to_string(), partition: self.index })
            }
            Life::Open | Life::Stopped => Ok(life),
        }
    }

    /// Keeps the partition from being stopped or deleted while the result is held; none if it is already.
    fn open(&self) -> Option<RwLockReadGuard<'_, Life>> {
        let life = self.life.read();
        (*life == Life::Open).then_some(life)
    }

    /// The first shown record that is not older than `timestamp_ms`.
    pub fn offset_for_timestamp(&self, timestamp_ms: TimestampMs) -> Result<Option<(Offset, TimestampMs)>, FetchError> {
        let _life = self.existing()?;
        self.log.offset_for_timestamp(timestamp_ms, self.visible_end()).map_err(FetchError::Search)
    }

    /// The shown record with the highest timestamp.
    pub fn max_timestamp(&self) -> Result<Option<(Offset, TimestampMs)>, FetchError> {
        let _life = self.existing()?;
        self.log.max_timestamp(self.visible_end()).map_err(FetchError::Search)
    }

    /// The largest epoch not above `epoch` in which something was written, and where the next one begins.
    ///
    /// For the epoch that runs this is the log's end and not the visible end: a consumer takes an end below its
    /// position for a sign that records were lost, and a held partition that shows less for a while lost none.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        if epoch == self.leader_epoch() { Some((epoch, self.end())) } else { self.log.leader_epoch_end(epoch) }
    }

    /// Appends a batch that the node itself built: of the owner of the topic, or of the node's own topics. Neither
    /// the owner nor a gate is asked. The sync is under way when this returns; [`Partition::durable`] waits for it.
    pub fn append_owned(self: &Arc<Self>, batch: Vec<u8>) -> Result<Appended, ProduceError> {
        let bytes_max = self.topic.batch_bytes_max();
        if batch.len() > bytes_max {
            return Err(ProduceError::TooLarge { bytes: batch.len(), bytes_max });
        }
        if self.topic.is_compacted() && !self.topic.is_internal() {
            check_keys(self.topic(), &batch)?;
        }
        self.append(BytesMut::from(Bytes::from(batch)))
    }

    /// Appends a batch that was checked, and asks for the sync.
    pub(crate) fn append(self: &Arc<Self>, batch: BytesMut) -> Result<Appended, ProduceError> {
        self.append_with(batch.len(), |now_ms| self.log.append(batch, self.leader_epoch(), now_ms))
    }

    /// Has `append` add a batch of `bytes` to the log, and asks for the sync.
    fn append_with(
        self: &Arc<Self>,
        bytes: usize,
        append: impl FnOnce(TimestampMs) -> Result<Appended, AppendError>,
    ) -> Result<Appended, ProduceError> {
        let appended = {
            let life = self.life.read();
            self.check_open(*life)?;
            append(self.around.clock.now_ms()).map_err(|error| {
                self.around.metrics.appends_refused.inc();
                match error {
                    AppendError::Poisoned { reason } => ProduceError::Poisoned { reason },
                    AppendError::Disk(error) => {
                        if let Some(reason) = self.log.poisoned() {
                            self.poison(reason.to_owned());
                        }
                        ProduceError::Log(AppendError::Disk(error))
                    }
                    other => ProduceError::Log(other),
                }
            })?
        };
        if appended.duplicate {
            self.around.metrics.appends_duplicate.inc();
        } else {
            self.around.metrics.batches_appended.inc();
            self.around.metrics.bytes_appended.inc_by(bytes as u64);
        }
        if self.around.sync_before_ack {
            self.request_sync();
        } else {
            self.safe_up_to(appended.last_offset + 1);
            if !appended.duplicate {
                self.flush_if_due((appended.last_offset - appended.base_offset + 1).unsigned_abs());
            }
        }
        Ok(appended)
    }

    /// Where this batch is already, if its idempotent producer sent it before.
    pub(crate) fn find_duplicate(&self, header: &BatchHeader) -> Option<Appended> {
        self.log.find_duplicate(header)
    }

    fn check_open(&self, life: Life) -> Result<(), ProduceError> {
        match life {
            Life::Open => Ok(()),
            Life::Stopped => Err(ProduceError::Stopping),
            Life::Deleted => {
                Err(ProduceError::UnknownPartition { topic: self.topic().to_string(), partition: self.index })
            }
        }
    }

    /// Sees to it that everything appended so far is synced soon.
    pub fn request_sync(self: &Arc<Self>) {
        self.around.queue.request(self);
    }

    /// Waits until everything below `end` is durable. With `millpond.sync.before.ack=false` that is at once: then no
    /// write waits for the disk.
    pub async fn durable(&self, end: Offset) -> Result<(), ProduceError> {
        self.durability.wait(end).await.map_err(|ended| self.explain(ended))
    }

    /// The same for a thread, for at most `timeout`.
    pub fn durable_blocking(&self, end: Offset, timeout: Duration) -> Result<(), ProduceError> {
        match self.durability.wait_blocking(end, timeout) {
            Some(answer) => answer.map_err(|ended| self.explain(ended)),
            None => Err(ProduceError::TimedOut { timeout_ms: i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX) }),
        }
    }

    fn explain(&self, ended: Ended) -> ProduceError {
        match ended {
            Ended::Poisoned(reason) => ProduceError::Poisoned { reason },
            Ended::Deleted => ProduceError::UnknownPartition { topic: self.topic().to_string(), partition: self.index },
            Ended::Stopped => ProduceError::Stopping,
        }
    }

    /// Stops showing what comes from now on.
    pub fn hold(&self) {
        self.visibility.hold();
    }

    /// Shows everything below `end`, as soon as it is durable, and goes on holding what is above. Of a partition
    /// that nobody holds everything durable is shown anyway.
    pub fn reveal(&self, end: Offset) {
        self.visibility.reveal(end);
    }

    /// Ends the holding: everything durable is shown.
    pub fn release(&self) {
        self.visibility.release();
    }

    /// Cuts off everything from `offset` on, of a held partition and above what it has shown: what a stream wrote
    /// in a step that was not committed.
    pub fn truncate_to(self: &Arc<Self>, offset: Offset) -> Result<(), TrimError> {
        let _upkeep = self.around.standstill.upkeep.read();
        self.around.checkpoints.before_cut(&self.name(), offset)?;
        let end = self.cut_log(offset)?;
        // Not before the locks are gone: who writes checkpoints takes them in the other order. Nothing is appended before
        // this returns.
        self.around.checkpoints.cut(&self.name(), end).map_err(|error| {
            self.poison(error.to_string());
            error.into()
        })
    }

    fn cut_log(self: &Arc<Self>, offset: Offset) -> Result<Offset, TrimError> {
        let _no_sync = self.rounds.lock();
        // The write lock keeps appends away.
        let life = self.life.write();
        if *life != Life::Open {
            return Err(TrimError::Closed);
        }
        if !self.visibility.is_held() || offset < self.visibility.end() {
            return Err(TrimError::Shown { offset, visible_end: self.visibility.end() });
        }
        let _no_round = self.uncut.write();
        let journal = self.around.journal.as_ref().filter(|_| self.journaled_lap.load(Ordering::Acquire) != 0);
        if journal.is_some() {
            // What stays must not depend on the entries that the cut makes void.
            self.log.sync_behind_journal()?;
        }
        // The batch that holds the offset goes as a whole.
        let end = self.log.truncate_to(offset)?;
        self.visibility.cut(end);
        self.durability.cut(end);
        if let Some(Err(error)) = journal.map(|journal| journal.cut(self, end)) {
            // After a crash the journal would bring back what was cut; nothing may come in its place.
            self.poison(error.to_string());
            return Err(LogError::Poisoned { reason: error.to_string() }.into());
        }
        // Another cut makes nothing void before there is something new.
        self.journaled_lap.store(0, Ordering::Release);
        Ok(end)
    }

    /// `name` needs the records from `offset` on: retention leaves them. A later pin of the same name replaces it.
    /// Pins are not written down: who needs one after a restart sets it again.
    pub fn pin(&self, name: &str, offset: Offset) {
        self.pins.set(name, offset);
    }

    /// `name` needs nothing more.
    pub fn unpin(&self, name: &str) {
        self.pins.remove(name);
    }

    /// From where on somebody needs the records, and who.
    pub fn lowest_pin(&self) -> Option<(String, Offset)> {
        self.pins.lowest()
    }

    /// Where it ends right now.
    pub(crate) fn ends(&self) -> Ends {
        self.visibility.ends()
    }

    /// The log itself, for the node's own duties.
    pub(crate) fn log(&self) -> &PartitionLog {
        &self.log
    }

    /// Where the partition stands between its appends and the syncs.
    pub(crate) fn dirty_mark(&self) -> &DirtyMark {
        &self.dirty
    }

    /// The topic's own state.
    pub(crate) fn topic_state(&self) -> &Arc<Topic> {
        &self.topic
    }
}

fn nothing_at(from: Offset) -> FetchedBytes {
    FetchedBytes { base_offset: from, next_offset: from, ..FetchedBytes::default() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use millpond_records::{BatchBuilder, BatchOptions};

    use super::Partition;
    use crate::{Broker, BrokerOptions, NewTopicRequest, ProduceError};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn batch() -> Vec<u8> {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.push(0, None, Some(b"value"), &[]);
        batch.build()
    }

    /// A stream's partition with something in the journal, whose first file is made when it is first wanted.
    async fn journaled(broker: &Arc<Broker>) -> Arc<Partition> {
        let owner = Some("stream".to_owned());
        broker.create_topic(NewTopicRequest { owner, ..NewTopicRequest::new("t") }, false).await.unwrap();
        let partition = broker.partition("t", 0).unwrap();
        let began = Instant::now();
        while partition.journaled_lap.load(Ordering::Acquire) == 0 {
            assert!(began.elapsed() < PATIENCE, "the journal is not used");
            let end = partition.append_owned(batch()).unwrap().last_offset + 1;
            partition.durable_blocking(end, PATIENCE).unwrap();
        }
        partition
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_comes_in_the_place_of_what_was_cut_if_the_journal_cannot_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::open(BrokerOptions::new(dir.path())).unwrap();
        let partition = journaled(&broker).await;
        partition.around.journal.as_ref().unwrap().give_up("for this test");
        partition.truncate_to(0).unwrap_err();
        assert!(matches!(partition.append_owned(batch()), Err(ProduceError::Poisoned { .. })));
        partition.durable_blocking(1, PATIENCE).unwrap_err();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_log_that_is_not_closed_yet_is_not_said_to_be_synced() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::open(BrokerOptions::new(dir.path())).unwrap();
        let partition = journaled(&broker).await;
        assert!(partition.sync_behind_journal());
        partition.stop();
        assert!(!partition.sync_behind_journal());
        partition.delete();
        assert!(partition.sync_behind_journal(), "what is gone will not be missed");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_sync_serves_all_appends_that_waited_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::open(BrokerOptions::new(dir.path())).unwrap();
        broker.create_topic(NewTopicRequest::new("t"), false).await.unwrap();
        let partition = broker.partition("t", 0).unwrap();
        let syncs = || broker.metrics().syncs.get() + broker.metrics().journal_writes.get();
        let before = syncs();
        let end = {
            // As long as a sync takes on the slowest of all disks.
            let _sync_that_takes_long = (partition.rounds.lock(), partition.uncut.write());
            for _ in 0..1000 {
                partition.append_owned(batch()).unwrap();
            }
            assert_eq!(partition.visible_end(), 0, "nothing is shown before it is durable");
            partition.end()
        };
        partition.durable(end).await.unwrap();
        assert_eq!((partition.visible_end(), end), (1000, 1000));
        assert!(syncs() - before <= 2, "{} syncs", syncs() - before);
    }
}
