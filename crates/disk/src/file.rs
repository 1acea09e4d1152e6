//! An open file that is read and written at positions.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::DiskError;
use crate::system::{Create, Handle, OpenMode};

/// An open file. All methods take `&self` and positions, so threads may share it.
#[derive(Debug)]
pub struct File {
    handle: Handle,
    path: PathBuf,
}

impl File {
    /// Makes a new file for reading and writing; it must not exist. Its name is durable after [`crate::sync_dir`].
    pub fn create_new(path: &Path) -> Result<File, DiskError> {
        File::with_mode(path, "create", OpenMode::write(Create::New))
    }

    /// Opens a file for reading and writing, and makes it if it does not exist.
    pub fn open_or_create(path: &Path) -> Result<File, DiskError> {
        File::with_mode(path, "open", OpenMode::write(Create::IfMissing))
    }

    /// Opens a file for reading and writing; it must exist.
    pub fn open(path: &Path) -> Result<File, DiskError> {
        File::with_mode(path, "open", OpenMode::write(Create::Never))
    }

    /// Opens a file for reading; it must exist.
    pub fn open_read_only(path: &Path) -> Result<File, DiskError> {
        File::with_mode(path, "open", OpenMode::READ)
    }

    pub(crate) fn with_mode(path: &Path, operation: &'static str, mode: OpenMode) -> Result<File, DiskError> {
        let handle = Handle::open(path, mode).map_err(|e| DiskError::new(operation, path, e))?;
        Ok(File { handle, path: path.to_owned() })
    }

