"""Signal-driven: the kernel sends a signal when something happens to a connection.

Each socket is told to whom (F_SETOWN), which signal (F_SETSIG) and that at all (O_ASYNC). The
signal says which descriptor, and nothing is watched or asked. Real-time signals are queued, one
for each event; a signal comes once, as an edge of epoll does, so the program remembers who is
ready until EAGAIN. The signals are blocked and read from a signalfd, many at a time: a handler
would interrupt the program anywhere, and Python's are not told the descriptor.

It costs a signal for each packet that arrives, wanted or not, even for connections that are not
being listened to. It breaks when more signals wait than RLIMIT_SIGPENDING allows: the kernel
drops them and sends one plain SIGIO instead, and every connection has to be looked at.
"""

import contextlib
import ctypes
import fcntl
import functools
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterator


LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # open files that we may have
SIGNAL = signal.SIGRTMIN
SIGNALFD_SIGINFO = struct.Struct("=I16xi104x")  # signalfd(2): the signal, the descriptor


def listen() -> socket.socket:
    """Listen on the port that the command line names, 9000 if it names none."""
    try:
        address = ("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 9000)
        listener = socket.create_server(address, backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"signal_driven: {error}")
    port = listener.getsockname()[1]
    print(f"signal_driven: listening on 127.0.0.1:{port}", flush=True)
    return listener


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"signal_driven: {reason}", file=sys.stderr)


def newcomers(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept everybody who waits; turn away who would take the last descriptor."""
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            if connection.fileno() < LIMIT - 1:
                connection.setblocking(False)
                yield connection
            else:
                complain(f"out of descriptors: `ulimit -Hn` allows {LIMIT}")
                connection.close()


def open_signalfd(signals: set[int]) -> int:
    """Block signals, and return a descriptor from which they are read instead."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    mask = sum(1 << (number - 1) for number in signals).to_bytes(128, sys.byteorder)
    return ctypes.CDLL(None).signalfd(-1, mask, os.O_NONBLOCK)


def signal_on_events(descriptor: socket.socket) -> None:
    """Have SIGNAL sent to this process for whatever happens to a socket."""
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, SIGNAL)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
