//! What is different in a bucket: its lock, several requests at a time, and a server that fails.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{FutureExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, ObjectMeta, ObjectStoreExt};

use super::faulty::{Fault, Faulty};
use super::*;
use crate::{LOCK_OBJECT, PIECES_IN_FLIGHT, RETRIES_MAX};

/// Of the store in memory, which never waits.
fn block_on<T>(what: impl Future<Output = T>) -> T {
    what.now_or_never().unwrap()
}

fn key(name: &str) -> ObjectPath {
    ObjectPath::parse(format!("the/backup/{name}")).unwrap()
}

fn get(store: &dyn ObjectStore, name: &str) -> Option<Vec<u8>> {
    block_on(async {
        Some(store.get_opts(&key(name), GetOptions::default()).await.ok()?.bytes().await.unwrap().to_vec())
    })
}

fn put(store: &InMemory, name: &str, bytes: &[u8]) {
    block_on(store.put(&key(name), bytes.to_vec().into())).unwrap();
}

/// The names of all objects.
fn names(store: &dyn ObjectStore) -> Vec<String> {
    let listed: Vec<ObjectMeta> = block_on(store.list(None).try_collect()).unwrap();
    listed.iter().map(|object| object.location.as_ref().strip_prefix("the/backup/").unwrap().to_owned()).collect()
}

fn faulty() -> (Arc<Faulty>, Place) {
    let store = Arc::new(Faulty::new());
    let place = Place::with(Some(Arc::clone(&store) as Arc<dyn ObjectStore>));
    (store, place)
}

#[test]
fn several_pieces_are_under_way_and_never_more_than_the_bound() {
    let (store, place) = faulty();
    for number in 0..40 {
        place.write(&format!("t-0/{number}"), &noise(100 + number, 100));
    }
    place.backup().take(&place.data(), 1).unwrap();
    assert_eq!(store.most.swap(0, Ordering::Relaxed), PIECES_IN_FLIGHT);
    assert_eq!(place.restore(None).unwrap(), contents(&place.data()));
    assert_eq!(store.most.swap(0, Ordering::Relaxed), PIECES_IN_FLIGHT);
    place.backup().verify(None).unwrap();
    assert_eq!(store.most.load(Ordering::Relaxed), PIECES_IN_FLIGHT);
    assert!(!names(&*store).contains(&LOCK_OBJECT.to_owned()));
}

#[test]
fn a_folder_copied_into_a_bucket_is_the_same_backup_and_the_other_way_round() {
    let folder = Place::new();
    folder.backup().take(&folder.data(), 1).unwrap();
    let store = Arc::new(InMemory::new());
    let mut dirs = vec![folder.folder()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder.folder()).unwrap().to_str().unwrap();
            if path.is_dir() { dirs.push(path) } else { put(&store, name, &fs::read(&path).unwrap()) }
        }
    }
    assert!(names(&*store).contains(&".lock".to_owned()), "it comes along, and means nothing");
    let bucket = Place::with(Some(store.clone()));
    fs::remove_dir_all(bucket.data()).unwrap();
    bucket.backup().restore(None, &bucket.data()).unwrap();
    assert_eq!(contents(&bucket.data()), contents(&folder.data()));
    bucket.write("meta.properties", b"version=2\n");
    let taken = bucket.backup().take(&bucket.data(), 2).unwrap();
    assert_eq!((taken.generation, taken.bytes_copied), (2, 10));
    // And back.
    fs::remove_dir_all(folder.folder()).unwrap();
    for name in names(&*store) {
        let path = folder.folder().join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, get(&*store, &name).unwrap()).unwrap();
    }
    assert_eq!(folder.restore(Some(2)).unwrap(), contents(&bucket.data()));
    assert_eq!(folder.restore(Some(1)).unwrap(), contents(&folder.data()));
    assert_eq!(folder.backup().take(&bucket.data(), 3).unwrap().bytes_copied, 0);
}

