//! An open file of a simulated disk: reads, writes, syncs and locks, which fail as often as the disk's faults say.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{NodeId, Operation, Permit, SimulatedDisk, State, errno, power_is_off};

/// An open file of a simulated disk.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(super) disk: Arc<SimulatedDisk>,
    pub(super) node: NodeId,
    pub(super) path: PathBuf,
    /// That of the disk when it was opened: after a crash it is dead.
    pub(super) generation: u64,
    pub(super) write: bool,
    pub(super) locked: AtomicBool,
}

impl OpenFile {
    fn with<T>(&self, operation: Operation, work: impl FnOnce(&mut State, Permit) -> io::Result<T>) -> io::Result<T> {
        let permit = self.disk.call(operation, &self.path)?;
        let mut state = self.disk.state.lock();
        if state.generation != self.generation {
            return Err(power_is_off());
        }
        work(&mut state, permit)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.write { Ok(()) } else { Err(errno(rustix::io::Errno::BADF)) }
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        self.with(Operation::Look, |state, _| Ok(state.contents(self.node)?.live.len() as u64))
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.with(Operation::Write, |state, _| {
            let now_ms = state.now_ms;
            state.contents(self.node)?.set_len(in_memory(len)?);
            state.touch(self.node, now_ms);
            Ok(())
        })
    }

    pub(crate) fn read_into(&self, bytes: &mut Vec<u8>, position: u64) -> io::Result<usize> {
        self.with(Operation::Read, |state, _| {
            if state.random.happens(state.faults.interrupted) {
                return Err(errno(rustix::io::Errno::INTR));
            }
            if state.random.happens(state.faults.failed_reads) {
                return Err(errno(rustix::io::Errno::IO));
            }
            let mut len = bytes.capacity() - bytes.len();
            if len > 1 && state.random.happens(state.faults.short) {
                len = 1 + state.random.index(len - 1);
            }
            let position = in_memory(position)?;
            let live = &state.contents(self.node)?.live;
            let found =
                live.get(position.min(live.len())..position.saturating_add(len).min(live.len())).unwrap_or_default();
            bytes.extend_from_slice(found);
            Ok(found.len())
        })
    }

    pub(crate) fn write(&self, chunks: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.check_writable()?;
        self.with(Operation::Write, |state, _| {
            if state.random.happens(state.faults.interrupted) {
                return Err(errno(rustix::io::Errno::INTR));
            }
            let mut bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect();
            let failed = state.random.happens(state.faults.failed_writes);
            if failed {
                let kept = state.random.index(bytes.len());
                bytes.truncate(kept);
            } else if bytes.len() > 1 && state.random.happens(state.faults.short) {
                let kept = 1 + state.random.index(bytes.len() - 1);
                bytes.truncate(kept);
            }
            let position = in_memory(position)?;
            let grows = (position + bytes.len()).saturating_sub(state.contents(self.node)?.live.len());
            if grows > 0 {
                let room = in_memory(state.check_room(grows as u64)?)?;
                bytes.truncate(bytes.len() - (grows - room));
            }
            let now_ms = state.now_ms;
            state.contents(self.node)?.write(position, &bytes);
            state.touch(self.node, now_ms);
            if failed { Err(errno(rustix::io::Errno::IO)) } else { Ok(bytes.len()) }
        })
    }

    pub(crate) fn preallocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.with(Operation::Write, |state, _| {
            let has = state.contents(self.node)?.live.len() as u64;
            let more = len.saturating_sub(has);
            if state.capacity_bytes.is_some_and(|capacity| capacity.saturating_sub(state.used_bytes()) < more) {
                return Err(errno(rustix::io::Errno::NOSPC));
            }
            Ok(())
        })
    }

    pub(crate) fn forget_cached(&self) -> io::Result<()> {
        self.with(Operation::Look, |state, _| {
            state.contents(self.node)?.forget_cached();
            Ok(())
        })
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.with(Operation::Sync, |state, permit| {
            let failed = state.random.happens(state.faults.failed_syncs);
            let mut random = state.random.clone();
            let contents = state.contents(self.node)?;
            if failed {
                contents.fail_sync(&mut random);
                state.random = random;
                state.failed_syncs += 1;
                return Err(errno(rustix::io::Errno::IO));
            }
            if permit == Permit::Do {
                contents.sync();
            }
            Ok(())
        })
    }

    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        self.with(Operation::Look, |state, _| {
            if state.locks.contains_key(&self.node) {
                return Ok(false);
            }
            state.locks.insert(self.node, self.generation);
            self.locked.store(true, Ordering::Release);
            Ok(true)
        })
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.locked.load(Ordering::Acquire) {
            let mut state = self.disk.state.lock();
            if state.locks.get(&self.node) == Some(&self.generation) {
                state.locks.remove(&self.node);
            }
        }
    }
}

/// A place in a file that is in memory.
fn in_memory(position: u64) -> io::Result<usize> {
    usize::try_from(position).map_err(|_| errno(rustix::io::Errno::FBIG))
}
