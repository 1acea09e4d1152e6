//! Of a log that is sound nothing is found, and its figures are right.

use super::*;

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