#[test]
fn damage_is_named_and_what_is_short_or_missing_is_written_again() {
    let store = Arc::new(InMemory::new());
    let place = Place::with(Some(store.clone()));
    place.backup().take(&place.data(), 1).unwrap();
    let name = PieceId::of(&noise(2, 1000)).place_name();
    let sound = get(&*store, &name).unwrap();
    let flipped = [&[sound[0] ^ 1], &sound[1..]].concat();
    for (damaged, what) in [
        (Some(&flipped[..]), "has other bytes than were written"),
        (Some(&sound[1..]), "has 999 bytes instead of 1000"),
        (Some(&[&flipped[..], b"x"].concat()[..]), "has 1001 bytes instead of 1000"),
        (None, "is missing"),
    ] {
        match damaged {
            Some(bytes) => put(&store, &name, bytes),
            None => block_on(store.delete(&key(&name))).unwrap(),
        }
        let error = place.restore(None).unwrap_err();
        assert!(matches!(error, BackupError::Piece { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("s3://pond/the/backup/{name}, {what}")), "{text}");
        assert!(text.contains("streams-state/000004.sst"), "{text}");
        assert!(!place.dir.path().join("restored").exists());
        place.backup().verify(None).unwrap_err();
        // An object with the right length is believed until it is read.
        let is_right_length = damaged.is_some_and(|bytes| bytes.len() == sound.len());
        let copied = place.backup().take(&place.data(), 2).unwrap().bytes_copied;
        assert_eq!(copied, if is_right_length { 0 } else { 1000 });
        assert_eq!(place.backup().verify(Some(1)).is_ok(), !is_right_length);
    }
}

#[test]
fn pruning_removes_what_only_old_generations_had_and_what_killed_backups_left() {
    let store = Arc::new(InMemory::new());
    let place = Place::with(Some(store.clone()));
    place.backup().take(&place.data(), 1).unwrap();
    place.write("streams-state/000004.sst", &noise(5, 500));
    place.backup().take(&place.data(), 2).unwrap();
    put(&store, &PieceId::of(b"left").place_name(), b"left");
    put(&store, "pieces/of/another-kind", b"not ours");
    assert_eq!(place.backup().prune(2).unwrap(), Pruned { generations: 0, bytes: 4 });
    assert_eq!(place.backup().prune(1).unwrap(), Pruned { generations: 1, bytes: 1000 });
    assert_eq!(place.restore(None).unwrap(), contents(&place.data()));
    assert!(matches!(place.restore(Some(1)), Err(BackupError::NoGeneration { .. })));
    assert!(get(&*store, "pieces/of/another-kind").is_some());
    assert_eq!(place.backup().take(&place.data(), 3).unwrap().generation, 3);
}

#[test]
fn a_damaged_manifest_keeps_everything() {
    let store = Arc::new(InMemory::new());
    let place = Place::with(Some(store.clone()));
    for made_ms in 1..=3 {
        place.backup().take(&place.data(), made_ms).unwrap();
    }
    put(&store, &manifest_name(2), b"{}\n");
    let before = names(&*store);
    let error = place.backup().prune(2).unwrap_err().to_string();
    assert!(error.contains("s3://pond/the/backup/generations/000000000002.manifest is damaged"), "{error}");
    assert_eq!(names(&*store), before);
    let sound: Vec<bool> = place.backup().generations().unwrap().iter().map(Result::is_ok).collect();
    assert_eq!(sound, [true, false, true]);
}

#[test]
fn a_lock_that_was_left_is_told_of_and_only_that_one_is_broken() {
    let store = Arc::new(InMemory::new());
    let place = Place::with(Some(store.clone()));
    let backup = place.backup();
    backup.take(&place.data(), 1).unwrap();
    assert_eq!(backup.break_lock("any").unwrap(), None);
    // As a killed process leaves it.
    std::mem::forget(backup.lock().unwrap());
    let other = place.backup();
    let BackupError::Locked { holder, id, .. } = other.take(&place.data(), 2).unwrap_err() else { panic!() };
    assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
    let text = other.prune(1).unwrap_err().to_string();
    assert!(text.ends_with(&format!("millpond backup s3://pond/the/backup --break-lock {id}")), "{text}");
    // Who reads needs none.
    other.verify(None).unwrap();
    assert!(matches!(other.break_lock("another"), Err(BackupError::Locked { .. })));
    assert!(other.break_lock(&id).unwrap().unwrap().starts_with(&holder));
    assert_eq!(other.take(&place.data(), 3).unwrap().generation, 2);
    // One that says nothing can be broken, too.
    put(&store, LOCK_OBJECT, b"?");
    let BackupError::Locked { holder, id, .. } = other.prune(1).unwrap_err() else { panic!() };
    assert!(holder.contains("somebody"), "{holder}");
    other.break_lock(&id).unwrap();
    other.prune(1).unwrap();
}

#[test]
fn who_has_lost_the_lock_adds_and_removes_nothing() {
    let (store, place) = faulty();
    place.backup().take(&place.data(), 1).unwrap();
    place.write("streams-state/000004.sst", &noise(5, 500));
    let breaks_at = |name: &'static str| {
        store.on(move |inner, _, at| {
            if at.contains(name) {
                put(inner, LOCK_OBJECT, b"another's");
            }
            None
        });
    };
    breaks_at("/pieces/");
    assert!(matches!(place.backup().take(&place.data(), 2), Err(BackupError::LockBroken { .. })));
    assert_eq!(get(&*store.inner, LOCK_OBJECT).unwrap(), b"another's", "it is not ours to remove");
    *store.hook.lock() = None;
    assert_eq!(place.backup().numbers().unwrap(), [1]);
    block_on(store.inner.delete(&key(LOCK_OBJECT))).unwrap();
    place.backup().take(&place.data(), 3).unwrap();
    let before = names(&*store.inner);
    breaks_at("/generations/");
    assert!(matches!(place.backup().prune(1), Err(BackupError::LockBroken { .. })));
    *store.hook.lock() = None;
    block_on(store.inner.delete(&key(LOCK_OBJECT))).unwrap();
    assert_eq!(names(&*store.inner), before);
    // Without looking at the lock, too, no generation is written over another.
    store.on(|inner, what, at| {
        if what == "put" && at.contains("/generations/") {
            put(inner, &manifest_name(3), b"another's");
        }
        None
    });
    assert!(matches!(place.backup().take(&place.data(), 4), Err(BackupError::LockBroken { .. })));
    assert_eq!(get(&*store.inner, &manifest_name(3)).unwrap(), b"another's");
}

