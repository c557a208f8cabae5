"""Greenlets by hand: blocking-style code on stacks of its own, switched by the program.

Each connection is a greenlet: a function with its own piece of stack that can be left in the
middle and gone on with later. Where a call would block, it switches to the hub, which asks epoll
who can go on and switches there. Nothing marks the places: any call may switch.

It costs the copying of a stack's used part at a switch, a few kilobytes of memory for each
connection, and a compiled extension, since Python itself cannot switch stacks.

It breaks at the limit of open files, with a greenlet that never has to wait, and with a call that
really blocks: the kernel puts the whole thread to sleep, hub and all. gevent replaces the standard
library's calls for that reason.
"""

import contextlib
import functools
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterator


try:
    from greenlet import getcurrent, greenlet
except ImportError:
    print("greenlet_loop: needs greenlet: pip install 'evserve[lab]'", file=sys.stderr)
    sys.exit(3)

LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # open files that we may have


def listen() -> socket.socket:
    """Listen on the port that the command line names, 9000 if it names none."""
    try:
        port = int(sys.argv[1]) if sys.argv[1:] else 9000
        listener = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"greenlet_loop: {error}")
    print(f"greenlet_loop: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    return listener


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"greenlet_loop: {reason}", file=sys.stderr)


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


class Hub:
    """Sleeps on behalf of everybody; runs in the main greenlet."""

    def __init__(self) -> None:
        self.greenlet = getcurrent()
        self.epoll = select.epoll()
        self.waiting: dict[int, tuple[greenlet, int]] = {}

    def wait(self, connection: socket.socket, event: int) -> None:
        """Let others go on until `event` has come; called by whoever has to wait."""
        fd, caller = connection.fileno(), getcurrent()
        before = self.waiting.get(fd)
        if before is None or before[0] is not caller:  # a new connection, maybe an old number
            self.epoll.register(fd, event)
        elif before[1] != event:
            self.epoll.modify(fd, event)
        self.waiting[fd] = caller, event
        self.greenlet.switch()

    def run(self, listener: socket.socket) -> None:
        """Switch to whoever can go on; start a greenlet for everybody who comes."""
        self.epoll.register(listener, select.EPOLLIN)
        while True:
            for fd, _ in self.epoll.poll():
                if fd != listener.fileno():
                    self.waiting[fd][0].switch()
                    continue
                for connection in newcomers(listener):
                    greenlet(serve).switch(self, connection)


def receive(hub: Hub, connection: socket.socket) -> bytes:
    """Return the next bytes as soon as there are any, b"" at the end."""
    while True:
        try:
            return connection.recv(65536)
        except BlockingIOError:
            hub.wait(connection, select.EPOLLIN)


def send_all(hub: Hub, connection: socket.socket, data: bytes) -> None:
    """Send everything, waiting for room as often as necessary."""
    while data:
        try:
            data = data[connection.send(data) :]
        except BlockingIOError:
            hub.wait(connection, select.EPOLLOUT)


def serve(hub: Hub, connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with connection, contextlib.suppress(OSError):
        while data := receive(hub, connection):
            send_all(hub, connection, data.upper())


def main() -> None:
    """Run the hub."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    listener = listen()
    listener.setblocking(False)
    Hub().run(listener)


if __name__ == "__main__":
    main()
