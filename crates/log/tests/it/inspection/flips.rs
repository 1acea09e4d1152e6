//! No bit of any file may change.

use std::collections::HashSet;

use super::*;

/// Why a flipped bit of a file beside the batches need not be noticed.
fn is_harmless(path: &Path, position: usize) -> Option<&'static str> {
    let kind = path.extension().and_then(|kind| kind.to_str());
    if kind == Some("timeindex") && position % 12 >= 8 {
        return Some("up to another batch's end the largest timestamp is the same, and lookups come to the same");
    }
    // Behind `0\n2\n0 `.
    let is_first_start = path.ends_with("leader-epoch-checkpoint") && position == 6;
    is_first_start.then_some("where the first leader epoch began nobody asks")
}

#[test]
fn every_flipped_bit_of_a_closed_log_is_found() {
    let (scratch, end) = written_and_closed(16);
    let (mut kinds, mut reasons) = (HashSet::new(), HashSet::new());
    for name in scratch.names() {
        let path = scratch.dir().join(&name);
        let len = std::fs::read(&path).unwrap().len();
        for bit in 0..8 * len {
            flip_bit(&path, bit / 8, bit % 8);
            let found = findings(&scratch.dir(), &closed(end));
            if found.is_empty() {
                let reason = is_harmless(&path, bit / 8);
                reasons.insert(reason.unwrap_or_else(|| panic!("{name}: bit {bit} is not noticed")));
            }
            kinds.extend(found.iter().map(|finding| finding.kind));
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
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    check_sound(&scratch.dir(), &closed(end), "after the damage");
}

/// Why a flipped bit of a log that nobody has closed need not be noticed.
fn is_harmless_while_open(path: &Path, position: usize, sound: &[u8], last: &Path) -> Option<&'static str> {
    let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
    if path.file_stem() == last.file_stem() && (kind == "index" || kind == "timeindex") {
        return Some("the newest segment's indexes are in the node's memory, and built anew at a start");
    }
    if path != last {
        return is_harmless(path, position);
    }
    let starts: Vec<usize> = millpond_records::batches(sound)
        .scan(0, |at, batch| Some(std::mem::replace(at, *at + batch.unwrap().bytes.len())))
        .collect();
    let start = *starts.iter().rev().find(|start| **start <= position)?;
    let is_last = starts.last() == Some(&start);
    match position - start {
        8..12 if is_last => Some("the newest batch looks longer than the file: as if it was being written"),
        12..16 => Some("leader epochs are noted with the next sync"),
        _ => None,
    }
}

#[test]
fn every_flipped_bit_of_an_open_log_is_found_or_harmless_for_a_reason() {
    let scratch = Scratch::with(small_segments());
    let log = written(&scratch, 20);
    // What is rolled is synced, and of the newest segment the front.
    log.checkpoint().unwrap();
    let last = scratch.logs().pop().unwrap();
    let claims = open(base_of(&last) + 1);
    check_sound(&scratch.dir(), &claims, "before the damage");
    let mut reasons = HashSet::new();
    for name in scratch.names() {
        let path = scratch.dir().join(&name);
        let sound = std::fs::read(&path).unwrap();
        for bit in 0..8 * sound.len() {
            flip_bit(&path, bit / 8, bit % 8);
            if findings(&scratch.dir(), &claims).is_empty() {
                let reason = is_harmless_while_open(&path, bit / 8, &sound, &last);
                reasons.insert(reason.unwrap_or_else(|| panic!("{name}: bit {bit} is not noticed")));
            }
            flip_bit(&path, bit / 8, bit % 8);
        }
    }
    assert_eq!(reasons.len(), 5, "{reasons:?}");
}
