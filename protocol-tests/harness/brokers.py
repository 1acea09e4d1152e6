"""The two brokers that the clients are driven against: Millpond, and Apache Kafka as the reference.

Both have the same face: `start()`, `restart()`, `kill()`, `stop()`, `bootstrap`, `pid`, `data`.
"""

import shutil
import signal
import socket
import time
from pathlib import Path

from . import paths, processes, setup

READY_SECONDS = 60


def free_port() -> int:
    """A port of the loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """What both brokers share: a folder, a port that survives a restart, one process."""

    name = "?"

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.process = None
        self.bootstrap = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self):
        """SIGKILL: nothing is flushed, nobody is told."""
        self.process.stop(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self.process.stop(signal.SIGTERM) if self.process is not None else 0

    def restart(self):
        """A clean stop and a start on the same folder and port."""
        code = self.stop()
        if code not in (0, 143):
            raise processes.CommandFailed(f"{self.name} ended with {code} after SIGTERM; see {self.folder}/stderr.log")
        self.start()

    def start(self):
        """Starts the node and waits until it serves. After the first start the port is kept."""
        self.spawn()
        self.wait_until_ready()

    def log_tail(self, lines=15) -> str:
        """The end of what the broker said, for a report."""
        path = self.folder / "stderr.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


class Millpond(Broker):
    """`millpond serve` on a folder of its own."""

    name = "millpond"

    def __init__(self, folder: Path, settings=()):
        super().__init__(folder)
        self.settings = list(settings)
        self.http = None

    def spawn(self):
        """Starts the process."""
        binary = paths.millpond_binary()
        if not binary.exists():
            raise processes.CommandFailed(f"{binary} is missing; build it with `cargo build --release -p millpond`")
        command = [binary, "serve", "--data", self.data, "--listen", self.bootstrap or "127.0.0.1:0", "--http", self.http or "127.0.0.1:0"]
        for setting in self.settings:
            command += ["--set", setting]
        self.process = processes.LineProcess(command, stderr_path=self.folder / "stderr.log")

    def wait_until_ready(self):
        """Waits for the ready line, which names the ports."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            line = self.process.line(deadline - time.monotonic())
            if line is None:
                code = self.process.stop()
                raise processes.CommandFailed(f"millpond ended with {code} before it was ready:\n{self.log_tail()}")
            if line.startswith("millpond ready "):
                fields = dict(part.split("=", 1) for part in line.split()[2:])
                self.bootstrap, self.http = fields["kafka"], fields["http"]
                return

    def log_folder(self) -> Path:
        """Where the partitions' folders lie."""
        return self.data

    def partition_folder(self, topic, partition) -> Path:
        """The folder of one partition, wherever below the data folder the node keeps it."""
        found = [path for path in self.data.rglob(f"{topic}-{partition}") if path.is_dir()]
        if not found:
            raise FileNotFoundError(f"no folder {topic}-{partition} below {self.data}")
        return found[0]


class Kafka(Broker):
    """One Apache Kafka node (KRaft, broker and controller in one process), from Maven's jars."""

    name = "kafka"

    def __init__(self, folder: Path, heap="1g", settings=None):
        super().__init__(folder)
        self.heap = heap
        self.settings = settings or {}

    def _java(self, main, *arguments):
        home = setup.kafka()
        return ["java", f"-Xmx{self.heap}", f"-Xms{self.heap}", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true",
                f"-Dlog4j2.configurationFile={paths.CLIENTS / 'java' / 'log4j2.properties'}",
                "-cp", f"{home}/libs/*", main, *arguments]

    def spawn(self):
        """Starts the process; formats the folder first when it is new."""
        if self.bootstrap is None:
            port, controller_port = free_port(), free_port()
            self.bootstrap = f"127.0.0.1:{port}"
            settings = {
                "process.roles": "broker,controller", "node.id": "1",
                "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
                "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
                "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
                "controller.listener.names": "CONTROLLER", "inter.broker.listener.name": "PLAINTEXT",
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
                "log.dirs": str(self.data), "group.initial.rebalance.delay.ms": "0",
                "offsets.topic.replication.factor": "1", "transaction.state.log.replication.factor": "1",
                "transaction.state.log.min.isr": "1", "share.coordinator.state.topic.replication.factor": "1",
                "share.coordinator.state.topic.min.isr": "1", **self.settings,
            }
            self.properties = self.folder / "server.properties"
            self.properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
            processes.run(self._java("kafka.tools.StorageTool", "format", "--cluster-id", "TWlsbHBvbmRSZWZlcmVuYQ", "--config", self.properties),
                          timeout_seconds=120)
        self.process = processes.LineProcess(self._java("kafka.Kafka", str(self.properties)), stderr_path=self.folder / "stderr.log")

    def wait_until_ready(self):
        """Waits until the node answers and knows itself."""
        host, port = self.bootstrap.split(":")
        deadline = time.monotonic() + READY_SECONDS
        while True:
            if not self.process.running():
                raise processes.CommandFailed(f"Kafka ended before it was ready:\n{self.log_tail()}")
            if _answers_metadata(host, int(port)):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"Kafka was not ready within {READY_SECONDS} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def log_folder(self) -> Path:
        """Where the partitions' folders lie."""
        return self.data

    def partition_folder(self, topic, partition) -> Path:
        """The folder of one partition."""
        return self.data / f"{topic}-{partition}"


def _answers_metadata(host, port) -> bool:
    """Whether a broker answers a Metadata request (v1, all topics) and names itself as a broker."""
    body = bytes([0, 3, 0, 1, 0, 0, 0, 7, 0, 5]) + b"probe" + bytes([255, 255, 255, 255])
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.settimeout(5)
            connection.sendall(len(body).to_bytes(4, "big") + body)
            head = connection.recv(12)
    except OSError:
        return False
    return len(head) == 12 and head[4:8] == bytes([0, 0, 0, 7]) and int.from_bytes(head[8:12], "big") > 0


def remove(folder: Path):
    """Deletes a broker's folder."""
    shutil.rmtree(folder, ignore_errors=True)


