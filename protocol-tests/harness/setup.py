"""Fetches and builds what the clients need, once: every version is pinned by a lock file beside the client.

A part is made again only when the files it was made from change (a stamp holds their digest).
"""

import hashlib
import os
import shutil
import sys
from functools import cache
from pathlib import Path

from . import paths, processes

BUILD_SECONDS = 1200


def _digest(*sources: Path) -> str:
    digest = hashlib.sha256()
    for source in sources:
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        for file in files:
            if "node_modules" in file.parts or "__pycache__" in file.parts:
                continue
            digest.update(str(file.relative_to(paths.PROTOCOL_TESTS)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _once(name: str, sources, make) -> Path:
    """The folder `name` in the cache, made by `make(folder)` unless it was made from the same sources before."""
    folder = paths.CLIENT_CACHE / name
    stamp, digest = folder / ".made-from", _digest(*sources)
    if not stamp.exists() or stamp.read_text() != digest:
        folder.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        make(folder)
        stamp.write_text(digest)
    return folder


def _debian(package: str, program: str):
    """Installs a Debian package when its program is missing and we may."""
    if shutil.which(program) or not shutil.which("apt-get"):
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    processes.run([*sudo, "apt-get", "update", "-q"], timeout_seconds=300)
    processes.run([*sudo, "apt-get", "install", "-y", "-q", "--no-install-recommends", package], timeout_seconds=600)


def _maven(folder: Path, *arguments):
    processes.run(["mvn", "-q", "-B", f"-Dmillpond.build.directory={folder / 'build'}", *arguments],
                  cwd=paths.CLIENTS / "java", timeout_seconds=BUILD_SECONDS)


@cache
def kafka() -> Path:
    """Apache Kafka's jars, from Maven: the reference broker, its command-line tools, the Java client."""
    def make(folder):
        shutil.rmtree(folder / "libs", ignore_errors=True)
        _maven(folder, "dependency:copy-dependencies", f"-DoutputDirectory={folder / 'libs'}", "-DincludeScope=runtime")
    return _once("kafka", [paths.CLIENTS / "java" / "pom.xml"], make)


@cache
def java() -> Path:
    """The Java client's program, compiled."""
    home = kafka()

    def make(folder):
        sources = sorted((paths.CLIENTS / "java" / "src").rglob("*.java"))
        processes.run(["javac", "--release", "17", "-cp", f"{home}/libs/*", "-d", folder / "classes", *sources], timeout_seconds=300)
    return _once("java", [paths.CLIENTS / "java" / "src", paths.CLIENTS / "java" / "pom.xml"], make)


@cache
def python() -> Path:
    """The interpreter of a virtual environment with confluent-kafka."""
    requirements = paths.CLIENTS / "python" / "requirements.txt"

    def make(folder):
        shutil.rmtree(folder / "venv", ignore_errors=True)
        try:
            processes.run([sys.executable, "-m", "venv", folder / "venv"], timeout_seconds=120)
        except processes.CommandFailed:
            _debian("python3-venv", "python3-venv")
            processes.run([sys.executable, "-m", "venv", folder / "venv"], timeout_seconds=120)
        processes.run([folder / "venv" / "bin" / "pip", "install", "-q", "-r", requirements], timeout_seconds=BUILD_SECONDS)
    return _once("python", [requirements], make) / "venv" / "bin" / "python"


@cache
def go(program: str) -> Path:
    """One of the Go programs (franz, sarama)."""
    def make(folder):
        processes.run(["go", "build", "-mod=readonly", "-o", folder / program, f"./{program}"],
                      cwd=paths.CLIENTS / "go", timeout_seconds=BUILD_SECONDS)
    sources = [paths.CLIENTS / "go" / name for name in ("go.mod", "go.sum", "steps", program)]
    return _once(f"go-{program}", sources, make) / program


@cache
def s3_server() -> Path:
    """versitygw, an S3 server that keeps objects in files."""
    source = paths.PROTOCOL_TESTS / "bucket" / "server"
    program = "github.com/versity/versitygw/cmd/versitygw"

    def make(folder):
        processes.run(["go", "build", "-mod=readonly", "-o", folder / "versitygw", program], cwd=source, timeout_seconds=BUILD_SECONDS)
    return _once("s3-server", [source / "go.mod", source / "go.sum"], make) / "versitygw"


@cache
def node() -> Path:
    """The folder that holds kafkajs and the codecs it has no own code for, with our program beside them."""
    source = paths.CLIENTS / "node"

    def make(folder):
        for name in ("package.json", "package-lock.json", "client.js"):
            shutil.copy(source / name, folder / name)
        processes.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, timeout_seconds=BUILD_SECONDS)
    return _once("node", [source / name for name in ("package.json", "package-lock.json", "client.js")], make)


@cache
def rust() -> Path:
    """The folder of the Rust programs (`rdkafka_client`, and `rdkafka_load` for the bench).

    A cargo project and a target folder of its own: librdkafka's build is no part of the workspace and never waits for it.
    """
    source = paths.CLIENTS / "rust"

    def make(folder):
        processes.run(["cargo", "build", "--release", "--locked"], cwd=source,
                      env={"CARGO_TARGET_DIR": str(folder / "target")}, timeout_seconds=BUILD_SECONDS)
    return _once("rust", [source / "Cargo.toml", source / "Cargo.lock", source / "src"], make) / "target" / "release"


@cache
def kcat() -> str:
    """kcat, from Debian."""
    _debian("kcat", "kcat")
    found = shutil.which("kcat")
    if found is None:
        raise processes.CommandFailed("kcat is not installed (Debian's package kcat)")
    return found
