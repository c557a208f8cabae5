"""A real queue server in a child process, and a blocking client that shows every reply."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from unittest import SkipTest

from tests.integration.processes import TWISTD, on_chosen_reactor


SHIM = Path(__file__).with_name("sync_shim.c")
LISTENING = rb"listening on tcp 127.0.0.1:(\d+)\n"


class QueueServer:
    """`evserve queue`, started as a user starts it. `kill` is kill -9.

    stands_by: it does not listen yet; `wait_until_active` waits until it does.
    """

    def __init__(self, test, *options, port=0, env=None, prepare=None, stands_by=False):
        self.process = subprocess.Popen(
            on_chosen_reactor([TWISTD, "-n", "evserve", "queue", "--port", port, *options]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            preexec_fn=prepare,  # noqa: PLW1509 - no other thread runs yet
        )
        test.addCleanup(self.kill)
        self.log = b""
        self.port = None
        if stands_by:
            self.wait_for(b"standing by: ", b" serves ")
        else:
            found, _ = self.wait_for(LISTENING, b" serves ")
            self.port = int(found[1])

    def wait_for(self, *patterns):
        """Read the log from here on until all patterns are in it; return their matches."""
        read = b""
        too_late = threading.Timer(120, self.process.kill)  # or a test could wait for ever
        too_late.start()
        try:
            while None in (found := [re.search(pattern, read) for pattern in patterns]):
                line = self.process.stderr.readline()
                if not line:
                    raise AssertionError(self.log.decode())
                read += line
                self.log += line
        finally:
            too_late.cancel()
        return found

    def wait_until_active(self):
        """Wait until a server that stood by listens."""
        (found,) = self.wait_for(LISTENING)
        self.port = int(found[1])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def stop(self, signal_number=signal.SIGTERM):
        self.process.send_signal(signal_number)
        with self.process.stderr:
            self.log += self.process.stderr.read()
        return self.process.wait()

    def connect(self):
        return Connection(self.port)

    def memory(self):
        """Return the resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096


class Connection:
    """Sends bytes, reads replies; raises ConnectionError when the connection is lost."""

    def __init__(self, port, timeout=120):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.socket.sendall(data)

    def reply(self):
        """Read one reply: the words of its line, and its body or None."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError
        words = line.split()
        if words[0] not in {b"RESERVED", b"FOUND", b"OK"}:
            return words, None
        size = int(words[1 if words[0] == b"OK" else 2])
        data = self.file.read(size + 2)
        if len(data) < size + 2:
            raise ConnectionError
        return words, data[:-2]

    def ask(self, command):
        self.send(command + b"\r\n")
        return self.reply()

    def word(self, command):
        """Send a command; return its reply's first word."""
        return self.ask(command)[0][0]

    def put(self, body, pri=1024, delay=0, ttr=60):
        """Put an event; return its id, or the reply that refuses it."""
        words, _ = self.ask(b"put %d %d %d %d\r\n%b" % (pri, delay, ttr, len(body), body))
        return int(words[1]) if words[0] == b"INSERTED" else words[0]

    def stats(self, command=b"stats"):
        return dict(line.split(b": ") for line in self.ask(command)[1].split(b"\n")[1:-1])


def compile_shim(folder, source=SHIM):
    """Compile sync_shim.c, or another source, into `folder`; return the shared object."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SkipTest("no C compiler")
    target = Path(folder).absolute() / f"{source.stem}.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", target, source, "-ldl"]
    subprocess.run(command, check=True)
    return target
