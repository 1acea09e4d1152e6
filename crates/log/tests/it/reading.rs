//! Reading by offset and by time, from memory and from files.

use millpond_log::{BatchPiece, LogOptions, ReadError};
use millpond_records::Compression;
use millpond_types::Offset;

use crate::scratch::{NOW, Scratch, append, batch, batch_at, compressed, joined, offsets, read_all};

/// Twenty batches of three records, of which the segments hold a few each.
fn small_segments() -> LogOptions {
    LogOptions { segment_bytes: 2000, index_interval_bytes: 100, retention_ms: -1, ..LogOptions::default() }
}

#[test]
fn what_was_appended_is_read_from_memory_and_from_files_alike() {
    for scratch in [Scratch::with(small_segments()), Scratch::with(small_segments()).without_tail()] {
        let log = scratch.create();
        let mut expected = Vec::new();
        for n in 0..20 {
            let value = vec![n as u8; 100 + n * 50];
            let appended = append(&log, batch(3, &value));
            assert_eq!((appended.base_offset, appended.last_offset), (n as i64 * 3, n as i64 * 3 + 2));
            expected.push((appended.base_offset, appended.last_offset));
        }
        assert!(log.segments().len() > 3);
        for bytes_max in [1, 500, 2000, 1 << 20] {
            let all = read_all(&log, bytes_max);
            assert_eq!(offsets(&all), expected, "{bytes_max}");
            for found in millpond_records::batches(&all) {
                millpond_records::verify_crc(found.unwrap().bytes).unwrap();
            }
        }
    }
}

#[test]
fn a_read_from_the_middle_of_a_batch_starts_with_that_batch() {
    for scratch in [Scratch::new(), Scratch::new().without_tail()] {
        let log = scratch.create();
        for _ in 0..10 {
            append(&log, batch(5, &[7; 2000]));
        }
        for from in 0..50 {
            let fetched = log.read(from, 1, Offset::MAX, true).unwrap();
            let base = from / 5 * 5;
            assert_eq!((fetched.base_offset, fetched.next_offset), (base, base + 5));
            assert_eq!(offsets(&joined(&fetched)), [(base, base + 4)]);
        }
    }
}

#[test]
fn a_first_batch_that_is_too_large_comes_whole_only_when_asked() {
    for scratch in [Scratch::new(), Scratch::new().without_tail()] {
        let log = scratch.create();
        append(&log, batch(1, &[1; 100_000]));
        append(&log, batch(1, &[2; 100]));
        assert!(log.read(0, 1000, Offset::MAX, false).unwrap().is_empty());
        assert!(log.read(0, 0, Offset::MAX, false).unwrap().is_empty());
        assert_eq!(offsets(&joined(&log.read(0, 0, Offset::MAX, true).unwrap())), [(0, 0)]);
        assert_eq!(offsets(&joined(&log.read(0, 1000, Offset::MAX, true).unwrap())), [(0, 0)]);
        assert_eq!(offsets(&joined(&log.read(0, 1 << 20, Offset::MAX, false).unwrap())), [(0, 0), (1, 1)]);
        assert_eq!(offsets(&joined(&log.read(1, 1000, Offset::MAX, false).unwrap())), [(1, 1)]);
    }
}

#[test]
fn nothing_beyond_the_end_that_the_caller_names_is_read() {
    for scratch in [Scratch::new(), Scratch::new().without_tail()] {
        let log = scratch.create();
        for _ in 0..4 {
            append(&log, batch(2, b"v"));
        }
        for (end, expected) in [(0, 0), (1, 0), (2, 1), (5, 2), (8, 4), (100, 4)] {
            let fetched = log.read(0, 1 << 20, end, true).unwrap();
            assert_eq!(offsets(&joined(&fetched)).len(), expected, "end {end}");
        }
        assert!(log.read(8, 1 << 20, Offset::MAX, true).unwrap().is_empty());
        for outside in [-1, 9] {
            let error = log.read(outside, 1, Offset::MAX, true).unwrap_err();
            assert!(matches!(error, ReadError::OutOfRange { log_start: 0, log_end: 8, .. }), "{error}");
        }
    }
}

