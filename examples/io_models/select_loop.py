"""select: hand the kernel sets of descriptors, sleep until one is ready, look through all sets.

Each connection has a queue of replies. It is watched for reading while its queue is short, and
for writing while there is something in it: whoever does not read the answers is not listened to.

It costs work for every connection at every call, ready or not: bit sets are built, copied into
the kernel, searched there, copied back and searched again. Idle connections are paid for.

It breaks at descriptor 1024: the sets have FD_SETSIZE = 1024 bits, a number compiled into the C
library. What counts is the number of the descriptor, whatever `ulimit -n` allows.
"""

import select
import socket
from collections import deque
from collections.abc import Callable

from _common import complain, listen, newcomers


FD_SETSIZE = 1024
LONG = 16  # pieces in a queue of replies after which no more is read


class Loop:
    """Sockets and reply queues by descriptor, and the two sets that `select` gets."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.connections: dict[int, socket.socket] = {}
        self.replies: dict[int, deque[bytes]] = {}
        self.reading = {listener.fileno()}
        self.writing: set[int] = set()

    def run(self) -> None:
        """Wait for whatever is ready first, and do that."""
        while True:
            readable, writable, _ = select.select(self.reading, self.writing, [])
            for fd in writable:
                self.try_to(self.write, fd)
            for fd in readable:
                if fd == self.listener.fileno():
                    self.accept()
                elif fd in self.replies:  # not closed by `write` just now
                    self.try_to(self.read, fd)

    def try_to(self, step: Callable[[int], None], fd: int) -> None:
        """Go on with a connection, as far as that is possible now."""
        try:
            step(fd)
        except BlockingIOError:
            pass
        except OSError:  # the client has vanished
            self.close(fd)

    def accept(self) -> None:
        """Take everybody who waits and whose descriptor fits into the sets."""
        for connection in newcomers(self.listener):
            fd = connection.fileno()
            if fd >= FD_SETSIZE:
                complain(f"descriptor {fd} is beyond select's FD_SETSIZE of {FD_SETSIZE}")
                connection.close()
                continue
            self.connections[fd], self.replies[fd] = connection, deque()
            self.reading.add(fd)

    def read(self, fd: int) -> None:
        """Put an answer into the queue; an empty one marks the end."""
        queue = self.replies[fd]
        queue.append(self.connections[fd].recv(65536).upper())
        if not queue[-1] or len(queue) == LONG:
            self.reading.remove(fd)
        self.writing.add(fd)
        self.write(fd)  # most of the time there is room at once

    def write(self, fd: int) -> None:
        """Send the queue's first answer, or as much of it as the kernel takes."""
        queue = self.replies[fd]
        sent = self.connections[fd].send(queue[0])
        if sent < len(queue[0]):
            queue[0] = queue[0][sent:]
        elif not queue.popleft():
            self.close(fd)
            return
        if not queue:
            self.writing.remove(fd)
        if not queue or queue[-1]:
            self.reading.add(fd)

    def close(self, fd: int) -> None:
        """Forget a connection."""
        self.reading.discard(fd)
        self.writing.discard(fd)
        del self.replies[fd]
        self.connections.pop(fd).close()


def main() -> None:
    """Listen, and run the loop."""
    listener = listen()
    listener.setblocking(False)
    Loop(listener).run()


if __name__ == "__main__":
    main()
