//! Why there is no backup, or nothing is restored.

use std::path::PathBuf;

use millpond_disk::DiskError;

/// What went wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The disk failed, or is full. What was backed up before is as it was.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The folder is there, holds something, and is no backup.
    #[error("{} holds other things and is no backup. Name an empty folder, or one that does not exist yet", path.display())]
    NotABackup {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to restore.
    #[error("{} is no backup: the file millpond-backup is missing", path.display())]
    NoBackup {
        /// The folder.
        path: PathBuf,
    },
    /// A later version wrote it.
    #[error("{} has a format that this version does not know: {found}. Use the version that wrote it, or a later one", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// There is nothing to back up.
    #[error("{} is no data folder: it has no file meta.properties. Name the node's data folder with --data", path.display())]
    NoDataFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A node runs there, or another backup.
    #[error("{source}. Wait until it has ended")]
    DataFolderInUse {
        /// Who has the lock.
        source: DiskError,
    },
    /// The node has taken away what it had frozen.
    #[error("{source}: the node stopped or was started again while it was backed up. Take the backup again")]
    Thawed {
        /// What is missing.
        source: DiskError,
    },
    /// What was read is not what was frozen.
    #[error("nothing was backed up: {what}")]
    NotSound {
        /// What happened, and what to do.
        what: String,
    },
    /// Another backup is being taken.
    #[error("{source}. Wait until the other backup has ended")]
    InUse {
        /// Who has the lock.
        source: DiskError,
    },
    /// It would back up itself.
    #[error("the backup {} lies in the data folder {}, and would hold itself. Name a folder outside of it", backup.display(), data.display())]
    Inside {
        /// The backup.
        backup: PathBuf,
        /// The data folder.
        data: PathBuf,
    },
    /// Somebody writes to the data folder, in spite of the lock.
    #[error("{} changed while it was read: {was} bytes were {is}. Find out what writes to the data folder, and take the backup again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its length when the folder was listed.
        was: u64,
        /// Its length later.
        is: u64,
    },
    /// No backup has come to its end there.
    #[error("the backup {} has no generation yet: none was taken, or none came to its end", path.display())]
    Empty {
        /// The backup.
        path: PathBuf,
    },
    /// There is no such generation.
    #[error("the backup {} has no generation {generation}; it has {there}", path.display())]
    NoGeneration {
        /// The backup.
        path: PathBuf,
        /// What was asked for.
        generation: u64,
        /// What there is.
        there: String,
    },
    /// A generation's manifest is not what was written.
    #[error("the manifest {} is damaged: {what}. Restore another generation (millpond backup --list), or the file from a copy of the backup", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A piece is not what was written.
    #[error(
        "the backup is damaged: of {} the piece from byte {position} on, {}, {what}. Generations that share it have the same damage; \
         restore one that does not, or the piece from a copy of the backup", file.display(), piece.display()
    )]
    Piece {
        /// The file of the data folder.
        file: PathBuf,
        /// Where in it the piece begins.
        position: u64,
        /// The file of the backup.
        piece: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A folder is restored to a place where nothing is.
    #[error("{} is not empty. Restore to a folder that does not exist, and start the node on that", path.display())]
    TargetNotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Another restore runs, or one was killed.
    #[error("{} is what a restore to this place has left that did not end. If none is running, delete it, and restore again", path.display())]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
}
