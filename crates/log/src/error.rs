//! Why the log says no.

use std::path::PathBuf;

use millpond_disk::DiskError;
use millpond_records::BatchError;
use millpond_types::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId};

/// An operation on a log that failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed. If it was a write or a sync, the log takes no more appends.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An earlier write or sync failed, or the log was closed; it takes no more appends and syncs until the node
    /// is started again.
    #[error("the log takes no more writes: {reason}")]
    Poisoned {
        /// What happened first.
        reason: String,
    },
    /// A file holds something else than it must.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// An offset that the log does not have.
    #[error("offset {offset} is outside the log, which goes from {log_start} to {log_end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The log's first offset.
        log_start: Offset,
        /// The offset after its last.
        log_end: Offset,
    },
}

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The producer left out a sequence number, or sent an old one that is not among its last batches.
    #[error(
        "producer {producer_id} (epoch {producer_epoch}) sent sequence {found} to offset {next_offset}, after {last_sequence}"
    )]
    OutOfOrderSequence {
        /// Who.
        producer_id: ProducerId,
        /// In which epoch.
        producer_epoch: ProducerEpoch,
        /// The last sequence number that was appended; -1 is none in this epoch.
        last_sequence: i32,
        /// The batch's base sequence.
        found: i32,
        /// Where it would have gone.
        next_offset: Offset,
    },
    /// A newer producer with the same id has written already.
    #[error("producer {producer_id} wrote in epoch {found}, but epoch {current} is known")]
    InvalidProducerEpoch {
        /// Who.
        producer_id: ProducerId,
        /// The batch's epoch.
        found: ProducerEpoch,
        /// The newest epoch that wrote here.
        current: ProducerEpoch,
    },
    /// A producer wrote outside of the transaction that it is in.
    #[error(
        "producer {producer_id} sent a batch that is not transactional, and its transaction from offset {first_offset} on is open"
    )]
    TransactionOpen {
        /// Who.
        producer_id: ProducerId,
        /// Where its transaction began.
        first_offset: Offset,
    },
    /// There are as many open transactions as the log bears.
    #[error(
        "producer {producer_id} cannot begin a transaction here: {} are open in this partition, and no more are allowed",
        crate::OPEN_TRANSACTIONS_MAX
    )]
    TooManyTransactions {
        /// Who.
        producer_id: ProducerId,
    },
    /// A newer coordinator has ended a transaction of this producer already.
    #[error(
        "coordinator epoch {found} ended a transaction of producer {producer_id}, but coordinator epoch {current} is known"
    )]
    CoordinatorFenced {
        /// Whose transaction.
        producer_id: ProducerId,
        /// The marker's coordinator epoch.
        found: CoordinatorEpoch,
        /// That of the last marker here.
        current: CoordinatorEpoch,
    },
    /// Markers are appended by themselves: [`PartitionLog::append_marker`](crate::PartitionLog::append_marker).
    #[error("a control batch was appended as if it held records")]
    ControlBatch,
    /// These bytes are not one whole batch; `validate_produced` says so before.
    #[error("not a batch: {0}")]
    Invalid(#[from] BatchError),
    /// The batch does not fit any segment, whose positions are 31 bits.
    #[error("the batch of {len} bytes fits no segment (at most {})", i32::MAX)]
    TooLarge {
        /// Its length in bytes.
        len: usize,
    },
    /// An earlier write or sync failed, or the log was closed.
    #[error("the log takes no more writes: {reason}")]
    Poisoned {
        /// What happened first.
        reason: String,
    },
    /// This write failed; the log takes no more.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log does not have that offset.
    #[error("offset {offset} is outside the log, which goes from {log_start} to {log_end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The log's first offset.
        log_start: Offset,
        /// The offset after its last.
        log_end: Offset,
    },
    /// The disk failed or a file is damaged.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<DiskError> for ReadError {
    fn from(error: DiskError) -> ReadError {
        ReadError::Log(LogError::Disk(error))
    }
}
