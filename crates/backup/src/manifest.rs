//! What a generation holds: a file of JSON, line by line.
//!
//! ```text
//! {"head":{"format":1,"made_ms":1764201600000,"source":"/var/lib/millpond","piece_bytes":4194304}}
//! {"folder":{"path":"flights-0"}}
//! {"file":{"path":"flights-0/00000000000000000000.log","bytes":4718592,"pieces":["3f9a…","07bc…"]}}
//! {"end":{"blake3":"…"}}                                       the hash of all lines before
//! ```
//!
//! A folder stands before what is in it. All pieces of a file have `piece_bytes` but the last.

use std::path::{Component, Path};

use millpond_types::TimestampMs;
use serde::{Deserialize, Serialize};

use crate::pieces::{PIECE_BYTES, PieceId};
use crate::place::{Found, Place};
use crate::{BackupError, Generation};

/// A longer manifest is refused: of a data folder with some million files.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 30;
const FORMAT: u32 = 1;

/// A generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) made_ms: TimestampMs,
    pub(crate) source: String,
    pub(crate) piece_bytes: u64,
    /// Folders, relative to the data folder's.
    pub(crate) folders: Vec<String>,
    pub(crate) files: Vec<FileEntry>,
}

/// A file of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) pieces: Vec<PieceId>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Head { format: u32, made_ms: TimestampMs, source: String, piece_bytes: u64 },
    Folder { path: String },
    File(FileEntry),
    End { blake3: String },
}

impl Manifest {
    pub(crate) fn new(made_ms: TimestampMs, source: &Path) -> Manifest {
        let source = source.display().to_string();
        let piece_bytes = PIECE_BYTES as u64;
        Manifest { made_ms, source, piece_bytes, folders: Vec::new(), files: Vec::new() }
    }

    pub(crate) fn summary(&self, number: u64) -> Generation {
        Generation {
            number,
            made_ms: self.made_ms,
            source: self.source.clone(),
            files: self.files.len() as u64,
            bytes: self.files.iter().map(|file| file.bytes).sum(),
        }
    }

    /// Its pieces, each as often as a file has it.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &PieceId> {
        self.files.iter().flat_map(|file| &file.pieces)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut push = |line: &Line| {
            serde_json::to_writer(&mut bytes, line).expect("a line is JSON, and memory takes it");
            bytes.push(b'\n');
        };
        let (made_ms, source, piece_bytes) = (self.made_ms, self.source.clone(), self.piece_bytes);
        push(&Line::Head { format: FORMAT, made_ms, source, piece_bytes });
        self.folders.iter().for_each(|path| push(&Line::Folder { path: path.clone() }));
        self.files.iter().for_each(|file| push(&Line::File(file.clone())));
        let end = Line::End { blake3: blake3::hash(&bytes).to_hex().to_string() };
        serde_json::to_writer(&mut bytes, &end).expect("a line is JSON, and memory takes it");
        bytes.push(b'\n');
        bytes
    }

    /// Reads what is at a name of a place; none if there is nothing.
    pub(crate) fn read(place: &Place, name: &str) -> Result<Option<Manifest>, BackupError> {
        let damaged = |what: &str| BackupError::Manifest { at: place.at(name), what: what.to_owned() };
        let bytes = match place.read(name, MANIFEST_BYTES_MAX)? {
            Found::Missing => return Ok(None),
            Found::TooLong(_) => return Err(damaged("it is longer than any manifest")),
            Found::Bytes(bytes) => bytes,
        };
        Manifest::decode(&bytes).map(Some).map_err(|wrong| match wrong {
            Wrong::Damaged(what) => damaged(what),
            Wrong::Newer(format) => BackupError::NewerFormat { at: place.at(name), found: format!("format={format}") },
        })
    }

    fn decode(bytes: &[u8]) -> Result<Manifest, Wrong> {
        let text = bytes.strip_suffix(b"\n").ok_or(Wrong::Damaged("its end is missing"))?;
        let end_at = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (before, end) = (bytes.get(..end_at).unwrap_or_default(), text.get(end_at..).unwrap_or_default());
        match serde_json::from_slice(end) {
            Ok(Line::End { blake3: hash }) if hash == blake3::hash(before).to_hex().as_str() => {}
            Ok(Line::End { .. }) => return Err(Wrong::Damaged("its lines are not those that were written")),
            _ => return Err(Wrong::Damaged("its last line is missing")),
        }
        let mut lines = before.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut manifest = match lines.next().map(serde_json::from_slice) {
            Some(Ok(Line::Head { format, .. })) if format > FORMAT => return Err(Wrong::Newer(format)),
            Some(Ok(Line::Head { made_ms, source, piece_bytes, .. })) if piece_bytes > 0 => {
                Manifest { made_ms, source, piece_bytes, folders: Vec::new(), files: Vec::new() }
            }
            _ => return Err(Wrong::Damaged("its first line is no head")),
        };
        for line in lines {
            match serde_json::from_slice(line) {
                Ok(Line::Folder { path }) if stays_inside(&path) => manifest.folders.push(path),
                Ok(Line::File(file)) if stays_inside(&file.path) => {
                    if file.bytes.div_ceil(manifest.piece_bytes) != file.pieces.len() as u64 {
                        return Err(Wrong::Damaged("a file's length does not fit its pieces"));
                    }
                    manifest.files.push(file);
                }
                Ok(Line::Folder { .. } | Line::File(_)) => return Err(Wrong::Damaged("a path leads elsewhere")),
                _ => return Err(Wrong::Damaged("a line is neither a folder nor a file")),
            }
        }
        Ok(manifest)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Damaged(&'static str),
    Newer(u32),
}

/// Whether a path leads to something in the folder that it is relative to.
fn stays_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let piece = PieceId::of(b"bytes");
        let file = |path: &str| FileEntry { path: path.to_owned(), bytes: 5, pieces: vec![piece.clone()] };
        Manifest {
            folders: vec!["a".to_owned(), "a/b".to_owned()],
            files: vec![file("a/b/c"), FileEntry { path: "a/empty".to_owned(), bytes: 0, pieces: Vec::new() }],
            ..Manifest::new(7, Path::new("/data\n\"here\""))
        }
    }

    #[test]
    fn it_comes_back() {
        assert_eq!(Manifest::decode(&manifest().encode()), Ok(manifest()));
        assert_eq!(manifest().summary(3).bytes, 5);
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_seen() {
        let bytes = manifest().encode();
        for at in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                // Hexadecimal digits in another case are the same number, but not what was written.
                assert!(Manifest::decode(&changed).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for path in ["../x", "/x", "a/../../x", ""] {
            let mut bad = manifest();
            bad.files[0].path = path.to_owned();
            assert_eq!(Manifest::decode(&bad.encode()), Err(Wrong::Damaged("a path leads elsewhere")), "{path}");
        }
    }

    #[test]
    fn a_piece_too_few_is_seen() {
        let mut bad = manifest();
        bad.files[0].pieces.clear();
        assert!(Manifest::decode(&bad.encode()).is_err());
    }
}
