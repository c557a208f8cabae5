"""Generators as coroutines: a connection is a generator that yields whenever it has to wait.

`yield connection, EPOLLIN` says what it waits for and gives way to all others; a scheduler of
twenty lines remembers who waits for what, asks epoll, and resumes with `next`. The code reads
from top to bottom as the blocking server's does, with every place marked where others may run.

It costs a generator for each connection, a few hundred bytes instead of a thread's stack, and
some Python for each switch. `async` and `await` are this, with a syntax and a library.

It breaks at the limit of open files, and with a generator that goes on without yielding, because
it computes or its client always has more to say: nobody can take the processor away from it.
"""

import contextlib
import select
import socket
from collections import deque
from collections.abc import Generator

from _common import listen, newcomers


Wait = tuple[socket.socket, int]  # a socket, and the event that is waited for
Task = Generator[Wait, None, None]


class Scheduler:
    """Runs tasks that can go on; keeps those that wait, by descriptor."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.ready: deque[Task] = deque()
        self.waiting: dict[int, tuple[Task, int]] = {}

    def run(self) -> None:
        """Resume everybody who can go on, then sleep until somebody can."""
        while True:
            while self.ready:
                self.resume(self.ready.popleft())
            self.ready.extend(self.waiting[fd][0] for fd, _ in self.epoll.poll())

    def resume(self, task: Task) -> None:
        """Run a task up to its next yield, and wait for what it names there."""
        try:
            connection, event = next(task)
        except StopIteration:
            return
        fd = connection.fileno()
        before = self.waiting.get(fd)
        if before is None or before[0] is not task:  # a new connection, maybe an old number
            self.epoll.register(fd, event)
        elif before[1] != event:
            self.epoll.modify(fd, event)
        self.waiting[fd] = task, event


def receive(connection: socket.socket) -> Generator[Wait, None, bytes]:
    """Return the next bytes as soon as there are any, b"" at the end."""
    while True:
        try:
            return connection.recv(65536)
        except BlockingIOError:
            yield connection, select.EPOLLIN


def send_all(connection: socket.socket, data: bytes) -> Task:
    """Send everything, waiting for room as often as necessary."""
    while data:
        try:
            data = data[connection.send(data) :]
        except BlockingIOError:
            yield connection, select.EPOLLOUT


def serve(connection: socket.socket) -> Task:
    """Answer in capitals until the client has sent its last byte."""
    with connection, contextlib.suppress(OSError):
        while data := (yield from receive(connection)):
            yield from send_all(connection, data.upper())


def accept(listener: socket.socket, scheduler: Scheduler) -> Task:
    """Start a task for everybody who comes."""
    while True:
        scheduler.ready.extend(map(serve, newcomers(listener)))
        yield listener, select.EPOLLIN


def main() -> None:
    """Start the task that accepts, and let the scheduler do the rest."""
    listener = listen()
    listener.setblocking(False)
    scheduler = Scheduler()
    scheduler.ready.append(accept(listener, scheduler))
    scheduler.run()


if __name__ == "__main__":
    main()
