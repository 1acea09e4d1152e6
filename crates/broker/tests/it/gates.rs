use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millpond_broker::{Acks, Admitted, Broker, Gate, ProduceError, Refusal};
use millpond_records::{BatchOptions, BatchView};
use millpond_types::TopicName;
use parking_lot::Mutex;

use crate::support::{NOW_MS, PATIENCE, batch, create, open, produce, produce_bytes, produced, values};

/// What a gate saw and was told.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    inside: AtomicUsize,
}

/// A gate that lets nothing in that starts with "no", and takes its time.
fn gate(log: Arc<Log>) -> Gate {
    Arc::new(move |gated| {
        let log = log.clone();
        Box::pin(async move {
            assert_eq!(log.inside.fetch_add(1, Ordering::SeqCst), 0, "one batch at a time");
            tokio::task::yield_now().await;
            let mut first = String::new();
            let view = BatchView::parse(&gated.records).unwrap();
            view.records(1 << 20)
                .unwrap()
                .for_each(|record| {
                    first = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                })
                .unwrap();
            if first.starts_with("no") {
                log.inside.fetch_sub(1, Ordering::SeqCst);
                return Err(Refusal {
                    message: format!("'{first}' is wrong"),
                    record_errors: vec![(0, "here".to_owned())],
                });
            }
            let on_appended = move |outcome: Result<i64, String>| {
                let effect: millpond_broker::BoxFuture<'static, ()> = Box::pin(async move {
                    tokio::task::yield_now().await;
                    log.lines.lock().push(format!("{first} {outcome:?}"));
                    log.inside.fetch_sub(1, Ordering::SeqCst);
                });
                effect
            };
            Ok(Admitted { on_appended: Box::new(on_appended) })
        })
    })
}

async fn gated(broker: &Broker) -> Arc<Log> {
    let log = Arc::new(Log::default());
    broker.set_gate(TopicName::new("t").unwrap(), gate(log.clone()));
    create(broker, "t", 1).await;
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_leaves_nothing_in_the_log_and_an_admitted_one_takes_effect_before_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let log = gated(&broker).await;
    let refused = produce(&broker, "t", &["no"]).await.unwrap_err();
    match refused {
        ProduceError::Refused { message, record_errors } => {
            assert_eq!((message.as_str(), record_errors), ("'no' is wrong", vec![(0, "here".to_owned())]));
        }
        other => panic!("{other}"),
    }
    assert_eq!(broker.partition("t", 0).unwrap().end(), 0);
    produce(&broker, "t", &["yes"]).await.unwrap();
    assert_eq!(*log.lines.lock(), ["yes Ok(0)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_pass_a_gate_one_after_the_other_in_the_order_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let log = gated(&broker).await;
    let producers: Vec<_> = (0..40)
        .map(|number| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let word = if number % 4 == 0 { "no" } else { "yes" };
                produce(&broker, "t", &[&format!("{word}{number}")]).await.is_ok()
            })
        })
        .collect();
    let mut admitted = 0;
    for producer in producers {
        admitted += usize::from(producer.await.unwrap());
    }
    assert_eq!(admitted, 30);
    let shown = values(&broker.partition("t", 0).unwrap());
    let expected: Vec<String> =
        shown.iter().enumerate().map(|(offset, value)| format!("{value} Ok({offset})")).collect();
    assert_eq!(*log.lines.lock(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_producer_that_asks_again_is_not_judged_again() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let log = gated(&broker).await;
    let partition = broker.partition("t", 0).unwrap();
    let options = BatchOptions { producer: Some((7, 0, 0)), ..BatchOptions::default() };
    for duplicate in [false, true] {
        let batch = produced(options, NOW_MS, &["yes"]);
        let appended = produce_bytes(&broker, &partition, Acks::All, batch).await.unwrap();
        assert_eq!((appended.base_offset, appended.duplicate), (0, duplicate));
    }
    assert_eq!(log.lines.lock().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_admitted_takes_effect_even_when_the_client_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let log = gated(&broker).await;
    let partition = broker.partition("t", 0).unwrap();
    for round in 0..50 {
        let (broker, partition) = (broker.clone(), partition.clone());
        let client = tokio::spawn(async move {
            let batch = batch(broker.now_ms(), &[&format!("yes{round}")]);
            produce_bytes(&broker, &partition, Acks::All, batch).await
        });
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        client.abort();
        let _ = client.await;
    }
    // The last one is waited for, so all before it are through, or were dropped before they were appended.
    tokio::time::timeout(PATIENCE, async {
        loop {
            // An aborted client may leave the counter of the gate's own test raised; it is not what is asked here.
            log.inside.store(0, Ordering::SeqCst);
            if log.lines.lock().len() as i64 == partition.end() && partition.visible_end() == partition.end() {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("everything in the log took effect");
}
