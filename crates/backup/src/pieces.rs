//! Pieces of files, named by their hashes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Backup, BackupError};

/// How long a piece is, but the last one of a file. A log that has grown by a few bytes has one new piece of at most this length.
pub const PIECE_BYTES: usize = 4 << 20;
pub(crate) const PIECES: &str = "pieces";
/// Digits of a hash: 32 bytes.
const DIGITS: usize = 64;

/// A piece's name: the BLAKE3 hash of its bytes, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PieceId(String);

impl PieceId {
    pub(crate) fn of(bytes: &[u8]) -> PieceId {
        PieceId(blake3::hash(bytes).to_hex().to_string())
    }

    /// The folder that it is in, and it.
    pub(crate) fn names(&self) -> (&str, &str) {
        (self.0.get(..2).unwrap_or_default(), &self.0)
    }
}

impl TryFrom<String> for PieceId {
    type Error = &'static str;

    fn try_from(name: String) -> Result<PieceId, &'static str> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_hash = name.len() == DIGITS && name.bytes().all(is_digit);
        if is_hash { Ok(PieceId(name)) } else { Err("no hash") }
    }
}

impl From<PieceId> for String {
    fn from(id: PieceId) -> String {
        id.0
    }
}

impl Backup {
    pub(crate) fn piece_path(&self, id: &PieceId) -> PathBuf {
        let (folder, name) = id.names();
        self.path.join(PIECES).join(folder).join(name)
    }

    /// Has the piece in the backup, durably, when it returns. Says whether it was written; else it was there.
    pub(crate) fn keep_piece(&self, id: &PieceId, bytes: &[u8]) -> Result<bool, BackupError> {
        let path = self.piece_path(id);
        if let Ok(file) = millpond_disk::File::open_read_only(&path) {
            // Read, and not believed: what is damaged here would be damaged in all generations to come.
            if file.len()? == bytes.len() as u64 && file.read_at(bytes.len(), 0)? == bytes {
                return Ok(false);
            }
        }
        if let Some(folder) = path.parent().filter(|folder| !matches!(millpond_disk::exists(folder), Ok(true))) {
            millpond_disk::create_dir_all(folder)?;
        }
        millpond_disk::replace_file(&path, bytes)?;
        Ok(true)
    }

    /// Reads a piece that has `bytes` bytes; else what is wrong with it.
    pub(crate) fn read_piece(&self, id: &PieceId, bytes: u64) -> Result<Result<Vec<u8>, String>, BackupError> {
        let file = match millpond_disk::File::open_read_only(&self.piece_path(id)) {
            Err(error) if error.is_not_found() => return Ok(Err("is missing".to_owned())),
            opened => opened?,
        };
        let len = file.len()?;
        if len != bytes {
            return Ok(Err(format!("has {len} bytes instead of {bytes}")));
        }
        let read = file.read_at(usize::try_from(bytes).unwrap_or(usize::MAX), 0)?;
        Ok(if PieceId::of(&read) == *id { Ok(read) } else { Err("has other bytes than were written".to_owned()) })
    }
}
