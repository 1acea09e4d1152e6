"""Where things lie: the repository, the cache outside it, the binary under test."""

import os
from pathlib import Path

PROTOCOL_TESTS = Path(__file__).resolve().parent.parent
REPOSITORY = PROTOCOL_TESTS.parent
CLIENTS = PROTOCOL_TESTS / "clients"

# Everything that is downloaded or built goes here, so that the work tree stays clean and a second run is warm.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "millpond"
CLIENT_CACHE = CACHE / "clients"
CARGO_TARGET = Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target"))


def millpond_binary() -> Path:
    """The program under test: $MILLPOND_BINARY, or what `cargo build --release` made."""
    return Path(os.environ.get("MILLPOND_BINARY", CARGO_TARGET / "release" / "millpond"))
