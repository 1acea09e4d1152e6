//! `kill -9`, for real: this test binary starts itself once more, as the node that is killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use millpond_broker::Acks;
use millpond_records::BatchOptions;

use crate::support::{create, open, produce_bytes, produced, values};

/// Where the node that is killed has its data; unset in all other runs.
const FOLDER: &str = "MILLPOND_TEST_FOLDER";
const PRODUCERS: i32 = 8;

/// Not a test by itself: what the other process does, until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_there_to_be_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let broker = open(folder.as_ref());
    if broker.topic("t").is_none() {
        create(&broker, "t", 2).await;
    }
    let tasks: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let partition = broker.partition("t", producer % 2).unwrap();
                let (id, epoch) = broker.init_producer_id(None).await.unwrap();
                for number in 0.. {
                    let value = format!("{id}-{number}");
                    let options = BatchOptions { producer: Some((id, epoch, number)), ..BatchOptions::default() };
                    let batch = produced(options, broker.now_ms(), &[&value]);
                    let appended = produce_bytes(&broker, &partition, Acks::All, batch).await.unwrap();
                    let line = format!("ack {} {} {value}\n", partition.index(), appended.base_offset);
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn every_record_that_was_acknowledged_before_a_kill_is_there_once_and_at_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<BTreeMap<usize, String>> = vec![BTreeMap::new(), BTreeMap::new()];
    for round in 0..4 {
        let mut node = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::a_node_that_is_there_to_be_killed", "--nocapture", "--test-threads=1"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(node.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut acks = 0;
        for line in lines {
            // The harness writes its own words before the first line of ours.
            let Some(at) = line.find("ack ") else { continue };
            let mut words = line[at..].split(' ').skip(1);
            let (Some(partition), Some(offset), Some(value)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let (Ok(partition), Ok(offset)) = (partition.parse::<usize>(), offset.parse()) else { continue };
            let before = acknowledged[partition].insert(offset, value.to_owned());
            assert_eq!(before, None, "offset {offset} was acknowledged twice");
            acks += 1;
            if acks == 300 * (round + 1) {
                // SIGKILL; the lines that are still in the pipe are read to their end.
                node.kill().unwrap();
            }
        }
        node.wait().unwrap();
        assert!(acks >= 300 * (round + 1), "the node ended by itself after {acks} acknowledgements");

        let broker = open(dir.path());
        assert_eq!(broker.leader_epoch(), 2 * round + 1, "each kill begins a new epoch");
        for (partition, acknowledged) in acknowledged.iter().enumerate() {
            let found = values(&broker.partition("t", partition as i32).unwrap());
            for (offset, value) in acknowledged {
                assert_eq!(found.get(*offset), Some(value), "partition {partition}, offset {offset}, round {round}");
            }
            let mut distinct = found.clone();
            distinct.sort();
            distinct.dedup();
            assert_eq!(distinct.len(), found.len(), "an idempotent producer's record is there twice");
        }
        // Dropped, not stopped: as good as a second kill.
    }
}
