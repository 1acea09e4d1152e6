//! Whole nodes that crash.

use millpond_simulation::{Mutation, Options, simulate, simulate_all};

/// So many seeds are run each time; `make simulate` runs as many as one likes.
const SEEDS: u64 = 10_000;
/// Within so many a mistake is noticed.
const SEEDS_FOR_A_MISTAKE: u64 = 2_000;

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn nothing_acknowledged_or_shown_is_lost_whatever_crashes_when() {
    let (summary, failures) = simulate_all(0..SEEDS, Options::default(), cores(), 3);
    let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n\n"));
    // It was put to the test.
    assert!(
        summary.crashes > 5 * SEEDS
            && summary.acknowledged > 50 * SEEDS
            && summary.commits > 5 * SEEDS
            && summary.markers > 2 * SEEDS
            && summary.compacted > 5 * SEEDS
            && summary.turns > 10 * SEEDS
            && summary.results > 30 * SEEDS,
        "{summary:?}"
    );
}

#[test]
fn every_mistake_is_noticed() {
    for (name, mutation) in Mutation::ALL {
        let options = Options { mutation: Some(mutation), ..Options::default() };
        let (_, failures) = simulate_all(0..SEEDS_FOR_A_MISTAKE, options, cores(), 1);
        assert!(!failures.is_empty(), "{name} was not noticed");
    }
}

#[test]
fn a_seed_makes_the_same_calls_each_time() {
    for seed in 0..50 {
        let run = || simulate(seed, Options::default()).unwrap();
        assert_eq!(run(), run(), "seed {seed}");
    }
}
