"""What all models do alike, so that each program shows only what makes it different.

They listen on the port that the command line names, allow themselves as many open files as they
may, say in one line where they break, and turn away whoever would take the last descriptor:
without that one `accept` fails, and who waits would be reported as ready without end.
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
LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # open files that we may have
OUT, ERR = sys.stdout, sys.stderr  # twistd puts its log in their place
UNAVAILABLE = 3  # exit status of a model that cannot run here


def allow_many_files() -> None:
    """Raise the limit of open files as far as we may."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))


def port() -> int:
    """Return the port that the command line names, 9000 if it names none."""
    word = sys.argv[1] if sys.argv[1:] else "9000"
    if word.isdecimal() and int(word) in range(65536):
        return int(word)
    sys.exit(f"{NAME}: {word!r} is not a port number (0 to 65535)")


def listen() -> socket.socket:
    """Listen on that port, as a socket that blocks."""
    allow_many_files()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback
    try:
        listener = socket.create_server(("127.0.0.1", port()), backlog=socket.SOMAXCONN)
    except OSError as error:
        sys.exit(f"{NAME}: {error}")
    announce(f"127.0.0.1:{listener.getsockname()[1]}")
    return listener


def announce(address: str) -> None:
    """Say that clients may come; whoever cannot be told would wait for ever."""
    try:
        print(f"{NAME}: listening on {address}", file=OUT, flush=True)
    except OSError as error:
        complain(f"standard output: {error.strerror}")
        os._exit(1)  # what is left in the buffer cannot be written at an orderly exit, either


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can, even if nobody hears it."""
    with contextlib.suppress(OSError):
        print(f"{NAME}: {reason}", file=ERR, flush=True)


def unavailable(reason: str) -> NoReturn:
    """End: this model cannot run here."""
    complain(reason)
    sys.exit(UNAVAILABLE)


def has_room(descriptor: int) -> bool:
    """Whether another one is left for the next connection: only then may this one stay."""
    if descriptor < LIMIT - 1:
        return True
    complain(f"out of descriptors: `ulimit -Hn` allows {LIMIT}")
    return False


def newcomers(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept everybody who waits, as long as there is room; nothing here blocks."""
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            if has_room(connection.fileno()):
                connection.setblocking(False)
                yield connection
            else:
                connection.close()
