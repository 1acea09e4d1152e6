//! Damage of every kind is told where it is.

use proptest::prelude::*;

use super::*;

#[test]
fn a_walk_goes_on_behind_damage_with_the_next_whole_batch() {
    let scratch = Scratch::new();
    let log = written(&scratch, 20);
    let path = scratch.logs().remove(0);
    let all = headers(&path);
    let sound = std::fs::read(&path).unwrap();
    let walked = || {
        let mut walk = BatchWalk::open(&path).unwrap();
        let (mut positions, mut gaps) = (Vec::new(), Vec::new());
        while let Some(found) = walk.next().unwrap() {
            match found {
                Found::Batch(batch) if batch.is_valid() => positions.push(batch.position),
                Found::Batch(batch) => gaps.push((batch.position, batch.header.size() as u64)),
                Found::Gap(gap) => gaps.push((gap.position, gap.len)),
            }
        }
        (positions, gaps)
    };
    // From the middle of the third batch to the middle of the sixth.
    let (from, to) = (all[2].0 + 30, all[5].0 + 30);
    for fill in [0x00, 0xff, 0x02, b'x'] {
        let mut bytes = sound.clone();
        bytes[from as usize..to as usize].fill(fill);
        std::fs::write(&path, bytes).unwrap();
        let (positions, gaps) = walked();
        let whole = |(n, (position, _)): (usize, &(u64, BatchHeader))| (!(2..=5).contains(&n)).then_some(*position);
        assert_eq!(positions, all.iter().enumerate().filter_map(whole).collect::<Vec<_>>(), "{fill:#x}");
        assert_eq!(gaps.iter().map(|(_, len)| len).sum::<u64>(), all[6].0 - all[2].0, "{fill:#x}");
        assert_eq!(gaps[0].0, all[2].0, "{fill:#x}");
    }
    // Bytes that came in between, or went.
    let mut bytes = sound.clone();
    bytes.splice(all[4].0 as usize..all[4].0 as usize, *b"something else");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(walked().1, [(all[4].0, 14)]);
    bytes = sound.clone();
    bytes.drain(all[4].0 as usize..all[4].0 as usize + 9);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(walked().1, [(all[4].0, all[5].0 - all[4].0 - 9)]);
    drop(log);
}

#[test]
fn damage_names_the_offsets_that_are_lost() {
    let (scratch, end) = written_and_closed(30);
    let path = scratch.logs()[1].clone();
    let all = headers(&path);
    edit(&path, |bytes| bytes[all[1].0 as usize + 8..all[3].0 as usize].fill(0xee));
    let found = only(&scratch.dir(), &closed(end));
    assert_eq!(
        (found.kind, found.position, found.offset),
        (FindingKind::Batch, Some(all[1].0), Some(all[1].1.base_offset))
    );
    let lost = format!("offsets {} to {} are lost", all[1].1.base_offset, all[2].1.last_offset());
    assert!(found.what.contains(&lost), "{}", found.what);
    assert!(found.remedy.contains("restore the file from a backup"), "{}", found.remedy);
}

#[test]
fn what_is_being_written_is_no_damage_unless_it_was_on_the_disk_before() {
    let scratch = Scratch::with(small_segments());
    let log = written(&scratch, 12);
    let end = log.sync().unwrap();
    let path = scratch.logs().pop().unwrap();
    let sound = std::fs::read(&path).unwrap();
    let next = batch(5, &[7; 100]);
    for len in 1..next.len() {
        for tail in [&next[..len], &vec![0; len]] {
            std::fs::write(&path, [&sound, tail].concat()).unwrap();
            let found = verified(&scratch.dir(), &open(end));
            assert_eq!(found.findings, [], "{len} bytes");
            let unfinished = found.unfinished.expect("told");
            assert_eq!((unfinished.position, unfinished.bytes), (sound.len() as u64, len as u64));
            // A node that was stopped leaves no such thing, and what was synced is not being written.
            for claims in [closed(end), open(end + 1)] {
                assert!(!findings(&scratch.dir(), &claims).is_empty(), "{len} bytes, {claims:?}");
            }
        }
    }
    // Something else than the front of a batch is damage.
    std::fs::write(&path, [&sound[..], &[1; 100]].concat()).unwrap();
    let found = only(&scratch.dir(), &open(end));
    assert!(found.kind == FindingKind::Batch && found.remedy.contains("cuts the log off here"), "{found:?}");
}