#[test]
fn a_server_without_conditions_is_refused() {
    let store: Arc<dyn ObjectStore> = Arc::new(Faulty { takes_second: true, ..Faulty::new() });
    let place = Place::with(Some(Arc::clone(&store)));
    let error = place.backup().take(&place.data(), 1).unwrap_err();
    assert!(matches!(error, BackupError::NoConditions { .. }), "{error}");
    assert_eq!(names(&*store), ["millpond-backup"]);
}

#[test]
fn a_request_that_fails_leaves_what_was_there_and_the_next_backup_works() {
    let (store, place) = faulty();
    place.backup().take(&place.data(), 1).unwrap();
    let before = contents(&place.data());
    for number in 0..20 {
        place.write(&format!("t-0/{number}"), &noise(100 + number, 100));
    }
    let count = AtomicUsize::new(0);
    store.on(move |_, what, at| {
        let is_tenth = what == "put" && at.contains("/pieces/") && count.fetch_add(1, Ordering::Relaxed) == 9;
        is_tenth.then_some(Fault::Refused)
    });
    let error = place.backup().take(&place.data(), 2).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot write s3://pond/the/backup/pieces/") && error.contains("503: SlowDown"),
        "{error}"
    );
    assert!(!names(&*store).contains(&LOCK_OBJECT.to_owned()), "the lock is given back");
    assert_eq!(place.backup().numbers().unwrap(), [1]);
    store.on(|_, what, at| (what == "put" && at.contains("/generations/")).then_some(Fault::Refused));
    place.backup().take(&place.data(), 3).unwrap_err();
    assert_eq!(place.backup().numbers().unwrap(), [1]);
    assert_eq!(place.restore(None).unwrap(), before);
    *store.hook.lock() = None;
    let taken = place.backup().take(&place.data(), 4).unwrap();
    assert_eq!(
        (taken.generation, taken.bytes_copied),
        (2, 0),
        "what came there before the failure is not copied again"
    );
}

#[test]
fn an_answer_that_is_lost_is_no_failure() {
    let (store, place) = faulty();
    let backup = place.backup();
    store.on(|_, what, at| {
        // The lock is put twice: the second time is the question whether the server refuses it.
        let is_first_lock = at.ends_with(LOCK_OBJECT) && what == "put";
        (what == "put" && (at.contains("/generations/") || is_first_lock)).then_some(Fault::Lost)
    });
    let error = backup.take(&place.data(), 1).unwrap_err();
    assert!(matches!(error, BackupError::Bucket { .. }), "the question has no answer: {error}");
    store.on(|_, what, at| (what == "put" && at.contains("/generations/")).then_some(Fault::Lost));
    assert_eq!(backup.take(&place.data(), 1).unwrap().generation, 1);
    assert_eq!(place.restore(None).unwrap(), contents(&place.data()));
}

