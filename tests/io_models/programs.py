"""The programs of examples/io_models/, started as a user starts them, and clients for them."""

import re
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path


FOLDER = Path(__file__).parents[2] / "examples" / "io_models"
# Runs a program after some lines of Python of the test's own, for what no limit can bring about.
PREPARED = """
import runpy, sys
exec(sys.argv.pop(1))
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
PATIENCE = 60  # seconds after which a silent program counts as hung
STALLED = 0.2  # seconds without room in the socket after which a sender begins to read


class Program:
    """A running model: `port` is where it listens, `process` what was started."""

    def __init__(self, test, name, *words, prepare=None, code=""):
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the test's end
        test.addCleanup(self._errors.close)
        path = FOLDER / f"{name}.py"
        self.process = subprocess.Popen(
            [sys.executable, *(["-c", PREPARED, code] if code else []), path, *(words or ["0"])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            preexec_fn=prepare,  # noqa: PLW1509 - no threads hold locks here
        )
        guard = threading.Timer(PATIENCE, self.process.kill)
        guard.daemon = True
        guard.start()
        test.addCleanup(guard.cancel)
        test.addCleanup(self._end)
        self.line = self.process.stdout.readline().decode()
        found = re.fullmatch(rf"{name}: listening on 127\.0\.0\.1:(\d+)\n", self.line)
        self.port = int(found[1]) if found else None

    @property
    def errors(self):
        """What it has written to standard error so far."""
        self._errors.seek(0)
        return self._errors.read().decode()

    def stop(self, number=signal.SIGINT):
        """Send a signal; return the status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def _end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def connect(test, program):
    """Return a connected socket; what takes longer than PATIENCE is an error."""
    client = socket.create_connection(("127.0.0.1", program.port), PATIENCE)
    test.addCleanup(client.close)
    return client


def receive(client, count):
    """Return the next `count` bytes, fewer only if the server closes before."""
    pieces = []
    while count and (data := client.recv(min(count, 65536))):
        pieces.append(data)
        count -= len(data)
    return b"".join(pieces)


def receive_rest(client):
    """Return everything up to the server's end."""
    return receive(client, sys.maxsize)


def peek(client):
    """Return what is there now; raises BlockingIOError if nothing is."""
    client.setblocking(False)
    try:
        return client.recv(1)
    finally:
        client.settimeout(PATIENCE)


def reset(client):
    """Close with RST instead of FIN, as a client does that crashes with unread data."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def send_and_read_late(client, payload, piece):
    """Send in pieces until nothing more fits anywhere, then read too; return what came.

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