#[test]
fn small_batches_in_memory_come_in_few_pieces_and_large_ones_as_they_are() {
    let scratch = Scratch::new();
    let log = scratch.create();
    for _ in 0..50 {
        append(&log, batch(1, b"small"));
    }
    append(&log, batch(1, &[1; 5000]));
    append(&log, batch(1, b"small"));
    let fetched = log.read(0, 1 << 20, Offset::MAX, true).unwrap();
    assert_eq!(fetched.chunks.len(), 3);
    assert_eq!(offsets(&joined(&fetched)).len(), 52);
}

#[test]
fn what_is_found_in_place_is_what_is_read() {
    let mut scratch = Scratch::with(LogOptions { segment_bytes: 200_000, retention_ms: -1, ..LogOptions::default() });
    scratch.options.tail_bytes_max = 60_000;
    let log = scratch.create();
    let sizes = [20_000, 20_000, 30_000, 100, 100, 50_000, 9_000, 100, 8_000, 70_000, 12_000, 12_000, 100, 40_000, 100];
    for size in sizes.iter().cycle().take(40) {
        append(&log, batch(2, &vec![7; size / 2]));
    }
    let mut in_place = 0;
    for from in 0..80 {
        for (bytes_max, end) in
            [(0, 80), (1, 80), (25_000, 80), (100_000, 80), (100_000, 31), (10 << 20, 80), (10 << 20, 60)]
        {
            for whole_first in [true, false] {
                let read = log.read(from, bytes_max, end, whole_first).unwrap();
                let found = log.find(from, bytes_max, end, whole_first).unwrap();
                let is_file = |piece: &&BatchPiece| matches!(piece, BatchPiece::File(_));
                in_place += found.pieces.iter().filter(is_file).map(BatchPiece::len).sum::<usize>();
                let bytes: Vec<u8> = found.pieces.into_iter().flat_map(|piece| piece.read().unwrap()).collect();
                assert_eq!(bytes.len(), found.len);
                let (read, found) = (offsets(&joined(&read)), offsets(&bytes));
                // How many pieces it takes may differ, what they hold may not.
                assert_eq!(read.first(), found.first(), "from {from} {bytes_max} {end} {whole_first}");
                assert!(read.starts_with(&found) || found.starts_with(&read), "{read:?} {found:?}");
                if bytes_max < 10 << 20 {
                    assert_eq!(read, found, "from {from} {bytes_max} {end} {whole_first}");
                }
            }
        }
    }
    assert!(in_place > 10_000_000, "{in_place} bytes were left in place");
}

#[test]
fn small_batches_between_large_ones_do_not_make_answers_small() {
    let mut scratch = Scratch::with(LogOptions { retention_ms: -1, ..LogOptions::default() });
    scratch.options.tail_bytes_max = 0;
    let log = scratch.create();
    for _ in 0..200 {
        append(&log, batch(1, &[7; 9_000]));
        append(&log, batch(1, &[7; 100]));
    }
    for bytes_max in [50_000, 500_000, 1 << 20] {
        let (read, found) = (log.read(0, bytes_max, 400, true).unwrap(), log.find(0, bytes_max, 400, true).unwrap());
        assert_eq!(read.len, found.len, "of {bytes_max} bytes");
    }
}

#[test]
fn a_read_goes_on_from_the_file_into_memory() {
    let mut scratch = Scratch::with(small_segments());
    scratch.options.tail_bytes_max = 1500;
    let log = scratch.create();
    for _ in 0..30 {
        append(&log, batch(1, &[1; 400]));
    }
    let fetched = log.read(0, 1 << 20, Offset::MAX, true).unwrap();
    assert_eq!(fetched.next_offset, 30, "read across segments and into the tail in one go");
}

