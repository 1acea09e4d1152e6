//! Starts the binary, talks to it with kcat, and lets nothing outlive a test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Everything that is waited for comes within this time, or the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder that goes when the test ends.
pub(crate) struct DataFolder {
    folder: tempfile::TempDir,
    name: String,
}

impl DataFolder {
    pub(crate) fn new() -> DataFolder {
        DataFolder::named("data")
    }

    pub(crate) fn named(name: &str) -> DataFolder {
        DataFolder { folder: tempfile::tempdir().expect("a temporary folder"), name: name.to_owned() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// A path beside it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A node with this data, on free ports.
    pub(crate) fn serve(&self) -> Node {
        self.serve_with(&[])
    }

    pub(crate) fn serve_with(&self, arguments: &[&str]) -> Node {
        Node::start(&self.path(), &self.folder.path().join("log"), arguments)
    }
}

/// The command that is tested.
pub(crate) fn millpond() -> Command {
    Command::new(env!("CARGO_BIN_EXE_millpond"))
}

/// A running node. Killed when it is dropped.
pub(crate) struct Node {
    child: Child,
    /// Where Kafka clients connect.
    pub(crate) kafka: String,
    /// Where HTTP is served.
    pub(crate) http: String,
    log: PathBuf,
}

impl Node {
    fn start(data: &Path, log: &Path, arguments: &[&str]) -> Node {
        let stderr = std::fs::File::options().create(true).append(true).open(log).expect("a log file");
        let mut child = millpond()
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary starts");
        let (sender, receiver) = mpsc::channel();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(PATIENCE).unwrap_or_default();
        let mut words = line.split_whitespace();
        let mut address = |name: &str| words.find_map(|word| word.strip_prefix(name).map(str::to_owned));
        match (address("kafka="), address("http=")) {
            (Some(kafka), Some(http)) if line.starts_with("millpond ready ") => {
                Node { child, kafka, http, log: log.to_owned() }
            }
            _ => {
                let _ = child.kill();
                panic!("no ready line but {line:?}; the log: {}", std::fs::read_to_string(log).unwrap_or_default());
            }
        }
    }

    /// What it wrote to stderr so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log file")
    }

    /// Sends a signal by its name, as in "TERM".
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success(), "signal {name}");
    }

    /// Waits for the end.
    pub(crate) fn exit(mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the node does not end; its log: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it cleanly.
    pub(crate) fn stop(self) {
        let log = self.log.clone();
        self.signal("TERM");
        let status = self.exit();
        assert!(status.success(), "{status}; the log: {}", std::fs::read_to_string(log).unwrap_or_default());
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
    }

    /// Produces lines as records' values.
    pub(crate) fn produce<S: AsRef<str>>(&self, topic: &str, lines: &[S]) {
        let output = self.try_produce(topic, lines);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn try_produce<S: AsRef<str>>(&self, topic: &str, lines: &[S]) -> Output {
        let mut kcat = kcat(&["-P", "-b", &self.kafka, "-t", topic, "-X", "message.timeout.ms=30000"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kcat is installed (apt-get install kcat)");
        let mut stdin = kcat.stdin.take().expect("stdin is a pipe");
        for line in lines {
            writeln!(stdin, "{}", line.as_ref()).expect("kcat reads");
        }
        drop(stdin);
        kcat.wait_with_output().expect("kcat ends")
    }

    /// Everything in a topic, in the order of its partitions.
    pub(crate) fn consume(&self, topic: &str) -> Vec<String> {
        let output = kcat(&["-C", "-b", &self.kafka, "-t", topic, "-o", "beginning", "-e", "-q"])
            .output()
            .expect("kcat is installed (apt-get install kcat)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }

    /// The records of a topic as soon as there are that many.
    pub(crate) fn consume_at_least(&self, topic: &str, count: usize) -> Vec<String> {
        wait_for(&format!("{count} records in {topic}"), || {
            let records = self.consume(topic);
            if records.len() >= count { Ok(records) } else { Err(format!("{records:?}; {}", self.log())) }
        })
    }

    /// Runs `millpond sql`.
    pub(crate) fn sql(&self, arguments: &[&str]) -> Output {
        millpond()
            .args(["sql", "--server", &format!("http://{}", self.http)])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts")
    }

    /// What a statement prints, which must succeed.
    pub(crate) fn rows(&self, statement: &str) -> Vec<String> {
        let output = self.sql(&["--format", "json", statement]);
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }

    /// One HTTP request; the status and the whole rest of the answer.
    pub(crate) fn http(&self, head: &str, body: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.http).expect("HTTP is served");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let host = if head.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.http) };
        let request = format!("{head}\r\n{host}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        // A server that refuses early may close before all is written.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let status = std::str::from_utf8(answer.get(9..12).expect("a status line")).expect("digits");
        (status.parse().expect("digits"), answer)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kcat(arguments: &[&str]) -> Command {
    let mut kcat = Command::new("kcat");
    kcat.args(arguments);
    kcat
}

/// Tries until it succeeds.
pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(instead) => assert!(started.elapsed() < PATIENCE, "no {what}, instead {instead}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
