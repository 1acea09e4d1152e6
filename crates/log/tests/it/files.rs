//! What lies in the folder, byte by byte, and what a clean stop and start make of it.

use millpond_log::{LogError, LogOptions, PartitionLog, Recovery};
use millpond_types::Offset;

use crate::scratch::{NOW, Scratch, append, batch, batch_at, offsets, produced, read_all};

fn small_segments() -> LogOptions {
    LogOptions { segment_bytes: 1000, index_interval_bytes: 150, retention_ms: -1, ..LogOptions::default() }
}

#[test]
fn the_files_are_kafkas() {
    let scratch = Scratch::with(small_segments());
    let log = scratch.create();
    // 100 bytes each: 61 of header, 7 of record framing, 32 of value.
    for n in 0..15 {
        assert_eq!(batch_at(NOW + n, 1, &[0; 32]).len(), 100);
        append(&log, batch_at(NOW + n, 1, &[0; 32]));
    }
    assert_eq!(log.close(NOW).unwrap(), 15);
    assert_eq!(
        scratch.names(),
        [
            "00000000000000000000.index",
            "00000000000000000000.log",
            "00000000000000000000.timeindex",
            "00000000000000000010.index",
            "00000000000000000010.log",
            "00000000000000000010.snapshot",
            "00000000000000000010.timeindex",
            "00000000000000000015.snapshot",
            "leader-epoch-checkpoint",
            "partition.metadata",
        ]
    );
    let read = |name: &str| std::fs::read(scratch.dir().join(name)).unwrap();
    assert_eq!(read("partition.metadata"), b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n");
    assert_eq!(read("leader-epoch-checkpoint"), b"0\n1\n0 0\n");
    // More than 150 bytes lie between two entries, so every second batch has one.
    let index: Vec<u8> =
        [2u32, 4, 6, 8].iter().flat_map(|n| [n.to_be_bytes(), (n * 100).to_be_bytes()].concat()).collect();
    assert_eq!(read("00000000000000000000.index"), index);
    let times: Vec<u8> = [2u32, 4, 6, 8, 9]
        .iter()
        .flat_map(|n| [&(NOW + i64::from(*n)).to_be_bytes()[..], &n.to_be_bytes()].concat())
        .collect();
    assert_eq!(read("00000000000000000000.timeindex"), times);
    // Version 1, the CRC-32C of a count of no entries, the count.
    let snapshot = [&[0, 1][..], &millpond_records::crc32c(&[0; 4]).to_be_bytes(), &[0; 4]].concat();
    assert_eq!(read("00000000000000000015.snapshot"), snapshot);
}

#[test]
fn a_clean_start_reads_no_segment() {
    let scratch = Scratch::with(small_segments());
    let log = scratch.create();
    for n in 0..25 {
        append(&log, batch_at(NOW + n, 2, &[0; 50]));
    }
    let expected = read_all(&log, 10_000);
    let recovery_point = log.close(NOW).unwrap();
    drop(log);
    // Zeros of the same length instead of batches: whoever looks would stop there.
    let hidden = Scratch::with(small_segments());
    millpond_disk::create_dir_all(&hidden.dir()).unwrap();
    for name in scratch.names() {
        let bytes = std::fs::read(scratch.dir().join(&name)).unwrap();
        let bytes = if name.ends_with(".log") { vec![0; bytes.len()] } else { bytes };
        std::fs::write(hidden.dir().join(name), bytes).unwrap();
    }
    let log = hidden.open_clean(recovery_point);
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.durable_end_offset()), (0, 50, 50));
    assert_eq!(log.segments().len(), scratch.logs().len());
    drop(log);

    let log = scratch.open_clean(recovery_point);
    assert_eq!(read_all(&log, 10_000), expected);
    assert_eq!(log.max_timestamp(Offset::MAX).unwrap(), Some((49, NOW + 25)));
    assert_eq!(append(&log, batch(1, b"next")).base_offset, 50);
    assert_eq!(log.leader_epoch_end(0), Some((0, 51)));
}

