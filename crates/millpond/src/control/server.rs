//! The node's side.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millpond_broker::{Broker, Frozen, FrozenEntry};
use millpond_disk::DiskError;
use millpond_streams::Engine;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Answer, LINE_BYTES_MAX, Request, SOCKET, address, line};

/// More connections at a time are closed at once.
const CONNECTIONS_MAX: usize = 8;
/// Who says nothing for so long after it has connected is sent away. Who has frozen the folder may take its time.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Who does not read for so long what it is told is sent away.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);
/// After a failed accept, the next is tried when so much time has passed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Listens in a data folder.
pub(crate) struct ControlServer {
    path: PathBuf,
    listener: UnixListener,
    node: Node,
}

#[derive(Clone)]
struct Node {
    broker: Arc<Broker>,
    engine: Arc<Engine>,
    state_folder: &'static str,
}

/// Why it does not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("cannot listen on {}: {source}", path.display())]
    Listen { path: PathBuf, source: io::Error },
}

impl ControlServer {
    /// Listens in the data folder `data`, of which this process has the lock, for this user alone. `state_folder` is where queries keep
    /// their state in it.
    pub(crate) fn bind(
        data: &Path,
        state_folder: &'static str,
        broker: Arc<Broker>,
        engine: Arc<Engine>,
    ) -> Result<ControlServer, BindError> {
        let (path, temporary) = (data.join(SOCKET), data.join(format!("{SOCKET}.tmp")));
        // What a killed node has left.
        millpond_disk::remove_file(&temporary)?;
        let failed = |source| BindError::Listen { path: path.clone(), source };
        let listen = || {
            let (address, _folder) = address(data, &format!("{SOCKET}.tmp"))?;
            let listener = UnixListener::bind(address)?;
            // Before it has the name by which others know it.
            std::fs::set_permissions(&temporary, PermissionsExt::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = listen().map_err(failed)?;
        millpond_disk::rename_file(&temporary, &path)?;
        Ok(ControlServer { path, listener, node: Node { broker, engine, state_folder } })
    }

    /// Serves until it is dropped; with it go all connections, and what was frozen for them.
    pub(crate) async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                        connections.spawn(serve(stream, self.node.clone()));
                    }
                    Ok(_) => tracing::warn!(max = CONNECTIONS_MAX, "too many connections to the data folder's socket"),
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the data folder's socket was not accepted");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // Left behind, it would only be something to wonder about.
        if let Err(error) = millpond_disk::remove_file(&self.path) {
            tracing::debug!(%error, "the data folder's socket stays");
        }
    }
}

async fn serve(stream: UnixStream, node: Node) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let first = tokio::time::timeout(FIRST_REQUEST_WITHIN, next_request(&mut reader)).await;
    let Ok(Some(first)) = first else { return };
    let answered = match first {
        Ok(Request::Freeze {}) => freeze(&mut reader, &mut writer, node).await,
        Ok(Request::Check {}) => refuse(&mut writer, "nothing is frozen".to_owned()).await,
        Err(what) => refuse(&mut writer, what).await,
    };
    if let Err(error) = answered {
        tracing::info!(%error, "a connection to the data folder's socket ended");
    }
}

/// Freezes the folder, says so, and keeps it frozen until the other side is gone.
async fn freeze(reader: &mut BufReader<OwnedReadHalf>, writer: &mut OwnedWriteHalf, node: Node) -> io::Result<()> {
    let Node { broker, engine, state_folder } = node;
    let began = std::time::Instant::now();
    let frozen =
        tokio::task::spawn_blocking(move || broker.freeze(|folder| engine.freeze_state(&folder.join(state_folder))));
    let frozen = match frozen.await {
        Ok(Ok(frozen)) => frozen,
        Ok(Err(error)) => {
            tracing::warn!(%error, "no backup can be taken");
            return refuse(writer, error.to_string()).await;
        }
        Err(_) => {
            return refuse(writer, "freezing the data folder ended in a panic, see the node's log".to_owned()).await;
        }
    };
    let files = frozen.files().len();
    tracing::info!(files, milliseconds = began.elapsed().as_millis(), "the data folder is frozen for a backup");
    let kept = keep(&frozen, reader, writer).await;
    // Many names may have to go.
    let _ = tokio::task::spawn_blocking(move || drop(frozen)).await;
    tracing::info!(files, seconds = began.elapsed().as_secs(), "the backup has ended, or was given up");
    kept
}

async fn keep(frozen: &Frozen, reader: &mut BufReader<OwnedReadHalf>, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    write(writer, &told(frozen)).await?;
    while let Some(request) = next_request(reader).await {
        match request {
            Ok(Request::Check {}) if frozen.is_sound() => write(writer, &line(&Answer::Sound {})).await?,
            Ok(Request::Check {}) => {
                let what = "a disk failed meanwhile, and what could not be written may be missing. See the node's log; start it again, \
                            and take the backup then";
                refuse(writer, what.to_owned()).await?;
            }
            Ok(Request::Freeze {}) => refuse(writer, "the data folder is frozen already".to_owned()).await?,
            Err(what) => return refuse(writer, what).await,
        }
    }
    Ok(())
}

fn told(frozen: &Frozen) -> Vec<u8> {
    let name = frozen.dir().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut told = line(&Answer::Folder { name });
    for FrozenEntry { path, bytes, bytes_settled } in frozen.files() {
        let file = Answer::File { path: path.clone(), bytes: *bytes, bytes_settled: *bytes_settled };
        told.extend(line(&file));
    }
    told.extend(line(&Answer::Frozen { files: frozen.files().len() as u64 }));
    told
}

async fn refuse(writer: &mut OwnedWriteHalf, what: String) -> io::Result<()> {
    write(writer, &line(&Answer::Refused { what })).await
}

async fn write(writer: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    tokio::time::timeout(WRITTEN_WITHIN, writer.write_all(bytes)).await?
}

/// The next request, or what is wrong with it; none when the other side has ended.
async fn next_request(reader: &mut BufReader<OwnedReadHalf>) -> Option<Result<Request, String>> {
    let mut bytes = Vec::new();
    let read = reader.take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut bytes).await;
    match read {
        Ok(0) | Err(_) => None,
        Ok(_) if bytes.last() != Some(&b'\n') => {
            Some(Err(format!("a request has no more than {LINE_BYTES_MAX} bytes")))
        }
        Ok(_) => Some(serde_json::from_slice(&bytes).map_err(|error| {
            format!("this node does not know the request ({error}). Use the `millpond` of the node's version")
        })),
    }
}
