//! As much of HTTP/1.1 as talking to a node takes: one request a connection, answers in chunks.
//!
//! By hand, since a query that follows its topic must be stopped at once when Ctrl-C is pressed: the socket is at hand
//! to be shut down.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use serde::Deserialize;

use super::SqlError;
use super::reply::StatementError;

/// Bytes of a status line or header line.
const HEADER_LINE_BYTES_MAX: u64 = 16 << 10;

/// Header lines of an answer.
const HEADER_LINES_MAX: usize = 100;

/// Bytes of an answer that is read whole: an error, or the list of streams.
const WHOLE_BODY_BYTES_MAX: u64 = 64 << 20;

/// A node's HTTP address.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// `HOST:PORT`.
    address: String,
    /// The connection that is read now, if any.
    current: Arc<Mutex<Option<TcpStream>>>,
}

/// An answer whose head was read.
struct Answer {
    status: u16,
    body: Box<dyn Read>,
}

impl Server {
    /// Reads `http://HOST:PORT`; the port may be left out, and the scheme too.
    pub(crate) fn parse(url: &str) -> Result<Server, SqlError> {
        let wrong = || SqlError::Address(url.to_owned());
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(wrong()),
            None => url,
        };
        let address = rest.strip_suffix('/').unwrap_or(rest);
        if address.is_empty() || address.contains(['/', '?', '#', '@', ' ']) {
            return Err(wrong());
        }
        let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { address.to_owned() } else { format!("{address}:9644") };
        Ok(Server { address, current: Arc::default() })
    }

    /// The address, for people.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Ends the answer that is being read, from another thread.
    pub(crate) fn interrupt(&self) {
        if let Some(stream) = &*self.current() {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<TcpStream>> {
        self.current.lock().expect("nobody panics while holding a socket's handle")
    }

    /// Executes statements: the lines of the answer, or what is wrong with the first statement.
    #[allow(clippy::type_complexity, reason = "an error of the way, and one of the statement")]
    pub(crate) fn execute(
        &self,
        text: &str,
        follow: bool,
    ) -> Result<Result<impl Iterator<Item = io::Result<String>> + use<>, StatementError>, SqlError> {
        let path = if follow { "/sql?follow=true" } else { "/sql" };
        let answer = self.request("POST", path, text)?;
        if answer.status == 200 {
            let server = self.clone();
            let lines = BufReader::new(answer.body).lines();
            // The connection is at hand as long as lines are read.
            return Ok(Ok(lines.chain(std::iter::from_fn(move || {
                server.current().take();
                None
            }))));
        }
        let status = answer.status;
        #[derive(Deserialize)]
        struct Refusal {
            error: StatementError,
        }
        let body = whole(answer.body)?;
        match serde_json::from_str::<Refusal>(&body) {
            Ok(refusal) => Ok(Err(refusal.error)),
            Err(_) => Err(SqlError::BrokenOff(format!("{} answers HTTP {status}: is it a node?", self.address))),
        }
    }

    /// The registered streams, as `GET /streams` tells them.
    pub(crate) fn streams(&self) -> Result<serde_json::Value, SqlError> {
        let answer = self.request("GET", "/streams", "")?;
        let body = whole(answer.body)?;
        serde_json::from_str(&body).map_err(|error| SqlError::BrokenOff(error.to_string()))
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Result<Answer, SqlError> {
        let unreachable = |source| SqlError::Unreachable { address: self.address.clone(), source };
        let mut stream = TcpStream::connect(&self.address).map_err(unreachable)?;
        *self.current() = Some(stream.try_clone()?);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: millpond-sql\r\nAccept: application/x-ndjson\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).map_err(unreachable)?;
        read_head(BufReader::new(stream))
    }
}

fn whole(body: Box<dyn Read>) -> Result<String, SqlError> {
    let mut text = String::new();
    body.take(WHOLE_BODY_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn read_head(mut reader: BufReader<TcpStream>) -> Result<Answer, SqlError> {
    let nonsense = || SqlError::BrokenOff("the answer is not HTTP: is it a node's HTTP port?".to_owned());
    let first = header_line(&mut reader)?;
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(nonsense)?;
    let mut chunked = false;
    let mut length = None;
    for _ in 0..HEADER_LINES_MAX {
        let line = header_line(&mut reader)?;
        if line.is_empty() {
            let body: Box<dyn Read> = match (chunked, length) {
                (true, _) => Box::new(Chunks { reader, left: 0, ended: false }),
                (false, Some(length)) => Box::new(reader.take(length)),
                (false, None) => Box::new(reader),
            };
            return Ok(Answer { status, body });
        }
        let (name, value) = line.split_once(':').ok_or_else(nonsense)?;
        if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse().map_err(|_| nonsense())?);
        }
    }
    Err(nonsense())
}

fn header_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.take(HEADER_LINE_BYTES_MAX).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(whole) => Ok(whole.trim_end_matches('\r').to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A body in chunks: `length in hexadecimal CRLF bytes CRLF`, the last of length 0.
struct Chunks<R> {
    reader: R,
    /// Bytes of the current chunk that are not read yet.
    left: u64,
    ended: bool,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            self.left = self.next_chunk()?;
            self.ended = self.left == 0;
        }
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.reader.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        if self.left == 0 && !header_line(&mut self.reader)?.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(read)
    }
}

impl<R: BufRead> Chunks<R> {
    fn next_chunk(&mut self) -> io::Result<u64> {
        let line = header_line(&mut self.reader)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        u64::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_chunks(text: &str) -> io::Result<String> {
        let mut body = String::new();
        Chunks { reader: text.as_bytes(), left: 0, ended: false }.read_to_string(&mut body).map(|_| body)
    }

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(read_chunks("3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n").expect("whole"), "abc0123456789");
        assert_eq!(read_chunks("0\r\n\r\n").expect("whole"), "");
    }

    #[test]
    fn broken_chunks_are_errors() {
        for text in ["", "3\r\nab", "x\r\nabc\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3\r\nabc\r\n"] {
            assert!(read_chunks(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn addresses_are_read() {
        let address = |url: &str| Server::parse(url).map(|server| server.address).ok();
        assert_eq!(address("http://localhost:1234/").as_deref(), Some("localhost:1234"));
        assert_eq!(address("localhost").as_deref(), Some("localhost:9644"));
        assert_eq!(address("http://[::1]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(address("https://localhost"), None);
        assert_eq!(address("http://"), None);
        assert_eq!(address("http://host/path"), None);
    }
}
