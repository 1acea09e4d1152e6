//! What a backup promises, of real folders; in a folder, and in a bucket in memory.

mod bucket;
mod faulty;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use tempfile::TempDir;

use crate::backup::manifest_name;
use crate::pieces::{PIECE_BYTES, PieceId};
use crate::place::{self, Bucket};
use crate::{Backup, BackupError, Checked, FrozenFile, Location, Pruned};

struct Place {
    dir: TempDir,
    /// Where the backup is, if it is not in a folder.
    bucket: Option<Arc<dyn ObjectStore>>,
}

impl Place {
    fn new() -> Place {
        Place::with(None)
    }

    fn both() -> [Place; 2] {
        [Place::new(), Place::with(Some(Arc::new(InMemory::new())))]
    }

    /// A folder that looks like a node's.
    fn with(bucket: Option<Arc<dyn ObjectStore>>) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap(), bucket };
        fs::create_dir_all(place.data().join("t-0")).unwrap();
        fs::create_dir_all(place.data().join("streams-state/empty")).unwrap();
        place.write("meta.properties", b"version=1\n");
        place.write("t-0/00000000000000000000.log", &noise(1, PIECE_BYTES * 2 + 17));
        place.write("t-0/00000000000000000000.index", b"");
        place.write("streams-state/000004.sst", &noise(2, 1000));
        place
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.data().join(name), bytes).unwrap();
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("backup")
    }

    fn backup(&self) -> Backup {
        match &self.bucket {
            None => Backup::open_or_create(&Location::Folder(self.folder())).unwrap(),
            Some(store) => Backup::make_in(in_bucket(store)).unwrap(),
        }
    }

    fn restore(&self, generation: Option<u64>) -> Result<BTreeMap<String, Vec<u8>>, BackupError> {
        let target = self.dir.path().join("restored");
        let _ = fs::remove_dir_all(&target);
        self.backup().restore(generation, &target)?;
        Ok(contents(&target))
    }

    fn a_piece_of(&self, name: &str) -> PathBuf {
        let manifest = self.backup().manifest(1).unwrap();
        let file = manifest.files.iter().find(|file| file.path == name).unwrap();
        self.folder().join(file.pieces.last().unwrap().place_name())
    }
}

fn in_bucket(store: &Arc<dyn ObjectStore>) -> place::Place {
    let bucket = Bucket::with_store("s3://pond/the/backup", "http://memory", "the/backup", Arc::clone(store));
    place::Place::Bucket(Box::new(bucket.unwrap()))
}

fn open(path: &Path) -> Result<Backup, BackupError> {
    Backup::open(&Location::Folder(path.to_owned()))
}

fn open_or_create(path: &Path) -> Result<Backup, BackupError> {
    Backup::open_or_create(&Location::Folder(path.to_owned()))
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// All files below a folder, and its folders with a stroke behind their names.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                found.insert(name + "/", Vec::new());
                dirs.push(path);
            } else {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found.remove(".lock");
    found
}

#[test]
fn what_was_there_comes_back_but_for_the_marker_of_a_clean_stop() {
    for place in Place::both() {
        let before = contents(&place.data());
        place.write(".kafka_cleanshutdown", b"{}");
        let taken = place.backup().take(&place.data(), 7).unwrap();
        assert_eq!((taken.generation, taken.files), (1, 4));
        assert_eq!(taken.bytes, (PIECE_BYTES * 2 + 17 + 1000 + 10) as u64);
        assert_eq!(taken.bytes_copied, taken.bytes);
        assert_eq!(place.restore(None).unwrap(), before);
        assert_eq!(place.backup().verify(None).unwrap().bytes, taken.bytes);
    }
}

#[test]
fn a_log_that_grew_shares_its_old_pieces_and_each_generation_stays_what_it_was() {
    for place in Place::both() {
        let first = contents(&place.data());
        place.backup().take(&place.data(), 1).unwrap();
        let again = place.backup().take(&place.data(), 2).unwrap();
        assert_eq!((again.generation, again.bytes_copied), (2, 0));
        let mut log = noise(1, PIECE_BYTES * 2 + 17);
        log.extend(noise(3, 100));
        place.write("t-0/00000000000000000000.log", &log);
        let grown = place.backup().take(&place.data(), 3).unwrap();
        assert_eq!(grown.bytes_copied, 117, "the last piece, and nothing else");
        assert_eq!(place.restore(Some(1)).unwrap(), first);
        assert_eq!(place.restore(Some(3)).unwrap(), contents(&place.data()));
        let listed: Vec<_> = place.backup().generations().unwrap().into_iter().map(|one| one.unwrap().number).collect();
        assert_eq!(listed, [1, 2, 3]);
    }
}