#[test]
fn lost_and_added_segments_are_told() {
    let (scratch, end) = written_and_closed(40);
    let logs = scratch.logs();
    for (place, expected) in
        [(0, "what is between is lost"), (2, "and this one begins with"), (logs.len() - 1, "synced")]
    {
        let image = scratch.crash_image();
        std::fs::remove_file(image.dir().join(logs[place].file_name().unwrap())).unwrap();
        let found = findings(&image.dir(), &closed(end));
        assert!(found.iter().any(|finding| finding.what.contains(expected)), "{place}: {found:#?}");
    }
    // A segment of another place: its batches are none of this offset.
    let image = scratch.crash_image();
    std::fs::copy(&logs[1], image.dir().join(logs[2].file_name().unwrap())).unwrap();
    let found = findings(&image.dir(), &closed(end));
    assert!(found.iter().any(|finding| finding.kind == FindingKind::Offsets), "{found:#?}");
}

#[test]
fn what_the_node_has_noted_is_compared_with_the_log() {
    let (scratch, end) = written_and_closed(20);
    let dir = scratch.dir();
    let beside = |name: &str| dir.with_file_name(name);
    let recovery_points = beside("recovery-point-offset-checkpoint");
    let with = |change: &dyn Fn(&mut Claims)| {
        let mut claims = closed(end);
        change(&mut claims);
        only(&dir, &claims)
    };
    let found = with(&|claims| claims.recovery_point = Some(end + 1));
    assert_eq!((found.kind, &found.file), (FindingKind::Checkpoint, &recovery_points));
    assert!(found.what.contains(&format!("below offset {} was synced", end + 1)), "{}", found.what);
    let found = with(&|claims| claims.recovery_point = Some(end - 1));
    assert!(found.what.contains("was closed at offset"), "{}", found.what);
    check_sound(&dir, &open(end - 1), "a node that runs is behind with its notes");
    let found = with(&|claims| claims.topic_id = Some("AAAAAAAAAAAAAAAAAAAAAg".parse().unwrap()));
    assert!(found.kind == FindingKind::Metadata && found.what.contains("AAAAAAAAAAAAAAAAAAAAAg"), "{found:?}");
    let found = findings(&dir, &Claims { log_start: Some(end + 5), ..closed(end) });
    assert!(found.iter().any(|finding| finding.what.contains("starts at offset")), "{found:#?}");
}

#[test]
fn of_a_log_that_starts_later_what_is_below_does_not_count() {
    let scratch = Scratch::with(small_segments());
    let log = written(&scratch, 40);
    let start = base_of(&scratch.logs()[4]) + 1;
    log.advance_log_start(start).unwrap();
    let end = log.close(NOW).unwrap();
    let claims = Claims { log_start: Some(start), ..closed(end) };
    check_sound(&scratch.dir(), &claims, "segments below the start are to be removed");
    // Some of them may be gone already, in any order.
    std::fs::remove_file(&scratch.logs()[1]).unwrap();
    check_sound(&scratch.dir(), &claims, "one of them is removed");
    assert!(!findings(&scratch.dir(), &closed(end)).is_empty());
}

#[test]
fn missing_indexes_are_told_where_they_must_be_there() {
    let (scratch, end) = written_and_closed(30);
    for name in scratch.names().iter().filter(|name| name.ends_with("index")) {
        let image = scratch.crash_image();
        std::fs::remove_file(image.dir().join(name)).unwrap();
        let found = only(&image.dir(), &closed(end));
        assert!(found.file.ends_with(name) && found.what.contains("missing"), "{found:?}");
        check_sound(&image.dir(), &open(0), "nobody knows whether it was written");
    }
}

#[test]
fn entries_that_come_late_or_lack_the_largest_time_are_told() {
    let (scratch, end) = written_and_closed(30);
    let index = scratch.logs()[0].with_extension("index");
    let time_index = scratch.logs()[0].with_extension("timeindex");
    let image = scratch.crash_image();
    edit(&image.dir().join(index.file_name().unwrap()), |bytes| bytes.rotate_left(8));
    assert_eq!(only(&image.dir(), &closed(end)).kind, FindingKind::Index);
    for (cut, kind) in [(12, FindingKind::TimeIndex), (5, FindingKind::TimeIndex)] {
        let image = scratch.crash_image();
        edit(&image.dir().join(time_index.file_name().unwrap()), |bytes| bytes.truncate(bytes.len() - cut));
        assert_eq!(only(&image.dir(), &closed(end)).kind, kind, "{cut}");
    }
    // Fewer entries only cost time.
    let image = scratch.crash_image();
    edit(&image.dir().join(index.file_name().unwrap()), |bytes| bytes.truncate(8));
    check_sound(&image.dir(), &closed(end), "one entry");
    // Room that Kafka has reserved.
    edit(&image.dir().join(index.file_name().unwrap()), |bytes| bytes.resize(800, 0));
    check_sound(&image.dir(), &closed(end), "zeros behind it");
}

