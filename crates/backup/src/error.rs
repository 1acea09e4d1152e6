//! Why there is no backup, or nothing is restored.

use std::path::PathBuf;

use millpond_disk::DiskError;

/// What went wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The disk failed, or is full. What was backed up before is as it was.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The requests to a server cannot be run by this machine.
    #[error("cannot run requests: {0}. Do it again with more memory, threads or open files")]
    Runtime(#[source] std::io::Error),
    /// That is no place for a backup.
    #[error("{text} is no place for a backup: {why}. Name a folder, file:///path, or s3://bucket/prefix")]
    Location {
        /// What was named.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// A variable that a bucket needs is missing, or says nothing sensible.
    #[error("{variable} {what}: {why}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        what: &'static str,
        /// What it is for, and what to do.
        why: &'static str,
    },
    /// The server that has the bucket did not do what was asked, or could not be asked. What was backed up before is as it was.
    #[error("cannot {action} {at}: {what}. {advice}")]
    Bucket {
        /// What was tried.
        action: &'static str,
        /// The URL.
        at: String,
        /// What came of it.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// The server knows no lock.
    #[error(
        "the server of {place} overwrites what must not be overwritten (it ignores If-None-Match), so two backups at a time would \
         damage each other. Use a server or a version of it that knows conditional writes"
    )]
    NoConditions {
        /// The bucket.
        place: String,
    },
    /// The place is there, holds something, and is no backup.
    #[error("{place} holds other things and is no backup. Name an empty place, or one that does not exist yet")]
    NotABackup {
        /// The folder or bucket.
        place: String,
    },
    /// There is nothing to restore.
    #[error("{place} is no backup: there is no millpond-backup in it")]
    NoBackup {
        /// The folder or bucket.
        place: String,
    },
    /// A later version wrote it.
    #[error(
        "{at} has a format that this version does not know: {found}. Use the version that wrote it, or a later one"
    )]
    NewerFormat {
        /// The file or object.
        at: String,
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
    /// The same, in a bucket; or it was killed.
    #[error(
        "{place} is being written to by {holder} since {since}. Wait until that has ended. If it was killed, and only then, go on with: \
         millpond backup {place} --break-lock {id}"
    )]
    Locked {
        /// The bucket.
        place: String,
        /// Who has the lock, as far as it says.
        holder: String,
        /// When it was made, by the server's clock.
        since: String,
        /// What it is called.
        id: String,
    },
    /// Somebody else has taken the bucket over.
    #[error(
        "the lock that this process had on {place} is gone: somebody broke it, and another backup may have removed what this one \
         copied. Nothing was added; find out who, and take the backup again"
    )]
    LockBroken {
        /// The bucket.
        place: String,
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
    #[error("the backup {place} has no generation yet: none was taken, or none came to its end")]
    Empty {
        /// The backup.
        place: String,
    },
    /// There is no such generation.
    #[error("the backup {place} has no generation {generation}; it has {there}")]
    NoGeneration {
        /// The backup.
        place: String,
        /// What was asked for.
        generation: u64,
        /// What there is.
        there: String,
    },
    /// A generation went while it was read.
    #[error(
        "generation {generation} of the backup {place} was removed while it was read. Take a newer one (millpond backup --list)"
    )]
    Removed {
        /// The backup.
        place: String,
        /// Its number.
        generation: u64,
    },
    /// A generation's manifest is not what was written.
    #[error(
        "the manifest {at} is damaged: {what}. Restore another generation (millpond backup --list), or the manifest from a copy of the backup"
    )]
    Manifest {
        /// The file or object.
        at: String,
        /// What is wrong with it.
        what: String,
    },
    /// A piece is not what was written.
    #[error(
        "the backup is damaged: of {} the piece from byte {position} on, {piece}, {what}. Generations that share it have the same damage; \
         restore one that does not, or the piece from a copy of the backup", file.display()
    )]
    Piece {
        /// The file of the data folder.
        file: PathBuf,
        /// Where in it the piece begins.
        position: u64,
        /// The file or object of the backup.
        piece: String,
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
