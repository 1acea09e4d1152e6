//! Crashes: the last segment cut at every byte and damaged at every byte, and what is left after it.

use millpond_disk::{Crash, SimulatedDisk};
use millpond_log::{AppendError, LogBudget, LogError, LogOptions, PartitionLog, Recovery};
use millpond_records::verify_crc;
use millpond_types::{Offset, TopicId};

use crate::scratch::{NOW, Scratch, append, base_of, batch, batch_at, flip_bit, offsets, produced, read_all};

fn small_segments() -> LogOptions {
    LogOptions { segment_bytes: 900, index_interval_bytes: 150, retention_ms: -1, ..LogOptions::default() }
}

/// What every log must be after a crash: whole batches without a hole, the first `at_least` of `expected` among them.
fn check_prefix(log: &PartitionLog, expected: &[(Offset, Offset)], at_least: usize, what: &str) -> usize {
    let bytes = read_all(log, 1 << 20);
    let found = offsets(&bytes);
    assert!(found.len() >= at_least, "{what}: {} of at least {at_least} batches", found.len());
    assert_eq!(found, expected[..found.len()], "{what}");
    for batch in millpond_records::batches(&bytes) {
        verify_crc(batch.unwrap().bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    let end = found.last().map_or(0, |(_, last)| last + 1);
    assert_eq!((log.log_end_offset(), log.durable_end_offset()), (end, end), "{what}");
    for (base, last) in &found {
        assert_eq!(log.read(*last, 1, Offset::MAX, true).unwrap().base_offset, *base, "{what}");
    }
    // And it goes on.
    assert_eq!(append(log, batch(1, b"next")).base_offset, end, "{what}");
    found.len()
}

/// A log of several segments of batches with their producers, and its batches' offsets.
fn written(scratch: &Scratch, batches: i64) -> (PartitionLog, Vec<(Offset, Offset)>) {
    let log = scratch.create();
    let mut expected = Vec::new();
    for n in 0..batches {
        let appended = match n % 3 {
            0 => append(&log, produced((7, 0, (n / 3 * 2) as i32), 2)),
            1 => append(&log, batch_at(NOW + n, 3, &vec![n as u8; n as usize * 7 % 90])),
            _ => append(&log, batch(1, b"x")),
        };
        expected.push((appended.base_offset, appended.last_offset));
    }
    (log, expected)
}

#[test]
fn a_log_cut_at_any_byte_of_its_last_segment_ends_with_the_last_whole_batch() {
    let scratch = Scratch::with(small_segments());
    let (_log, expected) = written(&scratch, 26);
    let last = scratch.logs().pop().unwrap();
    let last_base = base_of(&last);
    let before = expected.iter().filter(|(base, _)| *base < last_base).count();
    let bytes = std::fs::read(&last).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for len in 0..=bytes.len() {
        let image = scratch.crash_image();
        std::fs::write(image.dir().join(last.file_name().unwrap()), &bytes[..len]).unwrap();
        let whole = millpond_records::batches(&bytes[..len]).count();
        let (log, recovered) = image.open_crashed(0);
        let found = check_prefix(&log, &expected, before + whole, &format!("cut at {len}"));
        assert_eq!(found, before + whole);
        let kept: usize = millpond_records::batches(&bytes[..len]).map(|b| b.unwrap().bytes.len()).sum();
        assert_eq!(recovered.truncated_bytes, (len - kept) as u64);
        assert_eq!(recovered.reason.is_some(), len > kept, "{:?}", recovered.reason);
        seen.insert(found);
        // A second crash right after finds nothing more to do.
        let second = image.crash_image();
        let (again, recovered) = second.open_crashed(0);
        assert_eq!((again.log_end_offset(), recovered.truncated_bytes), (log.log_end_offset(), 0));
    }
    assert!(seen.len() > 3);
}

#[test]
fn a_bit_flipped_anywhere_beyond_the_recovery_point_ends_the_log_there() {
    let scratch = Scratch::with(small_segments());
    let (_log, expected) = written(&scratch, 20);
    let last = scratch.logs().pop().unwrap();
    let last_base = base_of(&last);
    let before = expected.iter().filter(|(base, _)| *base < last_base).count();
    let bytes = std::fs::read(&last).unwrap();
    for position in 0..bytes.len() {
        let image = scratch.crash_image();
        flip_bit(&image.dir().join(last.file_name().unwrap()), position, position % 8);
        let (mut start, mut hit, mut in_epoch) = (0, 0, false);
        for (n, batch) in millpond_records::batches(&bytes).enumerate() {
            let len = batch.unwrap().bytes.len();
            if (start..start + len).contains(&position) {
                hit = n;
                // The leader epoch lies outside the CRC; it is the broker's own and harms nobody.
                in_epoch = (12..16).contains(&(position - start));
            }
            start += len;
        }
        let (log, recovered) = image.open_crashed(0);
        let expected_len = if in_epoch { expected.len() } else { before + hit };
        let found = check_prefix(&log, &expected, expected_len, &format!("flipped at {position}"));
        assert_eq!(found, expected_len, "flipped at {position}: {:?}", recovered.reason);
    }
}

#[test]
fn a_bad_batch_in_an_earlier_segment_takes_the_later_segments_with_it() {
    let scratch = Scratch::with(small_segments());
    let (_log, expected) = written(&scratch, 30);
    let second = scratch.logs()[1].clone();
    let base = base_of(&second);
    let image = scratch.crash_image();
    flip_bit(&image.dir().join(second.file_name().unwrap()), 30, 0);
    let (log, recovered) = image.open_crashed(0);
    assert_eq!(log.log_end_offset(), base);
    assert_eq!(image.logs().len(), 2, "the cut one goes on as the active one");
    assert!(recovered.reason.unwrap().contains("CRC-32C"));
    check_prefix(&log, &expected, 1, "second segment damaged");

    // What lies below the recovery point is not looked at again.
    let image = scratch.crash_image();
    flip_bit(&image.dir().join(second.file_name().unwrap()), 30, 0);
    let (log, recovered) = image.open_crashed(expected.last().unwrap().1 + 1);
    assert_eq!((log.log_end_offset(), recovered.truncated_bytes), (expected.last().unwrap().1 + 1, 0));
}

#[test]
fn a_lost_segment_ends_the_log_before_it() {
    let scratch = Scratch::with(small_segments());
    let (_log, expected) = written(&scratch, 30);
    let lost = scratch.logs()[2].clone();
    let base = base_of(&lost);
    let image = scratch.crash_image();
    std::fs::remove_file(image.dir().join(lost.file_name().unwrap())).unwrap();
    let (log, recovered) = image.open_crashed(0);
    assert_eq!(log.log_end_offset(), base);
    assert!(recovered.reason.unwrap().contains("does not begin where the one before ends"));
    check_prefix(&log, &expected, 1, "third segment lost");
}

#[test]
fn only_what_lies_beyond_the_recovery_point_is_verified() {
    let scratch = Scratch::new();
    let log = scratch.create();
    for n in 0..100 {
        append(&log, batch_at(NOW + n, 1, &[0; 932])); // 1,000 bytes and 1 more of varint lengths.
    }
    log.checkpoint().unwrap();
    for n in 0..3 {
        append(&log, batch_at(NOW + n, 1, &[0; 932]));
    }
    let size = batch_at(NOW, 1, &[0; 932]).len() as u64;
    for (recovery_point, batches) in [(100, 3), (50, 53), (0, 103), (103, 0)] {
        let image = scratch.crash_image();
        let (log, recovered) = image.open_crashed(recovery_point);
        assert_eq!(recovered.bytes_verified, batches * size, "from {recovery_point}");
        assert_eq!((log.log_end_offset(), log.size_bytes()), (103, 103 * size));
        assert_eq!(log.max_timestamp(Offset::MAX).unwrap(), Some((99, NOW + 99)));
        // Zeros in front of the indexed place, which a checkpoint wrote, are not even looked at.
        let path = &image.logs()[0];
        let mut bytes = std::fs::read(path).unwrap();
        bytes[..size as usize * 90].fill(0);
        std::fs::write(path, bytes).unwrap();
        if recovery_point >= 100 {
            assert_eq!(image.open_crashed(recovery_point).0.log_end_offset(), 103, "from {recovery_point}");
        }
    }
}

#[test]
fn damaged_indexes_never_lead_astray() {
    let scratch = Scratch::with(small_segments());
    let (log, expected) = written(&scratch, 40);
    let end = log.close(NOW).unwrap();
    let names: Vec<String> =
        scratch.names().into_iter().filter(|n| n.ends_with("index") || n.ends_with(".snapshot")).collect();
    for name in &names {
        let len = std::fs::read(scratch.dir().join(name)).unwrap().len();
        for damage in 0..len + 2 {
            let image = scratch.crash_image();
            let path = image.dir().join(name);
            match damage {
                d if d < len => flip_bit(&path, d, d % 8),
                d if d == len => std::fs::write(&path, vec![0; len]).unwrap(),
                _ => std::fs::remove_file(&path).unwrap(),
            }
            for clean in [true, false] {
                let (log, recovered) =
                    image.open(Recovery { clean, recovery_point: end, log_start_offset: 0, refuse_damage: false });
                assert_eq!((log.log_end_offset(), recovered.truncated_bytes), (end, 0), "{name} {damage}");
                for (base, last) in &expected {
                    let fetched = log.read(*last, 1, Offset::MAX, true).unwrap();
                    assert_eq!(fetched.base_offset, *base, "{name} {damage}");
                }
                // A wrong time may be found in a damaged time index, but never an error or a panic.
                log.offset_for_timestamp(NOW + 3, Offset::MAX).unwrap();
                log.max_timestamp(Offset::MAX).unwrap();
            }
        }
    }
}

#[test]
fn a_time_index_that_begins_with_zeros_is_not_believed() {
    let scratch = Scratch::with(LogOptions { segment_bytes: 1 << 20, ..small_segments() });
    let log = scratch.create();
    for n in 0..20 {
        append(&log, batch_at(NOW + n, 1, &[0; 50]));
    }
    let end = log.checkpoint().unwrap();
    // What a power cut leaves of a file that had grown and was not synced.
    let path = scratch.logs()[0].with_extension("timeindex");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..12].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let (log, _) = scratch.open_crashed(end);
    assert_eq!(log.offset_for_timestamp(1, Offset::MAX).unwrap(), Some((0, NOW)), "the first record is later than 1");
}

#[test]
fn a_log_that_lost_everything_below_its_start_begins_anew_there() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, batch(5, b"v"));
    let (reopened, recovered) =
        scratch.open(Recovery { clean: false, recovery_point: 9, log_start_offset: 8, refuse_damage: false });
    assert_eq!((reopened.log_start_offset(), reopened.log_end_offset()), (8, 8));
    assert!(recovered.reason.unwrap().contains("below its start 8"));
    assert_eq!(append(&reopened, batch(1, b"v")).base_offset, 8);
}