    /// Where the file was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    pub fn len(&self) -> Result<u64, DiskError> {
        self.handle.len().map_err(|e| self.error("read the length of", e))
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends (with zeros) the file to `len` bytes.
    pub fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.handle.set_len(len).map_err(|e| self.error("set the length of", e))
    }

    /// Fills `buffer` from `position` on; a file that ends before is an error.
    pub fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> Result<(), DiskError> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.handle.read(rest, position + done as u64) {
                Ok(0) => return Err(self.error("read", ErrorKind::UnexpectedEof.into())),
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error("read", error)),
            }
        }
        Ok(())
    }

    /// Reads up to `len` bytes from `position` on; fewer only at the file's end. The buffer is not zeroed first.
    pub fn read_at(&self, len: usize, position: u64) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::with_capacity(len);
        self.append_at(&mut bytes, len, position)?;
        Ok(bytes)
    }

    /// Reads up to `len` bytes from `position` on to the end of `bytes`; fewer only at the file's end.
    pub fn append_at(&self, bytes: &mut Vec<u8>, len: usize, position: u64) -> Result<usize, DiskError> {
        let before = bytes.len();
        bytes.reserve_exact(len);
        while bytes.len() - before < len {
            let done = bytes.len() - before;
            // The spare room may be larger than what was asked for, and then some more is read than asked.
            match self.handle.read_into(bytes, position + done as u64) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    bytes.truncate(before);
                    return Err(self.error("read", error));
                }
            }
        }
        bytes.truncate(before + len);
        Ok(bytes.len() - before)
    }

    /// Sends up to `len` bytes from `position` on to `socket`, as many as it takes without waiting if it does not wait;
    /// none at the file's end. The bytes go from the system's cache to the socket without passing through this process,
    /// where the system can do that.
    ///
    /// Errors are the socket's as often as the file's, and told as they come.
    pub fn send_at(&self, socket: BorrowedFd<'_>, len: usize, position: u64) -> io::Result<usize> {
        self.handle.send(socket, len, position)
    }

    /// Writes all of `bytes` at `position`.
    pub fn write_all_at(&self, bytes: &[u8], position: u64) -> Result<(), DiskError> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            done += self.write_some(&[IoSlice::new(rest)], position + done as u64)?;
        }
        Ok(())
    }

    /// Writes all of `chunks`, one after the other, from `position` on, in as few calls as the system allows.
    pub fn write_all_vectored_at(&self, chunks: &[&[u8]], position: u64) -> Result<(), DiskError> {
        // What the system takes in one call (IOV_MAX on Linux).
        const CHUNKS_A_CALL_MAX: usize = 1024;
        let mut position = position;
        let mut slices: Vec<IoSlice<'_>> = chunks.iter().filter(|c| !c.is_empty()).map(|c| IoSlice::new(c)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let now = rest.get(..rest.len().min(CHUNKS_A_CALL_MAX)).unwrap_or_default();
            let written = self.write_some(now, position)?;
            position += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    /// Writes at least one byte; 0 if it was interrupted, and is to be tried again.
    fn write_some(&self, chunks: &[IoSlice<'_>], position: u64) -> Result<usize, DiskError> {
        match self.handle.write(chunks, position) {
            Ok(0) => Err(self.error("write", ErrorKind::WriteZero.into())),
            Ok(written) => Ok(written),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(self.error("write", error)),
        }
    }

    /// Reserves room for `len` bytes without changing the length, where the file system can.
    pub fn preallocate(&self, len: u64) -> Result<(), DiskError> {
        match self.handle.preallocate(len) {
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(self.error("reserve room for", error)),
            _ => Ok(()),
        }
    }

    /// Lets the next reads come from the disk, where the system can do that. After a failed sync the system's cache may hold
    /// what the disk does not.
    ///
    /// Of the whole file, since pages that a range covers in part are left alone. What was written and not synced is not
    /// touched.
    pub fn forget_cached(&self) -> Result<(), DiskError> {
        match self.handle.forget_cached() {
            Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                Err(self.error("forget the cached bytes of", error))
            }
            _ => Ok(()),
        }
    }

    /// Makes the bytes written so far durable, and of the metadata what is needed to read them (fdatasync).
    pub fn sync_data(&self) -> Result<(), DiskError> {
        self.handle.sync_data().map_err(|e| self.error("sync", e))
    }

    /// Makes bytes and all metadata durable (fsync).
    pub fn sync_all(&self) -> Result<(), DiskError> {
        self.handle.sync_all().map_err(|e| self.error("sync", e))
    }

    /// Copies all of `from` into this file, which is new. The bytes do not pass through this process where the system can do
    /// without, and take no room of their own where the file system can share them.
    pub(crate) fn copy_from(&self, from: &File) -> Result<u64, DiskError> {
        self.handle.copy_from(&from.handle).map_err(|e| self.error("copy to", e))
    }

    /// Takes a reader's lock as fcntl knows it, without waiting; `false` if another process holds a writer's.
    pub(crate) fn try_record_lock_shared(&self) -> Result<bool, DiskError> {
        self.handle.try_record_lock_shared().map_err(|e| self.error("lock", e))
    }

    /// Locks the file for this process without waiting; `false` if another holds it. Until the file is dropped.
    pub(crate) fn try_lock(&self) -> Result<bool, DiskError> {
        self.handle.try_lock().map_err(|e| self.error("lock", e))
    }

    fn error(&self, operation: &'static str, source: io::Error) -> DiskError {
        DiskError::new(operation, &self.path, source)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_is_written_at_a_position_is_read_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create_new(&dir.path().join("f")).unwrap();
        file.write_all_at(b"hello world", 0).unwrap();
        file.write_all_vectored_at(&[b"W", b"", b"ORLD", b"!"], 6).unwrap();
        assert_eq!(file.read_at(100, 0).unwrap(), b"hello WORLD!");
        assert_eq!(file.read_at(5, 6).unwrap(), b"WORLD");
        assert_eq!(file.read_at(5, 100).unwrap(), b"");
        let mut exact = [0; 3];
        file.read_exact_at(&mut exact, 1).unwrap();
        assert_eq!(&exact, b"ell");
        assert!(file.read_exact_at(&mut exact, 10).is_err());
        file.set_len(5).unwrap();
        assert_eq!(file.len().unwrap(), 5);
        file.preallocate(1 << 16).unwrap();
        assert_eq!(file.len().unwrap(), 5);
        file.sync_data().unwrap();
        file.sync_all().unwrap();
    }

    #[test]
    fn what_is_sent_to_a_socket_comes_from_the_position() {
        use std::io::Read;
        use std::os::unix::net::UnixStream;

        let dir = tempfile::tempdir().unwrap();
        let file = File::create_new(&dir.path().join("f")).unwrap();
        file.write_all_at(b"hello world", 0).unwrap();
        let (sender, mut receiver) = UnixStream::pair().unwrap();
        assert_eq!(file.send_at(sender.as_fd(), 3, 6).unwrap(), 3);
        assert_eq!(file.send_at(sender.as_fd(), 100, 9).unwrap(), 2);
        assert_eq!(file.send_at(sender.as_fd(), 100, 11).unwrap(), 0);
        drop(sender);
        let mut sent = Vec::new();
        receiver.read_to_end(&mut sent).unwrap();
        assert_eq!(sent, b"world");
    }

    #[test]
    fn more_chunks_than_one_call_takes_arrive_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::open_or_create(&dir.path().join("f")).unwrap();
        let all: Vec<u8> = (0..5000u32).flat_map(u32::to_be_bytes).collect();
        let chunks: Vec<&[u8]> = all.chunks(4).collect();
        file.write_all_vectored_at(&chunks, 3).unwrap();
        assert_eq!(file.read_at(all.len() + 10, 3).unwrap(), all);
    }

    #[test]
    fn errors_name_the_operation_and_the_path() {
        let error = File::open(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(error.is_not_found());
        assert!(error.to_string().starts_with("cannot open /nowhere/at/all: "), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        File::create_new(&path).unwrap();
        assert!(File::create_new(&path).unwrap_err().to_string().starts_with("cannot create "));
        let file = File::open_read_only(&path).unwrap();
        assert!(file.write_all_at(b"x", 0).unwrap_err().to_string().starts_with("cannot write "));
    }
}
