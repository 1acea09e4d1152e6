//! The node: its parts are started from the bottom up, and stopped from the top down.

mod exposure;
mod open_files;
mod settings;

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use millpond_broker::{Broker, BrokerOptions, OpenError};
use millpond_console::{Console, ConsoleError, ConsoleHandle, ConsoleOptions, Parts};
use millpond_kafka::{BindError, Server, ServerOptions};
use millpond_streams::{Engine, EngineError, EngineOptions};
use prometheus_client::registry::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::control::ControlServer;
use settings::SettingsProblem;

/// The folder below the data folder where queries keep their state.
const STATE_FOLDER: &str = "streams-state";

/// How long a stop waits for the steps that queries are in the middle of.
const STREAMS_STOP_MAX: Duration = Duration::from_secs(15);

/// Flags of `millpond serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// Where data are kept; made if missing
    #[arg(long, value_name = "DIR", default_value = "millpond-data", env = "MILLPOND_DATA")]
    data: PathBuf,
    /// Where to listen for Kafka clients; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092", env = "MILLPOND_LISTEN")]
    listen: String,
    /// Where to listen for HTTP: health, metrics, SQL; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9644", env = "MILLPOND_HTTP")]
    http: String,
    /// The address that Kafka clients are told to use, if it is not the one they connect to
    #[arg(long, value_name = "HOST:PORT", env = "MILLPOND_ADVERTISE")]
    advertise: Option<String>,
    /// A file of settings, name=value, with Kafka's names for Kafka's settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting; may be repeated, and wins over the file
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = settings::pair)]
    settings: Vec<(String, String)>,
}

/// Why the node does not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Settings(#[from] SettingsProblem),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the streams cannot be started: {0}")]
    Streams(#[from] EngineError),
    #[error(transparent)]
    Listen(#[from] BindError),
    #[error(transparent)]
    Http(#[from] ConsoleError),
    #[error("the runtime cannot be started: {0}")]
    Runtime(io::Error),
    #[error("the listener for Kafka clients ended: {0}")]
    Listener(String),
    #[error("the log could not be closed cleanly, the next start will verify it: {0}")]
    Close(OpenError),
}

/// Serves until a signal comes.
pub(crate) fn run(arguments: ServeArguments) -> Result<(), ServeError> {
    log_to_stderr();
    use_small_pages();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ServeError::Runtime)?;
    let outcome = runtime.block_on(serve(arguments));
    // Whatever still waits for a client must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// The allocator asks for huge pages where it can. A node's memory is many small things that come and go, and with pages of
/// 2 MB it took 43 MB instead of 29 idle and 250 instead of 177 under load, and no less CPU (the bench's quick round, one run each).
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on; the node takes a little more memory");
    }
}

async fn serve(arguments: ServeArguments) -> Result<(), ServeError> {
    // From here on a signal means a clean stop, also in the middle of the start.
    let signals = Signals::listen().map_err(ServeError::Runtime)?;
    let mut settings = settings::read(arguments.config.as_deref(), &arguments.settings)?;
    open_files::fit(&mut settings);
    let (stop, stopped) = watch::channel(false);

    let console = Console::bind(ConsoleOptions::new(&arguments.http)).await?;
    let (http_addr, handle) = (console.local_addr(), console.handle());
    // Until the very end, so that it can say that the node stops.
    let console = tokio::spawn(console.run(std::future::pending()));

    let options = BrokerOptions { settings, ..BrokerOptions::new(&arguments.data) };
    let broker = tokio::task::spawn_blocking(move || Broker::open(options)).await.expect("opening does not panic")?;
    let node = Node::start(broker, &arguments, &handle).await?;
    exposure::warn(node.kafka_addr, http_addr, arguments.advertise.as_deref());
    let kafka_addr = node.kafka_addr;
    let control = node.control(&arguments.data).map(|control| tokio::spawn(control.run()));
    let mut server = tokio::spawn(node.server.run(until(stopped)));
    announce(kafka_addr, http_addr);

    // A node that no client reaches must not look alive: without its listener it ends.
    let mut listener = tokio::select! {
        name = signals.first() => {
            tracing::info!(signal = name, "stopping");
            None
        }
        ended = &mut server => Some(ended),
    };
    handle.stopping();
    let _ = stop.send(true);
    if let Some(control) = control {
        control.abort();
        // With it goes what it has frozen.
        let _ = control.await;
    }
    if listener.is_none() {
        listener = Some(server.await);
    }
    let listened = match listener {
        Some(Err(error)) => Err(ServeError::Listener(error.to_string())),
        _ => Ok(()),
    };
    if tokio::time::timeout(STREAMS_STOP_MAX, node.engine.shutdown()).await.is_err() {
        tracing::warn!(
            "a step of a query did not end within {} s; it is taken again at the next start",
            STREAMS_STOP_MAX.as_secs()
        );
    }
    node.broker.shutdown().await.map_err(ServeError::Close)?;
    console.abort();
    tracing::info!("stopped");
    listened
}

