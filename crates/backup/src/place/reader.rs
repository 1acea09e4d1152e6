//! Reads pieces in the order in which they are wanted, of a bucket several at a time.

use std::collections::VecDeque;

use tokio::task::JoinHandle;

use super::bucket::PIECES_IN_FLIGHT;
use super::{Found, Place};
use crate::BackupError;
use crate::manifest::FileEntry;
use crate::pieces::PieceId;

/// A piece, and what it is a part of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) file: &'a FileEntry,
    /// Where in the file it begins.
    pub(crate) position: u64,
    pub(crate) id: &'a PieceId,
    pub(crate) bytes: u64,
}

/// A piece, and its bytes; or what is wrong with it.
pub(crate) type Read<'a> = (Wanted<'a>, Result<Vec<u8>, String>);
type Request = JoinHandle<Result<(Found, String), BackupError>>;

/// Reads pieces; at most [`PIECES_IN_FLIGHT`] are in memory.
pub(crate) struct Reader<'a, I> {
    place: &'a Place,
    wanted: I,
    in_flight: VecDeque<(Wanted<'a>, Request)>,
}

impl<'a, I: Iterator<Item = Wanted<'a>>> Reader<'a, I> {
    pub(crate) fn new(place: &'a Place, wanted: I) -> Reader<'a, I> {
        Reader { place, wanted, in_flight: VecDeque::with_capacity(PIECES_IN_FLIGHT) }
    }

    /// The next piece. Its bytes have its hash.
    pub(crate) fn read_next(&mut self) -> Result<Option<Read<'a>>, BackupError> {
        let (wanted, found) = match self.place {
            Place::Folder(folder) => {
                let Some(wanted) = self.wanted.next() else { return Ok(None) };
                (wanted, folder.read(&wanted.id.place_name(), wanted.bytes)?)
            }
            Place::Bucket(bucket) => {
                while self.in_flight.len() < PIECES_IN_FLIGHT {
                    let Some(wanted) = self.wanted.next() else { break };
                    let request = bucket.spawn(bucket.begin_read(&wanted.id.place_name(), wanted.bytes));
                    self.in_flight.push_back((wanted, request));
                }
                let Some((wanted, request)) = self.in_flight.pop_front() else { return Ok(None) };
                let answer = bucket.wait(request).map_err(|error| BackupError::Runtime(error.into()))?;
                (wanted, answer?.0)
            }
        };
        Ok(Some((wanted, checked(&wanted, found))))
    }
}

impl<I> Drop for Reader<'_, I> {
    fn drop(&mut self) {
        self.in_flight.iter().for_each(|(_, request)| request.abort());
    }
}

fn checked(wanted: &Wanted<'_>, found: Found) -> Result<Vec<u8>, String> {
    let read = match found {
        Found::Missing => return Err("is missing".to_owned()),
        Found::TooLong(bytes) => return Err(format!("has {bytes} bytes instead of {}", wanted.bytes)),
        Found::Bytes(read) => read,
    };
    if read.len() as u64 != wanted.bytes {
        return Err(format!("has {} bytes instead of {}", read.len(), wanted.bytes));
    }
    if PieceId::of(&read) == *wanted.id { Ok(read) } else { Err("has other bytes than were written".to_owned()) }
}
