"""Greenlets by hand: code in blocking style on stacks that the program switches itself.

Each connection is a greenlet: a function with its own piece of stack, which can be left in the
middle and resumed later. Where a call would block, it switches to the hub, which asks epoll which
greenlets can continue and switches to them. Any call may switch; nothing in the code marks it.

It costs the copying of the used part of a stack at each switch, a few kilobytes of memory for each
connection, and a compiled extension, since Python itself cannot switch stacks.

It breaks at the limit of open files, with a greenlet that never has to wait, and with a call that
really blocks: the kernel puts the whole thread to sleep, including the hub. That is why gevent
replaces the calls of the standard library.
"""

import contextlib
import select
import socket

from _common import accept_waiting, listen, unavailable


try:
    from greenlet import getcurrent, greenlet
except ImportError:
    unavailable("needs greenlet: pip install 'evserve[lab]'")

CHANGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET
HUB = getcurrent()  # the main greenlet, the only one that sleeps


def receive(connection: socket.socket) -> bytes:
    """Return the next bytes when there are any, b"" at the end."""
    while True:
        try:
            return connection.recv(65536)
        except BlockingIOError:
            HUB.switch()  # returns when something has happened to the connection


def send_all(connection: socket.socket, data: bytes) -> None:
    """Send everything, waiting for buffer space as often as necessary."""
    while data:
        try:
            data = data[connection.send(data) :]
        except BlockingIOError:
            HUB.switch()


def serve(connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with connection, contextlib.suppress(OSError):
        while data := receive(connection):
            send_all(connection, data.upper())


def main() -> None:
    """Be the hub: switch to greenlets that can continue, and sleep until there are any."""
    listener = listen()
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    greenlets: dict[int, greenlet] = {}
    while True:
        for fd, _ in epoll.poll():
            if fd != listener.fileno():
                greenlets[fd].switch()
                continue
            for connection in accept_waiting(listener):
                epoll.register(connection, CHANGES)
                greenlets[connection.fileno()] = begun = greenlet(serve)
                begun.switch(connection)


if __name__ == "__main__":
    main()
