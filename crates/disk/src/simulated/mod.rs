//! A disk in memory that loses what was not synced, for tests that cut the power.
//!
//! Everything below [`SimulatedDisk::root`] lies on it, for all functions of this crate, in this process. It keeps what
//! processes see apart from what is durable: bytes are after a sync of their file, names after a sync of their folder.
//! A power cut loses, keeps, tears or scatters the rest, each file and each folder for itself, as the seed says. So the
//! order between files means nothing unless syncs make one, and a file that was synced may still lose its name.
//!
//! It fails calls as often as its [`Faults`] say, tells a [`SimulatedDisk::watch`]er of each call before it is done, which can
//! leave out a sync (to see that a test notices), and goes off after so many calls. When it is off, every call fails, until
//! [`SimulatedDisk::restart`]; files that were open before never work again.
//!
//! Calls follow from the seed and what is called, in this order; so does everything that is lost.

mod contents;
mod names;
mod open_file;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use self::contents::Contents;
use self::names::Names;
pub(crate) use self::open_file::OpenFile;
pub use self::random::Random;
use crate::FolderEntry;
use crate::system::{Attributes, Create, OpenMode};

/// Paths below it lie on simulated disks.
pub const SIMULATED_ROOT: &str = "/millpond-simulated-disk";

/// The disks there are, by number.
static DISKS: RwLock<BTreeMap<u64, Weak<SimulatedDisk>>> = RwLock::new(BTreeMap::new());
static DISKS_COUNT: AtomicUsize = AtomicUsize::new(0);
static NEXT_DISK: AtomicU64 = AtomicU64::new(1);

/// The simulated disk that holds `path`; none if that is the machine's.
pub(crate) fn disk_of(path: &Path) -> Option<Arc<SimulatedDisk>> {
    if DISKS_COUNT.load(Ordering::Acquire) == 0 {
        return None;
    }
    let below = path.strip_prefix(SIMULATED_ROOT).ok()?;
    let number = below.components().next()?.as_os_str().to_str()?.parse::<u64>().ok()?;
    DISKS.read().get(&number)?.upgrade()
}

/// A file or folder; its place among the disk's.
pub(crate) type NodeId = usize;

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Opens or makes a file.
    Open,
    /// Reads bytes.
    Read,
    /// Writes bytes, or sets the length.
    Write,
    /// Makes a file's bytes durable.
    Sync,
    /// Makes a folder's names durable.
    SyncFolder,
    /// Makes, renames or removes a name.
    Name,
    /// Lists a folder or asks about a name.
    Look,
}

/// What is done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// It is done.
    Do,
    /// A sync is left out, and the caller is told that it was done.
    Pretend,
}

/// How often calls fail, in a million.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Reads that fail with EIO.
    pub failed_reads: u32,
    /// Writes that fail with EIO, some of the bytes written.
    pub failed_writes: u32,
    /// Syncs of files that fail with EIO. What they lose is lost.
    pub failed_syncs: u32,
    /// Reads and writes that are interrupted (EINTR) before they do anything.
    pub interrupted: u32,
    /// Reads and writes that do a part of what was asked.
    pub short: u32,
}

/// How the disk goes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: everything that it wrote is there.
    Kill,
    /// The power goes: only what was synced is sure to be there.
    PowerCut,
}

/// Sees each call before it is done.
type Watcher = Box<dyn FnMut(Operation, &Path) -> Permit + Send>;

/// A disk in memory.
pub struct SimulatedDisk {
    number: u64,
    root: PathBuf,
    state: Mutex<State>,
    /// Not part of the state: it may use the disk itself.
    watcher: Mutex<Option<Watcher>>,
}

#[derive(Debug)]
struct State {
    random: Random,
    faults: Faults,
    nodes: Vec<Node>,
    /// Who holds a lock on which file: the generation of its handles.
    locks: BTreeMap<NodeId, u64>,
    /// Grows with each crash; handles of an earlier one are dead.
    generation: u64,
    off: bool,
    /// So many calls are left until the disk goes off.
    calls_left: Option<u64>,
    calls: u64,
    failed_syncs: u64,
    trace: u64,
    now_ms: i64,
    capacity_bytes: Option<u64>,
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    modified_ms: i64,
}

#[derive(Debug)]
enum Kind {
    Folder(Names),
    File(Contents),
}

/// The disk's root folder.
const ROOT: NodeId = 0;

fn errno(error: rustix::io::Errno) -> io::Error {
    error.into()
}

fn power_is_off() -> io::Error {
    io::Error::other("the simulated disk is off")
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").field("root", &self.root).finish_non_exhaustive()
    }
}