#[test]
fn snapshots_that_tell_of_other_batches_are_told() {
    let (scratch, end) = written_and_closed(30);
    let snapshot = scratch.dir().join(format!("{end:020}.snapshot"));
    // Fields of the last entry: 46 bytes, of which the sequence begins at 10 and the offset at 14.
    for (field, expected) in [(10 + 3, "ends with sequence"), (14 + 7, "no such batch"), (22 + 3, "in a batch of")] {
        let image = scratch.crash_image();
        edit(&image.dir().join(snapshot.file_name().unwrap()), |bytes| {
            let entry = bytes.len() - 46;
            bytes[entry + field] ^= 1;
            let crc = crc32c(&bytes[6..]).to_be_bytes();
            bytes[2..6].copy_from_slice(&crc);
        });
        let found = only(&image.dir(), &closed(end));
        assert!(found.kind == FindingKind::Snapshot && found.what.contains(expected), "{found:?}");
    }
}

/// A batch of three records with other bytes in its header, and the right checksum.
fn with_header(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for n in 0..3 {
        builder.push(NOW + n, Some(b"key"), Some(b"value"), &[]);
    }
    let mut bytes = builder.build();
    change(&mut bytes);
    let crc = crc32c(&bytes[21..]).to_be_bytes();
    bytes[17..21].copy_from_slice(&crc);
    bytes
}

#[test]
fn headers_that_contradict_their_records_are_told() {
    fn check(change: impl FnOnce(&mut Vec<u8>), kind: FindingKind, expected: &str) {
        let scratch = Scratch::new();
        let log = scratch.create();
        append(&log, batch(2, b"before"));
        log.sync().unwrap();
        let path = scratch.logs().remove(0);
        let mut made = with_header(change);
        millpond_records::stamp(&mut made, 2, 0);
        edit(&path, |bytes| bytes.extend_from_slice(&made));
        let found = findings(&scratch.dir(), &open(2));
        assert_eq!(found.len(), 1, "{expected}: {found:#?}");
        assert!(found[0].kind == kind && found[0].what.contains(expected), "{expected}: {found:#?}");
        assert_eq!(found[0].offset, Some(2));
    }
    fn set<const N: usize>(at: usize, to: [u8; N]) -> impl FnOnce(&mut Vec<u8>) {
        move |bytes| bytes[at..at + N].copy_from_slice(&to)
    }
    check(set(57, 2i32.to_be_bytes()), FindingKind::Records, "bytes follow the last record");
    check(set(57, 4i32.to_be_bytes()), FindingKind::Records, "promises 4 records");
    check(set(57, (-1i32).to_be_bytes()), FindingKind::Records, "promises -1 records");
    check(set(23, 5i32.to_be_bytes()), FindingKind::Records, "its header says 5");
    check(set(23, 1i32.to_be_bytes()), FindingKind::Records, "outside the batch");
    check(set(23, (-7i32).to_be_bytes()), FindingKind::Records, "last offset delta of -7");
    check(set(35, (NOW + 9).to_be_bytes()), FindingKind::Timestamps, "largest timestamp");
    check(set(21, 7i16.to_be_bytes()), FindingKind::Records, "compression");
    check(set(21, 4i16.to_be_bytes()), FindingKind::Records, "decompressed as zstd");
    check(set(43, 9i64.to_be_bytes()), FindingKind::Records, "producer 9 has epoch -1");
}

#[test]
fn a_batch_that_grows_beyond_all_bounds_is_counted_and_not_looked_into() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, compressed(Compression::Zstd, NOW, 1, &vec![0; millpond_log::DECOMPRESSED_BYTES_MAX + 1]));
    let end = log.close(NOW).unwrap();
    let found = verified(&scratch.dir(), &closed(end));
    assert_eq!((found.findings.len(), found.tallies.batches_too_large, found.tallies.records), (0, 1, 0));
}

