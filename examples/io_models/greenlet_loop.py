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
import select
import socket

from _common import listen, newcomers, unavailable


try:
    from greenlet import getcurrent, greenlet
except ImportError:
    unavailable("needs greenlet: pip install 'evserve[lab]'")


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
    listener = listen()
    listener.setblocking(False)
    Hub().run(listener)


if __name__ == "__main__":
    main()
