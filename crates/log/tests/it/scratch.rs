//! A log in a temporary folder, and batches for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use millpond_log::{Appended, FetchedBytes, LogBudget, LogOptions, PartitionLog, Recovered, Recovery};
use millpond_records::{BatchBuilder, BatchOptions, Compression, batches};
use millpond_types::{Offset, TopicId};

/// The time at which all tests begin.
pub(crate) const NOW: i64 = 1_700_000_000_000;

pub(crate) struct Scratch {
    folder: tempfile::TempDir,
    pub(crate) options: LogOptions,
    pub(crate) budget: Arc<LogBudget>,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let options = LogOptions { retention_ms: -1, ..LogOptions::default() };
        Scratch::with(options)
    }

    pub(crate) fn with(options: LogOptions) -> Scratch {
        Scratch { folder: folder(), options, budget: LogBudget::new(1 << 20) }
    }

    /// Nothing stays in memory, so everything is read from files.
    pub(crate) fn without_tail(mut self) -> Scratch {
        self.options.tail_bytes_max = 0;
        self
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("topic-0")
    }

    pub(crate) fn create(&self) -> PartitionLog {
        let id = TopicId::from_uuid("00000000-0000-0000-0000-000000000001".parse().unwrap());
        PartitionLog::create(&self.dir(), id, self.options.clone(), self.budget.clone()).unwrap()
    }

    pub(crate) fn open(&self, recovery: Recovery) -> (PartitionLog, Recovered) {
        PartitionLog::open(&self.dir(), self.options.clone(), self.budget.clone(), recovery, NOW).unwrap()
    }

    pub(crate) fn open_clean(&self, recovery_point: Offset) -> PartitionLog {
        let (log, recovered) =
            self.open(Recovery { clean: true, recovery_point, log_start_offset: 0, refuse_damage: false });
        assert_eq!(recovered, Recovered::default());
        log
    }

    pub(crate) fn open_crashed(&self, recovery_point: Offset) -> (PartitionLog, Recovered) {
        self.open(Recovery { clean: false, recovery_point, log_start_offset: 0, refuse_damage: false })
    }

    /// The names in the folder, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        millpond_disk::list(&self.dir()).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    /// The paths of the `.log` files, sorted.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        self.names().iter().filter(|name| name.ends_with(".log")).map(|name| self.dir().join(name)).collect()
    }

    /// A copy of the folder as a crash would leave it.
    pub(crate) fn crash_image(&self) -> Scratch {
        let copy = Scratch::with(self.options.clone());
        millpond_disk::create_dir_all(&copy.dir()).unwrap();
        for name in self.names() {
            std::fs::copy(self.dir().join(&name), copy.dir().join(&name)).unwrap();
        }
        copy
    }
}

/// A batch of `count` records whose values are `value`, at `timestamp` and one ms later each.
pub(crate) fn batch_at(timestamp: i64, count: usize, value: &[u8]) -> BytesMut {
    built(BatchOptions::default(), timestamp, count, value)
}

pub(crate) fn batch(count: usize, value: &[u8]) -> BytesMut {
    batch_at(NOW, count, value)
}

pub(crate) fn compressed(compression: Compression, timestamp: i64, count: usize, value: &[u8]) -> BytesMut {
    built(BatchOptions { compression, ..BatchOptions::default() }, timestamp, count, value)
}

pub(crate) fn produced(producer: (i64, i16, i32), count: usize) -> BytesMut {
    built(BatchOptions { producer: Some(producer), ..BatchOptions::default() }, NOW, count, b"value")
}

fn built(options: BatchOptions, timestamp: i64, count: usize, value: &[u8]) -> BytesMut {
    let mut builder = BatchBuilder::new(options);
    for n in 0..count {
        builder.push(timestamp + n as i64, None, Some(value), &[]);
    }
    BytesMut::from(&builder.build()[..])
}

pub(crate) fn append(log: &PartitionLog, batch: BytesMut) -> Appended {
    log.append(batch, 0, NOW).unwrap()
}

/// All bytes of a read, in one piece.
pub(crate) fn joined(fetched: &FetchedBytes) -> Vec<u8> {
    let bytes = fetched.chunks.concat();
    assert_eq!(bytes.len(), fetched.len);
    bytes
}

/// Everything from the log's start to its end, read in pieces of `bytes_max`.
pub(crate) fn read_all(log: &PartitionLog, bytes_max: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut from = log.log_start_offset();
    while from < log.log_end_offset() {
        let fetched = log.read(from, bytes_max, Offset::MAX, true).unwrap();
        assert!(!fetched.is_empty(), "nothing at {from} of {}", log.log_end_offset());
        all.extend_from_slice(&joined(&fetched));
        from = fetched.next_offset;
    }
    all
}

/// Base and last offset of each batch.
pub(crate) fn offsets(bytes: &[u8]) -> Vec<(Offset, Offset)> {
    batches(bytes).map(|b| b.unwrap().header).map(|h| (h.base_offset, h.last_offset())).collect()
}

/// The base offset in a segment file's name.
pub(crate) fn base_of(path: &Path) -> Offset {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

pub(crate) fn flip_bit(path: &Path, position: usize, bit: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[position] ^= 1 << bit;
    std::fs::write(path, bytes).unwrap();
}

/// A new folder, in memory where the system has such a place: a crash is a copy of the files here and not a power cut,
/// so that thousands of syncs to a real disk would cost minutes and tell nothing.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}
