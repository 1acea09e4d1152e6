//! What the inspection of files finds: nothing in a sound log, open or closed, and every kind of damage, told where it is.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use millpond_log::inspect::{
    BatchWalk, Claims, Finding, FindingKind, Found, Verified, Watch, read_snapshot, summarize, verify,
};
use millpond_log::{LogOptions, PartitionLog};
use millpond_records::{BatchBuilder, BatchOptions, Compression};
use millpond_types::Offset;

use crate::scratch::{NOW, Scratch, append, base_of, batch, batch_at, compressed, flip_bit, produced};

fn small_segments() -> LogOptions {
    LogOptions { segment_bytes: 900, index_interval_bytes: 150, retention_ms: -1, ..LogOptions::default() }
}

/// Of a log that was closed at `end`.
fn closed(end: Offset) -> Claims {
    Claims {
        is_closed: true,
        recovery_point: Some(end),
        log_start: Some(0),
        topic_id: Some("AAAAAAAAAAAAAAAAAAAAAQ".parse().unwrap()),
        is_kafkas: false,
    }
}

/// Of a log that somebody may be writing, and has synced up to `recovery_point`.
fn open(recovery_point: Offset) -> Claims {
    Claims { is_closed: false, ..closed(recovery_point) }
}

fn verified(dir: &Path, claims: &Claims) -> Verified {
    let watch = Watch { claims: &|| claims.clone(), pause: &|| {}, progress: &|_| {} };
    verify(dir, &watch).unwrap().expect("the folder is there")
}

fn findings(dir: &Path, claims: &Claims) -> Vec<Finding> {
    verified(dir, claims).findings
}

fn check_sound(dir: &Path, claims: &Claims, what: &str) {
    let found = findings(dir, claims);
    assert!(found.is_empty(), "{what}: {found:#?}");
}

/// A log of several segments, with producers and all compressions, two leader epochs, and the number of its batches.
fn written(scratch: &Scratch, batches: i32) -> PartitionLog {
    let log = scratch.create();
    for n in 0..batches {
        let time = NOW + i64::from(n) * 10;
        let made = match n % 4 {
            0 => produced((7, 0, n / 4 * 2), 2),
            1 => batch_at(time, 3, &vec![n as u8; n as usize * 7 % 90]),
            2 => compressed(Compression::ALL[n as usize / 4 % 5], time, 4, &[n as u8; 40]),
            _ => batch(1, b"x"),
        };
        let epoch = if n < batches / 2 { 0 } else { 3 };
        log.append(made, epoch, NOW).unwrap();
        if n % 9 == 5 {
            log.checkpoint().unwrap();
        }
    }
    log
}

#[test]
fn a_sound_log_has_no_findings_while_it_is_written_and_after_it_is_closed() {
    let scratch = Scratch::with(small_segments());
    let log = written(&scratch, 3);
    for n in 3..40 {
        let end = log.append(batch_at(NOW + n, 3, b"value"), 3, NOW).unwrap().last_offset + 1;
        check_sound(&scratch.dir(), &open(log.recovery_point()), "open");
        let summary = summarize(&scratch.dir()).unwrap().unwrap();
        assert_eq!((summary.end_offset, summary.log_bytes), (end, log.size_bytes()));
        if n % 7 == 0 {
            log.sync().unwrap();
            check_sound(&scratch.dir(), &open(end), "synced");
        }
    }
    let end = log.close(NOW).unwrap();
    let found = verified(&scratch.dir(), &closed(end));
    assert_eq!((found.findings, found.unfinished), (vec![], None));
    assert_eq!((found.tallies.batches, found.tallies.records), (40, end as u64));
    assert_eq!(found.tallies.bytes, log.size_bytes());
}

#[test]
fn the_figures_are_those_of_the_log() {
    let scratch = Scratch::with(small_segments());
    let log = written(&scratch, 40);
    let summary = summarize(&scratch.dir()).unwrap().unwrap();
    assert_eq!(summary.end_offset, log.log_end_offset());
    assert_eq!(summary.topic_id, Some(log.topic_id()));
    assert_eq!((summary.producers, summary.leader_epoch), (1, Some(3)));
    assert_eq!(summary.segments.len(), log.segments().len());
    for (found, expected) in summary.segments.iter().zip(log.segments()) {
        assert_eq!((found.base_offset, found.log_bytes), (expected.base_offset, expected.size_bytes));
    }
    assert_eq!(summary.first_timestamp, Some(NOW));
    assert_eq!(summary.last_timestamp, log.max_timestamp(Offset::MAX).unwrap().map(|(_, timestamp)| timestamp));
    let files: u64 = millpond_disk::list(&scratch.dir()).unwrap().iter().map(|entry| entry.len).sum();
    assert_eq!(summary.bytes, files);
    log.close(NOW).unwrap();
    let closed = summarize(&scratch.dir()).unwrap().unwrap();
    assert_eq!((closed.end_offset, closed.last_timestamp), (summary.end_offset, summary.last_timestamp));
}

/// What a flipped bit is, if no finding tells of it.
fn is_harmless(path: &Path, position: usize) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let text = std::fs::read(path).unwrap();
    // The last byte of a text file ends its last line; some other bytes end it, too, or are not looked at behind it.
    (name == "leader-epoch-checkpoint" || name == "partition.metadata") && position + 1 == text.len()
}

#[test]
fn every_flipped_bit_of_a_closed_log_is_found() {
    let scratch = Scratch::with(small_segments());
    let log = written(&scratch, 24);
    let end = log.close(NOW).unwrap();
    drop(log);
    check_sound(&scratch.dir(), &closed(end), "before");
    let mut kinds = std::collections::HashMap::new();
    let mut harmless = Vec::new();
    for name in scratch.names() {
        let path = scratch.dir().join(&name);
        let len = std::fs::read(&path).unwrap().len();
        for bit in 0..8 * len {
            flip_bit(&path, bit / 8, bit % 8);
            let found = findings(&scratch.dir(), &closed(end));
            if found.is_empty() {
                harmless.push((name.clone(), bit));
                assert!(is_harmless(&path, bit / 8), "{name}: bit {bit} is not noticed");
            }
            for finding in &found {
                *kinds.entry(finding.kind).or_insert(0) += 1;
            }
            flip_bit(&path, bit / 8, bit % 8);
        }
    }
    for kind in [
        FindingKind::Batch,
        FindingKind::Crc,
        FindingKind::Offsets,
        FindingKind::Index,
        FindingKind::TimeIndex,
        FindingKind::Snapshot,
        FindingKind::LeaderEpochs,
        FindingKind::Metadata,
    ] {
        assert!(kinds.contains_key(&kind), "{kind}: {kinds:?}");
    }
    assert!(harmless.len() < 8, "{harmless:?}");
    check_sound(&scratch.dir(), &closed(end), "after");
}
