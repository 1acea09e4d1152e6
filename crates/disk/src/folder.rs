//! Names in folders: make, list, rename, remove, and replace files as a whole.

use std::io;
use std::path::{Path, PathBuf};

use crate::system::{self, Attributes, Create, OpenMode};
use crate::{DiskError, File};

/// A file or folder in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name; one that is not UTF-8 is shown with replacement characters and thus matches no name of ours.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Length in bytes, of a file.
    pub len: u64,
    /// When it was last written, ms since 1970.
    pub modified_ms: i64,
}

/// Makes a folder and its parents, and syncs every folder in which one was made. If it is there, its parent is synced all the
/// same: who made it may have been killed before, and it would go with the next power cut.
pub fn create_dir_all(path: &Path) -> Result<(), DiskError> {
    let failed = |e| DiskError::new("create the folder", path, e);
    let mut missing: Vec<&Path> = Vec::new();
    let mut at = path;
    while !at.as_os_str().is_empty() && find(at).map_err(failed)?.is_none() {
        missing.push(at);
        let Some(parent) = at.parent() else { break };
        at = parent;
    }
    if missing.is_empty() {
        match system::sync_dir(parent_of(path)) {
            // Somebody else's folder, which we may pass through and not open.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(|e| DiskError::new("sync the folder", parent_of(path), e))?,
        }
    }
    for folder in missing.into_iter().rev() {
        match system::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => sync_dir(parent_of(folder))?,
        }
    }
    match find(path).map_err(failed)? {
        Some(Attributes { is_dir: true, .. }) => Ok(()),
        _ if path.as_os_str().is_empty() => Ok(()),
        _ => Err(failed(io::ErrorKind::NotADirectory.into())),
    }
}

/// Makes a folder in one that is there. Durable after [`sync_dir`] of that.
pub fn create_dir(path: &Path) -> Result<(), DiskError> {
    system::create_dir(path).map_err(|e| DiskError::new("create the folder", path, e))
}

