"""Running other programs: bounded in time, ended by process id, with their output kept for the report."""

import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path


class CommandFailed(Exception):
    """A program ended with an error; the message holds the end of what it printed."""


def run(command, *, cwd=None, env=None, timeout_seconds=600, log_path=None, stdin_text=None) -> str:
    """Runs a program to its end and returns what it printed (standard output and error together)."""
    merged = {**os.environ, **(env or {})}
    try:
        done = subprocess.run(
            [str(part) for part in command], cwd=cwd, env=merged, timeout=timeout_seconds, input=stdin_text, text=True,
            stdin=None if stdin_text is not None else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        raise CommandFailed(f"{command[0]} is not installed ({error})") from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{command[0]} did not end within {timeout_seconds} s") from error
    if log_path is not None:
        Path(log_path).write_text(done.stdout)
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise CommandFailed(f"{' '.join(str(part) for part in command)[:200]} ended with {done.returncode}:\n{tail}")
    return done.stdout


class LineProcess:
    """A program whose standard output is read line by line, with a time limit, while it runs."""

    def __init__(self, command, *, cwd=None, env=None, stderr_path):
        self.stderr_file = open(stderr_path, "ab")
        self.process = subprocess.Popen(
            [str(part) for part in command], cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.stderr_file, text=True, bufsize=1,
        )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with self.process.stdout as stdout:
            for line in stdout:
                self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self, timeout_seconds):
        """The next line; None when the program closed its output; TimeoutError when nothing came."""
        try:
            return self.lines.get(timeout=max(timeout_seconds, 0.001))
        except queue.Empty:
            raise TimeoutError(f"no output for {timeout_seconds:.0f} s") from None

    def write_line(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self, how=signal.SIGTERM, timeout_seconds=60) -> int:
        """Ends the program and returns its exit code; SIGKILL follows when it does not end in time."""
        if self.running():
            self.process.send_signal(how)
            try:
                self.process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)
        self.stderr_file.close()
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it ended with a line of ours unread
        return self.process.returncode


def wait_until(condition, timeout_seconds, what):
    """Polls `condition` until it holds; TimeoutError names what was waited for."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout_seconds} s")
        time.sleep(0.05)