/// What serves, once it has started.
struct Node {
    broker: Arc<Broker>,
    engine: Arc<Engine>,
    server: Server,
    kafka_addr: SocketAddr,
}

impl Node {
    /// Starts what stands above the broker. When that fails the broker is closed cleanly.
    async fn start(
        broker: Arc<Broker>,
        arguments: &ServeArguments,
        console: &ConsoleHandle,
    ) -> Result<Node, ServeError> {
        match Node::assemble(broker.clone(), arguments, console).await {
            Ok(node) => Ok(node),
            Err(error) => {
                if let Err(error) = broker.shutdown().await {
                    tracing::warn!(%error, "the log could not be closed cleanly, the next start will verify it");
                }
                Err(error)
            }
        }
    }

    async fn assemble(
        broker: Arc<Broker>,
        arguments: &ServeArguments,
        console: &ConsoleHandle,
    ) -> Result<Node, ServeError> {
        let options = ServerOptions { listen: arguments.listen.clone(), advertise: arguments.advertise.clone() };
        let server = Server::bind(broker.clone(), options).await?;
        let engine = Engine::start(broker.clone(), EngineOptions::new(arguments.data.join(STATE_FOLDER))).await?;
        let mut registry = Registry::default();
        broker.register_metrics(&mut registry);
        server.register_metrics(&mut registry);
        engine.register_metrics(&mut registry);
        console.ready(Parts { engine: engine.clone(), registry });
        let kafka_addr = server.local_addr();
        Ok(Node { broker, engine, server, kafka_addr })
    }
}

impl Node {
    /// Listens for who wants a backup. A file system that has no sockets keeps nobody from anything else.
    fn control(&self, data: &Path) -> Option<ControlServer> {
        match ControlServer::bind(data, STATE_FOLDER, self.broker.clone(), self.engine.clone()) {
            Ok(server) => Some(server),
            Err(error) => {
                tracing::warn!(%error, "backups can only be taken while this node is stopped");
                None
            }
        }
    }
}

/// Ready when the node is to stop.
async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The one line that scripts wait for.
fn announce(kafka: SocketAddr, http: SocketAddr) {
    let mut stdout = io::stdout();
    // Nobody may be listening; the node serves all the same.
    let _ = writeln!(stdout, "millpond ready kafka={kafka} http={http}").and_then(|()| stdout.flush());
}

/// The signals that stop the node.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one. From then on a second one ends the process at once, as `kill -9` would.
    async fn first(mut self) -> &'static str {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            tracing::warn!("a second signal: ending at once, the next start will verify the logs");
            std::process::exit(1);
        });
        name
    }
}

/// Logs go to stderr; `MILLPOND_LOG` says how much, as in `debug` or `millpond_kafka=debug`, `info` without it.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("MILLPOND_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // A line that cannot be written (a full disk, a closed pipe) is lost; telling so on stderr would panic.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .init();
}
