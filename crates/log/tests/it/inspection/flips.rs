//! No bit of any file may change.

use super::*;

#[test]
fn every_flipped_bit_of_a_closed_log_is_found() {
    let (scratch, end) = written_and_closed(16);
    let mut kinds = std::collections::HashSet::new();
    for name in scratch.names() {
        let path = scratch.dir().join(&name);
        let len = std::fs::read(&path).unwrap().len();
        for bit in 0..8 * len {
            flip_bit(&path, bit / 8, bit % 8);
            let found = findings(&scratch.dir(), &closed(end));
            assert!(!found.is_empty(), "{name}: bit {bit} is not noticed");
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
    check_sound(&scratch.dir(), &closed(end), "after the damage");
}

/// Why a flipped bit of a log that nobody has closed need not be noticed.
fn is_harmless(path: &Path, position: usize, sound: &[u8], last: &Path) -> Option<&'static str> {
    let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
    if path.file_stem() == last.file_stem() && (kind == "index" || kind == "timeindex") {
        return Some("the newest segment's indexes are in the node's memory, and built anew at a start");
    }
    if kind.is_empty() && (4..7).contains(&position) {
        return Some("a log's new start may be noted here before it is in the node's checkpoint");
    }
    if path != last {
        return None;
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
    // What is rolled is synced; of the newest segment nothing is known.
    log.checkpoint().unwrap();
    let last = scratch.logs().pop().unwrap();
    let claims = open(base_of(&last));
    check_sound(&scratch.dir(), &claims, "before the damage");
    let mut reasons = std::collections::HashSet::new();
    for name in scratch.names() {
        let path = scratch.dir().join(&name);
        let sound = std::fs::read(&path).unwrap();
        for bit in 0..8 * sound.len() {
            flip_bit(&path, bit / 8, bit % 8);
            if findings(&scratch.dir(), &claims).is_empty() {
                let reason = is_harmless(&path, bit / 8, &sound, &last);
                reasons.insert(reason.unwrap_or_else(|| panic!("{name}: bit {bit} is not noticed")));
            }
            flip_bit(&path, bit / 8, bit % 8);
        }
    }
    assert_eq!(reasons.len(), 4, "{reasons:?}");
}
