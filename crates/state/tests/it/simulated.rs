//! The store on a simulated disk keeps the promises that queries rely on.

use millpond_disk::{Crash, Faults, Operation, Permit, Random, SimulatedDisk};
use millpond_state::{StateBatch, StateOptions, StateStore};

const QUERIES: u64 = 2;

/// A batch that says everywhere which step it is of.
fn batch(step: u64) -> StateBatch {
    let mut batch = StateBatch::default();
    for operator in 1..3 {
        batch.put(operator, b"fixed", &step.to_le_bytes());
        batch.put(operator, &(step % 7).to_be_bytes(), &vec![step as u8; 300]);
        batch.delete(operator, &((step + 3) % 7).to_be_bytes());
    }
    batch
}

/// What is there of a query after so many steps.
fn expected(steps: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = std::collections::BTreeMap::new();
    for step in 1..=steps {
        entries.insert(b"fixed".to_vec(), step.to_le_bytes().to_vec());
        entries.insert((step % 7).to_be_bytes().to_vec(), vec![step as u8; 300]);
        entries.remove(((step + 3) % 7).to_be_bytes().as_slice());
    }
    entries.into_iter().collect()
}

/// Commits until the disk goes off, again and again; says whether a step was lost that had been acknowledged or shown, or
/// what was found was not the state after a step.
fn loses(seed: u64, leave_syncs_out: bool) -> bool {
    let mut random = Random::new(seed);
    let disk = SimulatedDisk::new(random.next_u64());
    disk.set_faults(Faults { interrupted: 10_000, short: 50_000, ..Faults::default() });
    if leave_syncs_out {
        disk.watch(|operation, _| if operation == Operation::Sync { Permit::Pretend } else { Permit::Do });
    }
    let dir = disk.root().join("state");
    let mut acknowledged = [0; QUERIES as usize];
    for _ in 0..20 {
        disk.go_off_after(random.below(120));
        if let Ok(store) = StateStore::open(&dir, &StateOptions::default()) {
            for id in 0..QUERIES {
                let state = store.query(id);
                let found = state.step().unwrap().unwrap_or(0);
                let whole = (1..3).all(|operator| {
                    state.scan(operator, &[]).collect::<Result<Vec<_>, _>>().unwrap() == expected(found)
                });
                if !whole || found < acknowledged[id as usize] {
                    return true;
                }
                acknowledged[id as usize] = found;
            }
            loop {
                let id = random.below(QUERIES);
                let step = acknowledged[id as usize] + 1;
                if store.query(id).commit(batch(step), step).is_err() {
                    break;
                }
                acknowledged[id as usize] = step;
            }
            let refused = store.query(0).commit(batch(0), 0);
            assert!(refused.is_err(), "after a write that failed there is none that does not");
        }
        disk.restart(if random.coin() { Crash::PowerCut } else { Crash::Kill });
    }
    false
}

#[test]
fn what_was_acknowledged_or_found_stays_and_is_whole_whatever_crashes_when() {
    assert!((0..300).all(|seed| !loses(seed, false)));
}

#[test]
fn a_store_that_does_not_sync_loses() {
    assert!((0..10).any(|seed| loses(seed, true)));
}

#[test]
fn queries_are_found_and_removed_as_in_rocksdb() {
    let disk = SimulatedDisk::new(1);
    let store = StateStore::open(&disk.root().join("state"), &StateOptions::default()).unwrap();
    for id in [0, 7, 8, u64::MAX - 1] {
        store.query(id).commit(batch(1), 1).unwrap();
    }
    store.query(7).remove().unwrap();
    assert_eq!(store.queries().unwrap(), [0, 8, u64::MAX - 1]);
    drop(store);
    let store = StateStore::open(&disk.root().join("state"), &StateOptions::default()).unwrap();
    assert_eq!(store.queries().unwrap(), [0, 8, u64::MAX - 1]);
    assert_eq!((store.query(7).step().unwrap(), store.query(8).step().unwrap()), (None, Some(1)));
}