#[test]
fn a_log_that_ends_below_its_recovery_point_says_so() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, batch(5, b"v"));
    let (reopened, recovered) = scratch.open_crashed(7);
    assert_eq!(reopened.log_end_offset(), 5);
    assert!(recovered.reason.unwrap().contains("ends at 5, below its recovery point 7"));
}

#[test]
fn after_a_failed_write_nothing_is_taken_any_more_and_everything_says_why() {
    let scratch = Scratch::with(small_segments());
    let log = scratch.create();
    append(&log, batch(1, &[0; 700]));
    // The next segment cannot be made, since its folder is gone.
    std::fs::rename(scratch.dir(), scratch.dir().with_extension("gone")).unwrap();
    let error = log.append(batch(1, &[0; 700]), 0, NOW).unwrap_err();
    assert!(matches!(&error, AppendError::Disk(e) if e.to_string().contains("cannot create")), "{error}");
    std::fs::rename(scratch.dir().with_extension("gone"), scratch.dir()).unwrap();
    assert_eq!(log.log_end_offset(), 1);
    let first = error.to_string();
    for _ in 0..2 {
        let error = log.append(batch(1, b"v"), 0, NOW).unwrap_err();
        assert!(matches!(&error, AppendError::Poisoned { reason } if *reason == first), "{error}");
        for error in [log.sync(), log.checkpoint(), log.close(NOW)] {
            assert!(matches!(error.unwrap_err(), LogError::Poisoned { reason } if reason == first));
        }
    }
    assert_eq!(log.poisoned(), Some(first.as_str()));
    assert_eq!(log.durable_end_offset(), 0);
    assert_eq!(log.read(0, 1, Offset::MAX, true).unwrap().next_offset, 1);
}

