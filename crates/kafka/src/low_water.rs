//! From how many bytes on a socket tells that there is something to read (`SO_RCVLOWAT`).
//!
//! A read that does not wait takes what there is all the same; the end of the stream and errors are told at once. When
//! the mark is lowered, the system tells at once if there is enough now, so nothing is missed.

use std::io;
use std::os::fd::AsRawFd;

use tokio::net::TcpStream;

/// The mark of one socket.
#[derive(Debug)]
pub(crate) struct LowWater {
    bytes: usize,
}

impl Default for LowWater {
    /// Of a new socket.
    fn default() -> LowWater {
        LowWater { bytes: 1 }
    }
}

impl LowWater {
    /// Whether there may be bytes that the socket does not tell of.
    pub(crate) fn is_raised(&self) -> bool {
        self.bytes > 1
    }

    /// Moves the mark to `bytes`. Where the system does not tell of what is there when the mark is lowered (all but
    /// Linux), the mark stays at one byte.
    pub(crate) fn set(&mut self, stream: &TcpStream, bytes: usize) -> io::Result<()> {
        if bytes == self.bytes || !cfg!(target_os = "linux") {
            return Ok(());
        }
        let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        // SAFETY: the descriptor is open as long as `stream` is borrowed, and the pointer is to an int of the given size.
        let outcome = unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVLOWAT,
                std::ptr::from_ref(&value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if outcome != 0 {
            return Err(io::Error::last_os_error());
        }
        self.bytes = bytes;
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_is_below_the_mark_is_told_when_the_mark_is_lowered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut mark = LowWater::default();
        assert!(!mark.is_raised());
        mark.set(&stream, 1000).unwrap();
        assert!(mark.is_raised());
        // The first read is tried without being told of anything.
        assert!(timeout(Duration::from_millis(10), stream.read_u8()).await.is_err(), "nothing was sent yet");
        client.write_all(&[7; 999]).await.unwrap();
        let told = timeout(Duration::from_millis(100), stream.read_u8()).await;
        assert!(told.is_err(), "999 bytes were told of: {told:?}");
        mark.set(&stream, 1).unwrap();
        assert_eq!(timeout(Duration::from_secs(20), stream.read_u8()).await.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn the_end_is_told_whatever_the_mark() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        LowWater::default().set(&stream, 1000).unwrap();
        drop(client);
        assert!(timeout(Duration::from_secs(20), stream.read_u8()).await.unwrap().is_err());
    }
}
