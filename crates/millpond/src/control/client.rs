//! The side of who asks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millpond_backup::FrozenFile;
use millpond_disk::DiskError;

use super::{Answer, LINE_BYTES_MAX, Request, SOCKET, address, line};

/// A node that says nothing for so long does not answer. Freezing waits for the syncs of all logs and of the queries' state.
const ANSWERED_WITHIN: Duration = Duration::from_secs(600);
/// More files than these are no data folder's.
const FILES_MAX: usize = 10_000_000;

/// A connection to a running node.
pub(crate) struct ControlClient {
    path: PathBuf,
    reader: BufReader<UnixStream>,
}

/// What a node has frozen, for as long as the connection lasts.
pub(crate) struct FrozenFolder {
    pub(crate) path: PathBuf,
    pub(crate) files: Vec<FrozenFile>,
}

/// Why a running node does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error(
        "{in_use}, and cannot be asked to freeze it at {}: {source}. If that is another backup, or another command, wait until it has \
         ended; a node of an older version has to be stopped for a backup; another user's node is backed up by that user, or by root",
        path.display()
    )]
    NoNode { in_use: DiskError, path: PathBuf, source: io::Error },
    #[error("the node does not answer at {}: {source}. See its log", path.display())]
    Connection { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Refused(String),
}

impl ControlClient {
    /// Connects to the node that uses the data folder `data`, as `in_use` says.
    pub(crate) fn connect(data: &Path, in_use: DiskError) -> Result<ControlClient, ControlError> {
        let path = data.join(SOCKET);
        let connect = || {
            let (address, _folder) = address(data, SOCKET)?;
            let stream = UnixStream::connect(address)?;
            stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
            stream.set_write_timeout(Some(ANSWERED_WITHIN))?;
            Ok(stream)
        };
        match connect() {
            Ok(stream) => Ok(ControlClient { path, reader: BufReader::new(stream) }),
            Err(source) => Err(ControlError::NoNode { in_use, path, source }),
        }
    }

    /// Has the data folder `data` frozen.
    pub(crate) fn freeze(&mut self, data: &Path) -> Result<FrozenFolder, ControlError> {
        self.ask(Request::Freeze {})?;
        let Answer::Folder { name } = self.answer()? else { return Err(self.unexpected()) };
        if name.contains('/') || name.starts_with("..") {
            return Err(self.unexpected());
        }
        let mut files = Vec::new();
        loop {
            match self.answer()? {
                Answer::File { path, bytes, bytes_settled } if files.len() < FILES_MAX => {
                    files.push(FrozenFile { path, bytes, bytes_settled });
                }
                Answer::Frozen { files: count } if count == files.len() as u64 => break,
                _ => return Err(self.unexpected()),
            }
        }
        Ok(FrozenFolder { path: data.join(name), files })
    }

    /// Whether what was read of it until now is what was frozen.
    pub(crate) fn check(&mut self) -> Result<(), ControlError> {
        self.ask(Request::Check {})?;
        match self.answer()? {
            Answer::Sound {} => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    fn ask(&mut self, request: Request) -> Result<(), ControlError> {
        self.reader.get_mut().write_all(&line(&request)).map_err(|source| self.lost(source))
    }

    /// The next answer, unless the node refuses.
    fn answer(&mut self) -> Result<Answer, ControlError> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut bytes);
        match read {
            Err(source) => return Err(self.lost(source)),
            Ok(0) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
        }
        match serde_json::from_slice(&bytes) {
            Ok(Answer::Refused { what }) => Err(ControlError::Refused(what)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.lost(io::Error::new(io::ErrorKind::InvalidData, error))),
        }
    }

    fn lost(&self, source: io::Error) -> ControlError {
        ControlError::Connection { path: self.path.clone(), source }
    }

    fn unexpected(&self) -> ControlError {
        self.lost(io::Error::new(io::ErrorKind::InvalidData, "an answer that was not asked for"))
    }
}
