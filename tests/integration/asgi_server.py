"""ASGI applications served by child processes: the service `asgi`, and uvicorn for comparison."""

import atexit
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

from tests.integration.processes import TWISTD


APPS = Path(__file__).with_name("asgi_apps")
TIMEOUT = 60  # seconds for anything; a test that waits so long has failed
# On the default reactor, whatever EVSERVE_TEST_REACTOR says: the service needs one with a loop.
EVSERVE = (sys.executable, TWISTD, "-n", "evserve", "asgi", "--port", "0")
UVICORN = (sys.executable, "-m", "uvicorn", "--port", "0")
LISTENING = re.compile(r"asgi: listening on tcp [\d.]+:(\d+)\n|running on http://[\d.]+:(\d+) ")
SERVES = re.compile(r" serves asgi |running on http")


class AsgiServer:
    """A server in a folder of its own; `err` is its standard error so far."""

    def __init__(self, command, application, *words):
        self.folder = Path(tempfile.mkdtemp(prefix="evserve-asgi-"))
        self.err = ""
        self._more = threading.Condition()
        folders = (str(APPS), os.environ.get("PYTHONPATH"))
        self.process = subprocess.Popen(
            [*map(str, command), *words, application],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(
            target=self._read, daemon=True
        )  # atexit comes after threads
        self._reader.start()
        self.until(SERVES.pattern)
        self.port = int(next(filter(None, self.until(LISTENING.pattern).groups())))

    def _read(self):
        for line in self.process.stderr:
            with self._more:
                self.err += line
                self._more.notify_all()
        with self._more:
            self.process.stderr.close()
            self._more.notify_all()

    def until(self, pattern, after=0):
        """Return a match in standard error, behind its first `after` characters."""

        def found():
            match = re.compile(pattern).search(self.err, after)
            return match or (self.process.stderr.closed and AssertionError(self.err))

        with self._more:
            match = self._more.wait_for(found, TIMEOUT)
        if not isinstance(match, re.Match):
            raise AssertionError(f"{pattern!r} is not in\n{self.err}")
        return match

    def connect(self):
        """Return a socket."""
        return socket.create_connection(("127.0.0.1", self.port), TIMEOUT)

    def terminate(self):
        """Send SIGTERM, and don't wait."""
        self.process.terminate()

    def ended(self):
        """Return the exit status when the process has ended, and its standard error is read."""
        status = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        return status

    def stop(self):
        """End the process and remove its folder."""
        self.terminate()
        try:
            return self.ended()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


@cache
def shared_server(command, application, *words):
    """Return one server for the whole run (trial knows no setUpClass): it takes long to start."""
    server = AsgiServer(command, application, *words)
    atexit.register(server.stop)
    return server