#[test]
fn other_bytes_under_the_same_name_length_and_time_are_seen() {
    for place in Place::both() {
        place.backup().take(&place.data(), 1).unwrap();
        let path = place.data().join("streams-state/000004.sst");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, noise(9, 1000)).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(place.backup().take(&place.data(), 2).unwrap().bytes_copied, 1000);
        assert_eq!(place.restore(None).unwrap()["streams-state/000004.sst"], noise(9, 1000));
    }
}

#[test]
fn one_damaged_byte_is_found_and_nothing_is_restored() {
    let place = Place::new();
    place.backup().take(&place.data(), 1).unwrap();
    let piece = place.a_piece_of("t-0/00000000000000000000.log");
    let sound = fs::read(&piece).unwrap();
    for damaged in [Some([&[sound[0] ^ 1], &sound[1..]].concat()), Some(sound[1..].to_vec()), None] {
        match &damaged {
            Some(bytes) => fs::write(&piece, bytes).unwrap(),
            None => fs::remove_file(&piece).unwrap(),
        }
        let error = place.restore(None).unwrap_err();
        let BackupError::Piece { file, position, .. } = &error else { panic!("{error}") };
        assert_eq!((file.to_str(), *position), (Some("t-0/00000000000000000000.log"), PIECE_BYTES as u64 * 2));
        assert!(!place.dir.path().join("restored").exists());
        assert!(!place.dir.path().join("restored.restoring").exists());
        assert!(place.backup().verify(None).is_err());
        let all = place.backup().verify_all().unwrap();
        assert!(matches!(all.as_slice(), [Checked { number: 1, outcome: Err(BackupError::Piece { .. }) }]));
    }
    // The data folder still has what the backup lost.
    assert_eq!(place.backup().take(&place.data(), 2).unwrap().bytes_copied, 17);
    assert_eq!(place.restore(Some(1)).unwrap(), contents(&place.data()));
}

#[test]
fn a_damaged_manifest_takes_no_other_generation_with_it() {
    let place = Place::new();
    for made_ms in 1..=3 {
        place.backup().take(&place.data(), made_ms).unwrap();
    }
    let path = place.folder().join(manifest_name(2));
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(place.restore(Some(2)), Err(BackupError::Manifest { .. })));
    place.restore(Some(1)).unwrap();
    place.restore(None).unwrap();
    let sound: Vec<bool> = place.backup().generations().unwrap().iter().map(Result::is_ok).collect();
    assert_eq!(sound, [true, false, true]);
    let before = contents(&place.dir.path().join("backup"));
    place.backup().prune(2).unwrap_err();
    assert_eq!(contents(&place.dir.path().join("backup")), before, "what a manifest needs is not known");
    assert_eq!(place.backup().prune(1).unwrap().generations, 2);
}

#[test]
fn pruning_removes_what_only_old_generations_had() {
    let place = Place::new();
    place.backup().take(&place.data(), 1).unwrap();
    place.write("streams-state/000004.sst", &noise(5, 500));
    place.backup().take(&place.data(), 2).unwrap();
    // A backup that was killed leaves pieces, and half of one.
    let left = place.folder().join(PieceId::of(b"left").place_name());
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::write(&left, b"left").unwrap();
    fs::write(left.with_extension("tmp"), b"le").unwrap();
    assert_eq!(place.backup().prune(2).unwrap(), Pruned { generations: 0, bytes: 6 });
    assert_eq!(place.backup().prune(1).unwrap(), Pruned { generations: 1, bytes: 1000 });
    assert_eq!(place.restore(None).unwrap(), contents(&place.data()));
    assert!(matches!(place.restore(Some(1)), Err(BackupError::NoGeneration { .. })));
    assert_eq!(place.backup().prune(0).unwrap(), Pruned::default(), "the last one stays");
    assert_eq!(place.backup().take(&place.data(), 3).unwrap().generation, 3);
}

#[test]
fn a_backup_that_fails_leaves_the_one_before_as_it_was() {
    let place = Place::new();
    place.backup().take(&place.data(), 1).unwrap();
    let before = contents(&place.data());
    place.write("t-0/leader-epoch-checkpoint", &noise(6, 10));
    // Where its piece goes stands a file.
    let folder = place.folder().join(PieceId::of(&noise(6, 10)).place_name());
    let folder = folder.parent().unwrap();
    assert!(!folder.exists());
    fs::write(folder, b"").unwrap();
    assert!(matches!(place.backup().take(&place.data(), 2), Err(BackupError::Disk(_))));
    assert_eq!(place.backup().numbers().unwrap(), [1]);
    assert_eq!(place.restore(None).unwrap(), before);
    fs::remove_file(folder).unwrap();
    assert_eq!(place.backup().take(&place.data(), 3).unwrap().generation, 2);
}

