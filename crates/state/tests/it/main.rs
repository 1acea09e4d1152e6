//! The state store on a real disk.

mod simulated;

use millpond_state::{StateBatch, StateError, StateOptions, StateStore};

fn open(dir: &std::path::Path) -> std::sync::Arc<StateStore> {
    StateStore::open(dir, &StateOptions::default()).unwrap()
}

fn batch(puts: &[(u16, &str, &str)], deletes: &[(u16, &str)]) -> StateBatch {
    let mut batch = StateBatch::default();
    for (operator, key, value) in puts {
        batch.put(*operator, key.as_bytes(), value.as_bytes());
    }
    for (operator, key) in deletes {
        batch.delete(*operator, key.as_bytes());
    }
    batch
}

fn scan(state: &millpond_state::QueryState, operator: u16, prefix: &str) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    state.scan(operator, prefix.as_bytes()).map(|e| e.map(|(k, v)| (text(k), text(v))).unwrap()).collect()
}

#[test]
fn a_checkpoint_is_found_again_with_its_step() {
    let dir = tempfile::tempdir().unwrap();
    {
        let state = open(dir.path()).query(7);
        assert_eq!(state.step().unwrap(), None);
        state.commit(batch(&[(1, "a1", "x"), (1, "a2", "y"), (1, "b", "z"), (2, "a1", "other")], &[]), 10).unwrap();
        state.commit(batch(&[(1, "a1", "x2")], &[(1, "a2"), (1, "never there")]), 11).unwrap();
    }
    let state = open(dir.path()).query(7);
    assert_eq!(state.step().unwrap(), Some(11));
    assert_eq!(scan(&state, 1, ""), [("a1".into(), "x2".into()), ("b".into(), "z".into())]);
    assert_eq!(scan(&state, 1, "a"), [("a1".into(), "x2".into())]);
    assert_eq!(state.get(2, b"a1").unwrap().as_deref(), Some(&b"other"[..]));
    assert_eq!(state.get(3, b"a1").unwrap(), None);
}

#[test]
fn queries_do_not_see_each_other_and_are_removed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ids = [0, 7, 8, 255, 256, u64::MAX - 1];
    for id in ids {
        store.query(id).commit(batch(&[(u16::MAX, "key", &id.to_string())], &[]), id).unwrap();
    }
    assert_eq!(store.queries().unwrap(), ids);
    store.query(7).remove().unwrap();
    assert_eq!(store.queries().unwrap(), [0, 8, 255, 256, u64::MAX - 1]);
    assert_eq!(store.query(7).step().unwrap(), None);
    assert_eq!(scan(&store.query(8), u16::MAX, ""), [("key".into(), "8".into())]);
}

#[test]
fn a_store_that_is_damaged_is_named_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    std::fs::write(dir.path().join("CURRENT"), "MANIFEST-of-nowhere\n").unwrap();
    let error = StateStore::open(dir.path(), &StateOptions::default()).unwrap_err();
    assert!(matches!(error, StateError::Open { .. }), "{error:?}");
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    std::fs::write(&file, "").unwrap();
    assert!(StateStore::open(&file.join("state"), &StateOptions::default()).is_err());
}
