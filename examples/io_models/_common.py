"""What all models share, so that each program shows only what is different about it.

The functions here listen on the port of the command line, raise the limit of open files, print
in one line where a model breaks, and refuse a client that would take the last descriptor: without
a free one `accept` fails, and the waiting client would be reported as ready without end.
"""

import contextlib
import functools
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn


NAME = Path(sys.argv[0]).stem
LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # open files
OUT, ERR = sys.stdout, sys.stderr  # twistd puts its log in their place
UNAVAILABLE = 3  # exit status of a model that cannot run here


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))


def port() -> int:
    """Return the port of the command line, 9000 by default."""
    word = sys.argv[1] if sys.argv[1:] else "9000"
    if word.isdecimal() and int(word) in range(65536):
        return int(word)
    sys.exit(f"{NAME}: {word!r} is not a port number (0 to 65535)")


def listen() -> socket.socket:
    """Return a blocking socket that listens on the port of the command line."""
    raise_file_limit()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback
    try:
        listener = socket.create_server(("127.0.0.1", port()), backlog=socket.SOMAXCONN)
    except OSError as error:
        sys.exit(f"{NAME}: {error}")
    announce(f"127.0.0.1:{listener.getsockname()[1]}")
    return listener


def announce(address: str) -> None:
    """Print that clients may connect; end if that cannot be printed."""
    try:
        print(f"{NAME}: listening on {address}", file=OUT, flush=True)
    except OSError as error:
        warn(f"standard output: {error.strerror}")
        os._exit(1)  # an orderly exit would try to write the buffer again


@functools.cache
def warn(reason: str) -> None:
    """Print where this model breaks, once per reason; it continues to serve other clients."""
    with contextlib.suppress(OSError):
        print(f"{NAME}: {reason}", file=ERR, flush=True)


def unavailable(reason: str) -> NoReturn:
    """End because this model cannot run here."""
    warn(reason)
    sys.exit(UNAVAILABLE)


def need_processor(feature: str, package: str) -> None:
    """End where the processor lacks a feature that a package was compiled for."""
    if feature not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        unavailable(f"{package} is compiled for processors with {feature}")


def has_free_descriptor(descriptor: int) -> bool:
    """Say whether a descriptor is left for the next `accept`, besides this one."""
    if descriptor < LIMIT - 1:
        return True
    warn(f"out of descriptors: `ulimit -Hn` allows {LIMIT}")
    return False


def accept_waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept all waiting clients without blocking; close those that take the last descriptor."""
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            if has_free_descriptor(connection.fileno()):
                connection.setblocking(False)
                yield connection
            else:
                connection.close()
