"""Generators as coroutines: a connection is a generator that yields when it has to wait.

An operation that would block (EAGAIN) is repeated after a `yield`, during which others run. A
scheduler of a few lines asks epoll which connections have changed, and resumes them with `next`.
The code reads from top to bottom as the blocking server's does, with every place marked where
others may run.

It costs a generator for each connection, a few hundred bytes instead of a thread's stack, and
some Python for each switch. `async` and `await` are the same, with a syntax and a library.

It breaks at the limit of open files, and with a generator that does not yield, because it
computes or its client always sends more: nothing can interrupt it.
"""

import contextlib
import select
import socket
from collections.abc import Generator

from _common import accept_waiting, listen


CHANGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET
Task = Generator[None, None, None]


class Scheduler:
    """Resumes each task when something has happened to its connection."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.tasks: dict[int, Task] = {}

    def start(self, connection: socket.socket, task: Task) -> None:
        """Run a task from epoll's first report on: it can write, or a client has connected."""
        self.tasks[connection.fileno()] = task
        self.epoll.register(connection, CHANGES)

    def run(self) -> None:
        """Resume tasks that can continue, up to their next yield; sleep until there are any."""
        while True:
            for fd, _ in self.epoll.poll():
                next(self.tasks[fd], None)


def receive(connection: socket.socket) -> Generator[None, None, bytes]:
    """Return the next bytes when there are any, b"" at the end."""
    while True:
        try:
            return connection.recv(65536)
        except BlockingIOError:
            yield


def send_all(connection: socket.socket, data: bytes) -> Task:
    """Send everything, waiting for buffer space as often as necessary."""
    while data:
        try:
            data = data[connection.send(data) :]
        except BlockingIOError:
            yield


def serve(connection: socket.socket) -> Task:
    """Answer in capitals until the client has sent its last byte."""
    with connection, contextlib.suppress(OSError):
        while data := (yield from receive(connection)):
            yield from send_all(connection, data.upper())


def accept(listener: socket.socket, scheduler: Scheduler) -> Task:
    """Start a task for each new client."""
    while True:
        for connection in accept_waiting(listener):
            scheduler.start(connection, serve(connection))
        yield


def main() -> None:
    """Start the task that accepts, and run the scheduler."""
    listener = listen()
    listener.setblocking(False)
    scheduler = Scheduler()
    scheduler.start(listener, accept(listener, scheduler))
    scheduler.run()


if __name__ == "__main__":
    main()