#[test]
fn an_empty_log_closes_and_opens_clean_also_without_index_files() {
    let scratch = Scratch::new();
    let log = scratch.create();
    assert_eq!(log.close(NOW).unwrap(), 0);
    for name in ["00000000000000000000.index", "00000000000000000000.timeindex"] {
        std::fs::remove_file(scratch.dir().join(name)).unwrap();
    }
    let log = scratch.open_clean(0);
    assert_eq!(append(&log, batch(1, b"v")).base_offset, 0);
}

#[test]
fn closed_means_closed() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, batch(1, b"v"));
    log.close(NOW).unwrap();
    assert!(log.append(batch(1, b"v"), 0, NOW).unwrap_err().to_string().contains("it is closed"));
    assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
    assert_eq!(log.read(0, 1000, Offset::MAX, true).unwrap().next_offset, 1, "reading goes on");
}

#[test]
fn what_does_not_fit_a_clean_stop_is_recovered_instead() {
    let scratch = Scratch::with(small_segments());
    let log = scratch.create();
    for n in 0..25 {
        append(&log, batch_at(NOW + n, 2, &[0; 50]));
    }
    let end = log.close(NOW).unwrap();
    drop(log);
    for (case, damage) in [
        ("no snapshot", "00000000000000000050.snapshot"),
        ("no last index", "00000000000000000040.index"),
        ("no last time index", "00000000000000000040.timeindex"),
        ("no first index", "00000000000000000000.index"),
        ("no first time index", "00000000000000000000.timeindex"),
    ] {
        for empty in [false, true] {
            let image = scratch.crash_image();
            let path = image.dir().join(damage);
            std::fs::remove_file(&path).unwrap_or_else(|_| panic!("{case}: {:?}", image.names()));
            if empty {
                std::fs::write(&path, vec![0; 37]).unwrap();
            }
            let recovery = Recovery { clean: true, recovery_point: end, log_start_offset: 0, refuse_damage: false };
            let (log, recovered) = image.open(recovery);
            assert_eq!(recovered.truncated_bytes, 0, "{case}");
            assert_eq!(offsets(&read_all(&log, 10_000)).len(), 25, "{case}");
            for offset in 0..50 {
                assert_eq!(log.read(offset, 1, Offset::MAX, true).unwrap().base_offset, offset / 2 * 2, "{case}");
            }
            assert_eq!(log.offset_for_timestamp(NOW + 1, Offset::MAX).unwrap(), Some((1, NOW + 1)), "{case}");
            assert_eq!(log.max_timestamp(Offset::MAX).unwrap(), Some((49, NOW + 25)), "{case}");
        }
    }
}

#[test]
fn leftovers_are_removed_and_strangers_left_alone() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, batch(1, b"v"));
    let end = log.close(NOW).unwrap();
    drop(log);
    for name in
        ["00000000000000000000.log.deleted", "00000000000000000009.index", "leader-epoch-checkpoint.tmp", "notes"]
    {
        std::fs::write(scratch.dir().join(name), b"x").unwrap();
    }
    drop(scratch.open_clean(end));
    let names = scratch.names();
    assert!(names.contains(&"notes".to_owned()) && names.len() == 7, "{names:?}");
}

#[test]
fn snapshots_do_not_pile_up_over_checkpoints_and_restarts() {
    let scratch = Scratch::new();
    let mut log = scratch.create();
    for round in 0..4 {
        for n in 0..3 {
            append(&log, produced((1, 0, (round * 3 + n) * 2), 2));
            log.checkpoint().unwrap();
        }
        let end = log.close(NOW).unwrap();
        drop(log);
        log = scratch.open_clean(end);
    }
    let names = scratch.names();
    assert_eq!(names.iter().filter(|name| name.ends_with(".snapshot")).count(), 1, "{names:?}");
}

#[test]
fn a_folder_without_its_topics_id_is_named() {
    let scratch = Scratch::new();
    drop(scratch.create());
    std::fs::remove_file(scratch.dir().join("partition.metadata")).unwrap();
    let recovery = Recovery { clean: false, recovery_point: 0, log_start_offset: 0, refuse_damage: false };
    let opened = PartitionLog::open(&scratch.dir(), scratch.options.clone(), scratch.budget.clone(), recovery, NOW);
    assert!(opened.unwrap_err().to_string().contains("partition.metadata is damaged: it does not exist"));
    // A creation that was cut off can be done again.
    drop(scratch.create());
}
