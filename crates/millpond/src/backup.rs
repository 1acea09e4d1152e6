//! `millpond backup` and `millpond restore`: copies of a data folder, whether a node runs on it or not, and the way back.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use millpond_backup::{Backup, BackupError, Checked, Location, Restored, Taken};
use millpond_disk::DiskError;

use crate::control::{ControlClient, ControlError};
use crate::log::time;

/// How much nicer than a node a backup of it is (`nice(2)`); compaction is at 10.
const NICE: i32 = 10;

/// Exit code of `--verify` and `--list`, when a generation is damaged.
const DAMAGED: i32 = 1;

const BUCKETS: &str = "\
A bucket is any S3-compatible server's that knows conditional writes (If-None-Match). These variables say which, and by which key:
  AWS_ENDPOINT_URL         the server, http://… or https://…; Amazon's without it
  AWS_REGION               its region [default: us-east-1]
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
  AWS_SESSION_TOKEN        with a temporary key";

/// Flags of `millpond backup`.
#[derive(Debug, Args)]
#[command(after_help = BUCKETS)]
pub(crate) struct BackupArguments {
    /// Where the backup is, or is to be: a folder, file:///path, or s3://bucket/prefix. An empty place becomes one
    #[arg(value_name = "PLACE")]
    backup: OsString,
    /// The data folder; a node may be running on it
    #[arg(long, value_name = "DIR", default_value = "millpond-data", env = "MILLPOND_DATA")]
    data: PathBuf,
    /// Afterwards remove all generations but the newest N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep: Option<u64>,
    /// Take no backup; show the generations that there are
    #[arg(long, conflicts_with_all = ["keep", "verify"])]
    list: bool,
    /// Take no backup; read all generations, and say whether they could be restored
    #[arg(long, conflicts_with = "keep")]
    verify: bool,
    /// First remove the lock ID, which a backup to a bucket has left that was killed; the error that it causes names it
    #[arg(long, value_name = "ID", conflicts_with_all = ["list", "verify"])]
    break_lock: Option<String>,
}

/// Flags of `millpond restore`.
#[derive(Debug, Args)]
#[command(after_help = BUCKETS)]
pub(crate) struct RestoreArguments {
    /// Where the backup is: a folder, file:///path, or s3://bucket/prefix
    #[arg(value_name = "PLACE")]
    backup: OsString,
    /// The data folder to make; must be missing or empty
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Which generation; the newest without it
    #[arg(long, value_name = "N")]
    generation: Option<u64>,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupToolError {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("what was done cannot be written: {0}")]
    Output(#[from] io::Error),
    #[error(transparent)]
    Node(#[from] ControlError),
}

/// Takes, lists or verifies, and gives the exit code.
pub(crate) fn back_up(arguments: &BackupArguments) -> Result<i32, BackupToolError> {
    let mut out = io::stdout().lock();
    let place = location(&arguments.backup)?;
    if arguments.list {
        return list(&Backup::open(&place)?, &mut out);
    }
    if arguments.verify {
        return verify(&Backup::open(&place)?, &mut out);
    }
    Backup::check_outside(&place, &arguments.data)?;
    let backup = Backup::open_or_create(&place)?;
    if let Some(id) = &arguments.break_lock {
        match backup.break_lock(id)? {
            Some(whose) => writeln!(out, "broke the lock of {whose}")?,
            None => writeln!(out, "there is no lock to break")?,
        }
    }
    let taken = match backup.take(&arguments.data, now_ms()) {
        Err(BackupError::DataFolderInUse { source }) => take_of_running(&backup, &arguments.data, source)?,
        taken => taken?,
    };
    let shared = taken.bytes - taken.bytes_copied;
    writeln!(
        out,
        "generation {}: {} files, {} bytes; copied {}, shared {shared} with what was there",
        taken.generation, taken.files, taken.bytes, taken.bytes_copied
    )?;
    if let Some(keep) = arguments.keep {
        let pruned = backup.prune(keep)?;
        writeln!(out, "removed {} generations, {} bytes", pruned.generations, pruned.bytes)?;
    }
    Ok(0)
}

/// The same of a node that runs: it freezes its data folder meanwhile, and goes on.
fn take_of_running(backup: &Backup, data: &Path, in_use: DiskError) -> Result<Taken, BackupToolError> {
    let mut node = ControlClient::connect(data, in_use)?;
    let frozen = node.freeze(data)?;
    // The node's clients come first.
    millpond_broker::lower_thread_priority(NICE);
    let is_sound = || node.check().map_err(|error| error.to_string());
    Ok(backup.take_frozen(data, &frozen.path, &frozen.files, now_ms(), is_sound)?)
}

/// Restores, and gives the exit code.
pub(crate) fn restore(arguments: &RestoreArguments) -> Result<i32, BackupToolError> {
    let Restored { generation, files, bytes } =
        Backup::open(&location(&arguments.backup)?)?.restore(arguments.generation, &arguments.data)?;
    writeln!(
        io::stdout(),
        "restored generation {generation} to {}: {files} files, {bytes} bytes, all as they were written",
        arguments.data.display()
    )?;
    Ok(0)
}

/// What the user calls the place, and the environment says of it.
fn location(text: &OsStr) -> Result<Location, BackupError> {
    Location::parse(text, &|variable| std::env::var(variable).ok())
}

fn list(backup: &Backup, out: &mut impl Write) -> Result<i32, BackupToolError> {
    let mut code = 0;
    for generation in backup.generations()? {
        match generation {
            Ok(one) => {
                let (number, made, files, bytes) = (one.number, time(one.made_ms), one.files, one.bytes);
                writeln!(out, "generation {number}: {made}, {files} files, {bytes} bytes, of {}", one.source)?;
            }
            Err(error) => {
                code = DAMAGED;
                writeln!(out, "{error}")?;
            }
        }
    }
    Ok(code)
}

fn verify(backup: &Backup, out: &mut impl Write) -> Result<i32, BackupToolError> {
    let mut code = 0;
    for Checked { number, outcome } in backup.verify_all()? {
        match outcome {
            Ok(sound) => writeln!(out, "generation {number}: sound, {} files, {} bytes", sound.files, sound.bytes)?,
            Err(error) => {
                code = DAMAGED;
                writeln!(out, "generation {number}: {error}")?;
            }
        }
    }
    Ok(code)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
