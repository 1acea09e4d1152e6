//! The bytes of one file: what processes see of them, and what the disk has.

use super::Random;

/// What a disk writes as a whole or not at all, in bytes.
const SECTOR_BYTES: usize = 512;

/// A file's bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    /// As processes see them.
    pub(crate) live: Vec<u8>,
    /// As they would be after a power cut that takes all that was not synced.
    durable: Vec<u8>,
    /// What was done since the last sync, oldest first.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    Length(usize),
}

/// What a power cut makes of a file's changes that were not synced.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Lost,
    Kept,
    /// Some of the changes, the next one in part, and none after it.
    Torn,
    /// Any sectors.
    Scattered,
    /// The length, and zeros where the bytes were to be.
    Zeros,
    /// The length, and where the bytes were to be what the disk had there before.
    Garbage,
}

const FATES: [Fate; 6] = [Fate::Lost, Fate::Kept, Fate::Torn, Fate::Scattered, Fate::Zeros, Fate::Garbage];

impl Contents {
    pub(crate) fn write(&mut self, position: usize, bytes: &[u8]) {
        put(&mut self.live, position, bytes);
        self.pending.push(Change::Write { position, bytes: bytes.to_vec() });
    }

    pub(crate) fn set_len(&mut self, len: usize) {
        self.live.resize(len, 0);
        self.pending.push(Change::Length(len));
    }

    pub(crate) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }

    /// A sync that failed: some of the changes are on the disk, and no later sync will bring the others there, though
    /// processes may see them for as long as they are cached (what Linux does, "Can applications recover from fsync
    /// failures?", USENIX ATC 2020).
    pub(crate) fn fail_sync(&mut self, random: &mut Random) {
        for change in std::mem::take(&mut self.pending) {
            if random.coin() {
                apply(&mut self.durable, &change);
            }
        }
    }

    /// What is cached is read from the disk again, unless it waits to be written there.
    pub(crate) fn forget_cached(&mut self) {
        self.live.clone_from(&self.durable);
        for change in &self.pending {
            apply(&mut self.live, change);
        }
    }

    /// The power goes.
    pub(crate) fn cut_power(&mut self, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        let fate = FATES.get(random.index(FATES.len())).copied().unwrap_or(Fate::Lost);
        match fate {
            Fate::Lost => {}
            Fate::Kept => pending.iter().for_each(|change| apply(&mut self.durable, change)),
            Fate::Torn => {
                let whole = random.index(pending.len() + 1);
                pending.iter().take(whole).for_each(|change| apply(&mut self.durable, change));
                if let Some(Change::Write { position, bytes }) = pending.get(whole) {
                    let kept = random.index(bytes.len() + 1);
                    put(&mut self.durable, *position, bytes.get(..kept).unwrap_or_default());
                }
            }
            Fate::Scattered => {
                for change in &pending {
                    match change {
                        Change::Length(_) if random.coin() => apply(&mut self.durable, change),
                        Change::Length(_) => {}
                        Change::Write { position, bytes } => scatter(&mut self.durable, *position, bytes, random),
                    }
                }
            }
            Fate::Zeros | Fate::Garbage => {
                for change in &pending {
                    match change {
                        Change::Length(_) => apply(&mut self.durable, change),
                        Change::Write { position, bytes } => {
                            // Bytes that were there before stay.
                            let begin = self.durable.len().max(*position);
                            let end = position + bytes.len();
                            if end > self.durable.len() {
                                self.durable.resize(end, 0);
                            }
                            if matches!(fate, Fate::Garbage) {
                                let written = self.durable.get_mut(begin..end).unwrap_or_default();
                                written.iter_mut().for_each(|byte| *byte = random.next_u64() as u8);
                            }
                        }
                    }
                }
            }
        }
        self.live.clone_from(&self.durable);
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { position, bytes: written } => put(bytes, *position, written),
        Change::Length(len) => bytes.resize(*len, 0),
    }
}

fn put(bytes: &mut Vec<u8>, position: usize, written: &[u8]) {
    let end = position + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(room) = bytes.get_mut(position..end) {
        room.copy_from_slice(written);
    }
}

/// Writes some of the sectors that `written` lies in.
fn scatter(bytes: &mut Vec<u8>, position: usize, written: &[u8], random: &mut Random) {
    let mut at = 0;
    while at < written.len() {
        let sector_end = (position + at + 1).next_multiple_of(SECTOR_BYTES) - position;
        let end = sector_end.min(written.len());
        if random.coin() {
            put(bytes, position + at, written.get(at..end).unwrap_or_default());
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_every_power_cut_and_the_rest_meets_every_fate() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..2000 {
            let mut contents = Contents::default();
            contents.write(0, &[1; 700]);
            contents.sync();
            contents.write(700, &[2; 1400]);
            contents.cut_power(&mut Random::new(seed));
            assert_eq!(contents.live.get(..700), Some([1; 700].as_slice()));
            let rest = contents.live.split_off(700);
            seen.insert(match rest.as_slice() {
                [] => "lost",
                rest if rest == [2; 1400] => "kept",
                rest if rest.iter().all(|byte| *byte == 2) => "torn",
                rest if rest.iter().all(|byte| *byte == 0) => "zeros",
                rest if rest.iter().all(|byte| [0, 2].contains(byte)) => "scattered",
                _ => "garbage",
            });
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["garbage", "kept", "lost", "scattered", "torn", "zeros"]);
    }

    #[test]
    fn after_a_failed_sync_no_later_one_brings_back_what_was_lost() {
        let lost = (0..100).filter(|seed| {
            let mut contents = Contents::default();
            contents.write(0, b"x");
            contents.fail_sync(&mut Random::new(*seed));
            contents.sync();
            assert_eq!(contents.live, b"x");
            contents.forget_cached();
            contents.live.is_empty()
        });
        assert!((20..80).contains(&lost.count()));
    }
}
