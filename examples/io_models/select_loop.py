"""select: pass sets of descriptors to the kernel, sleep until one is ready, look through all.

Each connection has a queue of replies. It is watched for reading while its queue is short, and for
writing while the queue is not empty: a client that does not read its answers is not read from.

It costs work for every connection at every call, ready or not: bit sets are built, copied into the
kernel, searched there, copied back and searched again. Idle connections cost as much as others.

It breaks at descriptor 1024: the sets have FD_SETSIZE = 1024 bits, a number compiled into the C
library. What counts is the number of the descriptor, whatever `ulimit -n` allows.
"""

import select
import socket
from collections import deque

from _common import accept_waiting, listen, warn


FD_SETSIZE = 1024
LONG = 16  # pieces in a queue of replies, from which on nothing is read


def fits(connection: socket.socket) -> bool:
    """Say whether the sets have a bit for this client; close it if not."""
    if (fd := connection.fileno()) < FD_SETSIZE:
        return True
    warn(f"descriptor {fd} is beyond select's FD_SETSIZE of {FD_SETSIZE}")
    connection.close()
    return False


def step(connection: socket.socket, queue: deque[bytes], *, readable: bool) -> bool:
    """Put an answer into the queue, send what the kernel accepts; return whether to continue."""
    try:
        if readable:
            queue.append(connection.recv(65536).upper())  # an empty one marks the end
        while queue and queue[0]:
            queue[0] = queue[0][connection.send(queue[0]) :]
            if not queue[0]:
                queue.popleft()
    except BlockingIOError:
        return True
    except OSError:  # the connection was reset
        return False
    return not queue


def main() -> None:
    """Sleep until something is ready, handle it, and sleep again."""
    listener = listen()
    listener.setblocking(False)
    clients: dict[int, tuple[socket.socket, deque[bytes]]] = {}  # each with its replies
    reading, writing = {listener.fileno()}, set[int]()  # the sets that `select` gets
    while True:
        readable, writable = map(set[int], select.select(reading, writing, [])[:2])
        for fd in readable | writable:
            if fd == listener.fileno():
                for connection in filter(fits, accept_waiting(listener)):
                    clients[connection.fileno()] = connection, deque()
                    reading.add(connection.fileno())
                continue
            connection, queue = clients[fd]
            reading.discard(fd)
            writing.discard(fd)
            if not step(connection, queue, readable=fd in readable):
                clients.pop(fd)
                connection.close()
                continue
            if len(queue) < LONG and b"" not in queue:
                reading.add(fd)
            if queue:
                writing.add(fd)


if __name__ == "__main__":
    main()
