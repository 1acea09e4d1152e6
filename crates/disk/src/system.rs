//! The calls that everything else here is made of: the real system's, or, for paths below [`crate::SIMULATED_ROOT`], those
//! of a [`SimulatedDisk`].
//!
//! Dispatch is static: a `match` on what was opened, and for names one look at a counter, which is 0 in any process that
//! simulates nothing. What has to be tried again (interrupted calls, short writes) is tried again above this interface, so
//! that a simulated disk puts it to the test.

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use rustix::buffer::spare_capacity;
use rustix::fs::{FlockOperation, OFlags};

use crate::FolderEntry;
use crate::simulated::{self, OpenFile, SimulatedDisk};

/// What becomes of a file that does not exist, or does, when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Create {
    /// It must exist.
    Never,
    /// It is made if it is missing.
    IfMissing,
    /// It must not exist.
    New,
    /// It is made, or emptied.
    Empty,
}

/// How a file is opened. All are readable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenMode {
    pub(crate) write: bool,
    pub(crate) create: Create,
    /// Past the page cache.
    pub(crate) direct: bool,
}

impl OpenMode {
    pub(crate) const READ: OpenMode = OpenMode { write: false, create: Create::Never, direct: false };

    pub(crate) const fn write(create: Create) -> OpenMode {
        OpenMode { write: true, create, direct: false }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    pub(crate) is_dir: bool,
    pub(crate) len: u64,
    pub(crate) modified_ms: i64,
}

/// An open file.
#[derive(Debug)]
pub(crate) enum Handle {
    Real(fs::File),
    Simulated(OpenFile),
}

impl Handle {
    pub(crate) fn open(path: &Path, mode: OpenMode) -> io::Result<Handle> {
        if let Some(disk) = simulated::disk_of(path) {
            return SimulatedDisk::open(&disk, path, mode).map(Handle::Simulated);
        }
        let mut options = fs::OpenOptions::new();
        options.read(true).write(mode.write);
        match mode.create {
            Create::Never => {}
            Create::IfMissing => drop(options.create(true).truncate(false)),
            Create::New => drop(options.create_new(true)),
            Create::Empty => drop(options.create(true).truncate(true)),
        }
        if mode.direct {
            options.custom_flags(i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0));
        }
        options.open(path).map(Handle::Real)
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Handle::Real(file) => Ok(file.metadata()?.len()),
            Handle::Simulated(file) => file.len(),
        }
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        match self {
            Handle::Real(file) => file.set_len(len),
            Handle::Simulated(file) => file.set_len(len),
        }
    }

    /// Reads from `position` on to the end of `bytes`, some of the room that it has; 0 at the file's end.
    pub(crate) fn read_into(&self, bytes: &mut Vec<u8>, position: u64) -> io::Result<usize> {
        match self {
            Handle::Real(file) => Ok(rustix::io::pread(file, spare_capacity(bytes), position)?),
            Handle::Simulated(file) => file.read_into(bytes, position),
        }
    }

    /// Reads from `position` on some of what fits into `buffer`; 0 at the file's end.
    pub(crate) fn read(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Handle::Real(file) => Ok(rustix::io::pread(file, buffer, position)?),
            Handle::Simulated(file) => {
                let mut bytes = Vec::with_capacity(buffer.len());
                file.read_into(&mut bytes, position)?;
                let read = bytes.len().min(buffer.len());
                let (front, _) = buffer.split_at_mut(read);
                front.copy_from_slice(bytes.get(..read).unwrap_or_default());
                Ok(read)
            }
        }
    }

    /// Writes some of `chunks`, one after the other, at `position`.
    pub(crate) fn write(&self, chunks: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        match self {
            Handle::Real(file) => Ok(rustix::io::pwritev(file, chunks, position)?),
            Handle::Simulated(file) => file.write(chunks, position),
        }
    }

    pub(crate) fn preallocate(&self, len: u64) -> io::Result<()> {
        match self {
            Handle::Real(file) => Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, len)?),
            Handle::Simulated(file) => file.preallocate(len),
        }
    }

    pub(crate) fn forget_cached(&self) -> io::Result<()> {
        match self {
            Handle::Real(file) => Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?),
            Handle::Simulated(file) => file.forget_cached(),
        }
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        match self {
            Handle::Real(file) => file.sync_data(),
            Handle::Simulated(file) => file.sync(),
        }
    }

    pub(crate) fn sync_all(&self) -> io::Result<()> {
        match self {
            Handle::Real(file) => file.sync_all(),
            Handle::Simulated(file) => file.sync(),
        }
    }

    pub(crate) fn send(&self, socket: BorrowedFd<'_>, len: usize, position: u64) -> io::Result<usize> {
        match self {
            #[cfg(target_os = "linux")]
            Handle::Real(file) => {
                let mut position = position;
                Ok(rustix::fs::sendfile(socket, file, Some(&mut position), len)?)
            }
            other => {
                const BYTES_A_CALL_MAX: usize = 256 * 1024;
                let mut bytes = Vec::with_capacity(len.min(BYTES_A_CALL_MAX));
                other.read_into(&mut bytes, position)?;
                // The room may be larger than what was asked for.
                bytes.truncate(len);
                Ok(rustix::io::write(socket, &bytes)?)
            }
        }
    }

    /// Copies all of `from` to the front of this file, both just opened. Where the file system can, the two share their blocks.
    pub(crate) fn copy_from(&self, from: &Handle) -> io::Result<u64> {
        if let (Handle::Real(from), Handle::Real(to)) = (from, self) {
            let (mut from, mut to): (&fs::File, &fs::File) = (from, to);
            return io::copy(&mut from, &mut to);
        }
        const BYTES_A_CALL_MAX: usize = 256 * 1024;
        let mut position = 0;
        let mut bytes = Vec::with_capacity(BYTES_A_CALL_MAX);
        loop {
            bytes.clear();
            let read = from.read_into(&mut bytes, position)?;
            if read == 0 {
                return Ok(position);
            }
            let mut done = 0;
            while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
                done += self.write(&[IoSlice::new(rest)], position + done as u64)?;
            }
            position += read as u64;
        }
    }

    /// Takes a reader's lock in the way of fcntl without waiting; `false` if another process holds a writer's. Until any
    /// handle of this process for the same file is closed.
    pub(crate) fn try_record_lock_shared(&self) -> io::Result<bool> {
        match self {
            Handle::Real(file) => match rustix::fs::fcntl_lock(file.as_fd(), FlockOperation::NonBlockingLockShared) {
                Ok(()) => Ok(true),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Handle::Simulated(file) => file.try_lock(),
        }
    }

    /// Locks the file for this process without waiting; `false` if another holds it.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        match self {
            Handle::Real(file) => match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(true),
                Err(rustix::io::Errno::AGAIN) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Handle::Simulated(file) => file.try_lock(),
        }
    }
}