#[test]
fn holes_are_damage_beyond_what_compaction_has_noted() {
    let scratch = Scratch::with(small_segments());
    let log = written(&scratch, 30);
    let end = log.close(NOW).unwrap();
    let path = scratch.logs()[1].clone();
    let all = headers(&path);
    // Takes a batch out, and the indexes with it.
    edit(&path, |bytes| drop(bytes.drain(all[1].0 as usize..all[2].0 as usize)));
    for kind in ["index", "timeindex"] {
        std::fs::write(path.with_extension(kind), b"").unwrap();
    }
    let of_offsets = || {
        let found = findings(&scratch.dir(), &closed(end));
        found.into_iter().find(|finding| finding.kind == FindingKind::Offsets)
    };
    let found = of_offsets().expect("a hole");
    assert_eq!((found.position, found.offset), (Some(all[1].0), Some(all[2].1.base_offset)));
    let compacted = |below: Offset| {
        std::fs::write(scratch.dir().join("compaction-checkpoint"), format!("0\n{below} 0\n")).unwrap();
        of_offsets()
    };
    assert!(compacted(all[2].1.base_offset - 1).is_some());
    assert_eq!(compacted(all[2].1.base_offset), None);
    std::fs::remove_file(scratch.dir().join("compaction-checkpoint")).unwrap();
    let kafkas = Claims { is_kafkas: true, ..closed(end) };
    assert!(findings(&scratch.dir(), &kafkas).iter().all(|finding| finding.kind != FindingKind::Offsets));
    // Nowhere do offsets go back.
    edit(&path, |bytes| bytes[..8].copy_from_slice(&(all[3].1.base_offset).to_be_bytes()));
    let found = findings(&scratch.dir(), &kafkas);
    assert!(found.iter().any(|finding| finding.kind == FindingKind::Offsets), "{found:#?}");
}

#[test]
fn the_largest_and_smallest_numbers_are_read_like_others() {
    let scratch = Scratch::new();
    let end = written(&scratch, 8).close(NOW).unwrap();
    let path = scratch.logs().remove(0);
    let sound = std::fs::read(&path).unwrap();
    for kind in ["log", "index", "timeindex", "txnindex"] {
        for fill in [0x00, 0x7f, 0x80, 0xff] {
            let name = format!("{:020}.{kind}", i64::MAX);
            let bytes = if kind == "log" { sound.clone() } else { vec![fill; 34 * 12] };
            std::fs::write(scratch.dir().join(name), bytes).unwrap();
            assert!(!findings(&scratch.dir(), &closed(end)).is_empty());
            summarize(&scratch.dir()).unwrap();
        }
    }
    let snapshot = scratch.dir().join(format!("{end:020}.snapshot"));
    for byte in [0x7f, 0x80, 0xff] {
        edit(&snapshot, |bytes| {
            bytes[10..].fill(byte);
            let crc = crc32c(&bytes[6..]).to_be_bytes();
            bytes[2..6].copy_from_slice(&crc);
        });
        findings(&scratch.dir(), &open(0));
        summarize(&scratch.dir()).unwrap();
    }
    let first = headers(&path)[0].1;
    for offset in [i64::MIN, -1, i64::MAX] {
        let mut bytes = sound.clone();
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        std::fs::write(&path, &bytes).unwrap();
        assert_ne!(first.base_offset, offset);
        assert!(!findings(&scratch.dir(), &closed(end)).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Files of anything, and sound files with anything in them, are read to their ends.
    #[test]
    fn whatever_is_in_the_files_they_are_read_to_the_end(
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        place in any::<proptest::sample::Index>(),
        file in any::<proptest::sample::Index>(),
        is_whole in any::<bool>(),
    ) {
        let (scratch, end) = written_and_closed(12);
        let names = scratch.names();
        let path = scratch.dir().join(&names[file.index(names.len())]);
        edit(&path, |bytes| {
            let place = place.index(bytes.len() + 1);
            if is_whole {
                *bytes = noise.clone();
            } else {
                bytes.splice(place..(place + noise.len()).min(bytes.len()), noise.iter().copied());
            }
        });
        for claims in [closed(end), open(0)] {
            let found = verified(&scratch.dir(), &claims);
            prop_assert!(found.tallies.bytes <= 1 << 20);
        }
        summarize(&scratch.dir()).unwrap();
        for log in scratch.logs() {
            let mut walk = BatchWalk::open(&log).unwrap();
            let mut position = 0;
            while walk.next().unwrap().is_some() {
                prop_assert!(walk.position() > position, "it moves on");
                position = walk.position();
            }
            prop_assert_eq!(position, walk.len());
        }
    }
}
