//! Compaction of logs with more keys than the memory takes.

use millpond_disk::SimulatedDisk;
use millpond_log::{Compacted, LogBudget, LogOptions, PartitionLog};
use millpond_types::TopicId;

use crate::compaction::{compact_at, keyed, latest, options, records, roll};
use crate::scratch::{NOW, Scratch, append};

#[test]
fn with_more_keys_than_fit_the_memory_they_are_sorted_out_on_the_disk() {
    let scratch = Scratch::with(options());
    let log = scratch.create();
    for round in 0..2 {
        for n in 0..900 {
            append(&log, keyed(&[(&format!("key {}", n * 7 % 300), Some(&n.to_string())), ("often", Some("x"))]));
        }
        roll(&log);
        let expected = latest(&records(&log));
        // Room for 80 keys and some.
        let compacted = compact_at(&log, NOW, 3_000);
        assert_eq!((compacted.keys, compacted.clean_below), (301, log.log_end_offset()), "{round}");
        assert_eq!(records(&log), expected, "{round}");
        assert_eq!(compact_at(&log, NOW, 3_000), Compacted::default());
        assert!(scratch.names().iter().all(|name| !name.ends_with(".cleaned")));
    }
}

#[test]
fn with_no_room_on_the_disk_for_the_keys_it_takes_several_compactions_and_comes_to_the_same() {
    let disk = SimulatedDisk::new(9);
    let (dir, id) =
        (disk.root().join("topic-0"), TopicId::from_uuid("00000000-0000-0000-0000-000000000001".parse().unwrap()));
    let log = PartitionLog::create(&dir, id, options(), LogBudget::new(0)).unwrap();
    for n in 0..900 {
        append(&log, keyed(&[(&format!("key {}", n * 7 % 300), Some(&n.to_string())), ("often", Some("x"))]));
    }
    roll(&log);
    let expected = latest(&records(&log));
    // The keys take twice as much.
    disk.set_capacity_bytes(Some(disk.used_bytes() + 20_000));
    let mut compactions = 0;
    while compact_at(&log, NOW, 3_000) != Compacted::default() {
        compactions += 1;
        assert!(compactions < 100);
    }
    assert!(compactions > 1, "{compactions} compactions");
    assert_eq!(records(&log), expected);
}

#[test]
fn a_batch_with_more_keys_than_fit_is_passed_without_loss() {
    let scratch = Scratch::with(LogOptions { segment_bytes: 1 << 20, ..options() });
    let log = scratch.create();
    let keys: Vec<String> = (0..2_000).map(|n| format!("key {}", n % 1_500)).collect();
    let batch: Vec<(&str, Option<&str>)> = keys.iter().map(|key| (key.as_str(), Some("v"))).collect();
    append(&log, keyed(&batch));
    append(&log, keyed(&[("key 3", Some("last"))]));
    roll(&log);
    let expected = latest(&records(&log));
    compact_at(&log, NOW, 3_000);
    assert_eq!(records(&log), expected);
}