/// What a name stands for; none if there is no such name.
fn find(path: &Path) -> io::Result<Option<Attributes>> {
    match system::attributes(path) {
        Ok(attributes) => Ok(Some(attributes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is in a folder, sorted by name.
pub fn list(path: &Path) -> Result<Vec<FolderEntry>, DiskError> {
    let mut entries = system::list(path).map_err(|e| DiskError::new("list the folder", path, e))?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether there is a file or folder of this name.
pub fn exists(path: &Path) -> Result<bool, DiskError> {
    find(path).map(|found| found.is_some()).map_err(|e| DiskError::new("look for", path, e))
}

/// Renames a file or folder, over an existing file of the new name, and syncs both folders.
pub fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    system::rename(from, to).map_err(|e| DiskError::new("rename", from, e))?;
    sync_dir(parent_of(to))?;
    if parent_of(from) != parent_of(to) {
        sync_dir(parent_of(from))?;
    }
    Ok(())
}

/// Renames a file within its folder, over an existing one of the new name. Durable after [`sync_dir`].
pub fn rename_file(from: &Path, to: &Path) -> Result<(), DiskError> {
    system::rename(from, to).map_err(|e| DiskError::new("rename", from, e))
}

/// Gives the file `from` another name, `to`, which must not exist, on the same file system: it stays as long as it has one of them.
/// Durable after [`sync_dir`].
pub fn hard_link(from: &Path, to: &Path) -> Result<(), DiskError> {
    system::hard_link(from, to).map_err(|e| DiskError::new("give another name to", from, e))
}

/// Removes a file; one that does not exist is fine. Durable after [`sync_dir`].
pub fn remove_file(path: &Path) -> Result<(), DiskError> {
    match system::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it, and syncs its parent; one that does not exist is fine.
pub fn remove_dir_all(path: &Path) -> Result<(), DiskError> {
    match system::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DiskError::new("remove the folder", path, error)),
        Ok(()) => sync_dir(parent_of(path)),
    }
}

/// Makes the names in a folder durable.
pub fn sync_dir(path: &Path) -> Result<(), DiskError> {
    system::sync_dir(path).map_err(|e| DiskError::new("sync the folder", path, e))
}

/// The bytes of a small file; `None` if it does not exist.
pub fn read_file(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    let file = match File::with_mode(path, "read", OpenMode::READ) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    Ok(Some(file.read_at(len, 0)?))
}

/// Writes a file whose loss is no loss, since it is checked and rebuilt when read: nothing is synced.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    File::with_mode(path, "write", OpenMode::write(Create::Empty))?.write_all_at(bytes, 0)
}

/// Replaces the bytes of a file so that a crash leaves the old or the new ones, and returns when they are durable:
/// a temporary file beside it (its name + `.tmp`) is written, synced and renamed, then the folder is synced.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let file = File::open_or_create(&temporary)?;
    file.set_len(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    drop(file);
    rename(&temporary, path)
}

/// Copies a file to a new one, `to`, which must not exist, and answers the copy, which is not durable yet. The new file's owner and
/// rights are those of any file that this process makes.
pub fn copy_file(from: &Path, to: &Path) -> Result<File, DiskError> {
    let source = File::open_read_only(from)?;
    let copy = File::create_new(to)?;
    copy.copy_from(&source)?;
    Ok(copy)
}

/// The length of a file in bytes.
pub fn file_bytes(path: &Path) -> Result<u64, DiskError> {
    let attributes = system::attributes(path).map_err(|e| DiskError::new("read the length of", path, e))?;
    Ok(attributes.len)
}

/// When a file was last written, ms since 1970.
pub fn modified_ms(path: &Path) -> Result<i64, DiskError> {
    let attributes = system::attributes(path).map_err(|e| DiskError::new("read the age of", path, e))?;
    Ok(attributes.modified_ms)
}

/// How large a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that are free for us.
    pub free_bytes: u64,
    /// Bytes of all of it.
    pub total_bytes: u64,
}

/// How large the file system is that holds `path`, and how much of it is free.
pub fn space(path: &Path) -> Result<Space, DiskError> {
    let (free_bytes, total_bytes) =
        system::space(path).map_err(|e| DiskError::new("read the free space of", path, e))?;
    Ok(Space { free_bytes, total_bytes })
}

/// Bytes that are free for us on the file system that holds `path`.
pub fn free_bytes(path: &Path) -> Result<u64, DiskError> {
    space(path).map(|space| space.free_bytes)
}

/// The folder that holds `path`; a bare name lies in the current one.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_with_their_parents_and_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dir_all(&deep).unwrap();
        create_dir_all(&deep).unwrap();
        write_file(&deep.join("2"), b"two").unwrap();
        write_file(&deep.join("1"), b"").unwrap();
        create_dir_all(&deep.join("3")).unwrap();
        let found: Vec<_> = list(&deep).unwrap().into_iter().map(|e| (e.name, e.len * u64::from(!e.is_dir))).collect();
        assert_eq!(found, [("1".to_owned(), 0), ("2".to_owned(), 3), ("3".to_owned(), 0)]);
        let over_a_file = create_dir_all(&deep.join("2"));
        assert!(over_a_file.unwrap_err().to_string().starts_with("cannot create the folder "));
        remove_dir_all(&deep).unwrap();
        remove_dir_all(&deep).unwrap();
        assert!(!exists(&deep).unwrap());
    }

    #[test]
    fn a_replaced_file_holds_the_new_bytes_alone_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        // A crash left a longer temporary file behind.
        write_file(&dir.path().join("checkpoint.tmp"), b"something much longer").unwrap();
        replace_file(&path, b"first").unwrap();
        replace_file(&path, b"2nd").unwrap();
        assert_eq!(read_file(&path).unwrap().unwrap(), b"2nd");
        assert_eq!(list(dir.path()).unwrap().len(), 1);
        remove_file(&path).unwrap();
        remove_file(&path).unwrap();
        assert_eq!(read_file(&path).unwrap(), None);
    }

    #[test]
    fn a_copy_has_all_bytes_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let bytes: Vec<u8> = (0..700_000u32).map(|n| n as u8).collect();
        write_file(&from, &bytes).unwrap();
        assert_eq!(copy_file(&from, &to).unwrap().len().unwrap(), 700_000);
        assert!(read_file(&to).unwrap().unwrap() == bytes);
        assert!(copy_file(&from, &to).unwrap_err().to_string().starts_with("cannot create "));
        assert!(copy_file(&dir.path().join("none"), &dir.path().join("x")).unwrap_err().is_not_found());
    }

    #[test]
    fn a_file_with_two_names_stays_when_one_goes_on_both_kinds_of_disk() {
        let real = tempfile::tempdir().unwrap();
        let simulated = crate::SimulatedDisk::new(1);
        for dir in [real.path(), simulated.root()] {
            let (from, to) = (dir.join("from"), dir.join("to"));
            write_file(&from, b"some").unwrap();
            hard_link(&from, &to).unwrap();
            assert!(hard_link(&from, &to).unwrap_err().to_string().starts_with("cannot give another name to "));
            File::open(&from).unwrap().write_all_at(b"thing", 4).unwrap();
            replace_file(&from, b"else").unwrap();
            remove_file(&from).unwrap();
            assert_eq!(read_file(&to).unwrap().unwrap(), b"something");
            assert!(hard_link(&from, &dir.join("x")).unwrap_err().is_not_found());
        }
    }

    #[test]
    fn there_is_some_space() {
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        assert!(free_bytes(Path::new("/nowhere")).is_err());
    }
}
