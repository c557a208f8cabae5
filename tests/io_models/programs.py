"""The programs of examples/io_models/, started like a user does, and clients for them."""

import contextlib
import os
import re
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SkipTest


FOLDER = Path(__file__).parents[2] / "examples" / "io_models"
# Runs a program after code of the test, for conditions that no resource limit can cause.
PREPARED = """
import runpy, sys
exec(sys.argv.pop(1))
sys.path.insert(0, sys.argv[1].rpartition("/")[0])
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
PATIENCE = 300  # seconds after which a silent program counts as hung
UNAVAILABLE = 3  # exit status of a program whose package is missing
STALLED = 0.2  # seconds without room in the socket after which a sender begins to read


class Program:
    """A running model: `port` is where it listens, `process` what was started."""

    def __init__(self, test, name, *words, prepare=None, code=""):
        self.name = name
        self._errors = b""
        path = FOLDER / f"{name}.py"
        self.process = subprocess.Popen(
            [sys.executable, *(["-c", PREPARED, code] if code else []), path, *(words or ["0"])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=prepare,  # noqa: PLW1509 - no threads hold locks here
        )
        os.set_blocking(self.process.stderr.fileno(), False)
        guard = threading.Timer(PATIENCE, self.process.kill)
        guard.daemon = True
        guard.start()
        test.addCleanup(guard.cancel)
        test.addCleanup(self._end)
        self.line = self.process.stdout.readline().decode()
        found = re.fullmatch(rf"{name}: listening on 127\.0\.0\.1:(\d+)\n", self.line)
        self.port = int(found[1]) if found else None
        if not found and self.process.wait(PATIENCE) == UNAVAILABLE and not code:
            raise SkipTest(self.errors)

    @property
    def errors(self):
        """What it has written to standard error so far."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.process.stderr.fileno(), 65536):
                self._errors += data
        return self._errors.decode()

    def wait_for_line(self):
        """Wait until it has written a line to standard error, and return that."""
        while not self.errors.endswith("\n"):
            if not select.select([self.process.stderr], [], [], PATIENCE)[0]:
                raise AssertionError("it prints nothing")
        return self.errors

    def stop(self, number=signal.SIGINT):
        """Send a signal; return the status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    @contextlib.contextmanager
    def stopped(self):
        """Stop the process inside a `with` block; the kernel still receives for it."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
        yield
        self.process.send_signal(signal.SIGCONT)

    def _end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def connect(test, program):
    """Return a connected socket with a time-out of PATIENCE."""
    client = socket.create_connection(("127.0.0.1", program.port), PATIENCE)
    test.addCleanup(client.close)
    return client


def receive(client, count):
    """Return the next `count` bytes; fewer only if the server closes."""
    pieces = []
    while count and (data := client.recv(min(count, 65536))):
        pieces.append(data)
        count -= len(data)
    return b"".join(pieces)


def receive_rest(client):
    """Return everything until the server closes."""
    return receive(client, sys.maxsize)


def peek(client):
    """Return a byte that has come already; raises BlockingIOError if there is none."""
    client.setblocking(False)
    try:
        return client.recv(1)
    finally:
        client.settimeout(PATIENCE)


def reset(client):
    """Close with RST instead of FIN, like a client that crashes with unread data."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def send_and_read_late(client, payload, piece):
    """Send in pieces until all buffers are full, then read as well; return what was received.

    The end of the payload is the end of the stream: the answers end with the server's FIN.
    """
    client.setblocking(False)
    unsent, received, late = memoryview(payload), [], False
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_WRITE)
        while True:
            events = selector.select(PATIENCE if late else STALLED)
            if not events:
                if late:
                    raise AssertionError(f"stuck with {len(unsent)} bytes unsent")
                late = True
                selector.modify(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
            for _, mask in events:
                if mask & selectors.EVENT_WRITE:
                    unsent = unsent[client.send(unsent[:piece]) :]
                    if not unsent:
                        client.shutdown(socket.SHUT_WR)
                        late = True
                        selector.modify(client, selectors.EVENT_READ)
                if mask & selectors.EVENT_READ:
                    data = client.recv(65536)
                    if not data:
                        return b"".join(received)
                    received.append(data)


def send_until_stalled(client, most):
    """Send zeros without reading; return how many bytes could be sent."""
    client.setblocking(False)
    sent, piece = 0, bytes(65536)
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_WRITE)
        while sent < most and selector.select(STALLED):
            sent += client.send(piece)
    return sent
