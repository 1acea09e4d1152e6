"""The runner itself: what is missing, skipped or never reported has failed.

    python3 -m unittest discover -s protocol-tests
"""

import contextlib
import importlib.machinery
import importlib.util
import io
import sys
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from harness import clients, processes, report  # noqa: E402


def runner():
    """protocol-tests/run as a module; it has no suffix."""
    loader = importlib.machinery.SourceFileLoader("runner", str(FOLDER / "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("runner", loader))
    loader.exec_module(module)
    return module


def missing():
    raise processes.CommandFailed("kcat is not installed")


class FakeBroker:
    """Serves nobody: enough for a run in which no client gets so far."""

    def __init__(self, *_, **__):
        self.bootstrap = "127.0.0.1:1"

    def start(self):
        pass

    def stop(self):
        return 0

    def log_tail(self):
        return ""


def run(clients_by_name):
    """Runs the runner over such clients; returns its exit code and what it printed."""
    module, printed = runner(), io.StringIO()
    with mock.patch.dict(clients.ALL, clients_by_name, clear=True), mock.patch.object(module.brokers, "Millpond", FakeBroker), \
            mock.patch.object(module.dump_log, "check", lambda *_: []), mock.patch.object(clients, "GARBAGE_STEPS", []), \
            mock.patch.object(clients, "garbage", lambda: ["true"]), contextlib.redirect_stdout(printed), \
            mock.patch.object(sys, "argv", ["run", "--client", ",".join(clients_by_name)]):
        return module.main(), printed.getvalue()


class TheRunner(unittest.TestCase):
    def test_a_missing_client_fails_the_run(self):
        code, printed = run({"kcat": missing})
        self.assertEqual(code, 1)
        self.assertIn("the client is missing: kcat is not installed", printed)
        self.assertRegex(printed.splitlines()[-1], r"^0 passed, \d+ failed$")

    def test_a_client_that_stops_half_way_fails_the_run(self):
        code, printed = run({"java": lambda: ["sh", "-c", "echo ok create_topic"]})
        self.assertEqual(code, 1)
        self.assertIn("FAIL java produce_gzip: was not reached", printed)

    def test_a_client_that_does_every_step_passes(self):
        steps = "; ".join(f"echo ok {step}" for step in clients.steps("java", True))
        code, printed = run({"java": lambda: ["sh", "-c", steps]})
        self.assertEqual((code, printed.splitlines()[-1]), (0, f"{len(clients.steps('java', True))} passed, 0 failed"))


class TheReport(unittest.TestCase):
    def test_a_step_without_a_word_has_failed(self):
        made = report.Report(["kcat"], with_sql=False)
        made.ok("kcat", "create_topic")
        self.assertEqual((made.passed, made.failed), (1, len(clients.steps("kcat", False)) - 1))


if __name__ == "__main__":
    unittest.main()