#[test]
fn what_a_checkpoint_says_of_times_survives_a_power_cut() {
    for seed in 0..40 {
        let disk = SimulatedDisk::new(seed);
        let folder = disk.root().join("topic-0");
        let id = TopicId::from_uuid("00000000-0000-0000-0000-000000000001".parse().unwrap());
        let options =
            LogOptions { index_interval_bytes: 100, retention_ms: -1, tail_bytes_max: 0, ..LogOptions::default() };
        let log = PartitionLog::create(&folder, id, options.clone(), LogBudget::new(0)).unwrap();
        // Later ones are older: the largest timestamp is known from the index alone.
        for n in 0..20 {
            append(&log, batch_at(NOW - n, 1, &[0; 50]));
        }
        let end = log.checkpoint().unwrap();
        disk.go_off();
        drop(log);
        disk.restart(Crash::PowerCut);
        let recovery = Recovery { clean: false, recovery_point: end, log_start_offset: 0, refuse_damage: false };
        let (log, _) = PartitionLog::open(&folder, options, LogBudget::new(0), recovery, NOW).unwrap();
        assert_eq!(log.offset_for_timestamp(NOW, Offset::MAX).unwrap(), Some((0, NOW)), "seed {seed}");
    }
}

#[test]
fn a_full_disk_takes_no_batch_and_the_next_one_when_there_is_room() {
    let disk = SimulatedDisk::new(5);
    let id = TopicId::from_uuid("00000000-0000-0000-0000-000000000001".parse().unwrap());
    let options =
        LogOptions { segment_bytes: 900, index_interval_bytes: 100, retention_ms: -1, ..LogOptions::default() };
    let folder = disk.root().join("topic-0");
    let log = PartitionLog::create(&folder, id, options.clone(), LogBudget::new(1 << 20)).unwrap();
    let (mut taken, mut refused) = (Vec::new(), 0);
    for room in (0..4_000).step_by(37) {
        disk.set_capacity_bytes(Some(disk.used_bytes() + room % 700));
        for n in 0..4 {
            match log.append(batch(2, &[n; 60]), 0, NOW) {
                Ok(appended) => taken.push((appended.base_offset, appended.last_offset)),
                Err(AppendError::Disk(error)) if error.is_full() => refused += 1,
                Err(error) => panic!("{error}"),
            }
            // Rolled segments have no room for their indexes perhaps; the batches are durable all the same.
            assert_eq!(log.sync().unwrap(), log.log_end_offset());
        }
        assert_eq!(log.poisoned(), None);
    }
    assert!(taken.len() > 50 && refused > 50, "{} taken, {refused} refused", taken.len());
    assert_eq!(offsets(&read_all(&log, 1 << 20)), taken);
    disk.go_off();
    drop(log);
    disk.restart(Crash::PowerCut);
    disk.set_capacity_bytes(None);
    let recovery = Recovery { clean: false, recovery_point: 0, log_start_offset: 0, refuse_damage: false };
    let (log, _) = PartitionLog::open(&folder, options, LogBudget::new(1 << 20), recovery, NOW).unwrap();
    assert_eq!(offsets(&read_all(&log, 1 << 20)), taken);
    log.append(batch(1, b"x"), 0, NOW).unwrap();
    log.sync().unwrap();
}