#[test]
fn tails_share_the_nodes_budget_and_give_it_back() {
    let mut scratch = Scratch::new();
    scratch.budget = millpond_log::LogBudget::new(100_000);
    let mut second = Scratch::new();
    second.budget = scratch.budget.clone();
    let (one, two) = (scratch.create(), second.create());
    for _ in 0..40 {
        append(&one, batch(1, &[1; 5000]));
    }
    assert!((80_000..=100_000).contains(&scratch.budget.tail_bytes()), "{}", scratch.budget.tail_bytes());
    // The first one is idle now; the second one still gets its share.
    for _ in 0..40 {
        append(&two, batch(1, &[1; 5000]));
        assert!(scratch.budget.tail_bytes() <= 100_000);
    }
    drop(one);
    let used = scratch.budget.tail_bytes();
    assert!((40_000..=60_000).contains(&used), "half of it is the second one's: {used}");
    drop(two);
    assert_eq!(scratch.budget.tail_bytes(), 0);
}

#[test]
fn times_lead_to_the_first_record_that_is_not_older() {
    for compression in Compression::ALL {
        let scratch = Scratch::with(small_segments());
        let log = scratch.create();
        // Batches of three records, 10 ms apart; record n of batch b has NOW + 10 b + n.
        for b in 0..40 {
            append(&log, compressed(compression, NOW + 10 * b, 3, &[9; 80]));
        }
        for b in 0..40 {
            for (after, record) in [(0, 0), (1, 1), (2, 2), (-3, 0)] {
                let found = log.offset_for_timestamp(NOW + 10 * b + after, Offset::MAX).unwrap();
                assert_eq!(found, Some((3 * b + record, NOW + 10 * b + record)), "{compression} {b} {after}");
            }
        }
        assert_eq!(log.offset_for_timestamp(NOW + 393, Offset::MAX).unwrap(), None);
        assert_eq!(log.offset_for_timestamp(NOW + 50, 15).unwrap(), None, "the record at 15 is not visible");
        assert_eq!(log.max_timestamp(Offset::MAX).unwrap(), Some((119, NOW + 392)));
        assert_eq!(log.max_timestamp(60).unwrap(), Some((59, NOW + 192)));
        assert_eq!(log.max_timestamp(0).unwrap(), None);
        log.advance_log_start(61).unwrap();
        assert_eq!(log.offset_for_timestamp(0, Offset::MAX).unwrap(), Some((61, NOW + 201)));
    }
}

#[test]
fn the_largest_timestamp_is_found_where_it_is_also_when_times_run_backwards() {
    let scratch = Scratch::with(small_segments());
    let log = scratch.create();
    for b in 0..40 {
        append(&log, batch_at(NOW - 10 * (b - 13) * (b - 13), 3, &[9; 80]));
    }
    assert_eq!(log.max_timestamp(Offset::MAX).unwrap(), Some((41, NOW + 2)));
    assert_eq!(log.max_timestamp(39).unwrap(), Some((38, NOW - 8)));
    assert_eq!(log.offset_for_timestamp(NOW + 2, Offset::MAX).unwrap(), Some((41, NOW + 2)));
    let image = scratch.crash_image();
    let reopened = image.open_crashed(0).0;
    assert_eq!(reopened.max_timestamp(Offset::MAX).unwrap(), Some((41, NOW + 2)));
}

#[test]
fn records_without_timestamps_have_no_largest_one() {
    let scratch = Scratch::new();
    let log = scratch.create();
    append(&log, batch_at(-1, 1, b"v"));
    assert_eq!(log.max_timestamp(Offset::MAX).unwrap(), None);
    assert_eq!(log.offset_for_timestamp(0, Offset::MAX).unwrap(), None);
}

#[test]
fn a_batch_that_cannot_be_decompressed_is_found_as_a_whole() {
    let scratch = Scratch::new();
    let log = scratch.create();
    let mut garbage = batch_at(NOW, 4, b"value");
    // Attributes that say gzip, and a CRC that agrees: a client can send this.
    garbage[22] |= 1;
    let crc = millpond_records::crc32c(&garbage[21..]);
    garbage[17..21].copy_from_slice(&crc.to_be_bytes());
    append(&log, garbage);
    assert_eq!(log.offset_for_timestamp(NOW + 1, Offset::MAX).unwrap(), Some((0, NOW + 3)));
}
