//! Pieces of files, named by their hashes.

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

    /// Its name in the backup.
    pub(crate) fn place_name(&self) -> String {
        format!("{PIECES}/{}/{}", self.0.get(..2).unwrap_or_default(), self.0)
    }

    /// The piece that has this name in the backup.
    pub(crate) fn in_place(name: &str) -> Option<PieceId> {
        let id = PieceId::try_from(name.rsplit('/').next()?.to_owned()).ok()?;
        (id.place_name() == name).then_some(id)
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
    /// Has the piece in the backup, durably, when the manifest that names it is written. Says whether it is written; else it was there.
    pub(crate) fn keep_piece(&self, id: &PieceId, bytes: &[u8]) -> Result<bool, BackupError> {
        self.place.keep(id, bytes)
    }
}
