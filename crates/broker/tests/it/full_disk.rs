//! A disk that is full, and gets room again.

use bytes::BytesMut;
use millpond_broker::{Begun, Broker, BrokerOptions, Clock, DiskFull, NewTopicRequest, ProduceError};
use millpond_disk::SimulatedDisk;
use millpond_metadata::Actor;

use crate::support::{NOW_MS, batch, settings};

const RESERVE_BYTES: u64 = 50_000;

#[test]
fn below_the_reserve_no_records_are_taken_and_all_else_goes_on() {
    let disk = SimulatedDisk::new(3);
    let clock = Clock::standing_at(NOW_MS);
    let pairs = [("millpond.disk.reserve.bytes", "50000"), ("millpond.journal.bytes", "0")];
    let options = BrokerOptions {
        settings: settings(&pairs),
        clock: clock.clone(),
        ..BrokerOptions::new(disk.root().join("data"))
    };
    let (broker, driver) = Broker::open_driven(options).unwrap();
    for topic in ["kept", "dropped"] {
        at_once(broker.create_topic(NewTopicRequest::new(topic), false)).unwrap();
    }
    disk.set_capacity_bytes(Some(disk.used_bytes() + RESERVE_BYTES + 1_000_000));
    let value = "x".repeat(10_000);
    let produce = |topic: &str| {
        let partition = broker.partition(topic, 0).unwrap();
        match broker.begin_produce(&partition, BytesMut::from(&batch(NOW_MS, &[&value])[..])) {
            Ok(Begun::Appended(_)) => {
                driver.sync_all();
                Ok(())
            }
            Ok(Begun::Gated(_)) => panic!("there is no gate"),
            Err(error) => Err(error),
        }
    };
    let taken = (0..200).take_while(|_| produce("dropped").is_ok()).count();
    assert!((90..100).contains(&taken), "{taken} batches");
    let ProduceError::DiskFull(DiskFull { free_bytes, reserve_bytes, .. }) = produce("kept").unwrap_err() else {
        panic!("another error")
    };
    assert_eq!(reserve_bytes, RESERVE_BYTES);
    assert!((RESERVE_BYTES..RESERVE_BYTES + 20_000).contains(&free_bytes), "{free_bytes}");

    // Reading, topics and checkpoints go on, and a deletion makes room.
    let partition = broker.partition("dropped", 0).unwrap();
    assert!(!partition.read(0, 100_000, true).unwrap().is_empty());
    at_once(broker.create_topic(NewTopicRequest::new("new"), false)).unwrap();
    assert!(driver.checkpoint());
    drop(partition);
    let mut deletion = std::pin::pin!(broker.delete_topic("dropped", Actor::Client));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while deletion.as_mut().poll(&mut context).is_pending() {
        driver.groups(millpond_broker::Driver::sync_all);
    }
    produce("kept").unwrap();

    // Somebody else fills it to the brim and takes it away again.
    disk.set_capacity_bytes(Some(disk.used_bytes()));
    clock.advance(5_000);
    assert!(matches!(produce("kept"), Err(ProduceError::DiskFull(_))));
    disk.set_capacity_bytes(None);
    produce("kept").unwrap();
    assert_eq!(broker.partition("kept", 0).unwrap().visible_end(), 2);
}

fn at_once<F: Future>(future: F) -> F::Output {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("it waits"),
    }
}