#[test]
fn a_generation_that_goes_while_it_is_read_is_no_damage() {
    let (store, place) = faulty();
    place.backup().take(&place.data(), 1).unwrap();
    place.write("streams-state/000004.sst", &noise(5, 500));
    place.backup().take(&place.data(), 2).unwrap();
    let old = PieceId::of(&noise(2, 1000)).place_name();
    let removed = old.clone();
    store.on(move |inner, what, at| {
        if what == "get" && at.ends_with(&removed) {
            for name in [&manifest_name(1), &removed] {
                let _ = block_on(inner.delete(&key(name)));
            }
        }
        None
    });
    let checked = place.backup().verify_all().unwrap();
    assert!(matches!(checked.as_slice(), [Checked { number: 2, outcome: Ok(_) }]), "{checked:?}");
    put(&store.inner, &manifest_name(1), &place.backup().manifest(2).unwrap().encode());
    put(&store.inner, &old, &noise(2, 1000));
    store.on(|inner, what, at| {
        if what == "get" && at.contains("/pieces/") {
            let _ = block_on(inner.delete(&key(&manifest_name(1))));
            let _ = block_on(inner.delete(&key(&PieceId::of(&noise(5, 500)).place_name())));
        }
        None
    });
    assert!(matches!(place.restore(Some(1)), Err(BackupError::Removed { generation: 1, .. })));
}

#[test]
fn what_is_something_else_is_left_alone() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    assert!(matches!(Backup::in_place(in_bucket(&store)), Err(BackupError::NoBackup { .. })));
    block_on(store.put(&key("photograph"), "x".into())).unwrap();
    assert!(matches!(Backup::make_in(in_bucket(&store)), Err(BackupError::NotABackup { .. })));
    assert_eq!(names(&*store), ["photograph"]);
    block_on(store.put(&key("millpond-backup"), "format=2\n".into())).unwrap();
    assert!(matches!(Backup::make_in(in_bucket(&store)), Err(BackupError::NewerFormat { .. })));
    block_on(store.put(&key("millpond-backup"), vec![b'x'; 2000].into())).unwrap();
    assert!(matches!(Backup::make_in(in_bucket(&store)), Err(BackupError::NewerFormat { .. })));
    // Beside it, another backup may lie.
    let beside = Bucket::with_store("s3://pond/the", "http://memory", "the/back", store).unwrap();
    Backup::make_in(place::Place::Bucket(Box::new(beside))).unwrap();
}

/// A server that gives every request the same answer, and how many there were.
fn server(status: &str, body: &str) -> (String, Arc<AtomicUsize>) {
    let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 8192]);
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    (address, requests)
}

fn open_at(endpoint: &str) -> BackupError {
    let value = |name: &str| match name {
        "AWS_ENDPOINT_URL" => Some(endpoint.to_owned()),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("key".to_owned()),
        _ => None,
    };
    Backup::open(&Location::parse("s3://pond/backup".as_ref(), &value).unwrap()).unwrap_err()
}

#[test]
fn a_server_that_refuses_is_asked_once_and_one_that_cannot_is_asked_again_up_to_the_bound() {
    let body = "<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>";
    let (address, requests) = server("403 Forbidden", body);
    let text = open_at(&address).to_string();
    assert!(
        text.contains(&format!("{address} refuses with 403: InvalidAccessKeyId, no such key. Check AWS_ACC")),
        "{text}"
    );
    assert_eq!(requests.load(Ordering::Relaxed), 1);
    let (address, requests) = server("503 Slow Down", "<Error><Code>SlowDown</Code></Error>");
    let text = open_at(&address).to_string();
    assert!(text.contains("refuses with 503: SlowDown. Do it again later"), "{text}");
    assert_eq!(requests.load(Ordering::Relaxed), RETRIES_MAX + 1);
}

#[test]
fn nobody_is_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = open_at(&format!("http://{nobody}")).to_string();
    let start = format!(
        "cannot read s3://pond/backup/millpond-backup: no answer from http://{nobody}, asked {RETRIES_MAX} times again: "
    );
    assert!(text.starts_with(&start) && text.contains("Connection refused"), "{text}");
    assert!(text.contains("Check AWS_ENDPOINT_URL"), "{text}");
}
