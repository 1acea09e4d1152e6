//! What another process on the same machine may ask of a running node, over a socket in its data folder: who may use the folder may
//! ask. One request so far: to freeze the folder for a backup, for as long as the connection lasts.
//!
//! A request and an answer are lines of JSON:
//!
//! ```text
//! → {"freeze":{}}
//! ← {"folder":{"name":".frozen-0"}}
//! ← {"file":{"path":"flights-0/00000000000000000000.log","bytes":4718592,"bytes_settled":4718592}}      one for each file
//! ← {"frozen":{"files":1}}
//! → {"check":{}}
//! ← {"sound":{}}                             or, instead of any answer, {"refused":{"what":"…"}}
//! ```
//!
//! A line has at most [`LINE_BYTES_MAX`] bytes.

mod client;
mod server;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub(crate) use client::{ControlClient, ControlError};
pub(crate) use server::ControlServer;

/// The socket's name in the data folder.
const SOCKET: &str = ".control.sock";
/// A longer line is refused.
const LINE_BYTES_MAX: usize = 64 << 10;
/// A socket's path may have so many bytes (`sun_path` in unix(7) has 108, and one ends it).
const SOCKET_PATH_BYTES_MAX: usize = 107;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    Freeze {},
    Check {},
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Folder { name: String },
    File { path: String, bytes: u64, bytes_settled: u64 },
    Frozen { files: u64 },
    Sound {},
    Refused { what: String },
}

fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("a message is JSON, and memory takes it");
    line.push(b'\n');
    line
}

/// A name for a file in the data folder that a socket's address has room for, and what has to be held while it is used.
fn address(data: &Path, name: &str) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    let path = data.join(name);
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok((path, None));
    }
    let folder = rustix::fs::open(data, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
    Ok((PathBuf::from(format!("/proc/self/fd/{number}")).join(name), Some(folder)))
}