fn attributes_of(metadata: &fs::Metadata) -> io::Result<Attributes> {
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Attributes {
        is_dir: metadata.is_dir(),
        len: metadata.len(),
        modified_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
    })
}

pub(crate) fn attributes(path: &Path) -> io::Result<Attributes> {
    match simulated::disk_of(path) {
        Some(disk) => disk.attributes(path),
        None => attributes_of(&fs::metadata(path)?),
    }
}

pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    match simulated::disk_of(path) {
        Some(disk) => disk.create_dir(path),
        None => fs::create_dir(path),
    }
}

/// What is in a folder, in no order.
pub(crate) fn list(path: &Path) -> io::Result<Vec<FolderEntry>> {
    if let Some(disk) = simulated::disk_of(path) {
        return disk.list(path);
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let attributes = match entry.metadata() {
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => attributes_of(&metadata?)?,
        };
        entries.push(FolderEntry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_dir: attributes.is_dir,
            len: attributes.len,
            modified_ms: attributes.modified_ms,
        });
    }
    Ok(entries)
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match simulated::disk_of(from) {
        Some(disk) => disk.rename(from, to),
        None => fs::rename(from, to),
    }
}

/// Gives the file `from` another name.
pub(crate) fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    match simulated::disk_of(from) {
        Some(disk) => disk.hard_link(from, to),
        None => fs::hard_link(from, to),
    }
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match simulated::disk_of(path) {
        Some(disk) => disk.remove_file(path),
        None => fs::remove_file(path),
    }
}

pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    match simulated::disk_of(path) {
        Some(disk) => disk.remove_dir_all(path),
        None => fs::remove_dir_all(path),
    }
}

pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    match simulated::disk_of(path) {
        Some(disk) => disk.sync_dir(path),
        None => fs::File::open(path)?.sync_all(),
    }
}

/// The bytes that are free, and all there are.
pub(crate) fn space(path: &Path) -> io::Result<(u64, u64)> {
    match simulated::disk_of(path) {
        Some(disk) => disk.space(),
        None => {
            let status = rustix::fs::statvfs(path)?;
            let bytes = |blocks: u64| blocks.saturating_mul(status.f_frsize);
            Ok((bytes(status.f_bavail), bytes(status.f_blocks)))
        }
    }
}