impl SimulatedDisk {
    /// An empty disk. It is there as long as somebody holds it.
    pub fn new(seed: u64) -> Arc<SimulatedDisk> {
        let number = NEXT_DISK.fetch_add(1, Ordering::Relaxed);
        let root = Node { kind: Kind::Folder(Names::default()), modified_ms: 0 };
        let disk = Arc::new(SimulatedDisk {
            number,
            root: Path::new(SIMULATED_ROOT).join(number.to_string()),
            state: Mutex::new(State {
                random: Random::new(seed),
                faults: Faults::default(),
                nodes: vec![root],
                locks: BTreeMap::new(),
                generation: 0,
                off: false,
                calls_left: None,
                calls: 0,
                failed_syncs: 0,
                trace: 0,
                now_ms: 0,
                capacity_bytes: None,
            }),
            watcher: Mutex::new(None),
        });
        DISKS.write().insert(number, Arc::downgrade(&disk));
        DISKS_COUNT.fetch_add(1, Ordering::AcqRel);
        disk
    }

    /// The folder that is the whole disk.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// From now on calls fail so often.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// From now on the disk has so much room; none: as much as there is memory.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    /// How many bytes are taken.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes()
    }

    /// The time that files written from now on bear, ms since 1970.
    pub fn set_now_ms(&self, now_ms: i64) {
        self.state.lock().now_ms = now_ms;
    }

    /// From now on `watcher` sees each call before it is done, except those that it makes itself.
    pub fn watch(&self, watcher: impl FnMut(Operation, &Path) -> Permit + Send + 'static) {
        *self.watcher.lock() = Some(Box::new(watcher));
    }

    /// Nobody sees the calls any more.
    pub fn unwatch(&self) {
        *self.watcher.lock() = None;
    }

    /// Goes off after so many more calls.
    pub fn go_off_after(&self, calls: u64) {
        self.state.lock().calls_left = Some(calls);
    }

    /// Goes off now.
    pub fn go_off(&self) {
        self.state.lock().off = true;
    }

    /// Whether every call fails.
    pub fn is_off(&self) -> bool {
        self.state.lock().off
    }

    /// How many syncs have failed since the last restart. What they lost is gone, though it may be cached.
    pub fn failed_syncs(&self) -> u64 {
        self.state.lock().failed_syncs
    }

    /// How many calls there were, and a number that two runs have in common if they made the same calls.
    pub fn trace(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.calls, state.trace)
    }

    /// Is on again after a crash, with what that left.
    pub fn restart(&self, crash: Crash) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.generation += 1;
        state.off = false;
        state.failed_syncs = 0;
        state.calls_left = None;
        state.locks.clear();
        for node in &mut state.nodes {
            match (&mut node.kind, crash) {
                (Kind::Folder(names), Crash::PowerCut) => names.cut_power(&mut state.random),
                (Kind::File(contents), Crash::PowerCut) => contents.cut_power(&mut state.random),
                (Kind::Folder(_), Crash::Kill) => {}
                // The system may or may not have let go of what it cached, which shows what failed syncs have lost.
                (Kind::File(contents), Crash::Kill) if state.random.coin() => contents.forget_cached(),
                (Kind::File(_), Crash::Kill) => {}
            }
        }
        state.forget_unreachable();
    }

    /// Lets the watcher see a call, then counts it. Says whether it is to be done.
    fn call(&self, operation: Operation, path: &Path) -> io::Result<Permit> {
        let watcher = self.watcher.lock().take();
        let mut permit = Permit::Do;
        if let Some(mut watcher) = watcher {
            permit = watcher(operation, path);
            self.watcher.lock().get_or_insert(watcher);
        }
        let mut state = self.state.lock();
        if state.off {
            return Err(power_is_off());
        }
        if let Some(left) = state.calls_left.filter(|_| operation != Operation::Look && operation != Operation::Read) {
            if left == 0 {
                state.off = true;
                return Err(power_is_off());
            }
            state.calls_left = Some(left - 1);
        }
        state.calls += 1;
        // Names may hold ids that are new each time; their length is not.
        let name_len = path.as_os_str().len() - self.root.as_os_str().len().min(path.as_os_str().len());
        state.trace = Random::new(state.trace ^ ((operation as u64) << 32 | name_len as u64)).next_u64();
        Ok(permit)
    }

    pub(crate) fn open(disk: &Arc<SimulatedDisk>, path: &Path, mode: OpenMode) -> io::Result<OpenFile> {
        disk.call(Operation::Open, path)?;
        let mut guard = disk.state.lock();
        let state = &mut *guard;
        let (parent, name) = state.parent_of(&disk.root, path)?;
        let found = state.names(parent)?.live.get(name).copied();
        let node = match (found, mode.create) {
            (Some(_), Create::New) => return Err(errno(rustix::io::Errno::EXIST)),
            (Some(node), create) => {
                let now_ms = state.now_ms;
                let contents = state.contents(node)?;
                if create == Create::Empty && !contents.live.is_empty() {
                    contents.set_len(0);
                    state.touch(node, now_ms);
                }
                node
            }
            (None, Create::Never) => return Err(errno(rustix::io::Errno::NOENT)),
            (None, _) => {
                state.check_room(0)?;
                let node = state.add(Kind::File(Contents::default()));
                state.names(parent)?.put(name, node);
                node
            }
        };
        Ok(OpenFile {
            disk: disk.clone(),
            node,
            path: path.to_owned(),
            generation: state.generation,
            write: mode.write,
            locked: false.into(),
        })
    }

    pub(crate) fn attributes(&self, path: &Path) -> io::Result<Attributes> {
        self.call(Operation::Look, path)?;
        let mut state = self.state.lock();
        let node = state.find(&self.root, path)?;
        state.attributes(node)
    }

    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Operation::Name, path)?;
        let mut guard = self.state.lock();
        let (parent, name) = guard.parent_of(&self.root, path)?;
        if guard.names(parent)?.live.contains_key(name) {
            return Err(errno(rustix::io::Errno::EXIST));
        }
        guard.check_room(0)?;
        let node = guard.add(Kind::Folder(Names::default()));
        guard.names(parent)?.put(name, node);
        Ok(())
    }

    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<FolderEntry>> {
        self.call(Operation::Look, path)?;
        let mut state = self.state.lock();
        let node = state.find(&self.root, path)?;
        let names = state.names(node)?.live.clone();
        let entry = |(name, node): (String, NodeId)| {
            let Attributes { is_dir, len, modified_ms } = state.attributes(node)?;
            Ok(FolderEntry { name, is_dir, len, modified_ms })
        };
        names.into_iter().map(entry).collect()
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Operation::Name, from)?;
        let mut state = self.state.lock();
        let (from_parent, from_name) = state.parent_of(&self.root, from)?;
        let (to_parent, to_name) = state.parent_of(&self.root, to)?;
        let node = state.names(from_parent)?.live.get(from_name).copied();
        let node = node.ok_or_else(|| errno(rustix::io::Errno::NOENT))?;
        if let Some(there) = state.names(to_parent)?.live.get(to_name).copied()
            && state.names(there).is_ok_and(|names| !names.live.is_empty())
        {
            return Err(errno(rustix::io::Errno::NOTEMPTY));
        }
        if from_parent == to_parent {
            state.names(to_parent)?.rename(from_name, to_name, node);
        } else {
            // Each folder for itself: until both were synced, a power cut can leave both names, or none.
            state.names(to_parent)?.put(to_name, node);
            state.names(from_parent)?.remove(from_name);
        }
        Ok(())
    }

    pub(crate) fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Operation::Name, from)?;
        let mut state = self.state.lock();
        let node = state.find(&self.root, from)?;
        state.contents(node)?;
        let (parent, name) = state.parent_of(&self.root, to)?;
        if state.names(parent)?.live.contains_key(name) {
            return Err(errno(rustix::io::Errno::EXIST));
        }
        state.check_room(0)?;
        state.names(parent)?.put(name, node);
        Ok(())
    }

    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call(Operation::Name, path)?;
        let mut state = self.state.lock();
        let node = state.find(&self.root, path)?;
        state.contents(node)?;
        let (parent, name) = state.parent_of(&self.root, path)?;
        state.names(parent)?.remove(name);
        Ok(())
    }

    pub(crate) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        // Name by name, each of which may be the last before the power goes.
        let entries = self.list(path)?;
        for entry in entries {
            let inner = path.join(&entry.name);
            if entry.is_dir { self.remove_dir_all(&inner)? } else { self.remove_file(&inner)? }
        }
        self.call(Operation::Name, path)?;
        let mut state = self.state.lock();
        let (parent, name) = state.parent_of(&self.root, path)?;
        state.names(parent)?.remove(name);
        Ok(())
    }

    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let permit = self.call(Operation::SyncFolder, path)?;
        let mut state = self.state.lock();
        let node = state.find(&self.root, path)?;
        let names = state.names(node)?;
        if permit == Permit::Do {
            names.sync();
        }
        Ok(())
    }

    pub(crate) fn space(&self) -> io::Result<(u64, u64)> {
        self.call(Operation::Look, &self.root)?;
        let state = self.state.lock();
        let total = state.capacity_bytes.unwrap_or(u64::MAX / 2);
        Ok((total.saturating_sub(state.used_bytes()), total))
    }
}

