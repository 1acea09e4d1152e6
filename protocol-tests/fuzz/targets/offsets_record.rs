//! Records of `__consumer_offsets`, which anyone may write who can open the data folder. Invariant: a coordinator
//! that replays any of them does not panic, and goes on answering.
#![no_main]

use millpond_coordinator::{Coordinator, GroupOptions};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((split, rest)) = bytes.split_first() else { return };
    let split = usize::from(*split).min(rest.len());
    let (key, value) = rest.split_at(split);
    let mut coordinator = Coordinator::new(GroupOptions::default());
    let _ = coordinator.replay(key, Some(value));
    let _ = coordinator.replay(key, None);
    let _ = coordinator.replay(key, Some(value));
    coordinator.loaded(0);
    let _ = coordinator.tick(i64::MAX / 2);
});
