use std::sync::Arc;

use millpond_broker::{FetchError, Partition, ProduceError};
use millpond_log::AppendError;
use millpond_records::{BatchOptions, TransactionMarker, TransactionResult, batches};

use crate::support::{NOW_MS, PATIENCE, batch, copy, create, open, produced};

fn append(partition: &Arc<Partition>, producer: (i64, i32), values: &[&str]) {
    let producer = Some((producer.0, 0, producer.1));
    let batch = produced(BatchOptions { producer, transactional: true, ..BatchOptions::default() }, NOW_MS, values);
    let appended = partition.append_owned(batch).unwrap();
    partition.durable_blocking(appended.last_offset + 1, PATIENCE).unwrap();
}

fn marker(producer_id: i64, producer_epoch: i16, result: TransactionResult) -> TransactionMarker {
    TransactionMarker { producer_id, producer_epoch, result, coordinator_epoch: 0 }
}

fn end(partition: &Arc<Partition>, producer_id: i64, result: TransactionResult) {
    let appended = partition.append_marker(&marker(producer_id, 0, result)).unwrap();
    partition.durable_blocking(appended.last_offset + 1, PATIENCE).unwrap();
}

/// The base offsets of the batches that a reader of committed records is given.
fn committed(partition: &Partition) -> Vec<i64> {
    let (fetched, aborted) = partition.read_committed(partition.log_start(), 1 << 20, true).unwrap();
    let (found, also_aborted) = partition.find_committed(partition.log_start(), 1 << 20, true).unwrap();
    assert_eq!((fetched.len, fetched.next_offset, &aborted), (found.len, found.next_offset, &also_aborted));
    let bytes = fetched.chunks.concat();
    let headers = batches(&bytes).map(|batch| batch.unwrap().header);
    headers.filter(|header| !header.is_control() && !aborted.covers(header)).map(|header| header.base_offset).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_the_same_after_every_kind_of_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    let partition = broker.partition("t", 0).unwrap();
    append(&partition, (1, 0), &["a", "b"]);
    append(&partition, (2, 0), &["c"]);
    append(&partition, (3, 0), &["d"]);
    assert_eq!((partition.visible_end(), partition.last_stable_offset()), (4, 0));
    assert!(partition.read_committed(0, 1 << 20, true).unwrap().0.is_empty());
    end(&partition, 1, TransactionResult::Abort); // 4
    end(&partition, 2, TransactionResult::Commit); // 5
    partition.append_owned(batch(NOW_MS, &["e"])).unwrap();
    append(&partition, (1, 2), &["f"]); // 7
    end(&partition, 3, TransactionResult::Commit); // 8
    let check = |partition: &Arc<Partition>, what: &str| {
        assert_eq!((partition.visible_end(), partition.last_stable_offset()), (9, 7), "{what}");
        assert_eq!(committed(partition), [2, 3, 6], "{what}");
        // Records are as old as the batches say, markers are of now: the first record of all is not committed, and is told.
        assert_eq!(partition.committed_offset_for_timestamp(NOW_MS).unwrap().unwrap().0, 0, "{what}");
        let newest = partition.committed_max_timestamp().unwrap().unwrap();
        assert!((4..=5).contains(&newest.0), "{what}");
        assert_eq!(partition.committed_offset_for_timestamp(newest.1 + 1).unwrap(), None, "{what}");
    };
    check(&partition, "at first");
    let killed = copy(dir.path());
    let after = open(killed.path());
    check(&after.partition("t", 0).unwrap(), "after a kill");
    broker.shutdown().await.unwrap();
    drop((broker, partition));
    let broker = open(dir.path());
    let partition = broker.partition("t", 0).unwrap();
    check(&partition, "after a stop");
    end(&partition, 1, TransactionResult::Abort);
    assert_eq!((partition.last_stable_offset(), committed(&partition)), (10, vec![2, 3, 6]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_holds_readers_of_committed_records_at_the_logs_start_at_least() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    let partition = broker.partition("t", 0).unwrap();
    append(&partition, (1, 0), &["a"]);
    append(&partition, (1, 1), &["b"]);
    broker.delete_records(&partition, 1).await.unwrap();
    assert_eq!((partition.last_stable_offset(), partition.visible_end()), (1, 2));
    assert!(matches!(partition.read_committed(0, 1 << 20, true), Err(FetchError::OutOfRange { log_start: 1, .. })));
    end(&partition, 1, TransactionResult::Abort);
    assert_eq!((partition.last_stable_offset(), committed(&partition)), (3, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_marker_is_refused_and_the_partition_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, "t", 1).await;
    let partition = broker.partition("t", 0).unwrap();
    partition.append_marker(&marker(1, 5, TransactionResult::Abort)).unwrap();
    let error = partition.append_marker(&marker(1, 4, TransactionResult::Abort)).unwrap_err();
    assert!(matches!(error, ProduceError::Log(AppendError::InvalidProducerEpoch { .. })), "{error}");
    assert_eq!(partition.append_marker(&marker(1, 5, TransactionResult::Abort)).unwrap().base_offset, 1);
}