impl Drop for SimulatedDisk {
    fn drop(&mut self) {
        DISKS.write().remove(&self.number);
        DISKS_COUNT.fetch_sub(1, Ordering::AcqRel);
    }
}

impl State {
    fn add(&mut self, kind: Kind) -> NodeId {
        self.nodes.push(Node { kind, modified_ms: self.now_ms });
        self.nodes.len() - 1
    }

    fn node(&mut self, node: NodeId) -> io::Result<&mut Node> {
        self.nodes.get_mut(node).ok_or_else(|| errno(rustix::io::Errno::NOENT))
    }

    fn names(&mut self, node: NodeId) -> io::Result<&mut Names> {
        match &mut self.node(node)?.kind {
            Kind::Folder(names) => Ok(names),
            Kind::File(_) => Err(errno(rustix::io::Errno::NOTDIR)),
        }
    }

    fn contents(&mut self, node: NodeId) -> io::Result<&mut Contents> {
        match &mut self.node(node)?.kind {
            Kind::File(contents) => Ok(contents),
            Kind::Folder(_) => Err(errno(rustix::io::Errno::ISDIR)),
        }
    }

    fn touch(&mut self, node: NodeId, now_ms: i64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.modified_ms = now_ms;
        }
    }

    fn attributes(&mut self, node: NodeId) -> io::Result<Attributes> {
        let node = self.node(node)?;
        let (is_dir, len) = match &node.kind {
            Kind::Folder(_) => (true, 0),
            Kind::File(contents) => (false, contents.live.len() as u64),
        };
        Ok(Attributes { is_dir, len, modified_ms: node.modified_ms })
    }

    fn find(&mut self, root: &Path, path: &Path) -> io::Result<NodeId> {
        let mut node = ROOT;
        for component in path.strip_prefix(root).unwrap_or(path).components() {
            if component == Component::CurDir {
                continue;
            }
            let name = component.as_os_str().to_str().unwrap_or_default();
            node = *self.names(node)?.live.get(name).ok_or_else(|| errno(rustix::io::Errno::NOENT))?;
        }
        Ok(node)
    }

    fn parent_of<'p>(&mut self, root: &Path, path: &'p Path) -> io::Result<(NodeId, &'p str)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let (Some(parent), Some(name)) = (path.parent(), name) else { return Err(errno(rustix::io::Errno::INVAL)) };
        let parent = self.find(root, parent)?;
        self.names(parent)?;
        Ok((parent, name))
    }

    /// Bytes of all files, those among them that were deleted and whose folder was not synced yet.
    fn used_bytes(&self) -> u64 {
        let len = |node: &Node| match &node.kind {
            Kind::File(contents) => contents.live.len() as u64,
            Kind::Folder(_) => 0,
        };
        self.reachable().into_iter().filter_map(|node| self.nodes.get(node)).map(len).sum()
    }

    /// How many of `more` bytes there is room for; it is an error if for none of them.
    fn check_room(&self, more: u64) -> io::Result<u64> {
        let Some(capacity) = self.capacity_bytes else { return Ok(more) };
        let free = capacity.saturating_sub(self.used_bytes());
        if free == 0 { Err(errno(rustix::io::Errno::NOSPC)) } else { Ok(more.min(free)) }
    }

    /// The nodes that have a name, or may have one after a power cut.
    fn reachable(&self) -> BTreeSet<NodeId> {
        let mut found = BTreeSet::from([ROOT]);
        let mut left = vec![ROOT];
        while let Some(node) = left.pop() {
            if let Some(Node { kind: Kind::Folder(names), .. }) = self.nodes.get(node) {
                left.extend(names.all().filter(|node| found.insert(*node)));
            }
        }
        found
    }

    /// Gives back the memory of what no name leads to. Their numbers are not given to others.
    fn forget_unreachable(&mut self) {
        let reachable = self.reachable();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if !reachable.contains(&number) {
                node.kind = Kind::File(Contents::default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{File, FolderLock, create_dir_all, exists, free_bytes, list, read_file, replace_file, sync_dir};

    fn new_file(path: &Path, bytes: &[u8]) -> File {
        let file = File::create_new(path).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_all().unwrap();
        file
    }

    #[test]
    fn a_synced_file_without_a_synced_name_can_be_lost_and_with_one_it_cannot() {
        let mut lost = 0;
        for seed in 0..100 {
            let disk = SimulatedDisk::new(seed);
            let dir = disk.root().join("a/b");
            create_dir_all(&dir).unwrap();
            new_file(&dir.join("named"), b"named");
            sync_dir(&dir).unwrap();
            new_file(&dir.join("unnamed"), b"unnamed");
            disk.restart(Crash::PowerCut);
            assert_eq!(read_file(&dir.join("named")).unwrap().unwrap(), b"named");
            match read_file(&dir.join("unnamed")).unwrap() {
                Some(bytes) => assert_eq!(bytes, b"unnamed"),
                None => lost += 1,
            }
        }
        assert!((20..80).contains(&lost), "{lost}");
    }

    #[test]
    fn a_kill_loses_nothing_and_ends_all_handles_and_locks() {
        let disk = SimulatedDisk::new(1);
        let path = disk.root().join("f");
        let file = File::create_new(&path).unwrap();
        file.write_all_at(b"not synced", 0).unwrap();
        let lock = FolderLock::take(disk.root()).unwrap();
        assert!(FolderLock::take(disk.root()).is_err());
        disk.go_off();
        assert!(file.len().is_err() && File::open(&path).is_err());
        disk.restart(Crash::Kill);
        assert!(file.len().is_err(), "it belongs to a process that is gone");
        assert_eq!(read_file(&path).unwrap().unwrap(), b"not synced");
        let again = FolderLock::take(disk.root()).unwrap();
        // What is left of the dead process lets nothing go.
        drop(lock);
        assert!(FolderLock::take(disk.root()).is_err());
        drop(again);
        FolderLock::take(disk.root()).unwrap();
    }

    #[test]
    fn a_replaced_file_is_the_old_or_the_new_one_at_whatever_call_the_disk_goes_off() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let disk = SimulatedDisk::new(seed);
            let path = disk.root().join("f");
            replace_file(&path, b"old").unwrap();
            disk.go_off_after(seed % 9);
            let replaced = replace_file(&path, b"the new one").is_ok();
            disk.restart(if seed % 2 == 0 { Crash::PowerCut } else { Crash::Kill });
            let found = read_file(&path).unwrap().unwrap();
            assert!(found == b"the new one" || (found == b"old" && !replaced), "{found:?}");
            seen.insert(found);
        }
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn interrupted_and_short_calls_are_gone_on_with() {
        let disk = SimulatedDisk::new(7);
        disk.set_faults(Faults { interrupted: 300_000, short: 500_000, ..Faults::default() });
        let file = File::create_new(&disk.root().join("f")).unwrap();
        let bytes: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let chunks: Vec<&[u8]> = bytes.chunks(999).collect();
        file.write_all_vectored_at(&chunks, 100_000).unwrap();
        let mut exact = vec![0; 100_000];
        file.read_exact_at(&mut exact, 100_000).unwrap();
        assert!(exact == bytes && file.read_at(300_000, 0).unwrap().len() == 200_000);
    }

    #[test]
    fn a_full_disk_takes_what_there_is_room_for_and_says_so() {
        let disk = SimulatedDisk::new(1);
        disk.set_capacity_bytes(Some(1000));
        let file = File::create_new(&disk.root().join("f")).unwrap();
        file.write_all_at(&[1; 600], 0).unwrap();
        assert_eq!(free_bytes(disk.root()).unwrap(), 400);
        assert!(file.preallocate(2000).is_err());
        let error = file.write_all_at(&[2; 600], 600).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().unwrap(), 1000);
        file.write_all_at(&[3; 600], 0).unwrap();
        assert!(File::create_new(&disk.root().join("g")).is_err());
        disk.set_capacity_bytes(None);
        file.write_all_at(&[2; 600], 600).unwrap();
    }

    #[test]
    fn a_watcher_sees_calls_before_they_are_done_and_can_leave_out_a_sync() {
        let is_lost = |seed: u64| {
            let disk = SimulatedDisk::new(seed);
            let seen = Arc::new(Mutex::new(Vec::new()));
            let (watched, calls) = (Arc::downgrade(&disk), seen.clone());
            disk.watch(move |operation, path| {
                if operation == Operation::Sync {
                    calls.lock().push((path.to_owned(), list(watched.upgrade().unwrap().root()).unwrap().len()));
                    return Permit::Pretend;
                }
                Permit::Do
            });
            let path = disk.root().join("f");
            new_file(&path, b"x");
            sync_dir(disk.root()).unwrap();
            assert_eq!(*seen.lock(), [(path.clone(), 1)]);
            disk.unwatch();
            disk.restart(Crash::PowerCut);
            assert!(exists(&path).unwrap());
            read_file(&path).unwrap().unwrap() != b"x"
        };
        assert!((0..20).any(is_lost));
    }
}
