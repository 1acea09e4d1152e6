//! What the inspection of files finds: nothing in a sound log, open or closed, and every kind of damage, told where it is.

mod damage;
mod flips;
mod running;
mod sound;

use std::path::Path;

use millpond_log::inspect::{BatchWalk, Claims, Finding, FindingKind, Found, Verified, Watch, summarize, verify};
use millpond_log::{LogOptions, PartitionLog};
use millpond_records::{BatchBuilder, BatchHeader, BatchOptions, Compression, crc32c};
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

/// A log that was closed, and where it ended.
fn written_and_closed(batches: i32) -> (Scratch, Offset) {
    let scratch = Scratch::with(small_segments());
    let end = written(&scratch, batches).close(NOW).unwrap();
    check_sound(&scratch.dir(), &closed(end), "before the damage");
    (scratch, end)
}

/// The one finding of a log.
fn only(dir: &Path, claims: &Claims) -> Finding {
    let mut found = findings(dir, claims);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

/// Changes a file.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// The headers of a `.log` file's batches, and where each begins.
fn headers(path: &Path) -> Vec<(u64, BatchHeader)> {
    let bytes = std::fs::read(path).unwrap();
    let mut at = 0;
    millpond_records::batches(&bytes)
        .map(|batch| {
            let header = batch.unwrap().header;
            at += header.size() as u64;
            (at - header.size() as u64, header)
        })
        .collect()
}
