"""One server in a process of its own: `python -m benchmarks.web.serve NAME FOLDER [LOG]`.

FOLDER has the files, LOG becomes the access log. The server runs until it is killed.
"""

import os
import socket
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from benchmarks.web.systems import SYSTEMS


def listen() -> socket.socket:
    """Return a socket that listens on a free port, which is printed."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    announce(listener.getsockname()[1])
    return listener


def announce(port: int) -> None:
    """Print what benchmarks.reactor.measure waits for."""
    print(f"listening on tcp 127.0.0.1:{port}", flush=True)


def announce_later(port: int) -> None:
    """Print it from a child process once something accepts connections there.

    For a server that this process is about to become, so that its CPU is measured.
    """
    if os.fork() == 0:
        end = time.monotonic() + 60  # seconds; under valgrind it starts slowly
        while time.monotonic() < end:
            with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
                announce(port)
                break
            time.sleep(0.01)
        os._exit(0)


def main(name: str, folder: str, log: str | None = None) -> None:
    """Serve until killed."""
    system = SYSTEMS[name]
    module = import_module(f"benchmarks.web.{system.module}")
    module.serve(*system.words, folder=Path(folder), log=log)


if __name__ == "__main__":
    main(*sys.argv[1:])