#[test]
fn folders_that_are_something_else_are_left_alone() {
    let place = Place::new();
    let (data, backup) = (place.data(), place.backup());
    assert!(matches!(open_or_create(&data), Err(BackupError::NotABackup { .. })));
    assert!(matches!(open(&data), Err(BackupError::NoBackup { .. })));
    assert!(matches!(backup.take(place.dir.path(), 1), Err(BackupError::NoDataFolder { .. })));
    assert!(!place.dir.path().join(".lock").exists());
    assert!(matches!(backup.restore(None, &place.dir.path().join("new")), Err(BackupError::Empty { .. })));
    backup.take(&data, 1).unwrap();
    assert!(matches!(backup.restore(None, &data), Err(BackupError::TargetNotEmpty { .. })));
    let inside = open_or_create(&data.join("t-0/backup")).unwrap();
    assert!(matches!(inside.take(&data, 1), Err(BackupError::Inside { .. })));
    fs::write(place.folder().join("millpond-backup"), b"format=2\n").unwrap();
    assert!(matches!(open(&place.folder()), Err(BackupError::NewerFormat { .. })));
}

#[test]
fn of_a_frozen_folder_as_much_is_kept_as_belongs_to_it() {
    let place = Place::new();
    let frozen = place.dir.path().join("frozen");
    fs::create_dir_all(frozen.join("t-0/deeper")).unwrap();
    let log = noise(1, PIECE_BYTES + 500);
    fs::write(frozen.join("t-0/log"), &log).unwrap();
    fs::write(frozen.join("t-0/deeper/held"), b"123").unwrap();
    fs::write(frozen.join("not named"), b"").unwrap();
    let file = |path: &str, bytes: usize, bytes_settled: u64| FrozenFile {
        path: path.to_owned(),
        bytes: bytes as u64,
        bytes_settled,
    };
    let files = [file("t-0/log", PIECE_BYTES + 9, 1), file("t-0/deeper/held", 7, 3)];
    let take = |files: &[FrozenFile], sound: Result<(), String>| {
        place.backup().take_frozen(&place.data(), &frozen, files, 5, || sound)
    };
    let taken = take(&files, Ok(())).unwrap();
    assert_eq!((taken.files, taken.bytes), (2, PIECE_BYTES as u64 + 12));
    let restored = place.restore(None).unwrap();
    assert!(restored["t-0/log"] == log[..PIECE_BYTES + 9]);
    assert_eq!(restored["t-0/deeper/held"], b"123");
    assert_eq!(restored.len(), 4, "and two folders");

    let shorter = take(&[file("t-0/deeper/held", 7, 4)], Ok(())).unwrap_err();
    assert!(matches!(shorter, BackupError::Changed { was: 4, is: 3, .. }));
    let gone = take(&[file("t-0/gone", 1, 1)], Ok(())).unwrap_err();
    assert!(matches!(gone, BackupError::Thawed { .. }));
    let unsound = take(&files, Err("a disk failed".to_owned())).unwrap_err();
    assert_eq!(unsound.to_string(), "nothing was backed up: a disk failed");
    assert_eq!(place.backup().numbers().unwrap(), [1]);
    for inside in ["", "t-0", "new/deeper"] {
        let inside = Location::Folder(place.data().join(inside));
        assert!(matches!(Backup::check_outside(&inside, &place.data()), Err(BackupError::Inside { .. })));
    }
    Backup::check_outside(&Location::Folder(place.dir.path().join("database")), &place.data()).unwrap();
}

#[test]
fn what_belongs_to_no_data_is_left_out() {
    let place = Place::new();
    let before = contents(&place.data());
    place.write(".control.sock", b"");
    fs::create_dir(place.data().join(".frozen-3")).unwrap();
    place.write(".frozen-3/log", b"left over");
    place.backup().take(&place.data(), 1).unwrap();
    assert_eq!(place.restore(None).unwrap(), before);
}

#[test]
fn who_runs_or_writes_is_not_disturbed() {
    let place = Place::new();
    let backup = place.backup();
    let node = millpond_disk::FolderLock::take(&place.data()).unwrap();
    let error = backup.take(&place.data(), 1).unwrap_err();
    assert!(matches!(error, BackupError::DataFolderInUse { .. }));
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(node);
    let other = backup.lock().unwrap();
    assert!(matches!(backup.take(&place.data(), 1), Err(BackupError::InUse { .. })));
    assert!(matches!(backup.prune(1), Err(BackupError::InUse { .. })));
    drop(other);
    backup.take(&place.data(), 1).unwrap();
}

#[test]
fn a_restore_that_was_killed_is_told_of_and_an_empty_folder_is_taken() {
    let place = Place::new();
    place.backup().take(&place.data(), 1).unwrap();
    let target = place.dir.path().join("new");
    let unfinished = place.dir.path().join("new.restoring");
    fs::create_dir(&target).unwrap();
    fs::create_dir(&unfinished).unwrap();
    assert!(matches!(place.backup().restore(None, &target), Err(BackupError::Unfinished { .. })));
    assert!(unfinished.exists(), "it may be somebody's at work");
    fs::remove_dir(&unfinished).unwrap();
    place.backup().restore(None, &target.join("")).unwrap();
    assert_eq!(contents(&target), contents(&place.data()));
}
